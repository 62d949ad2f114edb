//! A transport inside one process whose ways can be cut, for the tests of this crate.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{Envelope, Handler, ManualClock, NodeId, Path, Subject, Transport, TransportError};

/// Where every way is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Requests do not arrive.
    Before,
    /// Answers do not arrive.
    After,
}

#[derive(Debug, Default)]
pub(crate) struct Loopback {
    handlers: Mutex<HashMap<(NodeId, Subject), Arc<dyn Handler>>>,
    cut: Mutex<Option<Cut>>,
    /// Moves on by so much with every request.
    pace: Mutex<Option<(ManualClock, Duration)>>,
    requests: Mutex<u64>,
}

impl Loopback {
    pub(crate) fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = Some(cut);
    }

    pub(crate) fn heal(&self) {
        *self.cut.lock().unwrap() = None;
    }

    pub(crate) fn pace(&self, clock: ManualClock, request: Duration) {
        *self.pace.lock().unwrap() = Some((clock, request));
    }

    /// Requests that were sent so far.
    pub(crate) fn requests(&self) -> u64 {
        *self.requests.lock().unwrap()
    }
}

#[async_trait]
impl Transport for Loopback {
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.handlers.lock().unwrap().insert((node.clone(), subject), handler);
        Ok(())
    }

    fn detach(&self, node: &NodeId) {
        self.handlers.lock().unwrap().retain(|(attached, _), _| attached != node);
    }

    async fn request(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        _: Duration,
    ) -> Result<Envelope, TransportError> {
        *self.requests.lock().unwrap() += 1;
        if let Some((clock, step)) = &*self.pace.lock().unwrap() {
            clock.advance(*step);
        }
        let handler = self.handlers.lock().unwrap().get(&(to.clone(), subject)).cloned();
        let handler = handler.ok_or_else(|| TransportError::UnknownNode { node: to.clone() })?;
        let cut = *self.cut.lock().unwrap();
        if cut == Some(Cut::Before) {
            return Err(TransportError::Unreachable { node: to.clone() });
        }
        let answer = handler.handle(from, request).await;
        if cut == Some(Cut::After) {
            return Err(TransportError::Interrupted { node: to.clone() });
        }
        Ok(answer)
    }

    async fn send(&self, _: &NodeId, to: &NodeId, _: Subject, _: Envelope) -> Result<(), TransportError> {
        Err(TransportError::Unreachable { node: to.clone() })
    }

    async fn probe(&self, _: &NodeId) {}

    fn path(&self, _: &NodeId, _: &NodeId) -> Option<Path> {
        None
    }
}
