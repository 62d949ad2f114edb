//! State that is lost with the process.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, Caps, Commit, Durability, Entry, Fence, Head, InvocationId, NodeId, Scope, Snapshot, StateBackend,
    StateError, Timestamp,
};

use crate::{
    change::{changes, guard},
    head::HeadRecord,
    results::Results,
};

/// Scopes of different shards are worked on at the same time.
const SHARDS: usize = 16;

/// A [`StateBackend`] in memory: for tests, for caches, and as the home of state that may be lost.
///
/// Gives [`Durability::Memory`]. Reads are served by [`StateBackend::try_get`] without allocating; a value is
/// shared, never copied. It holds what is put into it: bound the state, not the store.
#[derive(Debug)]
pub struct MemoryState {
    shards: [RwLock<HashMap<Scope, Record>>; SHARDS],
    hasher: RandomState,
    results_per_scope: usize,
}

#[derive(Debug, Default)]
struct Record {
    head: HeadRecord,
    lease_until: Timestamp,
    entries: BTreeMap<String, Entry>,
    results: Results,
}

impl MemoryState {
    /// An empty store that keeps the last 1024 results of every scope.
    #[must_use]
    pub fn new() -> Self {
        Self { shards: Default::default(), hasher: RandomState::new(), results_per_scope: 1024 }
    }

    /// How many results of past invocations are kept per scope, at least 1; default 1024.
    #[must_use]
    pub fn results_per_scope(mut self, results: usize) -> Self {
        self.results_per_scope = results.max(1);
        self
    }

    fn shard(&self, scope: &Scope) -> &RwLock<HashMap<Scope, Record>> {
        &self.shards[self.hasher.hash_one(scope) as usize % SHARDS]
    }

    fn read(&self, scope: &Scope) -> RwLockReadGuard<'_, HashMap<Scope, Record>> {
        self.shard(scope).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, scope: &Scope) -> RwLockWriteGuard<'_, HashMap<Scope, Record>> {
        self.shard(scope).write().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, scope: &Scope, key: &str) -> Option<Entry> {
        self.read(scope).get(scope)?.entries.get(key).cloned()
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl StateBackend for MemoryState {
    fn caps(&self) -> Caps {
        Caps::new(Durability::Memory).results_per_scope(self.results_per_scope)
    }

    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        Some(Ok(self.entry(scope, key)))
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        Ok(self.entry(scope, key))
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        let head = |record: &Record| record.head.head(record.lease_until.since(now));
        Ok(self.read(scope).get(scope).map(head).unwrap_or_default())
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        Ok(self.read(scope).get(scope).and_then(|record| record.results.get(invocation).cloned()))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.caps().check(&batch)?;
        let changes = changes(&batch.ops)?;
        let mut shard = self.write(&batch.scope);
        if !shard.contains_key(&batch.scope) {
            HeadRecord::default().admit(&batch.scope, batch.fence, batch.expect)?;
            shard.insert(batch.scope.clone(), Record::default());
        }
        let record = shard.get_mut(&batch.scope).expect("it was inserted where it was missing");
        if let Some((id, _)) = &batch.invocation
            && let Some(result) = record.results.get(*id)
        {
            return Ok(Commit::Duplicate { result: result.clone() });
        }
        record.head.admit(&batch.scope, batch.fence, batch.expect)?;
        let Ok(guarded) = guard(&batch, |key| Ok::<_, Infallible>(record.entries.get(key).map(|entry| entry.version)));
        guarded?;
        let version = record.head.version.next();
        record.head.version = version;
        for (key, value) in changes {
            match (value, record.entries.get_mut(key)) {
                (Some(value), Some(entry)) => *entry = Entry::new(value.clone(), version),
                (Some(value), None) => {
                    record.entries.insert(key.to_owned(), Entry::new(value.clone(), version));
                }
                (None, _) => drop(record.entries.remove(key)),
            }
        }
        if let Some((id, result)) = batch.invocation {
            record.results.keep(id, result, self.results_per_scope);
        }
        Ok(Commit::Applied { version, durability: Durability::Memory })
    }

    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError> {
        let mut shard = self.write(scope);
        let record = shard.entry(scope.clone()).or_default();
        let fence = record.head.acquire(scope, owner, lease, record.lease_until.since(now))?;
        record.lease_until = now + lease;
        Ok(fence)
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        let mut shard = self.write(scope);
        let Some(record) = shard.get_mut(scope) else {
            return HeadRecord::default().admit_owner(scope, fence);
        };
        record.head.admit_owner(scope, fence)?;
        record.lease_until = now + lease;
        Ok(())
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        if let Some(record) = self.write(scope).get_mut(scope)
            && record.head.is_owned_under(fence)
        {
            record.head.owner = None;
        }
        Ok(())
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        let snapshot = |record: &Record| Snapshot {
            version: record.head.version,
            entries: record.entries.iter().map(|(key, entry)| (key.clone(), entry.clone())).collect(),
            results: record.results.to_vec(),
        };
        Ok(self.read(scope).get(scope).map(snapshot).unwrap_or_default())
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        let mut shard = self.write(scope);
        let Some(record) = shard.get_mut(scope) else {
            return HeadRecord::default().admit_owner(scope, fence);
        };
        record.head.admit_owner(scope, fence)?;
        record.head.version = snapshot.version;
        record.entries = snapshot.entries.into_iter().collect();
        record.results = Results::default();
        for (id, result) in snapshot.results {
            record.results.keep(id, result, self.results_per_scope);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scf_core::{FunctionName, conformance};

    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        let make = |_| async { Arc::new(MemoryState::new().results_per_scope(64)) as Arc<dyn StateBackend> };
        conformance::state::state_backend(make).await;
    }

    #[tokio::test]
    async fn a_read_shares_the_bytes_that_were_written() {
        let state = MemoryState::new();
        let scope = Scope { function: FunctionName::new("f").unwrap(), key: "k".into() };
        let value = Bytes::from(vec![7u8; 4096]);
        state.commit(Batch::new(scope.clone()).durability(Durability::Memory).put("v", value.clone())).await.unwrap();
        let read = state.try_get(&scope, "v").unwrap().unwrap().unwrap();
        assert_eq!(read.value.as_ptr(), value.as_ptr());
    }
}
