//! Changes as they are applied to redb's tables.

use bytes::Bytes;
use redb::{ReadableTable as _, Table, WriteTransaction};
use scf_core::{Batch, Commit, Durability, Fence, InvocationId, NodeId, Scope, Snapshot, StateError, Timestamp};

use super::{
    error::EngineError,
    lease::Leases,
    table::{ENTRIES, HEADS, ORDER, RESULTS, Stored, behind, scope_key, stored},
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

/// The tables of one write transaction.
pub(super) struct Tables<'t> {
    heads: Table<'t, &'static str, &'static [u8]>,
    entries: Table<'t, (&'static str, &'static str), (u64, &'static [u8])>,
    results: Table<'t, (&'static str, u128), (u64, &'static [u8])>,
    order: Table<'t, (&'static str, u64), u128>,
    leases: &'t Leases,
    results_per_scope: u64,
    /// Whether anything was written.
    pub(super) changed: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        leases: &'t Leases,
        results_per_scope: u64,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            heads: txn.open_table(HEADS)?,
            entries: txn.open_table(ENTRIES)?,
            results: txn.open_table(RESULTS)?,
            order: txn.open_table(ORDER)?,
            leases,
            results_per_scope,
            changed: false,
        })
    }

    /// Applies `request` or finds why not. Everything is checked before anything is written.
    pub(super) fn apply(&mut self, request: &Request) -> Result<Answer, EngineError> {
        let scope = scope_key(request.scope());
        let mut stored = stored(&self.heads, &scope)?;
        match request {
            Request::Commit(batch) => self.commit(&scope, stored, batch),
            Request::Acquire { scope: of, node, lease, now } => {
                let remaining = self.leases.remaining(of, stored.head.owner.as_ref(), *now);
                match stored.head.acquire(of, node, *lease, remaining) {
                    Ok(fence) => {
                        self.write_head(&scope, &stored)?;
                        Ok(Ok(Done::Acquired(fence)))
                    }
                    Err(refused) => Ok(Err(refused)),
                }
            }
            Request::Release { fence, .. } => {
                if stored.head.is_owned_under(*fence) {
                    stored.head.owner = None;
                    self.write_head(&scope, &stored)?;
                }
                Ok(Ok(Done::Released))
            }
            Request::Import { scope: of, fence, snapshot } => match stored.head.admit_owner(of, *fence) {
                Ok(()) => self.import(&scope, stored, snapshot).map(Ok),
                Err(refused) => Ok(Err(refused)),
            },
        }
    }

    fn commit(&mut self, scope: &str, mut stored: Stored, batch: &Batch) -> Result<Answer, EngineError> {
        if let Some((id, _)) = &batch.invocation
            && let Some(kept) = self.results.get((scope, id.bits()))?
        {
            let result = Bytes::copy_from_slice(kept.value().1);
            return Ok(Ok(Done::Committed(Commit::Duplicate { result })));
        }
        let changes =
            match stored.head.admit(&batch.scope, batch.fence, batch.expect).and_then(|()| changes(&batch.ops)) {
                Ok(changes) => changes,
                Err(refused) => return Ok(Err(refused)),
            };
        let version = stored.head.version.next();
        stored.head.version = version;
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.entries.insert((scope, key), (version.get(), &value[..]))?),
                None => drop(self.entries.remove((scope, key))?),
            }
        }
        if let Some((id, result)) = &batch.invocation {
            self.keep_result(scope, &mut stored, *id, result)?;
        }
        self.write_head(scope, &stored)?;
        Ok(Ok(Done::Committed(Commit::Applied { version, durability: Durability::Durable })))
    }

    fn import(&mut self, scope: &str, mut stored: Stored, snapshot: &Snapshot) -> Result<Done, EngineError> {
        let behind = behind(scope);
        self.entries.retain_in((scope, "")..(behind.as_str(), ""), |_, _| false)?;
        self.results.retain_in((scope, 0)..(behind.as_str(), 0), |_, _| false)?;
        self.order.retain_in((scope, 0)..(behind.as_str(), 0), |_, _| false)?;
        (stored.first_result, stored.next_result) = (0, 0);
        stored.head.version = snapshot.version;
        for (key, entry) in &snapshot.entries {
            self.entries.insert((scope, key.as_str()), (entry.version.get(), &entry.value[..]))?;
        }
        for (id, result) in &snapshot.results {
            self.keep_result(scope, &mut stored, *id, result)?;
        }
        self.write_head(scope, &stored)?;
        Ok(Done::Imported)
    }

    fn keep_result(
        &mut self,
        scope: &str,
        stored: &mut Stored,
        id: InvocationId,
        result: &[u8],
    ) -> Result<(), EngineError> {
        self.results.insert((scope, id.bits()), (stored.next_result, result))?;
        self.order.insert((scope, stored.next_result), id.bits())?;
        stored.next_result += 1;
        while stored.next_result - stored.first_result > self.results_per_scope {
            let oldest = self.order.remove((scope, stored.first_result))?.map(|id| id.value());
            if let Some(oldest) = oldest {
                self.results.remove((scope, oldest))?;
            }
            stored.first_result += 1;
        }
        Ok(())
    }

    fn write_head(&mut self, scope: &str, stored: &Stored) -> Result<(), EngineError> {
        self.heads.insert(scope, &postcard::to_stdvec(stored)?[..])?;
        self.changed = true;
        Ok(())
    }
}
