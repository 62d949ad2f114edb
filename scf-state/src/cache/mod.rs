//! Reads of a remote backend, kept near.

mod stripe;
#[cfg(test)]
mod tests;

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use quick_cache::{Equivalent, Weighter, sync::Cache};
use scf_core::{
    Batch, ByteSize, Caps, Clock, Commit, Delta, Entry, Fence, Head, InvocationId, NodeId, Op, Page, Scope, Snapshot,
    StateBackend, StateError, Timestamp, Version, Watch, Watched,
};

use self::stripe::{Stripes, Writing};

/// What an entry takes beside its key and value, in bytes; also what an absent one takes.
const OVERHEAD: u64 = 192;

/// Which reads a [`CachedState`] may answer without its backend, and so what they promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheReads {
    /// A read asks the backend for the scope's head and is answered from the cache when it has not moved since: a
    /// small round trip in place of the value. Linearizable, whoever commits, as long as nobody imports another state
    /// under a version and an owner that the scope had before.
    Validated,
    /// The caller promises that every commit and import of the scopes that are read here is made through this cache.
    /// Linearizable then, without asking. Once the outcome of one was not learned, scopes are read as
    /// [`CacheReads::Validated`] that may be its.
    Sole,
    /// A read is answered from the cache for at most so long after it was read there. It may miss what others
    /// committed meanwhile, what [`CachedState::follow`] was told of excepted; it never misses a commit that was made
    /// through this cache and acknowledged.
    Aged(Duration),
}

/// How reads of a [`CachedState`] went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two counts are all that it is")]
pub struct CacheCounts {
    /// Answered with what was kept.
    pub hits: u64,
    /// Answered with what the backend was asked for.
    pub misses: u64,
}

/// A [`StateBackend`] whose single reads are kept in memory, absent entries too.
///
/// What is kept is bounded in bytes and admitted by how often it is read (quick_cache: Clock-PRO with
/// ghosts, in the manner of S3-FIFO). It is dropped when a commit through the cache touches it, when its time has come
/// ([`Entry::expires`]), when a watch tells of it, and by [`CacheReads`]. Scans, exports, heads and results are the
/// backend's. [`CachedState::fresh`] is linearizable where the backend is, whatever [`CacheReads`] says;
/// [`Caps::linearizable_reads`] is what [`StateBackend::get`] gives.
#[derive(Debug)]
pub struct CachedState {
    backend: Arc<dyn StateBackend>,
    clock: Arc<dyn Clock>,
    reads: CacheReads,
    kept: Cache<Key, Kept, Weight>,
    stripes: Stripes,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    scope: Scope,
    key: String,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Asked(&self.scope, &self.key).hash(state);
    }
}

#[derive(Hash)]
struct Asked<'a>(&'a Scope, &'a str);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.1 == key.key && *self.0 == key.scope
    }
}

#[derive(Clone, Debug)]
struct Kept {
    entry: Option<Entry>,
    /// What the scope's stripe was at.
    generation: u64,
    /// The scope's head when it was read, where it was asked for.
    head: Option<Mark>,
    /// A version of the scope at which it was so.
    known: Version,
    at: Timestamp,
}

/// Where a scope's head is; a take-over moves it too.
type Mark = (Version, Option<u64>);

fn mark(head: &Head) -> Mark {
    (head.version, head.owner.as_ref().map(|owner| owner.epoch))
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Key, Kept> for Weight {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        let value = kept.entry.as_ref().map_or(0, |entry| entry.value.len());
        OVERHEAD + (key.key.len() + key.scope.key.len() + value) as u64
    }
}

impl CachedState {
    /// Keeps what is read of `backend` in at most `capacity`. `clock` tells how old it is, and when values expire:
    /// the backend's own, or one as right.
    #[must_use]
    pub fn new(backend: Arc<dyn StateBackend>, clock: Arc<dyn Clock>, capacity: ByteSize, reads: CacheReads) -> Self {
        // The number of items is a first guess, by which the cache sizes its ghost queue.
        let items = usize::try_from(capacity.bytes() / 1024).unwrap_or(usize::MAX).clamp(16, 1 << 20);
        let kept = Cache::with_weighter(items, capacity.bytes(), Weight);
        let (stripes, hits, misses) = (Stripes::new(), AtomicU64::new(0), AtomicU64::new(0));
        Self { backend, clock, reads, kept, stripes, hits, misses }
    }

