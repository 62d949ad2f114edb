//! A node of this process, and what it is answering.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use scf_core::{Clock, Envelope, Handler, NodeId, Subject};
use tokio::sync::oneshot;

use super::frame::{CallId, Reply};
use crate::transport::desk::Desk;

/// A node of this process. Answers so many messages at the same time; more are refused.
pub(super) struct Local {
    pub(super) desk: Desk,
    places: usize,
    /// What ends the answering of each message.
    running: Mutex<HashMap<CallId, oneshot::Sender<()>>>,
}

impl Local {
    pub(super) fn new(node: NodeId, places: usize) -> Self {
        Self { desk: Desk::new(node), places, running: Mutex::default() }
    }

    /// Takes a message in, or says why not.
    pub(super) fn admit(self: &Arc<Self>, id: CallId, subject: Subject) -> Result<Admitted, Reply> {
        self.desk.take_place(self.places).ok_or(Reply::Overloaded)?;
        let (end, ended) = oneshot::channel();
        // Before it is asked who answers: who dismisses everybody ends what is here afterwards.
        self.running().insert(id, end);
        let handler = self.desk.handler(Some(subject)).map(|(handler, _)| handler);
        let admitted = Admitted { local: Arc::clone(self), id, handler, ended };
        if admitted.handler.is_some() { Ok(admitted) } else { Err(Reply::Unstaffed) }
    }

    /// Ends the answering of a message.
    pub(super) fn end(&self, id: CallId) {
        let end = self.running().remove(&id);
        drop(end);
    }

    /// Dismisses everybody and ends what is being answered.
    pub(super) fn clear(&self) {
        self.desk.clear();
        let running = std::mem::take(&mut *self.running());
        drop(running);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<CallId, oneshot::Sender<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that was taken in.
pub(super) struct Admitted {
    local: Arc<Local>,
    id: CallId,
    handler: Option<Arc<dyn Handler>>,
    ended: oneshot::Receiver<()>,
}

impl Admitted {
    /// Has the message handled once it is there, until it is called off, its node is detached or nobody waits any more.
    pub(super) async fn answer(
        mut self,
        from: &NodeId,
        message: impl Future<Output = Result<Envelope, Reply>> + Send,
        clock: &dyn Clock,
        patience: Duration,
    ) -> Result<Envelope, Reply> {
        let handler = self.handler.take().ok_or(Reply::Unstaffed)?;
        let handled = async {
            let message = message.await?;
            let handled = AssertUnwindSafe(handler.handle(from, message)).catch_unwind().await;
            handled.map_err(|_| {
                tracing::error!(node = %self.local.desk.node, "a handler panicked");
                Reply::Interrupted
            })
        };
        tokio::select! {
            biased;
            answer = handled => answer,
            _ = &mut self.ended => Err(Reply::Interrupted),
            () = clock.sleep(patience) => Err(Reply::Late),
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.local.end(self.id);
        self.local.desk.leave_place();
    }
}
