//! What a queue is asked to change, and what it answers.

use scf_core::{
    Acceptance, Delivery, Durability, Handover, Hold, InvocationId, Lease, LeaseAsk, NodeId, OfferAsk, QueueError,
    QueuedCall, Scope, Settle,
};

/// What a queue is asked to change.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Accept(Box<QueuedCall>),
    Lease(LeaseAsk),
    Settle(Lease, Settle),
    Redrive(InvocationId),
    Discard(InvocationId),
    Cancel(InvocationId),
    CancelTimer(Scope, String),
    Hold(Scope, Hold),
    Release(Scope),
    Offer(OfferAsk),
    Take(NodeId, Vec<QueuedCall>),
    /// After a restart: what ran when the process ended is tried again or given up.
    Recover,
}

impl Ask {
    /// What it asks of the disk. A lease that power takes away is none: its worker is gone as well.
    pub(crate) const fn durability(&self) -> Durability {
        if matches!(self, Self::Lease(_)) { Durability::OsBuffered } else { Durability::Durable }
    }

    /// The call that it is about.
    pub(crate) fn id(&self) -> InvocationId {
        match self {
            Self::Accept(call) => call.id,
            Self::Take(_, calls) => calls.first().map_or(InvocationId::new(0), |call| call.id),
            Self::Settle(lease, _) => lease.id,
            Self::Redrive(id) | Self::Discard(id) | Self::Cancel(id) => *id,
            _ => InvocationId::new(0),
        }
    }
}

/// What came of an [`Ask`].
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Accepted(Acceptance),
    Leased(Vec<Delivery>),
    Released(Option<InvocationId>),
    Offered(Vec<QueuedCall>),
    Taken(Vec<Handover>),
    Done,
}

impl Answer {
    pub(crate) fn accepted(self) -> Result<Acceptance, QueueError> {
        if let Self::Accepted(acceptance) = self { Ok(acceptance) } else { Err(self.unexpected()) }
    }

    pub(crate) fn leased(self) -> Result<Vec<Delivery>, QueueError> {
        if let Self::Leased(deliveries) = self { Ok(deliveries) } else { Err(self.unexpected()) }
    }

    pub(crate) fn released(self) -> Result<Option<InvocationId>, QueueError> {
        if let Self::Released(call) = self { Ok(call) } else { Err(self.unexpected()) }
    }

    pub(crate) fn offered(self) -> Result<Vec<QueuedCall>, QueueError> {
        if let Self::Offered(calls) = self { Ok(calls) } else { Err(self.unexpected()) }
    }

    pub(crate) fn taken(self) -> Result<Vec<Handover>, QueueError> {
        if let Self::Taken(outcomes) = self { Ok(outcomes) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> QueueError {
        QueueError::Unavailable { reason: format!("the queue answered {self:?}") }
    }
}