    /// Reads what the backend has, and keeps it.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    pub async fn fresh(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        self.fetch(scope, key, None).await
    }

    /// How reads went so far.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        CacheCounts { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }

    /// Bytes that are kept, at most the capacity.
    #[must_use]
    pub fn weight(&self) -> ByteSize {
        ByteSize::from_bytes(self.kept.weight())
    }

    /// Drops everything that is kept of `scope`, and of some others.
    pub fn forget(&self, scope: &Scope) {
        self.stripes.forget(scope);
    }

    /// Drops what the backend says has changed in `scope`, for as long as the future is polled; after a gap, the
    /// scope. What is kept is no older than the watch is late.
    ///
    /// # Errors
    /// As [`StateBackend::watch`] and [`Watch::next`]; the scope is dropped then. Following again may help.
    pub async fn follow(&self, scope: &Scope) -> Result<std::convert::Infallible, StateError> {
        let head = self.backend.head(scope, self.clock.now()).await?;
        let mut watch = self.backend.watch(scope, "", head.version).await?;
        self.forget(scope);
        loop {
            match watch.next().await {
                Ok(Watched::Change { version, keys }) => {
                    self.stripes.disturb(scope, || keys.iter().for_each(|key| self.outdated(scope, key, version)));
                }
                Ok(_) => self.forget(scope),
                Err(error) => {
                    self.forget(scope);
                    return Err(error);
                }
            }
        }
    }

    fn outdated(&self, scope: &Scope, key: &str, by: Version) {
        self.kept.remove_if(&Asked(scope, key), |kept| kept.known < by);
    }

    /// What is kept and still good but for what others did.
    fn kept(&self, scope: &Scope, key: &str) -> Option<Kept> {
        let kept = self.kept.get(&Asked(scope, key))?;
        if kept.generation != self.stripes.generation(scope) {
            return None;
        }
        let expired =
            kept.entry.as_ref().is_some_and(|entry| entry.expires.is_some() && !entry.lives(self.clock.wall()));
        (!expired).then_some(kept)
    }

    /// What may be answered without asking.
    fn at_hand(&self, scope: &Scope, key: &str) -> Option<Option<Entry>> {
        let good = match self.reads {
            CacheReads::Validated => return None,
            CacheReads::Sole => !self.stripes.is_uncertain(scope),
            CacheReads::Aged(_) => true,
        };
        let kept = self.kept(scope, key).filter(|_| good)?;
        if let CacheReads::Aged(age) = self.reads
            && self.clock.now().since(kept.at) >= age
        {
            return None;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(kept.entry)
    }

    /// Asks the backend and keeps the answer, unless a commit may have overtaken it.
    async fn fetch(&self, scope: &Scope, key: &str, head: Option<Mark>) -> Result<Option<Entry>, StateError> {
        let (ticket, at) = (self.stripes.ticket(scope), self.clock.now());
        let entry = self.backend.get(scope, key).await?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        let written = entry.as_ref().map(|entry| entry.version).unwrap_or_default();
        let known = head.map_or(written, |(version, _)| version.max(written));
        self.stripes.fill(scope, ticket, |generation| {
            let kept = Kept { entry: entry.clone(), generation, head, known, at };
            self.kept.insert(Key { scope: scope.clone(), key: key.to_owned() }, kept);
        });
        Ok(entry)
    }

    async fn validated(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        let now = mark(&self.backend.head(scope, self.clock.now()).await?);
        match self.kept(scope, key) {
            Some(kept) if kept.head == Some(now) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Ok(kept.entry)
            }
            _ => self.fetch(scope, key, Some(now)).await,
        }
    }

    /// Drops what a commit touches and lets nothing back until its end.
    fn begin(&self, batch: &Batch) -> Writing<'_> {
        self.stripes.write(&batch.scope, || {
            for key in batch.ops.iter().filter_map(Op::key) {
                self.kept.remove(&Asked(&batch.scope, key));
            }
        })
    }
}

#[async_trait]
impl StateBackend for CachedState {
    fn caps(&self) -> Caps {
        match self.reads {
            CacheReads::Validated | CacheReads::Sole => self.backend.caps(),
            CacheReads::Aged(_) => self.backend.caps().without_linearizable_reads(),
        }
    }

    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        self.at_hand(scope, key).map(Ok).or_else(|| self.backend.try_get(scope, key))
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        if let Some(entry) = self.at_hand(scope, key) {
            return Ok(entry);
        }
        match self.reads {
            CacheReads::Aged(_) => self.fetch(scope, key, None).await,
            CacheReads::Sole if !self.stripes.is_uncertain(scope) => self.fetch(scope, key, None).await,
            CacheReads::Sole | CacheReads::Validated => self.validated(scope, key).await,
        }
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        self.backend.head(scope, now).await
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.backend.result_of(scope, invocation).await
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        let writing = self.begin(&batch);
        let scope = batch.scope.clone();
        let answer = self.backend.commit(batch).await;
        if matches!(answer, Err(StateError::Conflict { .. } | StateError::Guard { .. })) {
            // Others have committed: who runs again must not be given the same once more.
            self.forget(&scope);
        }
        writing.end(!matches!(answer, Err(StateError::Unknown { .. })));
        answer
    }

    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError> {
        self.backend.acquire(scope, owner, lease, now).await
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.backend.renew(scope, fence, lease, now).await
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.backend.release(scope, fence).await
    }

    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        self.backend.scan(scope, prefix, after, limit).await
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        self.backend.watch(scope, prefix, from).await
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.backend.export(scope).await
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        let writing = self.stripes.replace(scope);
        let answer = self.backend.import(scope, fence, snapshot).await;
        writing.end(!matches!(answer, Err(StateError::Unknown { .. })));
        answer
    }

    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        self.backend.export_since(scope, since).await
    }

    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        let writing = self.stripes.replace(scope);
        let answer = self.backend.import_since(scope, fence, delta).await;
        writing.end(!matches!(answer, Err(StateError::Unknown { .. })));
        answer
    }
}
