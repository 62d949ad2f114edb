//! Changes as they are applied to redb's tables.

use std::sync::Arc;

use redb::{ReadableTable as _, WriteTransaction};
use scf_core::{
    Batch, Commit, Delta, Durability, Entry, Fence, InvocationId, NodeId, QueueError, Scope, Snapshot, StateError,
    Timestamp,
};

use super::{
    Shared,
    error::EngineError,
    log::Logged,
    queue::Written,
    table::{
        self, ENTRY, ENTRY_HEAD, HEAD, Keys, ORDER, RESULT, Stored, decode_invocation, encode_entry, expiry, expiry_of,
        result, stored,
    },
};
use crate::{
    change::{Change, changes, guard, keys as keys_of},
    history::Note,
    queue::{self, Ask, Book, calls_of},
    quota::{entry_size, result_size, size_of, sizes},
};

/// Expired values that are removed with a group at most.
const SWEEP: usize = 64;

/// What the writer is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Commit(Batch),
    Acquire { scope: Scope, node: NodeId, lease: std::time::Duration, now: Timestamp },
    Release { scope: Scope, fence: Fence },
    Import { scope: Scope, fence: Fence, snapshot: Snapshot },
    ImportSince { scope: Scope, fence: Fence, delta: Delta },
    Queue { book: Arc<Book>, ask: Ask, scope: Scope },
}

impl Request {
    pub(super) const fn scope(&self) -> &Scope {
        match self {
            Self::Commit(batch) => &batch.scope,
            Self::Acquire { scope, .. }
            | Self::Release { scope, .. }
            | Self::Import { scope, .. }
            | Self::ImportSince { scope, .. }
            | Self::Queue { scope, .. } => scope,
        }
    }

    /// How safe it is to be before it is answered.
    pub(super) const fn durability(&self) -> Durability {
        match self {
            Self::Commit(batch) => batch.durability,
            Self::Queue { ask, .. } => ask.durability(),
            _ => Durability::Durable,
        }
    }
}

/// What came of a [`Request`].
#[derive(Clone, Debug)]
pub(super) enum Done {
    Committed(Commit),
    Acquired(Fence),
    Released,
    Imported,
    Queue(Result<queue::Answer, QueueError>),
}

/// A request's answer inside a transaction: the outer error ends the transaction, the inner one is the answer.
pub(super) type Answer = Result<Done, StateError>;

/// The state's table in one write transaction.
pub(super) struct Changes<'t> {
    state: Logged<'t>,
    shared: &'t Shared,
    /// Whether anything was written.
    pub(super) changed: bool,
    /// What copies and watchers are to know of.
    notes: Vec<(Scope, Note)>,
}

impl<'t> Changes<'t> {
    pub(super) fn open(txn: &'t WriteTransaction, shared: &'t Shared, longest: usize) -> Result<Self, EngineError> {
        Ok(Self { state: Logged::open(txn, longest)?, shared, changed: false, notes: Vec::new() })
    }

    /// What was changed, `None` if it is longer than the journal takes, and what is to be noted of it.
    pub(super) fn into_log(self) -> (Option<Vec<u8>>, Vec<(Scope, Note)>) {
        (self.state.into_log(), self.notes)
    }

