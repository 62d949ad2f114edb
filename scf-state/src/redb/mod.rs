//! State in redb, on any [`Disk`].

mod apply;
mod engine;
mod error;
mod journal;
mod lease;
mod log;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use ::redb::Database;
use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, ByteSize, Caps, Commit, Disk, Durability, Entry, Fence, Head, InvocationId, NodeId, Scope, Snapshot,
    StateBackend, StateError, Timestamp,
};

use self::{
    apply::{Done, Request},
    error::{EngineError, Failure},
    journal::Journal,
    lease::Leases,
    log::Logged,
    writer::Writer,
};
use crate::disk::FileDisk;

pub use self::error::OpenError;

/// The largest value that is taken.
const LARGEST_VALUE: usize = 256 << 20;

/// What a [`RedbState`] keeps and queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct RedbConfig {
    /// Results of past invocations that are kept per scope; the oldest is forgotten. At least 1.
    pub results_per_scope: usize,
    /// Memory for pages of the database.
    pub cache: ByteSize,
    /// Space before the database in which commits are noted until it takes them over; a new store is made with
    /// it. 64 KiB to 1 GiB.
    pub journal: ByteSize,
    /// Commits that wait for the writer; callers of more wait with them. At least 1.
    pub queue: usize,
    /// Commits that share a transaction and a sync at most. At least 1.
    pub group: usize,
}

impl Default for RedbConfig {
    /// 1024 results, 64 MiB of pages, a journal of 1 MiB, 1024 commits waiting, 256 in a group.
    fn default() -> Self {
        let (cache, journal) = (ByteSize::from_mib(64), ByteSize::from_mib(1));
        Self { results_per_scope: 1024, cache, journal, queue: 1024, group: 256 }
    }
}

/// A [`StateBackend`] on a disk: redb behind one writer thread with group commit.
///
/// Gives [`Durability::Durable`]: a commit is acknowledged after the sync that it shares with all that were
/// queued beside it. What is synced is a journal in space that was written before, one write per group; redb takes
/// its content over when it is full, and when the store is closed or opened. Reads do not wait for the writer. Values of 256 MiB and more are refused.
///
/// After a failed write or sync it takes no more commits and answers [`StateError::Unavailable`]; it never
/// syncs again in the hope that it works. What was acknowledged is still read. Open it anew to go on.
///
/// Dropping it finishes what is queued and joins its thread.
#[derive(Debug)]
pub struct RedbState {
    // Dropped, and so joined, before the database is closed.
    writer: Writer,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    db: RwLock<Arc<Database>>,
    disk: Arc<dyn Disk>,
    leases: Leases,
    /// Why nothing is written any more.
    failure: OnceLock<String>,
    /// Where the database begins on the disk.
    start: u64,
    config: RedbConfig,
}

impl Shared {
    fn db(&self) -> Arc<Database> {
        self.db.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops writing, and goes on reading from what is on the disk.
    fn fail(&self, reason: &str) {
        if self.failure.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(reason, "a state store takes no more commits");
        match self.salvage() {
            Ok(db) => *self.db.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(db),
            Err(error) => tracing::error!(%error, "nor can it be read"),
        }
    }

    /// What is on the disk, the journal's records applied in memory.
    fn salvage(&self) -> Result<Database, EngineError> {
        let mut journal = Journal::open(Arc::clone(&self.disk), self.config.journal)?;
        let db = engine::salvage(Arc::clone(&self.disk), self.start, self.config.cache)?;
        recover(&db, &mut journal)?;
        Ok(db)
    }
}

impl RedbState {
    /// Opens the store in the file at `path`, or creates it, with the default configuration. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::on(Arc::new(FileDisk::open(path).map_err(OpenError::Disk)?))
    }

