//! Names and numbers that identify things: nodes, functions, invocations, keys.

use std::{borrow::Borrow, fmt, str::FromStr};

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest name in bytes: one DNS label, so that a name is also a subject token, a host and a file name.
pub const MAX_NAME: usize = 63;

/// A validated name: 1 to 63 of `a-z`, `0-9` and `-`, starting with a letter or digit.
///
/// Up to 24 bytes of it are where the name is: cloning copies them, and no two cores write to the same memory for it.
/// Longer ones are allocated. The alphabet leaves out everything that a broker's subject, a path or a terminal gives a
/// meaning to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(CompactString);

/// A text that cannot be a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is not a name: 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit")]
#[non_exhaustive]
pub struct InvalidName {
    /// What was given, shortened to 80 characters.
    pub text: String,
}

impl Name {
    /// Checks `text` and makes a name of it.
    ///
    /// # Errors
    /// [`InvalidName`] when `text` is empty, too long or has another character.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let alphabet = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.is_empty() || text.len() > MAX_NAME || text.starts_with('-') || !text.bytes().all(alphabet) {
            return Err(InvalidName { text: text.chars().take(80).collect() });
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().into()
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(Name);

        impl $type {
            /// Checks `text` and makes an identifier of it.
            ///
            /// # Errors
            /// [`InvalidName`] when `text` is no [`Name`].
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                Name::new(text).map(Self)
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = InvalidName;

            fn try_from(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
    };
}

named! {
    /// A machine, or an emulated one, that hosts isolates.
    NodeId
}
named! {
    /// A deployed function.
    FunctionName
}
named! {
    /// On whose behalf functions run and who is billed. The default is the tenant `default`.
    TenantName
}

impl Default for TenantName {
    fn default() -> Self {
        Self(Name("default".into()))
    }
}

named! {
    /// A model that the AI plane hosts.
    ModelName
}
named! {
    /// An area that data may be confined to: a site, a tenant's premises, a legal region.
    Zone
}

/// One logical call. A retry carries the same id, so that its effect on state happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(u128);

impl InvocationId {
    /// An id from 128 bits that the caller made unique.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The 128 bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The id of a call that this one makes: the same for every retry, different per `step`.
    ///
    /// Mixes with the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom
    /// number generators, OOPSLA 2014, figure 16) over both halves.
    #[must_use]
    pub const fn child(self, step: u64) -> Self {
        const fn mix(mut z: u64) -> u64 {
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
        let low = mix((self.0 as u64).wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(1));
        let high = mix(((self.0 >> 64) as u64) ^ low.rotate_left(32));
        Self(((high as u128) << 64) | low as u128)
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_a_subject_or_a_path_would_interpret() {
        for text in ["", "a.b", "*", ">", "../x", "A", "é", "-a", &"a".repeat(64)] {
            assert_eq!(Name::new(text).unwrap_err().text, text);
        }
        assert_eq!(Name::new("cam-7").unwrap().as_str(), "cam-7");
    }

    #[test]
    fn refuses_an_invalid_name_when_deserialising() {
        assert!(serde_json::from_str::<NodeId>("\"a b\"").is_err());
        assert_eq!(serde_json::from_str::<NodeId>("\"a\"").unwrap().as_str(), "a");
    }

    #[test]
    fn children_differ_per_step_and_repeat_per_retry() {
        let id = InvocationId::new(7);
        assert_eq!(id.child(1), id.child(1));
        assert_ne!(id.child(1), id.child(2));
        assert_ne!(id.child(0), id);
    }
}
