//! A local scope's values in memory.

use std::collections::HashMap;

use bytes::Bytes;
use scf_core::{ByteSize, Clock, Snapshot, WallTime};

use super::writes::Value;

/// All values of a scope, or none: what is not in it is not in the scope.
#[derive(Debug, Default)]
pub(super) struct Resident {
    values: HashMap<String, Value>,
    size: u64,
}

impl Resident {
    /// The values of `snapshot`, unless they are larger than `limit`.
    pub(super) fn of(snapshot: &Snapshot, limit: ByteSize) -> Option<Self> {
        let mut resident = Self::default();
        for (key, entry) in &snapshot.entries {
            resident.set(key, Some(&entry.clone().into()));
        }
        resident.fits(limit).then_some(resident)
    }

    pub(super) fn get(&self, key: &str, clock: &dyn Clock) -> Option<Bytes> {
        self.values.get(key)?.read(clock)
    }

    pub(super) fn set(&mut self, key: &str, value: Option<&Value>) {
        let before = match value {
            Some(value) => {
                self.size += cost(key, &value.bytes);
                self.values.insert(key.to_owned(), value.clone())
            }
            None => self.values.remove(key),
        };
        self.size -= before.map_or(0, |before| cost(key, &before.bytes));
    }

    /// Drops what has expired at `now`.
    pub(super) fn expire(&mut self, now: WallTime) {
        let size = &mut self.size;
        self.values.retain(|key, value| {
            let lives = value.lives(now);
            *size -= if lives { 0 } else { cost(key, &value.bytes) };
            lives
        });
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

    fn value(bytes: &'static str, expires: Option<u64>) -> Value {
        Value::new(bytes.into(), expires.map(WallTime::from_millis))
    }

    #[test]
    fn counts_what_it_holds() {
        let mut resident = Resident::default();
        resident.set("k", Some(&value("12345", None)));
        resident.set("k", Some(&value("123", None)));
        resident.set("other", Some(&value("1", None)));
        assert_eq!(resident.size(), ByteSize::from_bytes(10));
        resident.set("k", None);
        resident.set("never", None);
        assert_eq!(resident.size(), ByteSize::from_bytes(6));
        assert!(resident.fits(ByteSize::from_bytes(6)) && !resident.fits(ByteSize::from_bytes(5)));
    }

    #[test]
    fn makes_room_of_what_has_expired() {
        let mut resident = Resident::default();
        resident.set("stays", Some(&value("1", None)));
        resident.set("short", Some(&value("22", Some(10))));
        resident.set("long", Some(&value("333", Some(11))));
        resident.expire(WallTime::from_millis(10));
        assert_eq!(resident.size(), ByteSize::from_bytes(13));
    }
}
