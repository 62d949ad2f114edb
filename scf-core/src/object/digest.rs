//! Names that content gives itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a digest: 64 of 0-9 and a-f")]
#[non_exhaustive]
pub struct InvalidDigest {
    /// What was given, shortened to 80 characters.
    pub text: String,
}

/// The BLAKE3 hash of some content: 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest { text: text.chars().take(80).collect() };
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(invalid()),
        };
        let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| invalid())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// The name that these 32 bytes of BLAKE3 are.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(Digest(bytes))
            }

            /// The 32 bytes of BLAKE3.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                text.parse().map(Self)
            }
        }

        /// Digits where people read it, bytes where they do not.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.as_bytes().serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    return String::deserialize(from)?.parse().map_err(D::Error::custom);
                }
                <[u8; 32]>::deserialize(from).map(Self::from_bytes)
            }
        }
    };
}

digest! {
    /// The name of an object: the BLAKE3 hash of its content, whatever chunks it is stored in.
    ObjectId
}

digest! {
    /// The name of a chunk: the BLAKE3 hash of its content.
    ChunkId
}

impl ObjectId {
    /// The name of the object with this content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self::from_bytes(*blake3::hash(content).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_nothing_else() {
        let id = ObjectId::from_bytes(std::array::from_fn(|i| (i * 7 + 3) as u8));
        let text = id.to_string();
        assert_eq!((text.len(), text.parse()), (64, Ok(id)));
        assert_eq!(serde_json::from_str::<ObjectId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        for wrong in ["", &text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace(&text[..1], "g")] {
            assert_eq!(wrong.parse::<ObjectId>(), Err(InvalidDigest { text: wrong.to_owned() }));
        }
    }
}
