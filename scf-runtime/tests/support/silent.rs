//! A handler that never answers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use scf_core::{Envelope, Handler, NodeId};
use tokio::sync::Notify;

/// Never answers; counts what it has begun and what was dropped.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    pub(crate) begun: AtomicUsize,
    pub(crate) dropped: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

struct Counted(Arc<AtomicUsize>, Arc<Notify>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.notify_one();
    }
}

#[async_trait]
impl Handler for Silent {
    async fn handle(&self, _: &NodeId, _: Envelope) -> Envelope {
        let _counted = Counted(Arc::clone(&self.dropped), Arc::clone(&self.changed));
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
        std::future::pending().await
    }
}

impl Silent {
    /// Waits until so many messages are being handled.
    pub(crate) async fn begun(&self, messages: usize) {
        while self.begun.load(Ordering::SeqCst) < messages {
            self.changed.notified().await;
        }
    }

    /// Waits until so many messages are not handled any longer.
    pub(crate) async fn dropped(&self, messages: usize) {
        while self.dropped.load(Ordering::SeqCst) < messages {
            self.changed.notified().await;
        }
    }
}
