//! Values, and what of a scope moves between backends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Version;
use crate::{InvocationId, WallTime};

/// A value and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Entry {
    /// The value, reference-counted.
    pub value: Bytes,
    /// The scope's version when it was written.
    pub version: Version,
    /// When it is no longer there; `None`: it stays.
    pub expires: Option<WallTime>,
}

impl Entry {
    /// A value that stays.
    #[must_use]
    pub const fn new(value: Bytes, version: Version) -> Self {
        Self { value, version, expires: None }
    }

    /// Whether it is still there at `now`.
    #[must_use]
    pub fn lives(&self, now: WallTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// Everything in a scope, as it moves between backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Snapshot {
    /// The scope's version.
    pub version: Version,
    /// Keys and values, by key.
    pub entries: Vec<(String, Entry)>,
    /// Results of past invocations, oldest first.
    pub results: Vec<(InvocationId, Bytes)>,
}

/// What happened to a scope between two versions, for a copy of it that has the first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Delta {
    /// The version that the copy has.
    pub since: Version,
    /// The version that it leads to.
    pub version: Version,
    /// The entries that may have changed, as they are at `version`; `None`: it is not there.
    pub entries: Vec<(String, Option<Entry>)>,
    /// Results of the invocations since, oldest first.
    pub results: Vec<(InvocationId, Bytes)>,
}

impl Delta {
    /// Brings `copy` from [`Delta::since`] to [`Delta::version`], whatever version it says it has.
    pub fn apply(self, copy: &mut Snapshot) {
        copy.version = self.version;
        for (key, entry) in self.entries {
            let place = copy.entries.binary_search_by(|(there, _)| there.as_str().cmp(&key));
            match (place, entry) {
                (Ok(at), Some(entry)) => copy.entries[at].1 = entry,
                (Ok(at), None) => drop(copy.entries.remove(at)),
                (Err(at), Some(entry)) => copy.entries.insert(at, (key, entry)),
                (Err(_), None) => {}
            }
        }
        copy.results.retain(|(id, _)| !self.results.iter().any(|(newer, _)| newer == id));
        copy.results.extend(self.results);
    }
}

/// Some of a scope's entries, all of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Page {
    /// The scope's version when the page was read; another page may be of another.
    pub version: Version,
    /// Keys and values, by key.
    pub entries: Vec<(String, Entry)>,
    /// Where the next page begins; `None`: there is no more.
    pub after: Option<String>,
}
