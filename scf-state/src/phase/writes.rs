//! What a call writes, until it commits.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use scf_core::{Batch, Clock, Entry, WallTime};

/// A value in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) bytes: Bytes,
    /// When it is no longer there; `None`: it stays.
    expires: Option<WallTime>,
}

impl Value {
    pub(super) const fn new(bytes: Bytes, expires: Option<WallTime>) -> Self {
        Self { bytes, expires }
    }

    pub(super) fn lives(&self, now: WallTime) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// The value, if it is there by `clock`, which is read only for one that expires.
    pub(super) fn read(&self, clock: &dyn Clock) -> Option<Bytes> {
        (self.expires.is_none() || self.lives(clock.wall())).then(|| self.bytes.clone())
    }
}

impl From<Entry> for Value {
    fn from(entry: Entry) -> Self {
        Self::new(entry.value, entry.expires)
    }
}

/// The last change of each key; `None`: it is removed.
#[derive(Debug, Default)]
pub(super) struct Writes(BTreeMap<String, Option<Value>>);

impl Writes {
    pub(super) fn put(&mut self, key: &str, bytes: Bytes, expires: Option<WallTime>) {
        self.0.insert(key.to_owned(), Some(Value::new(bytes, expires)));
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.0.insert(key.to_owned(), None);
    }

    /// What the call made of `key` as it is by `clock`; the outer `None`: it did not touch it.
    pub(super) fn read(&self, key: &str, clock: &dyn Clock) -> Option<Option<Bytes>> {
        self.0.get(key).map(|value| value.as_ref().and_then(|value| value.read(clock)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&Value>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// Adds them to what the call commits, each under the name that `stored` gives its key.
    pub(super) fn join(&self, batch: Batch, stored: impl Fn(&str) -> Cow<'_, str>) -> Batch {
        self.iter().fold(batch, |batch, (key, value)| match value {
            Some(Value { bytes, expires: Some(expires) }) => batch.put_until(stored(key), bytes.clone(), *expires),
            Some(Value { bytes, expires: None }) => batch.put(stored(key), bytes.clone()),
            None => batch.delete(stored(key)),
        })
    }
}
