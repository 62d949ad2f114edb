//! The key-value store in memory.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{Bucket, Entry, KeyValue, KeyValueError, KeyValueLimits, Op, Version};

/// Keeps buckets in the memory of this process: lost with it, not shared between nodes of different processes.
#[derive(Debug, Default)]
pub struct MemoryKeyValue {
    limits: KeyValueLimits,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// Counts the writes of all buckets, so that no two entries are of the same version.
    writes: u64,
    contents: HashMap<Bucket, Contents>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    size: u64,
    entries: BTreeMap<String, Entry>,
}

impl MemoryKeyValue {
    /// No buckets, with the default limits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No buckets.
    #[must_use]
    pub fn with_limits(limits: KeyValueLimits) -> Self {
        Self { limits, buckets: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn apply(&mut self, bucket: &Bucket, changes: Vec<Op>, limit: u64) -> Result<(), KeyValueError> {
        let contents = self.contents.entry(bucket.clone()).or_default();
        let mut sizes: BTreeMap<&str, u64> = BTreeMap::new();
        let mut size = contents.size;
        for change in &changes {
            let (key, takes) = match change {
                Op::Put { key, value, expires: None } => (key, KeyValueLimits::size_of(key, value)),
                Op::Delete { key } => (key, 0),
                other => return Err(unknown(other)),
            };
            let before = contents.entries.get(key).map_or(0, |entry| KeyValueLimits::size_of(key, &entry.value));
            let took = sizes.insert(key, takes).unwrap_or(before);
            size = size + takes - took;
        }
        if size > limit && sizes.values().any(|takes| *takes > 0) {
            if contents.entries.is_empty() {
                self.contents.remove(bucket);
            }
            return Err(KeyValueError::Full { size, limit });
        }
        contents.size = size;
        for change in changes {
            match change {
                Op::Put { key, value, expires: None } => {
                    self.writes += 1;
                    contents.entries.insert(key, Entry::new(value, Version::new(self.writes)));
                }
                Op::Delete { key } => drop(contents.entries.remove(&key)),
                other => return Err(unknown(&other)),
            }
        }
        if contents.entries.is_empty() {
            self.contents.remove(bucket);
        }
        Ok(())
    }
}

#[async_trait]
impl KeyValue for MemoryKeyValue {
    fn limits(&self) -> KeyValueLimits {
        self.limits
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.limits.check_key(key)?;
        Ok(self.lock().contents.get(bucket).and_then(|contents| contents.entries.get(key)).cloned())
    }

    async fn write(&self, bucket: &Bucket, changes: Vec<Op>) -> Result<(), KeyValueError> {
        self.limits.check(&changes)?;
        self.lock().apply(bucket, changes, self.limits.bucket)
    }

    async fn swap(
        &self,
        bucket: &Bucket,
        key: &str,
        expect: Option<Version>,
        value: Bytes,
    ) -> Result<bool, KeyValueError> {
        let change = Op::Put { key: key.into(), value, expires: None };
        self.limits.check(std::slice::from_ref(&change))?;
        let mut buckets = self.lock();
        let found = buckets.contents.get(bucket).and_then(|contents| contents.entries.get(key));
        if found.map(|entry| entry.version) != expect {
            return Ok(false);
        }
        buckets.apply(bucket, vec![change], self.limits.bucket).map(|()| true)
    }

    async fn keys(&self, bucket: &Bucket, after: Option<&str>, most: usize) -> Result<Vec<String>, KeyValueError> {
        let buckets = self.lock();
        let Some(contents) = buckets.contents.get(bucket) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = contents.entries.range::<str, _>((from, Bound::Unbounded));
        Ok(keys.take(most).map(|(key, _)| key.clone()).collect())
    }
}

fn unknown(change: &Op) -> KeyValueError {
    KeyValueError::Store { source: format!("a change that this store does not know: {change:?}").into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn keeps_the_contract_of_key_value_stores() {
        let store = |limits| async move { Arc::new(MemoryKeyValue::with_limits(limits)) as Arc<dyn KeyValue> };
        scf_core::conformance::keyvalue::key_value(store).await;
    }
}
