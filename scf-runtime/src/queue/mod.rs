//! Asynchronous calls: accepted into a queue, run when there is room.

mod dispatcher;
mod forward;
mod inbox;
mod verdict;

use std::{sync::Arc, time::Duration};

use scf_core::{
    Acceptance, CallState, CallStatus, FunctionName, InvocationId, InvocationQueue, NodeId, QueueError, QueuedCall,
    Subject,
};
use thiserror::Error;
use tokio::sync::watch;

use self::inbox::{Answer, LONGEST_WAIT, Request};
pub(crate) use self::{
    dispatcher::{Dispatcher, drain},
    inbox::QueueServer,
};
use crate::{Fabric, peer::CAN_JOIN};

/// How long another node has to say how a call stands, beyond what it is to wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon it is asked again when it did not.
const AGAIN: Duration = Duration::from_secs(5);

/// How a fabric drains its invocation queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct DispatchConfig {
    /// Queued calls that run at the same time. At least 1.
    pub concurrency: usize,
    /// Queued calls of one function that run at the same time, so that one whose calls take long leaves room for the
    /// others. At least 1.
    pub per_function: usize,
}

impl Default for DispatchConfig {
    /// 64 calls, 32 of one function.
    fn default() -> Self {
        Self { concurrency: 64, per_function: 32 }
    }
}

/// Why a call was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The fabric was built without an invocation queue.
    #[error("call {id}: the fabric has no invocation queue: call FabricBuilder::queue")]
    NoQueue {
        /// The call.
        id: InvocationId,
    },
    /// The function is not deployed, and no node of another process said that it is there.
    #[error("function {function} is not deployed")]
    NotFound {
        /// The function.
        function: FunctionName,
    },
    /// It belongs to another node, and the fabric is joined to none.
    #[error(
        "call {id} is for node {node}, and the fabric is joined to no other: call FabricBuilder::join (feature nats)"
    )]
    Alone {
        /// The call.
        id: InvocationId,
        /// Its destination.
        node: NodeId,
    },
    /// The queue did not accept it.
    #[error("not accepted")]
    Queue(#[from] QueueError),
}

impl Fabric {
    /// Accepts a call that nobody waits for: once this returns it is kept as safely as the queue promises, runs when
    /// there is room, also after a restart, and ends as completed or as a dead letter.
    ///
    /// An attempt has as long as the function's wall limit. One that traps or goes over a limit is tried again, as
    /// the queue is configured; one that the function refuses is a dead letter at once; a node that cannot be
    /// reached or has no room costs no attempt. The effect on state happens once per invocation id; a call whose id
    /// was accepted before is answered with how that stands.
    ///
    /// A call with a [destination](QueuedCall::destination) is kept here in the same way, and its function need not be
    /// deployed here. One without, of a function that is not, belongs to a node of another process that said that it has
    /// the function: calls of a key to the same one, as long as the same ones have it. Once the destination's queue has
    /// it, it is gone from this one and runs there, also when it is only later that the function is deployed there.
    /// Calls of one destination arrive in the order in which they became due. As long as the destination cannot be
    /// reached or has no room they wait, bounded by what this queue holds and by their age; the destination counts its
    /// own from when it has them.
    ///
    /// # Errors
    /// [`EnqueueError`]; with [`QueueError::Unknown`] ask again with the same id.
    pub async fn enqueue(&self, call: impl Into<QueuedCall> + Send) -> Result<Acceptance, EnqueueError> {
        let mut call = call.into();
        let id = call.id;
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        call.destination = self.destination(&call)?;
        Ok(dispatcher.queue.accept(call).await?)
    }

    /// The node of another process to whose queue `call` belongs, if it does not belong here.
    fn destination(&self, call: &QueuedCall) -> Result<Option<NodeId>, EnqueueError> {
        let inner = self.inner();
        if let Some(node) = &call.destination {
            return match inner.transport {
                _ if inner.positions.contains_key(node) => Ok(None),
                Some(_) if CAN_JOIN => Ok(Some(node.clone())),
                _ => Err(EnqueueError::Alone { id: call.id, node: node.clone() }),
            };
        }
        if inner.deployed(&call.function, |found| found.revisions().is_empty()) == Some(false) {
            return Ok(None);
        }
        #[cfg(feature = "nats")]
        if let Some(host) = inner.host_abroad(call) {
            return Ok(Some(host));
        }
        Err(EnqueueError::NotFound { function: call.function.clone() })
    }

    /// How an accepted call stands; `None` when it was never accepted or is forgotten. Of one that its destination has,
    /// that is asked; [`CallState::Forwarded`] is all that is known while it cannot be.
    ///
    /// # Errors
    /// As [`Fabric::enqueue`].
    pub async fn outcome(&self, id: InvocationId) -> Result<Option<CallStatus>, EnqueueError> {
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        let status = dispatcher.queue.status(id).await?;
        let Some(CallState::Forwarded { to }) = status.as_ref().map(|status| &status.state) else { return Ok(status) };
        Ok(self.status_at(to, id, Duration::ZERO).await.unwrap_or(status))
    }

    /// Waits until an accepted call is completed or a dead letter, here or at its destination; `None` when it was never
    /// accepted or is forgotten.
    ///
    /// # Errors
    /// As [`Fabric::enqueue`].
    pub async fn settled(&self, id: InvocationId) -> Result<Option<CallStatus>, EnqueueError> {
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        let Watched { queue, settled } = dispatcher.watched();
        let status = settles(&*queue, settled, id).await?;
        let Some(CallState::Forwarded { to }) = status.as_ref().map(|status| &status.state) else { return Ok(status) };
        let mut arrivals = dispatcher.arrivals();
        loop {
            let seen = arrivals.borrow_and_update().get(to).copied();
            match self.status_at(to, id, LONGEST_WAIT).await {
                Some(Some(status)) if !status.state.is_settled() => {}
                Some(status) => return Ok(status),
                None => {
                    tokio::select! {
                        () = self.inner().clock.sleep(AGAIN) => {}
                        () = forward::arrived(&mut arrivals, to, seen) => {}
                    }
                }
            }
        }
    }

    /// How a call stands at a node that has it, at the latest after `wait`; `None` when the node does not say.
    async fn status_at(&self, to: &NodeId, id: InvocationId, wait: Duration) -> Option<Option<CallStatus>> {
        let (transport, from) = (self.inner().transport.as_ref()?, &self.inner().members[0].node.id);
        let request = Request::status(id, wait);
        let answer = transport.request(from, to, Subject::Queue, request, wait + PATIENCE).await.ok()?;
        if let Answer::Status(status) = Answer::read(&answer)? { Some(status) } else { None }
    }

    /// The invocation queue, for what operators do: dead letters, redriving them, holding a key back.
    #[must_use]
    pub fn queue(&self) -> Option<&Arc<dyn InvocationQueue>> {
        self.inner().dispatcher.as_ref().map(|dispatcher| &dispatcher.queue)
    }
}

/// A queue, and what changes with every call that is settled.
pub(crate) struct Watched {
    queue: Arc<dyn InvocationQueue>,
    settled: watch::Receiver<u64>,
}

/// Waits until a call is settled, or is at another node.
async fn settles(
    queue: &dyn InvocationQueue,
    mut settled: watch::Receiver<u64>,
    id: InvocationId,
) -> Result<Option<CallStatus>, QueueError> {
    loop {
        settled.borrow_and_update();
        match queue.status(id).await? {
            Some(status) if matches!(status.state, CallState::Waiting | CallState::Running) => {}
            status => return Ok(status),
        }
        if settled.changed().await.is_err() {
            return queue.status(id).await;
        }
    }
}
