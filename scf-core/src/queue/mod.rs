//! Calls that are accepted now and made later: asynchronous calls, calls of dormant functions, timers.

mod call;
mod handover;
mod retry;
mod status;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use self::{
    call::{Due, QueuedCall, TimerName},
    handover::{Handover, OfferAsk},
    retry::RetryPolicy,
    status::{Acceptance, CallState, CallStatus, Cause, DeadLetter, QueueError, Room},
};
use crate::{Durability, FunctionName, InvocationId, NodeId, Payload, Scope};

/// Keeps calls until they are done or dead letters.
///
/// Used as `Arc<dyn InvocationQueue>` by the fabric, which accepts into it and drains it. Implementations pass
/// `conformance::queue` (feature `conformance`).
///
/// # Contract
/// - What [`accept`](Self::accept) acknowledged is kept as safely as it said and ends as exactly one of completed
///   and dead. An id is accepted once: whoever accepts it again is told how the call stands.
/// - Delivery is at least once. That the effect of a call happens once is the work of its invocation id: the state
///   keeps the result with the effect, and a second attempt is given that result.
/// - Calls of one function and key are delivered one at a time, in the order in which they became due; one that
///   waits for its next attempt holds back those behind it, and no others.
/// - A call with a destination is delivered to no worker here. It is offered, and gone once its destination has it.
///   Calls of one destination are offered in the order in which they became due; of those that were offered and not
///   settled nothing is decided here: they are offered again, also after a restart.
/// - A lease lasts as long as its worker makes progress, however long that takes, and ends when it makes none,
///   however alive it is. Leases and delays are measured in time that passed, never by a clock that can be set.
/// - Cancelling a future leaves the operation done or not done.
#[async_trait]
pub trait InvocationQueue: Debug + Send + Sync + 'static {
    /// What accepting a call promises. Never changes.
    fn durability(&self) -> Durability;

    /// Accepts `call`, or says how the call of that id stands.
    ///
    /// # Errors
    /// [`QueueError::Full`], [`QueueError::Unavailable`], [`QueueError::Unknown`] (ask again with the same id).
    async fn accept(&self, call: QueuedCall) -> Result<Acceptance, QueueError>;

    /// Leases calls that are due, to one worker; also does what is due by time: expires, ends leases without
    /// progress, forgets old results. Called by the dispatcher whenever it has room for more.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]; nothing was leased then.
    async fn lease(&self, ask: LeaseAsk) -> Result<Vec<Delivery>, QueueError>;

    /// Says that the call under `lease` has made progress since the last time: the lease begins anew. Called by
    /// the worker as its call advances, never by a timer.
    ///
    /// # Errors
    /// [`QueueError::NotLeased`]: the worker should stop.
    async fn progress(&self, lease: Lease) -> Result<(), QueueError>;

    /// Ends the attempt under `lease`.
    ///
    /// # Errors
    /// [`QueueError::NotLeased`]: somebody else has the call or it is settled; nothing was changed.
    async fn settle(&self, lease: Lease, settle: Settle) -> Result<(), QueueError>;

    /// How the call stands; `Ok(None)` when it was never accepted or is forgotten.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`], [`QueueError::Corrupt`].
    async fn status(&self, id: InvocationId) -> Result<Option<CallStatus>, QueueError>;

    /// The dead letters behind `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// As [`InvocationQueue::status`].
    async fn dead_letters(&self, after: Option<InvocationId>, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// Makes a dead letter a waiting call again, with all of its attempts. Its effect still happens once.
    ///
    /// # Errors
    /// [`QueueError::NotFound`] when it is no dead letter.
    async fn redrive(&self, id: InvocationId) -> Result<(), QueueError>;

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// [`QueueError::NotFound`] when it is no dead letter.
    async fn discard(&self, id: InvocationId) -> Result<(), QueueError>;

    /// Calls a waiting call off: it becomes a dead letter with [`Cause::Cancelled`]. One that runs is not touched.
    ///
    /// # Errors
    /// [`QueueError::NotFound`] when it does not wait.
    async fn cancel(&self, id: InvocationId) -> Result<(), QueueError>;

    /// Calls off what waits under a timer's name; one that runs is not touched. Nothing when there is none.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn cancel_timer(&self, scope: &Scope, name: &str) -> Result<(), QueueError>;

    /// Holds calls of `scope`'s function and key back, or lets them go again; they go on being accepted. Survives a
    /// restart where accepted calls do.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn hold(&self, scope: &Scope, hold: Hold) -> Result<(), QueueError>;

    /// Ends the lease of the call of `scope` that runs, as if it had made no progress: whoever has it settles in
    /// vain, and the next attempt may begin. Answers the call, `None` when none runs.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn release(&self, scope: &Scope) -> Result<Option<InvocationId>, QueueError>;

    /// Settles what was offered to a destination last and offers the calls that are due next, in one commit; also does
    /// what is due by time, as [`lease`](Self::lease). Called by who brings them there, one at a time per destination.
    /// What it answers is kept as safely as calls are accepted before it answers.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`], [`QueueError::Unknown`]: ask again with nothing settled.
    async fn offer(&self, ask: OfferAsk) -> Result<Vec<QueuedCall>, QueueError>;

    /// Takes calls that the queue of node `from` offers, in one commit. Answers what came of the first ones, in their
    /// order: fewer than are offered when there is no room for the next. Calls that `from` offers again are known,
    /// however long ago they were done.
    ///
    /// # Errors
    /// As [`InvocationQueue::accept`]; with [`QueueError::Full`] none was taken.
    async fn take(&self, from: &NodeId, calls: Vec<QueuedCall>) -> Result<Vec<Handover>, QueueError>;

    /// What it holds now.
    fn load(&self) -> QueueLoad;

    /// The destinations of [`QueueLoad::outbox`]. Asked each time that calls are leased, so that a queue of many
    /// functions answers it without counting what waits for them.
    fn destinations(&self) -> Vec<NodeId> {
        self.load().outbox.into_iter().map(|(to, _)| to).collect()
    }

    /// Returns when something may be leased that could not be leased before: a call was accepted, settled, became
    /// due or lost its lease. May return early. Waits for nothing while there is nothing to wait for.
    async fn changed(&self);
}

