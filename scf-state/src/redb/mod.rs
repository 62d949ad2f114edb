//! State in redb, on any [`Disk`].

mod apply;
mod engine;
mod error;
mod journal;
mod lease;
mod log;
mod queue;
mod table;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redb::Database;
use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, ByteSize, Caps, Clock, Commit, Delta, Disk, Durability, Entry, Fence, Head, InvocationId, NodeId, Page,
    Scope, Snapshot, StateBackend, StateError, Timestamp, Version, Watch,
};

use self::{
    apply::{Done, Request},
    error::{EngineError, Failure},
    journal::Journal,
    lease::Leases,
    log::Logged,
    writer::Writer,
};
use crate::{
    disk::{CheckedDisk, FileDisk},
    history::History,
    limit::{MAX_BATCH, MAX_VALUE, check_snapshot},
    queue::Book,
    quota::{Ledger, Quotas},
    wall::Wall,
};

pub use self::{error::OpenError, queue::RedbQueue};

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
/// its content over when it is full, and when the store is closed or opened. Reads do not wait for the writer.
///
/// After a failed write or sync it takes no more commits and answers [`StateError::Unavailable`]; it never
/// syncs again in the hope that it works. What was acknowledged is still read. Open it anew to go on. While the disk
/// is full it answers [`StateError::Full`] and reads what there is; it goes on by itself when there is space.
///
/// Damage is found where it is read, by the disk's seals ([`CheckedDisk`]), and never served: the read answers
/// [`StateError::Corrupt`] with the sector, and the store takes no more commits. A store with damage in what is read at
/// the opening does not open.
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
    db: RwLock<Opened>,
    disk: Arc<dyn Disk>,
    leases: Leases,
    wall: Wall,
    ledger: Ledger,
    history: History,
    /// Whether any value may expire.
    expiring: AtomicBool,
    /// Why nothing is written any more.
    failure: OnceLock<String>,
    /// Where the database begins on the disk.
    start: u64,
    config: RedbConfig,
    /// What commits accept calls into, once it is open.
    queue: OnceLock<Arc<Book>>,
}

/// A database, and what keeps it from writing when another takes its place.
#[derive(Clone, Debug)]
struct Opened {
    db: Arc<Database>,
    closed: Arc<AtomicBool>,
}

impl Shared {
    fn expires(&self) -> bool {
        self.expiring.load(Ordering::Relaxed)
    }

    fn note_expiry(&self) {
        self.expiring.store(true, Ordering::Relaxed);
    }

    /// Counts what is in `db`.
    fn recount(&self, db: &Database) -> Result<(), EngineError> {
        self.expiring.store(table::expires(db)?, Ordering::Relaxed);
        if self.ledger.is_kept() {
            self.ledger.clear();
            table::sizes(db, |function, bytes| self.ledger.count(function, 0, bytes))?;
        }
        if let Some(book) = self.queue.get() {
            queue::reload(book, db)?;
        }
        Ok(())
    }

    fn db(&self) -> Arc<Database> {
        Arc::clone(&self.db.read().unwrap_or_else(PoisonError::into_inner).db)
    }

    /// Keeps the database from writing.
    fn shut(&self) {
        self.db.read().unwrap_or_else(PoisonError::into_inner).closed.store(true, Ordering::Release);
    }

    fn serve(&self, opened: Opened) {
        *self.db.write().unwrap_or_else(PoisonError::into_inner) = opened;
    }

    /// Stops writing, and goes on reading from what is on the disk.
    fn fail(&self, reason: &str) {
        if self.failure.set(reason.to_owned()).is_err() {
            return;
        }
        tracing::error!(reason, "a state store takes no more commits");
        self.shut();
        match self.salvage() {
            Ok(db) => self.serve(Opened { db: Arc::new(db), closed: Arc::default() }),
            Err(error) => tracing::error!(%error, "nor can it be read"),
        }
    }

    /// Opens the store anew, after redb gave up for want of space. While that does not work, reads are served from
    /// what is on the disk.
    fn revive(&self, journal: &mut Journal) -> Result<(), EngineError> {
        self.shut();
        let (opened, revived) = match start(&self.disk, self.config) {
            Ok((opened, anew)) => {
                *journal = anew;
                (opened, Ok(()))
            }
            Err(error) => (Opened { db: Arc::new(self.salvage()?), closed: Arc::default() }, Err(error)),
        };
        self.recount(&opened.db)?;
        self.serve(opened);
        revived
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
        Self::builder().open(path)
    }

    /// Opens the store on `disk`, or makes one there, with the default configuration. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn on(disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        Self::builder().on(disk)
    }

    /// Opens the store on `disk`, or makes one there. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn with(disk: Arc<dyn Disk>, config: RedbConfig) -> Result<Self, OpenError> {
        Self::builder().config(config).on(disk)
    }

    /// A store that is yet to be opened: default configuration, no quotas, the machine's clock.
    pub fn builder() -> RedbBuilder {
        RedbBuilder::default()
    }

    fn entry(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        let entry = self.read(scope, |db| table::entry(db, scope, key))?;
        Ok(entry.filter(|entry| self.shared.wall.lives(entry)))
    }

    fn version(&self, scope: &Scope) -> Result<Version, StateError> {
        Ok(self.read(scope, |db| table::head(db, scope))?.head.version)
    }

    fn read<T>(&self, scope: &Scope, read: impl FnOnce(&Database) -> Result<T, EngineError>) -> Result<T, StateError> {
        read(&self.shared.db()).map_err(|error| {
            if error.is_damage() {
                self.shared.fail(&error.to_string());
            }
            Failure(scope, error).into()
        })
    }
}

