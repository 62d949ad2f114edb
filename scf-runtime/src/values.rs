//! Values as payloads.

use scf_core::{MediaType, Payload, Value};
use thiserror::Error;

/// The payload that calls a typed function with `values`, one per parameter.
///
/// # Panics
/// Never: values of every kind can be encoded.
#[must_use]
pub fn encode_values(values: &[Value]) -> Payload {
    let bytes = postcard::to_stdvec(values).expect("lists of known length and UTF-8 are all that values have");
    Payload::new(bytes).with_media(MediaType::VALUES)
}

/// The values of a payload: one for a function with a result, none for one without.
///
/// # Errors
/// [`ValuesError`] when it is not of [`MediaType::VALUES`] or not well formed.
pub fn decode_values(payload: &Payload) -> Result<Vec<Value>, ValuesError> {
    if payload.media != MediaType::VALUES {
        return Err(ValuesError::Media { found: payload.media.clone() });
    }
    postcard::from_bytes(&payload.bytes).map_err(|source| ValuesError::Malformed { source: source.into() })
}

/// Why a payload has no values.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ValuesError {
    /// It is something else.
    #[error("the payload is {found}, not values")]
    Media {
        /// What it is.
        found: MediaType,
    },
    /// It is cut off, or values nest too deep.
    #[error("the values are not readable")]
    Malformed {
        /// What the decoder says.
        #[source]
        source: scf_core::BoxError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_written_and_nothing_else_is() {
        let values = [Value::from(7u8), Value::some("x")];
        assert_eq!(decode_values(&encode_values(&values)).unwrap(), values);
        assert!(
            matches!(decode_values(&"text".into()), Err(ValuesError::Media { found }) if found == MediaType::OCTETS)
        );
        let cut = Payload::new(vec![2, 2]).with_media(MediaType::VALUES);
        assert!(matches!(decode_values(&cut), Err(ValuesError::Malformed { .. })));
    }
}
