//! Changes as they are applied to redb's tables.

use redb::{ReadableTable as _, WriteTransaction};
use scf_core::{Batch, Commit, Durability, Fence, InvocationId, NodeId, Scope, Snapshot, StateError, Timestamp};

use super::{
    error::EngineError,
    lease::Leases,
    log::Logged,
    table::{self, ENTRY, HEAD, Keys, ORDER, RESULT, Stored, decode_invocation, encode_entry, result, stored},
};
use crate::change::{changes, guard};

/// What the writer is asked to do.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Commit(Batch),
    Acquire { scope: Scope, node: NodeId, lease: std::time::Duration, now: Timestamp },
    Release { scope: Scope, fence: Fence },
    Import { scope: Scope, fence: Fence, snapshot: Snapshot },
}

impl Request {
    pub(super) const fn scope(&self) -> &Scope {
        match self {
            Self::Commit(batch) => &batch.scope,
            Self::Acquire { scope, .. } | Self::Release { scope, .. } | Self::Import { scope, .. } => scope,
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
}

/// A request's answer inside a transaction: the outer error ends the transaction, the inner one is the answer.
pub(super) type Answer = Result<Done, StateError>;

/// The state's table in one write transaction.
pub(super) struct Changes<'t> {
    state: Logged<'t>,
    leases: &'t Leases,
    results_per_scope: u64,
    /// Whether anything was written.
    pub(super) changed: bool,
}

impl<'t> Changes<'t> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        leases: &'t Leases,
        results_per_scope: u64,
        longest: usize,
    ) -> Result<Self, EngineError> {
        Ok(Self { state: Logged::open(txn, longest)?, leases, results_per_scope, changed: false })
    }

    /// What was changed; `None` if it is longer than the journal takes.
    pub(super) fn into_log(self) -> Option<Vec<u8>> {
        self.state.into_log()
    }

    /// Applies `request` or finds why not. Everything is checked before anything is written.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Answer, EngineError> {
        let mut keys = Keys::of(request.scope());
        let mut stored = stored(&self.state.table, &mut keys)?;
        match request {
            Request::Commit(batch) => self.commit(&mut keys, stored, batch),
            Request::Acquire { scope, node, lease, now } => {
                let remaining = self.leases.remaining(scope, stored.head.owner.as_ref(), *now);
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
            Request::Import { scope, fence, snapshot } => match stored.head.admit_owner(scope, *fence) {
                Ok(()) => self.import(&mut keys, stored, snapshot).map(Ok),
                Err(refused) => Ok(Err(refused)),
            },
        }
    }

    fn commit(&mut self, keys: &mut Keys, mut stored: Stored, batch: &Batch) -> Result<Answer, EngineError> {
        if let Some((id, _)) = &batch.invocation
            && let Some(result) = result(&self.state.table, keys, *id)?
        {
            return Ok(Ok(Done::Committed(Commit::Duplicate { result })));
        }
        let admitted = stored.head.admit(&batch.scope, batch.fence, batch.expect);
        let table = &self.state.table;
        let version_of = |key: &str| table::version(table, keys, key);
        let admitted = match admitted {
            Ok(()) => guard(batch, version_of)?,
            refused => refused,
        };
        let changes = match admitted.and_then(|()| changes(&batch.ops)) {
            Ok(changes) => changes,
            Err(refused) => return Ok(Err(refused)),
        };
        let version = stored.head.version.next();
        stored.head.version = version;
        for (key, value) in changes {
            let key = keys.key(ENTRY, key.as_bytes());
            match value {
                Some(value) => self.state.put(key, &encode_entry(version, value))?,
                None => self.state.remove(key)?,
            }
        }
        if let Some((id, result)) = &batch.invocation {
            self.keep_result(keys, &mut stored, *id, result)?;
        }
        self.write_head(keys, &stored)?;
        Ok(Ok(Done::Committed(Commit::Applied { version, durability: Durability::Durable })))
    }

    fn import(&mut self, keys: &mut Keys, mut stored: Stored, snapshot: &Snapshot) -> Result<Done, EngineError> {
        let (from, to) = keys.range(ORDER..=ENTRY);
        self.state.clear(&from, &to)?;
        (stored.first_result, stored.next_result) = (0, 0);
        stored.head.version = snapshot.version;
        for (key, entry) in &snapshot.entries {
            let value = encode_entry(entry.version, &entry.value);
            self.state.put(keys.key(ENTRY, key.as_bytes()), &value)?;
        }
        for (id, result) in &snapshot.results {
            self.keep_result(keys, &mut stored, *id, result)?;
        }
        self.write_head(keys, &stored)?;
        Ok(Done::Imported)
    }

    fn keep_result(
        &mut self,
        keys: &mut Keys,
        stored: &mut Stored,
        id: InvocationId,
        result: &[u8],
    ) -> Result<(), EngineError> {
        let invocation = id.bits().to_be_bytes();
        self.state.put(keys.key(RESULT, &invocation), result)?;
        self.state.put(keys.key(ORDER, &stored.next_result.to_be_bytes()), &invocation)?;
        stored.next_result += 1;
        while stored.next_result - stored.first_result > self.results_per_scope {
            let place = stored.first_result.to_be_bytes();
            let oldest = self.state.table.get(keys.key(ORDER, &place))?;
            if let Some(oldest) = oldest.map(|oldest| decode_invocation(oldest.value())).transpose()? {
                self.state.remove(keys.key(ORDER, &place))?;
                self.state.remove(keys.key(RESULT, &oldest.bits().to_be_bytes()))?;
            }
            stored.first_result += 1;
        }
        Ok(())
    }

    fn write_head(&mut self, keys: &mut Keys, stored: &Stored) -> Result<(), EngineError> {
        self.state.put(keys.key(HEAD, &[]), &postcard::to_stdvec(stored)?)?;
        self.changed = true;
        Ok(())
    }
}