/// What a [`RedbState`] is opened with.
#[derive(Debug, Default)]
#[must_use]
pub struct RedbBuilder {
    config: RedbConfig,
    wall: Wall,
    quotas: Option<Quotas>,
}

impl RedbBuilder {
    /// What it keeps and queues; default [`RedbConfig::default`].
    pub const fn config(mut self, config: RedbConfig) -> Self {
        self.config = config;
        self
    }

    /// The clock by which values expire; default the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.wall = Wall::Given(clock);
        self
    }

    /// How much tenants may keep; default no bounds. What they keep already is counted at the opening.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = Some(quotas);
        self
    }

    /// Opens the store in the file at `path`, or creates it. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<RedbState, OpenError> {
        self.on(Arc::new(FileDisk::open(path).map_err(OpenError::Disk)?))
    }

    /// Opens the store on `disk`, or makes one there. Blocks.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn on(self, disk: Arc<dyn Disk>) -> Result<RedbState, OpenError> {
        let Self { config, wall, quotas } = self;
        let config = RedbConfig { results_per_scope: config.results_per_scope.max(1), ..config };
        let store = |error| OpenError::Store(Box::new(error));
        let disk = if disk.verifies() { disk } else { Arc::new(CheckedDisk::open(disk)?) };
        let (opened, journal) = start(&disk, config).map_err(store)?;
        let (db, start) = (Arc::clone(&opened.db), journal.redb());
        let shared = Arc::new(Shared {
            db: RwLock::new(opened),
            disk,
            leases: Leases::default(),
            wall,
            ledger: Ledger::new(quotas),
            history: History::default(),
            expiring: AtomicBool::new(false),
            failure: OnceLock::new(),
            start,
            config,
            queue: OnceLock::new(),
        });
        shared.recount(&db).map_err(store)?;
        drop(db);
        let writer = Writer::start(Arc::clone(&shared), journal, config.queue.max(1), config.group.max(1));
        Ok(RedbState { writer: writer.map_err(OpenError::Disk)?, shared })
    }
}

#[async_trait]
impl StateBackend for RedbState {
    fn caps(&self) -> Caps {
        Caps::new(Durability::Durable)
            .results_per_scope(self.shared.config.results_per_scope)
            .max_value(MAX_VALUE)
            .max_batch(MAX_BATCH)
            .with_expiry()
            .with_watch()
    }

    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        Some(self.entry(scope, key))
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        self.entry(scope, key)
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

    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        self.read(scope, |db| table::scan(db, scope, prefix, after, limit, &self.shared.wall))
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        let history = &self.shared.history;
        let watcher = history.watch(scope, prefix);
        let head = self.version(scope)?;
        history.copied(scope, head);
        Ok(Box::new(watcher.begin(from, head, history.between(scope, from, head))))
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.shared.history.track(scope);
        let snapshot = self.read(scope, |db| table::snapshot(db, scope, &self.shared.wall))?;
        self.shared.history.copied(scope, snapshot.version);
        Ok(snapshot)
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        check_snapshot(self.caps(), scope, &snapshot)?;
        self.writer.ask(Request::Import { scope: scope.clone(), fence, snapshot }).await.map(drop)
    }

    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        let changed = |version| self.shared.history.between(scope, since, version);
        self.read(scope, |db| table::delta(db, scope, since, &self.shared.wall, changed))
    }

    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        self.writer.ask(Request::ImportSince { scope: scope.clone(), fence, delta }).await.map(drop)
    }
}

/// Opens database and journal, and brings what only the journal has into the database.
fn start(disk: &Arc<dyn Disk>, config: RedbConfig) -> Result<(Opened, Journal), EngineError> {
    let mut journal = Journal::open(Arc::clone(disk), config.journal)?;
    if !journal.is_made() {
        // Power was cut while redb was made.
        disk.set_len(journal.redb())?;
    } else if disk.len()? <= journal.redb() {
        return Err(EngineError::Malformed("the disk, which is cut off,"));
    }
    let closed = Arc::new(AtomicBool::new(false));
    let db = engine::open(Arc::clone(disk), journal.redb(), config.cache, Arc::clone(&closed))?;
    let prepared = table::prepare(&db).and_then(|()| if journal.is_made() { Ok(()) } else { Ok(journal.made()?) });
    let recovered = prepared.and_then(|()| recover(&db, &mut journal));
    closed.store(recovered.is_err(), Ordering::Release);
    recovered?;
    Ok((Opened { db: Arc::new(db), closed }, journal))
}

fn recover(db: &Database, journal: &mut Journal) -> Result<(), EngineError> {
    let records = journal.recover(table::applied(db)?)?;
    let Some(last) = records.last().map(|record| record.number) else { return Ok(()) };
    let txn = engine::begin(db)?;
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

fn mismatch(done: &Done) -> StateError {
    StateError::Unavailable { reason: format!("the writer answered {done:?}") }
}
