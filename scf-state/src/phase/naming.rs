//! How scopes, keys and this crate's own records share one local store.
//!
//! Names of users that begin with NUL get another one in front; names with a single leading NUL are this
//! crate's own. That keeps the order of keys.

use std::borrow::Cow;

use scf_core::{Delta, Entry, Fence, FunctionName, Scope, Snapshot, StateError, Version};
use serde::{Deserialize, Serialize};

/// The key of a local scope's [`HomeRecord`].
pub(super) const RECORD: &str = "\0";

/// Under what a scope is local, kept in the scope itself: it comes and goes with the state, in one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HomeRecord {
    /// The fence at home.
    pub(super) fence: Fence,
    /// The scope's version when it was taken; later versions are only here.
    pub(super) base: Version,
}

impl HomeRecord {
    pub(super) fn decode(scope: &Scope, bytes: &[u8]) -> Result<Self, StateError> {
        postcard::from_bytes(bytes)
            .map_err(|error| StateError::Corrupt { scope: scope.clone(), what: format!("the home record: {error}") })
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("two numbers are always encoded")
    }
}

/// A user's key as it is stored locally.
pub(super) fn local_key(key: &str) -> Cow<'_, str> {
    if key.starts_with('\0') { Cow::Owned(format!("\0{key}")) } else { Cow::Borrowed(key) }
}

/// Where a user's scope is stored locally.
pub(super) fn local_scope(scope: &Scope) -> Scope {
    Scope { function: scope.function.clone(), key: local_key(&scope.key).into_owned() }
}

/// Where the local copy of `scope` goes when another owner was found to have taken it after `epoch`.
pub(super) fn aside(scope: &Scope, epoch: u64) -> Scope {
    Scope { function: scope.function.clone(), key: format!("\0aside/{epoch}/{}", scope.key) }
}

/// Where the local scopes of this node are listed.
pub(super) fn index() -> Scope {
    Scope { function: FunctionName::new("scf-phase").expect("a valid name"), key: "\0index".to_owned() }
}

/// A scope as a key of the index.
pub(super) fn index_key(scope: &Scope) -> String {
    // No function name has a NUL.
    format!("{}\0{}", scope.function, scope.key)
}

/// The scope that an index key stands for.
pub(super) fn indexed(key: &str) -> Option<Scope> {
    let (function, key) = key.split_once('\0')?;
    Some(Scope { function: FunctionName::new(function).ok()?, key: key.to_owned() })
}

/// A snapshot from the home as it is stored locally. Without a record it is a copy that nobody works on.
pub(super) fn pack(mut snapshot: Snapshot, record: Option<&HomeRecord>) -> Snapshot {
    snapshot.entries.iter_mut().for_each(|(key, _)| escape(key));
    if let Some(record) = record {
        let place = snapshot.entries.partition_point(|(key, _)| key.as_str() < RECORD);
        snapshot.entries.insert(place, (RECORD.to_owned(), entry(record, snapshot.version)));
    }
    snapshot
}

/// What changed at home as it is stored locally, perhaps with the record that makes a copy the scope's state.
pub(super) fn pack_delta(mut delta: Delta, record: Option<&HomeRecord>) -> Delta {
    delta.entries.iter_mut().for_each(|(key, _)| escape(key));
    if let Some(record) = record {
        delta.entries.push((RECORD.to_owned(), Some(entry(record, delta.version))));
    }
    delta
}

/// A local snapshot as it goes home, without the record.
pub(super) fn unpack(mut snapshot: Snapshot) -> Snapshot {
    snapshot.entries.retain(|(key, _)| key != RECORD);
    snapshot.entries.iter_mut().for_each(|(key, _)| unescape(key));
    snapshot
}

/// What changed locally as it goes home.
pub(super) fn unpack_delta(mut delta: Delta) -> Delta {
    delta.entries.retain(|(key, _)| key != RECORD);
    delta.entries.iter_mut().for_each(|(key, _)| unescape(key));
    delta
}

fn entry(record: &HomeRecord, version: Version) -> Entry {
    Entry::new(record.encode().into(), version)
}

fn escape(key: &mut String) {
    if let Cow::Owned(escaped) = local_key(key) {
        *key = escaped;
    }
}

fn unescape(key: &mut String) {
    if key.starts_with('\0') {
        key.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_of_a_user_goes_and_comes_back_in_order() {
        let keys = ["", "\0", "\0\0", "\0a", "a", "a\0"];
        let entry = Entry::new("v".into(), Version::new(3));
        let snapshot = Snapshot {
            version: Version::new(3),
            entries: keys.map(|key| (key.to_owned(), entry.clone())).to_vec(),
            results: Vec::new(),
        };
        let record = HomeRecord { fence: Fence { epoch: 7, nonce: 1 << 100 }, base: Version::new(3) };
        let packed = pack(snapshot.clone(), Some(&record));
        assert!(packed.entries.is_sorted_by(|(a, _), (b, _)| a < b));
        let stored = packed.entries.iter().find(|(key, _)| key == RECORD).unwrap();
        let scope = index();
        assert_eq!(HomeRecord::decode(&scope, &stored.1.value), Ok(record));
        assert!(keys.iter().all(|key| packed.entries.iter().any(|(stored, _)| *stored == local_key(key))));
        assert_eq!(unpack(packed), snapshot);
    }

    #[test]
    fn a_users_scope_never_is_one_of_ours() {
        for own in [index(), aside(&index(), 1)] {
            assert_ne!(local_scope(&own), own);
        }
        let scope = Scope { function: FunctionName::new("f").unwrap(), key: "a\0b".into() };
        assert_eq!(indexed(&index_key(&scope)), Some(scope));
    }
}
