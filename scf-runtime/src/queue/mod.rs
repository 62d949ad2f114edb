//! Asynchronous calls: accepted into a queue, run when there is room.

mod dispatcher;
mod verdict;

use std::sync::Arc;

use scf_core::{Acceptance, CallStatus, FunctionName, InvocationId, InvocationQueue, QueueError, QueuedCall};
use thiserror::Error;

pub(crate) use self::dispatcher::{Dispatcher, drain};
use crate::Fabric;

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
    /// The function is not deployed.
    #[error("function {function} is not deployed")]
    NotFound {
        /// The function.
        function: FunctionName,
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
    /// # Errors
    /// [`EnqueueError`]; with [`QueueError::Unknown`] ask again with the same id.
    pub async fn enqueue(&self, call: impl Into<QueuedCall> + Send) -> Result<Acceptance, EnqueueError> {
        let call = call.into();
        let id = call.id;
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        if self.inner().deployed(&call.function, |found| found.revisions().is_empty()) != Some(false) {
            return Err(EnqueueError::NotFound { function: call.function });
        }
        Ok(dispatcher.queue.accept(call).await?)
    }

    /// How an accepted call stands; `None` when it was never accepted or is forgotten.
    ///
    /// # Errors
    /// As [`Fabric::enqueue`].
    pub async fn outcome(&self, id: InvocationId) -> Result<Option<CallStatus>, EnqueueError> {
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        Ok(dispatcher.queue.status(id).await?)
    }

    /// Waits until an accepted call is completed or a dead letter; `None` when it was never accepted or is forgotten.
    ///
    /// # Errors
    /// As [`Fabric::enqueue`].
    pub async fn settled(&self, id: InvocationId) -> Result<Option<CallStatus>, EnqueueError> {
        let Some(dispatcher) = &self.inner().dispatcher else { return Err(EnqueueError::NoQueue { id }) };
        let mut settled = dispatcher.settled();
        loop {
            settled.borrow_and_update();
            match dispatcher.queue.status(id).await? {
                Some(status) if !status.state.is_settled() => {}
                status => return Ok(status),
            }
            if settled.changed().await.is_err() {
                return Ok(dispatcher.queue.status(id).await?);
            }
        }
    }

    /// The invocation queue, for what operators do: dead letters, redriving them, holding a key back.
    #[must_use]
    pub fn queue(&self) -> Option<&Arc<dyn InvocationQueue>> {
        self.inner().dispatcher.as_ref().map(|dispatcher| &dispatcher.queue)
    }
}
