//! The one value that crosses the fabric.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// What the bytes of a [`Payload`] are, as an RFC 6838 media type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// Bytes of any kind. A function that takes these takes every payload.
    pub const OCTETS: Self = Self(Cow::Borrowed("application/octet-stream"));
    /// A JSON text.
    pub const JSON: Self = Self(Cow::Borrowed("application/json"));
    /// UTF-8 text.
    pub const TEXT: Self = Self(Cow::Borrowed("text/plain; charset=utf-8"));
    /// An encoded [`Activation`](crate::Activation).
    pub const ACTIVATION: Self = Self(Cow::Borrowed("application/vnd.scf.activation"));

    /// [`Value`](crate::Value)s for a typed function, or its result: a list of them in postcard.
    pub const VALUES: Self = Self(Cow::Borrowed("application/vnd.scf.values"));

    /// An HTTP request, or the response to one, as one message of a fabric.
    pub const HTTP: Self = Self(Cow::Borrowed("application/vnd.scf.http"));

    /// A type by its text.
    #[must_use]
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    /// The type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a function that takes `self` can be given `produced`.
    #[must_use]
    #[inline]
    pub fn takes(&self, produced: &Self) -> bool {
        *self == Self::OCTETS || self == produced
    }
}

impl Default for MediaType {
    fn default() -> Self {
        Self::OCTETS
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes and what they are. Cloning counts references and copies nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a payload is")]
pub struct Payload {
    /// The bytes, reference-counted.
    pub bytes: Bytes,
    /// What they are.
    pub media: MediaType,
}

impl Payload {
    /// Bytes of any kind.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), media: MediaType::OCTETS }
    }

    /// The same bytes declared to be `media`.
    #[must_use]
    #[inline]
    pub fn with_media(mut self, media: MediaType) -> Self {
        self.media = media;
        self
    }

    /// The number of bytes.
    #[must_use]
    #[inline]
    pub fn size(&self) -> ByteSize {
        ByteSize::from_bytes(self.bytes.len() as u64)
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_take_everything_and_others_only_themselves() {
        assert!(MediaType::OCTETS.takes(&MediaType::JSON));
        assert!(MediaType::JSON.takes(&MediaType::JSON));
        assert!(!MediaType::JSON.takes(&MediaType::OCTETS));
    }

    #[test]
    fn a_clone_shares_the_bytes() {
        let payload = Payload::new(vec![1u8; 64]);
        assert_eq!(payload.clone().bytes.as_ptr(), payload.bytes.as_ptr());
    }
}
