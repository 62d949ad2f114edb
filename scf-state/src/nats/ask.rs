//! What is asked of a scope, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use scf_core::{Batch, Commit, Delta, Entry, Fence, InvocationId, NodeId, Op, Snapshot, Timestamp, Version};

use super::record::CHANGE;
use crate::quota::size_of;

/// What is asked of a scope.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Commit(Batch),
    Acquire { owner: NodeId, lease: Duration, now: Timestamp },
    Renew { fence: Fence, lease: Duration, now: Timestamp },
    Release { fence: Fence },
    Replace { fence: Fence, snapshot: Snapshot, generation: u64 },
    Stage { fence: Fence, generation: u64 },
    Switch { fence: Fence, generation: u64, version: Version, results: Vec<InvocationId> },
    Follow { fence: Fence, delta: Delta },
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Committed(Commit),
    Acquired(Fence),
    /// These generations are the scope's no longer.
    Left(Vec<u64>),
    Nothing,
}

/// What a request adds to a head, about.
pub(super) fn size(ask: &Ask) -> usize {
    match ask {
        Ask::Commit(batch) => {
            let op = |op: &Op| op.key().map_or(0, str::len) + op.value().map_or(0, Bytes::len) + CHANGE;
            let result = batch.invocation.as_ref().map_or(0, |(_, result)| result.len());
            CHANGE + result + batch.ops.iter().map(op).sum::<usize>()
        }
        Ask::Replace { snapshot, .. } => snapshot_size(snapshot),
        Ask::Follow { delta, .. } => delta_size(delta),
        _ => CHANGE,
    }
}

/// What a head that holds `snapshot` has beside its other parts.
pub(super) fn snapshot_size(snapshot: &Snapshot) -> usize {
    let count = snapshot.entries.len() + snapshot.results.len();
    usize::try_from(size_of(snapshot)).unwrap_or(usize::MAX).saturating_add(CHANGE * count)
}

/// The same of a delta.
pub(super) fn delta_size(delta: &Delta) -> usize {
    let value = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
    let entries = delta.entries.iter().map(|(key, entry)| key.len() + value(entry) + CHANGE);
    entries.chain(delta.results.iter().map(|(_, result)| result.len() + CHANGE)).sum()
}
