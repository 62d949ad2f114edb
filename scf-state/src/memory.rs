//! State that is lost with the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, Caps, Clock, Commit, Delta, Durability, Entry, Fence, Head, InvocationId, NodeId, Page, Scope, Snapshot,
    StateBackend, StateError, Timestamp, Version, WallTime, Watch,
};

use crate::{
    change::{Change, changes, guard, keys},
    head::HeadRecord,
    history::{History, Note},
    limit::{MAX_BATCH, MAX_VALUE, check_snapshot},
    queue::{MemoryQueue, calls_of},
    quota::{Ledger, Quotas, entry_size, result_size, size_of, sizes},
    results::Results,
    wall::Wall,
};

/// Scopes of different shards are worked on at the same time.
const SHARDS: usize = 16;

/// Expired values that a commit removes of its scope at most.
const SWEEP: usize = 64;

/// A [`StateBackend`] in memory: for tests, for caches, and as the home of state that may be lost.
///
/// Gives [`Durability::Memory`]. Reads are served by [`StateBackend::try_get`] without allocating; a value is
/// shared, never copied. It holds what is put into it: bound the state by [`MemoryState::quotas`], not the store.
/// Commits remove what has expired in their scope; of a scope without commits it stays in memory, unseen.
#[derive(Debug)]
pub struct MemoryState {
    shards: [RwLock<HashMap<Scope, Record>>; SHARDS],
    hasher: RandomState,
    results_per_scope: usize,
    wall: Wall,
    ledger: Ledger,
    history: History,
    queue: Option<Arc<MemoryQueue>>,
}

#[derive(Debug, Default)]
struct Record {
    head: HeadRecord,
    lease_until: Timestamp,
    entries: BTreeMap<String, Entry>,
    expiring: BTreeSet<(WallTime, String)>,
    results: Results,
    /// Sizes of entries and results.
    bytes: u64,
}