    /// Opens the store on `disk`, or makes one there, with the default configuration. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn on(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        Self::with(disk, RedbConfig::default())
    }

    /// Opens the store on `disk`, or makes one there. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn with(disk: Arc<dyn Disk>, config: RedbConfig) -> Result<Self, OpenError> {
        let config = RedbConfig { results_per_scope: config.results_per_scope.max(1), ..config };
        let (db, journal) = start(&disk, config).map_err(|error| OpenError::Store(Box::new(error)))?;
        let (db, start) = (RwLock::new(Arc::new(db)), journal.redb());
        let (leases, failure) = (Leases::default(), OnceLock::new());
        let shared = Arc::new(Shared { db, disk, leases, failure, start, config });
        let writer = Writer::start(Arc::clone(&shared), journal, config.queue.max(1), config.group.max(1));
        Ok(Self { writer: writer.map_err(OpenError::Disk)?, shared })
    }

    fn read<T>(&self, scope: &Scope, read: impl FnOnce(&Database) -> Result<T, EngineError>) -> Result<T, StateError> {
        read(&self.shared.db()).map_err(|error| Failure(scope, error).into())
    }
}

#[async_trait]
impl StateBackend for RedbState {
    fn caps(&self) -> Caps {
        let (value, batch) = (ByteSize::from_mib(128), ByteSize::from_mib(256));
        let results = self.shared.config.results_per_scope;
        Caps::new(Durability::Durable).results_per_scope(results).max_value(value).max_batch(batch)
    }

    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        Some(self.read(scope, |db| table::entry(db, scope, key)))
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        self.read(scope, |db| table::entry(db, scope, key))
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        let head = self.read(scope, |db| table::head(db, scope))?.head;
        Ok(head.head(self.shared.leases.remaining(scope, head.owner.as_ref(), now)))
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.read(scope, |db| table::result_of(db, scope, invocation))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.caps().check(&batch)?;
        match self.writer.ask(Request::Commit(batch)).await? {
            Done::Committed(commit) => Ok(commit),
            other => Err(mismatch(&other)),
        }
    }

    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError> {
        match self.writer.ask(Request::Acquire { scope: scope.clone(), node: owner.clone(), lease, now }).await? {
            Done::Acquired(fence) => Ok(fence),
            other => Err(mismatch(&other)),
        }
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.read(scope, |db| table::head(db, scope))?.head.admit_owner(scope, fence)?;
        self.shared.leases.extend(scope, fence.nonce, now + lease);
        Ok(())
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.writer.ask(Request::Release { scope: scope.clone(), fence }).await.map(drop)
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.read(scope, |db| table::snapshot(db, scope))
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        let results = snapshot.results.iter().map(|(_, result)| result);
        refuse_large(snapshot.entries.iter().map(|(_, entry)| &entry.value).chain(results))?;
        self.writer.ask(Request::Import { scope: scope.clone(), fence, snapshot }).await.map(drop)
    }
}

/// Opens database and journal, and brings what only the journal has into the database.
fn start(disk: &Arc<dyn Disk>, config: RedbConfig) -> Result<(Database, Journal), EngineError> {
    let mut journal = Journal::open(Arc::clone(disk), config.journal)?;
    let db = engine::open(Arc::clone(disk), journal.redb(), config.cache)?;
    table::prepare(&db)?;
    recover(&db, &mut journal)?;
    Ok((db, journal))
}

fn recover(db: &Database, journal: &mut Journal) -> Result<(), EngineError> {
    let records = journal.recover(table::applied(db)?)?;
    let Some(last) = records.last().map(|record| record.number) else { return Ok(()) };
    let txn = db.begin_write()?;
    let mut state = Logged::open(&txn, 0)?;
    for record in &records {
        state.replay(&record.changes)?;
    }
    drop(state);
    table::apply(&txn, last)?;
    txn.commit()?;
    journal.restart(last);
    tracing::info!(records = records.len(), "the database has taken over what the journal held");
    Ok(())
}

fn refuse_large<'a>(mut values: impl Iterator<Item = &'a Bytes>) -> Result<(), StateError> {
    if values.any(|value| value.len() >= LARGEST_VALUE) {
        return Err(StateError::Unavailable { reason: format!("a value has {LARGEST_VALUE} bytes or more") });
    }
    Ok(())
}

fn mismatch(done: &Done) -> StateError {
    StateError::Unavailable { reason: format!("the writer answered {done:?}") }
}
