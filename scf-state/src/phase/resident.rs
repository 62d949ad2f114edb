//! A local scope's values in memory.

use std::collections::HashMap;

use bytes::Bytes;
use scf_core::{ByteSize, Snapshot};

/// All values of a scope, or none: what is not in it is not in the scope.
#[derive(Debug, Default)]
pub(super) struct Resident {
    values: HashMap<String, Bytes>,
    size: u64,
}

impl Resident {
    /// The values of `snapshot`, unless they are larger than `limit`.
    pub(super) fn of(snapshot: &Snapshot, limit: ByteSize) -> Option<Self> {
        let mut resident = Self::default();
        for (key, entry) in &snapshot.entries {
            resident.set(key, Some(&entry.value));
        }
        resident.fits(limit).then_some(resident)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Bytes> {
        self.values.get(key)
    }

    pub(super) fn set(&mut self, key: &str, value: Option<&Bytes>) {
        let before = match value {
            Some(value) => {
                self.size += cost(key, value);
                self.values.insert(key.to_owned(), value.clone())
            }
            None => self.values.remove(key),
        };
        self.size -= before.map_or(0, |before| cost(key, &before));
    }

    pub(super) fn fits(&self, limit: ByteSize) -> bool {
        self.size <= limit.bytes()
    }

    pub(super) const fn size(&self) -> ByteSize {
        ByteSize::from_bytes(self.size)
    }
}

fn cost(key: &str, value: &Bytes) -> u64 {
    (key.len() + value.len()) as u64
}

/// Size of keys and values.
pub(super) fn size(snapshot: &Snapshot) -> ByteSize {
    ByteSize::from_bytes(snapshot.entries.iter().map(|(key, entry)| cost(key, &entry.value)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_holds() {
        let mut resident = Resident::default();
        resident.set("k", Some(&Bytes::from("12345")));
        resident.set("k", Some(&Bytes::from("123")));
        resident.set("other", Some(&Bytes::from("1")));
        assert_eq!(resident.size(), ByteSize::from_bytes(10));
        resident.set("k", None);
        resident.set("never", None);
        assert_eq!(resident.size(), ByteSize::from_bytes(6));
        assert!(resident.fits(ByteSize::from_bytes(6)) && !resident.fits(ByteSize::from_bytes(5)));
    }
}
