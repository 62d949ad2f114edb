//! Calls that go from the queue that accepted them into that of another node.

use serde::{Deserialize, Serialize};

use super::Cause;
use crate::{ByteSize, InvocationId, NodeId};

/// What whoever brings calls to another node asks of the queue that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "four parts are all that is asked")]
pub struct OfferAsk {
    /// Their destination.
    pub to: NodeId,
    /// What came of the calls that were offered last: those that are not in it were not taken. `None` when that is not
    /// known: they are offered again.
    pub settled: Option<Vec<(InvocationId, Handover)>>,
    /// Calls at most.
    pub calls: usize,
    /// Bytes of their payloads at most, beyond the first call.
    pub bytes: ByteSize,
}

/// What came of a call that was offered to another queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Handover {
    /// The other queue has it, since now or before.
    Taken,
    /// The other queue will never take it: a dead letter where it was accepted.
    Refused(Cause),
}