    /// Applies `request` or finds why not. Everything is checked before anything is written.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Answer, EngineError> {
        if let Request::Queue { book, ask, .. } = request {
            return self.queue(book, ask).map(|answer| Ok(Done::Queue(answer)));
        }
        let scope = request.scope();
        let mut keys = Keys::of(scope);
        let mut stored = stored(&self.state.table, &mut keys)?;
        match request {
            Request::Commit(batch) => self.commit(&mut keys, stored, batch),
            Request::Acquire { node, lease, now, .. } => {
                let remaining = self.shared.leases.remaining(scope, stored.head.owner.as_ref(), *now);
                match stored.head.acquire(scope, node, *lease, remaining) {
                    Ok(fence) => {
                        self.write_head(&mut keys, &stored)?;
                        Ok(Ok(Done::Acquired(fence)))
                    }
                    Err(refused) => Ok(Err(refused)),
                }
            }
            Request::Release { fence, .. } => {
                if stored.head.is_owned_under(*fence) {
                    stored.head.owner = None;
                    self.write_head(&mut keys, &stored)?;
                }
                Ok(Ok(Done::Released))
            }
            Request::Import { fence, snapshot, .. } => match stored.head.admit_owner(scope, *fence) {
                Ok(()) => self.import(&mut keys, stored, scope, snapshot),
                Err(refused) => Ok(Err(refused)),
            },
            Request::ImportSince { fence, delta, .. } => match stored.head.admit_owner(scope, *fence) {
                Ok(()) => self.import_since(&mut keys, stored, scope, delta),
                Err(refused) => Ok(Err(refused)),
            },
            Request::Queue { .. } => Err(EngineError::Malformed("a request of the queue")),
        }
    }

    /// Has the invocation queue do something.
    fn queue(&mut self, book: &Book, ask: &Ask) -> Result<Result<queue::Answer, QueueError>, EngineError> {
        let mut records = Written { state: &mut self.state, changed: false };
        let answer = book.apply(&mut records, ask)?;
        self.changed |= records.changed;
        Ok(answer)
    }

    fn commit(&mut self, keys: &mut Keys, mut stored: Stored, batch: &Batch) -> Result<Answer, EngineError> {
        if let Some((id, _)) = &batch.invocation
            && let Some(result) = result(&self.state.table, keys, *id)?
        {
            return Ok(Ok(Done::Committed(Commit::Duplicate { result })));
        }
        if let Err(refused) = self.admit(keys, &stored, batch)? {
            return Ok(Err(refused));
        }
        let changes = match changes(&batch.ops) {
            Ok(changes) => changes,
            Err(refused) => return Ok(Err(refused)),
        };
        let calls = match calls_of(batch, self.shared.queue.get().map(|book| &**book)) {
            Ok(calls) => calls,
            Err(refused) => return Ok(Err(refused)),
        };
        let before = stored.bytes;
        let version = stored.head.version.next();
        stored.head.version = version;
        for change in &changes {
            match *change {
                Change::Put { key, value, expires } => {
                    self.put(keys, &mut stored, key, &Entry { value: value.clone(), version, expires })?;
                }
                Change::Remove { key } => self.remove(keys, &mut stored, key)?,
            }
        }
        for (book, ask) in calls {
            if let Err(source) = self.queue(book, &ask)? {
                // There was room for it a moment ago, and only this thread takes room.
                tracing::error!(scope = %batch.scope, %source, "a call of a commit was not accepted");
            }
        }
        if let Some((id, result)) = &batch.invocation {
            self.keep_result(keys, &mut stored, *id, result)?;
        }
        self.write_head(keys, &stored)?;
        self.shared.ledger.count(&batch.scope.function, before, stored.bytes);
        if self.shared.history.wants(&batch.scope) {
            let id = batch.invocation.iter().map(|(id, _)| *id).collect();
            self.note(&batch.scope, Note::new(version, keys_of(&changes), id));
        }
        // The writer says what was given in the end.
        Ok(Ok(Done::Committed(Commit::Applied { version, durability: batch.durability })))
    }

    /// Checks what `batch` rests on and what it would take of its tenant's quota.
    fn admit(&self, keys: &mut Keys, stored: &Stored, batch: &Batch) -> Result<Result<(), StateError>, EngineError> {
        if let Err(refused) = stored.head.admit(&batch.scope, batch.fence, batch.expect) {
            return Ok(Err(refused));
        }
        let table = &self.state.table;
        let living = |key: &str| {
            let found = table::found(table, keys, key)?.filter(|entry| self.shared.wall.lives(entry));
            Ok::<_, EngineError>(found.map(|entry| entry.version))
        };
        if let Err(refused) = guard(batch, living)? {
            return Ok(Err(refused));
        }
        if !self.shared.ledger.is_kept() {
            return Ok(Ok(()));
        }
        let size = |key: &str| {
            let found = table.get(keys.key(ENTRY, key.as_bytes()))?;
            Ok::<_, EngineError>(found.map_or(0, |found| stored_size(key, found.value())))
        };
        let (before, mut after) = sizes(&batch.ops, size)?;
        after += batch.invocation.as_ref().map_or(0, |(_, result)| result_size(result.len()));
        Ok(self.shared.ledger.admit(&batch.scope.function, before, after))
    }

    fn import(
        &mut self,
        keys: &mut Keys,
        mut stored: Stored,
        scope: &Scope,
        snapshot: &Snapshot,
    ) -> Result<Answer, EngineError> {
        let before = stored.bytes;
        if let Err(refused) = self.shared.ledger.admit(&scope.function, before, size_of(snapshot)) {
            return Ok(Err(refused));
        }
        let (from, to) = keys.range(ENTRY..=ENTRY);
        let mut expiring = Vec::new();
        for found in self.state.table.range(&from[..]..&to[..])? {
            let (key, value) = found?;
            expiring.extend(expiry_of(value.value()).map(|expires| expiry(expires, key.value())));
        }
        for key in expiring {
            self.state.remove(&key, |_| ())?;
        }
        let (from, to) = keys.range(ORDER..=ENTRY);
        self.state.clear(&from, &to)?;
        stored = Stored { head: stored.head, ..Stored::default() };
        stored.head.version = snapshot.version;
        for (key, entry) in &snapshot.entries {
            self.put(keys, &mut stored, key, entry)?;
        }
        for (id, result) in &snapshot.results {
            self.keep_result(keys, &mut stored, *id, result)?;
        }
        self.write_head(keys, &stored)?;
        self.shared.ledger.count(&scope.function, before, stored.bytes);
        self.note(scope, Note::replaced(snapshot.version));
        Ok(Ok(Done::Imported))
    }

    fn import_since(
        &mut self,
        keys: &mut Keys,
        mut stored: Stored,
        scope: &Scope,
        delta: &Delta,
    ) -> Result<Answer, EngineError> {
        let (expected, actual) = (delta.since, stored.head.version);
        if expected != actual {
            return Ok(Err(StateError::Conflict { scope: scope.clone(), expected, actual }));
        }
        let before = stored.bytes;
        let written = delta.entries.iter().filter_map(|(key, entry)| Some((key, entry.as_ref()?)));
        let written = written.map(|(key, entry)| entry_size(key, entry.value.len()));
        let grown = written.chain(delta.results.iter().map(|(_, result)| result_size(result.len()))).sum();
        if let Err(refused) = self.shared.ledger.admit(&scope.function, 0, grown) {
            return Ok(Err(refused));
        }
        stored.head.version = delta.version;
        for (key, entry) in &delta.entries {
            match entry {
                Some(entry) => self.put(keys, &mut stored, key, entry)?,
                None => self.remove(keys, &mut stored, key)?,
            }
        }
        for (id, result) in &delta.results {
            self.keep_result(keys, &mut stored, *id, result)?;
        }
        self.write_head(keys, &stored)?;
        self.shared.ledger.count(&scope.function, before, stored.bytes);
        let touched = delta.entries.iter().map(|(key, _)| key.clone()).collect();
        let brought = delta.results.iter().map(|(id, _)| *id).collect();
        self.note(scope, Note::new(delta.version, touched, brought));
        Ok(Ok(Done::Imported))
    }

    /// Removes some of what has expired, if anything was changed at all.
    pub(super) fn sweep(&mut self) -> Result<(), EngineError> {
        if !self.changed || !self.shared.expires() {
            return Ok(());
        }
        let (from, to) = (expiry(<_>::default(), &[]), expiry(self.shared.wall.now() + EXPIRED, &[]));
        let mut expired = Vec::new();
        for found in self.state.table.range(&from[..]..&to[..])?.take(SWEEP) {
            expired.push(found?.0.value().to_vec());
        }
        for place in expired {
            self.state.remove(&place, |_| ())?;
            let key = place.get(PLACE..).ok_or(EngineError::Malformed("an expiry"))?;
            let (name, function) = table::scope_of(key)?;
            let head = [name, &[HEAD]].concat();
            let Some(mut stored) = self.state.table.get(&head[..])?.map(|head| decode(head.value())).transpose()?
            else {
                continue;
            };
            let rest = &key[(name.len() + 1).min(key.len())..];
            let gone = self.state.remove(key, |value| rest.len() as u64 + value_size(value))?.unwrap_or(0);
            let before = stored.bytes;
            stored.bytes = before.saturating_sub(gone);
            self.shared.ledger.count(&function, before, stored.bytes);
            self.state.put(&head, &postcard::to_stdvec(&stored)?, |_| ())?;
        }
        Ok(())
    }

    fn put(&mut self, keys: &mut Keys, stored: &mut Stored, key: &str, entry: &Entry) -> Result<(), EngineError> {
        let place = keys.key(ENTRY, key.as_bytes());
        let was = self.state.put(place, &encode_entry(entry), |was| (stored_size(key, was), expiry_of(was)))?;
        let (gone, expired) = was.unwrap_or_default();
        stored.bytes = (stored.bytes + entry_size(key, entry.value.len())).saturating_sub(gone);
        if expired != entry.expires {
            if let Some(expired) = expired {
                self.state.remove(&expiry(expired, place), |_| ())?;
            }
            if let Some(expires) = entry.expires {
                self.shared.note_expiry();
                self.state.put(&expiry(expires, place), &[], |_| ())?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, keys: &mut Keys, stored: &mut Stored, key: &str) -> Result<(), EngineError> {
        let place = keys.key(ENTRY, key.as_bytes());
        let was = self.state.remove(place, |was| (stored_size(key, was), expiry_of(was)))?;
        let (gone, expired) = was.unwrap_or_default();
        stored.bytes = stored.bytes.saturating_sub(gone);
        if let Some(expired) = expired {
            self.state.remove(&expiry(expired, place), |_| ())?;
        }
        Ok(())
    }

    fn keep_result(
        &mut self,
        keys: &mut Keys,
        stored: &mut Stored,
        id: InvocationId,
        result: &[u8],
    ) -> Result<(), EngineError> {
        let invocation = id.bits().to_be_bytes();
        stored.bytes += result_size(result.len());
        let size = |result: &[u8]| result_size(result.len());
        if let Some(replaced) = self.state.put(keys.key(RESULT, &invocation), result, size)? {
            // A copy that is brought up to date may have it already, in its place.
            stored.bytes = stored.bytes.saturating_sub(replaced);
            return Ok(());
        }
        self.state.put(keys.key(ORDER, &stored.next_result.to_be_bytes()), &invocation, |_| ())?;
        stored.next_result += 1;
        while stored.next_result - stored.first_result > self.shared.config.results_per_scope as u64 {
            let place = stored.first_result.to_be_bytes();
            let oldest = self.state.remove(keys.key(ORDER, &place), decode_invocation)?;
            if let Some(oldest) = oldest.transpose()? {
                let gone = self.state.remove(keys.key(RESULT, &oldest.bits().to_be_bytes()), size)?;
                stored.bytes = stored.bytes.saturating_sub(gone.unwrap_or(0));
            }
            stored.first_result += 1;
        }
        Ok(())
    }

    fn write_head(&mut self, keys: &mut Keys, stored: &Stored) -> Result<(), EngineError> {
        self.state.put(keys.key(HEAD, &[]), &postcard::to_stdvec(stored)?, |_| ())?;
        self.changed = true;
        Ok(())
    }

    fn note(&mut self, scope: &Scope, note: Note) {
        if self.shared.history.wants(scope) {
            self.notes.push((scope.clone(), note));
        }
    }
}

/// A value expires at its time, not behind it.
const EXPIRED: std::time::Duration = std::time::Duration::from_millis(1);
/// Where the entry's key begins in the key of its expiry.
const PLACE: usize = 4 + 1 + 8;

fn decode(head: &[u8]) -> Result<Stored, EngineError> {
    Ok(postcard::from_bytes(head)?)
}

/// What a stored entry counts.
fn stored_size(key: &str, bytes: &[u8]) -> u64 {
    key.len() as u64 + value_size(bytes)
}

const fn value_size(bytes: &[u8]) -> u64 {
    bytes.len().saturating_sub(ENTRY_HEAD) as u64
}