impl Record {
    fn put(&mut self, key: &str, entry: Entry) {
        self.bytes += entry_size(key, entry.value.len());
        if let Some(expires) = entry.expires {
            self.expiring.insert((expires, key.to_owned()));
        }
        let replaced = match self.entries.get_mut(key) {
            Some(there) => Some(std::mem::replace(there, entry)),
            None => self.entries.insert(key.to_owned(), entry),
        };
        if let Some(replaced) = replaced {
            self.forget(key, &replaced);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(removed) = self.entries.remove(key) {
            self.forget(key, &removed);
        }
    }

    /// Counts `entry`, which is gone, no longer.
    fn forget(&mut self, key: &str, entry: &Entry) {
        self.bytes -= entry_size(key, entry.value.len());
        if let Some(expires) = entry.expires
            && self.entries.get(key).is_none_or(|now| now.expires != Some(expires))
        {
            self.expiring.remove(&(expires, key.to_owned()));
        }
    }

    fn keep(&mut self, id: InvocationId, result: Bytes, limit: usize) {
        self.bytes += result_size(result.len());
        self.bytes -= self.results.keep(id, result, limit);
    }

    fn sweep(&mut self, now: WallTime) {
        for _ in 0..SWEEP {
            let Some((_, key)) = self.expiring.first().filter(|(expires, _)| *expires <= now).cloned() else { return };
            self.remove(&key);
        }
    }

    fn snapshot(&self, wall: &Wall) -> Snapshot {
        let living = self.entries.iter().filter(|(_, entry)| wall.lives(entry));
        Snapshot {
            version: self.head.version,
            entries: living.map(|(key, entry)| (key.clone(), entry.clone())).collect(),
            results: self.results.to_vec(),
        }
    }

    /// Replaces everything.
    fn load(&mut self, snapshot: Snapshot, limit: usize) {
        self.head.version = snapshot.version;
        self.entries.clear();
        self.expiring.clear();
        (self.results, self.bytes) = (Results::default(), 0);
        for (key, entry) in snapshot.entries {
            self.put(&key, entry);
        }
        for (id, result) in snapshot.results {
            self.keep(id, result, limit);
        }
    }
}

impl MemoryState {
    /// An empty store that keeps the last 1024 results of every scope, without quotas, on the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shards: Default::default(),
            hasher: RandomState::new(),
            results_per_scope: 1024,
            wall: Wall::default(),
            ledger: Ledger::default(),
            history: History::default(),
            queue: None,
        }
    }

    /// How many results of past invocations are kept per scope, at least 1; default 1024.
    #[must_use]
    pub fn results_per_scope(mut self, results: usize) -> Self {
        self.results_per_scope = results.max(1);
        self
    }

    /// The clock by which values expire; default the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.wall = Wall::Given(clock);
        self
    }

    /// What commits accept calls into; default nothing, and such commits are refused.
    #[must_use]
    pub fn queue(mut self, queue: Arc<MemoryQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// How much tenants may keep; default no bounds.
    #[must_use]
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.ledger = Ledger::new(Some(quotas));
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
        self.read(scope).get(scope)?.entries.get(key).filter(|entry| self.wall.lives(entry)).cloned()
    }

    /// Checks what `batch` rests on and charges its tenant. Answers what the record counts by that charge.
    fn admit(&self, record: &Record, batch: &Batch) -> Result<u64, StateError> {
        record.head.admit(&batch.scope, batch.fence, batch.expect)?;
        let there = |key: &str| record.entries.get(key);
        let living = |key: &str| there(key).filter(|entry| self.wall.lives(entry)).map(|entry| entry.version);
        let Ok(guarded) = guard(batch, |key| Ok::<_, Infallible>(living(key)));
        guarded?;
        if !self.ledger.is_kept() {
            return Ok(record.bytes);
        }
        let size = |key: &str| Ok::<_, Infallible>(there(key).map_or(0, |entry| entry_size(key, entry.value.len())));
        let Ok((before, mut after)) = sizes(&batch.ops, size);
        after += batch.invocation.as_ref().map_or(0, |(_, result)| result_size(result.len()));
        self.ledger.charge(&batch.scope.function, before, after)?;
        Ok(record.bytes + after - before)
    }

    fn publish(&self, scope: &Scope, note: impl FnOnce() -> Note) {
        if self.history.wants(scope) {
            let note = note();
            self.history.note(scope, &note);
            self.history.publish(scope, note);
        }
    }

    /// Changes the record of `scope`, as the owner under `fence`.
    fn as_owner(
        &self,
        scope: &Scope,
        fence: Fence,
        change: impl FnOnce(&mut Record) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut shard = self.write(scope);
        let Some(record) = shard.get_mut(scope) else {
            return HeadRecord::default().admit_owner(scope, fence);
        };
        record.head.admit_owner(scope, fence)?;
        change(record)
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
        Caps::new(Durability::Memory)
            .results_per_scope(self.results_per_scope)
            .max_value(MAX_VALUE)
            .max_batch(MAX_BATCH)
            .with_expiry()
            .with_watch()
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
        let charged = match shard.get(&batch.scope) {
            Some(record) => {
                if let Some((id, _)) = &batch.invocation
                    && let Some(result) = record.results.get(*id)
                {
                    return Ok(Commit::Duplicate { result: result.clone() });
                }
                self.admit(record, &batch)?
            }
            None => self.admit(&Record::default(), &batch)?,
        };
        if !shard.contains_key(&batch.scope) {
            shard.insert(batch.scope.clone(), Record::default());
        }
        let record = shard.get_mut(&batch.scope).expect("it was inserted where it was missing");
        // Under the lock of the scope; room that others take meanwhile is found out by all of them or none.
        if let Some(queue) = &self.queue {
            queue.accept_all(&batch)?;
        } else {
            calls_of(&batch, None)?;
        }
        let version = record.head.version.next();
        record.head.version = version;
        for change in &changes {
            match *change {
                Change::Put { key, value, expires } => {
                    record.put(key, Entry { value: value.clone(), version, expires });
                }
                Change::Remove { key } => record.remove(key),
            }
        }
        if !record.expiring.is_empty() {
            record.sweep(self.wall.now());
        }
        let id = batch.invocation.as_ref().map(|(id, _)| *id);
        if let Some((id, result)) = batch.invocation.clone() {
            record.keep(id, result, self.results_per_scope);
        }
        self.ledger.count(&batch.scope.function, charged, record.bytes);
        self.publish(&batch.scope, || Note::new(version, keys(&changes), id.into_iter().collect()));
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
        self.as_owner(scope, fence, |record| {
            record.lease_until = now + lease;
            Ok(())
        })
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        if let Some(record) = self.write(scope).get_mut(scope)
            && record.head.is_owned_under(fence)
        {
            record.head.owner = None;
        }
        Ok(())
    }

    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        let shard = self.read(scope);
        let Some(record) = shard.get(scope) else { return Ok(Page::default()) };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let under = record.entries.range::<str, _>((from, Bound::Unbounded));
        let under = under.take_while(|(key, _)| key.starts_with(prefix)).filter(|(_, entry)| self.wall.lives(entry));
        let mut under = under.map(|(key, entry)| (key.clone(), entry.clone()));
        let entries: Vec<_> = under.by_ref().take(limit).collect();
        let after = under.next().and_then(|_| entries.last()).map(|(key, _)| key.clone());
        Ok(Page { version: record.head.version, entries, after })
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        let watcher = self.history.watch(scope, prefix);
        let head = self.read(scope).get(scope).map(|record| record.head.version).unwrap_or_default();
        self.history.copied(scope, head);
        Ok(Box::new(watcher.begin(from, head, self.history.between(scope, from, head))))
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.history.track(scope);
        let snapshot = self.read(scope).get(scope).map(|record| record.snapshot(&self.wall)).unwrap_or_default();
        self.history.copied(scope, snapshot.version);
        Ok(snapshot)
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        check_snapshot(self.caps(), scope, &snapshot)?;
        let version = snapshot.version;
        self.as_owner(scope, fence, |record| {
            let size = size_of(&snapshot);
            self.ledger.charge(&scope.function, record.bytes, size)?;
            record.load(snapshot, self.results_per_scope);
            self.ledger.count(&scope.function, size, record.bytes);
            self.publish(scope, || Note::replaced(version));
            Ok(())
        })
    }

    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        let shard = self.read(scope);
        let Some(record) = shard.get(scope) else { return Ok(None) };
        let version = record.head.version;
        let Some(changed) = self.history.between(scope, since, version) else { return Ok(None) };
        let living = |key: &String| record.entries.get(key).filter(|entry| self.wall.lives(entry)).cloned();
        let entries = changed.keys.into_iter().map(|key| (key.clone(), living(&key))).collect();
        let result = |id: InvocationId| record.results.get(id).map(|result| (id, result.clone()));
        let results = changed.invocations.into_iter().filter_map(result).collect();
        Ok(Some(Delta { since, version, entries, results }))
    }

    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        self.as_owner(scope, fence, |record| {
            let (expected, actual) = (delta.since, record.head.version);
            if expected != actual {
                return Err(StateError::Conflict { scope: scope.clone(), expected, actual });
            }
            let size = |key: &str| record.entries.get(key).map_or(0, |entry| entry_size(key, entry.value.len()));
            let sized = |(key, entry): &(String, Option<Entry>)| {
                (size(key), entry.as_ref().map_or(0, |entry| entry_size(key, entry.value.len())))
            };
            let (before, mut after) = delta.entries.iter().map(sized).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            after += delta.results.iter().map(|(_, result)| result_size(result.len())).sum::<u64>();
            self.ledger.charge(&scope.function, before, after)?;
            let charged = record.bytes + after - before;
            record.head.version = delta.version;
            let touched = delta.entries.iter().map(|(key, _)| key.clone()).collect();
            let brought = delta.results.iter().map(|(id, _)| *id).collect();
            for (key, entry) in delta.entries {
                match entry {
                    Some(entry) => record.put(&key, entry),
                    None => record.remove(&key),
                }
            }
            for (id, result) in delta.results {
                record.keep(id, result, self.results_per_scope);
            }
            self.ledger.count(&scope.function, charged, record.bytes);
            self.publish(scope, || Note::new(delta.version, touched, brought));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scf_core::{FunctionName, conformance};

    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        let make = |clock| async move {
            Arc::new(MemoryState::new().results_per_scope(64).clock(Arc::new(clock))) as Arc<dyn StateBackend>
        };
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
