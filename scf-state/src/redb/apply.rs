//! Changes as they are applied to redb's tables.

use redb::{Table, WriteTransaction};
use scf_core::{Batch, Commit, Durability, Fence, InvocationId, NodeId, Scope, Snapshot, StateError, Timestamp};

use super::{
    error::EngineError,
    lease::Leases,
    table::{ENTRY, HEAD, Keys, ORDER, RESULT, STATE, Stored, decode_invocation, encode_entry, result, stored},
};
use crate::change::changes;

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
    table: Table<'t, &'static [u8], &'static [u8]>,
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
    ) -> Result<Self, EngineError> {
        Ok(Self { table: txn.open_table(STATE)?, leases, results_per_scope, changed: false })
    }

    /// Applies `request` or finds why not. Everything is checked before anything is written.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Answer, EngineError> {
        let mut keys = Keys::of(request.scope());
        let mut stored = stored(&self.table, &mut keys)?;
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
            && let Some(result) = result(&self.table, keys, *id)?
        {
            return Ok(Ok(Done::Committed(Commit::Duplicate { result })));
        }
        let admitted = stored.head.admit(&batch.scope, batch.fence, batch.expect);
        let changes = match admitted.and_then(|()| changes(&batch.ops)) {
            Ok(changes) => changes,
            Err(refused) => return Ok(Err(refused)),
        };
        let version = stored.head.version.next();
        stored.head.version = version;
        for (key, value) in changes {
            let key = keys.key(ENTRY, key.as_bytes());
            match value {
                Some(value) => drop(self.table.insert(key, &encode_entry(version, value)[..])?),
                None => drop(self.table.remove(key)?),
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
        self.table.retain_in(&from[..]..&to[..], |_, _| false)?;
        (stored.first_result, stored.next_result) = (0, 0);
        stored.head.version = snapshot.version;
        for (key, entry) in &snapshot.entries {
            let value = encode_entry(entry.version, &entry.value);
            self.table.insert(keys.key(ENTRY, key.as_bytes()), &value[..])?;
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
        self.table.insert(keys.key(RESULT, &invocation), result)?;
        self.table.insert(keys.key(ORDER, &stored.next_result.to_be_bytes()), &invocation[..])?;
        stored.next_result += 1;
        while stored.next_result - stored.first_result > self.results_per_scope {
            let oldest = self.table.remove(keys.key(ORDER, &stored.first_result.to_be_bytes()))?;
            let oldest = oldest.map(|oldest| decode_invocation(oldest.value())).transpose()?;
            if let Some(oldest) = oldest {
                self.table.remove(keys.key(RESULT, &oldest.bits().to_be_bytes()))?;
            }
            stored.first_result += 1;
        }
        Ok(())
    }

    fn write_head(&mut self, keys: &mut Keys, stored: &Stored) -> Result<(), EngineError> {
        self.table.insert(keys.key(HEAD, &[]), &postcard::to_stdvec(stored)?[..])?;
        self.changed = true;
        Ok(())
    }
}