const _: fn(&dyn InvocationQueue) = |_| {};

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "four parts are all that a worker says")]
pub struct LeaseAsk {
    /// Calls at most.
    pub calls: usize,
    /// The functions that the worker runs; `None` for all.
    pub functions: Option<Vec<FunctionName>>,
    /// Calls of one function that run at the same time, those that are leased already included.
    pub per_function: usize,
    /// How long a lease lasts without progress.
    pub lease: Duration,
}

/// A call and the right to settle it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "queues of integrators write it as a literal")]
pub struct Delivery {
    /// The call.
    pub call: QueuedCall,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
    /// The right to settle it.
    pub lease: Lease,
}

/// The right to settle a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "queues of integrators write it as a literal")]
pub struct Lease {
    /// The call.
    pub id: InvocationId,
    /// Unique per lease of the queue.
    pub token: u64,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settle {
    /// It succeeded and gave this.
    Completed(Payload),
    /// It failed and may succeed later: tried again after a delay, or a dead letter after the last attempt.
    Retry(Cause),
    /// It failed and will always fail: a dead letter.
    Dead(Cause),
    /// It was not started, and this is no attempt: again in so long.
    Postpone(Duration),
}

/// Whether calls are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// They wait until they are let go.
    Pause,
    /// They are delivered.
    Resume,
}

/// What a queue holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "queues of integrators write it as a literal")]
pub struct QueueLoad {
    /// Calls that are not done, those that run included.
    pub pending: u64,
    /// Calls that run.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes of payloads of both.
    pub bytes: u64,
    /// The functions that wait for delivery, with how many calls each.
    pub ready: Vec<(FunctionName, u64)>,
    /// The destinations of calls that are due and not there, with how many calls each.
    pub outbox: Vec<(NodeId, u64)>,
}
