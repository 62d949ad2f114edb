//! Processes of a fleet, all of them inside of this one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::Statistics;
use async_trait::async_trait;
use scf_core::{Bytes, Envelope, Handler, NodeId, Subject, Transport, TransportError};
use scf_runtime::transport::{DataPlane, Nats, NatsBuilder};
use tokio::sync::Notify;

use crate::nats_server::NatsServer;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

/// One process with one node.
pub(crate) async fn process(server: &NatsServer, id: &str) -> Nats {
    process_with(server, id, |builder| builder).await
}

pub(crate) async fn process_with(
    server: &NatsServer,
    id: &str,
    describe: impl FnOnce(NatsBuilder) -> NatsBuilder,
) -> Nats {
    let client = async_nats::connect(server.url()).await.unwrap();
    describe(Nats::builder(client).node(node(id))).join().await.unwrap()
}

/// One process with one node and a data plane, and what counts its traffic with the broker.
pub(crate) async fn process_beside(server: &NatsServer, id: &str, plane: DataPlane) -> (Nats, Arc<Statistics>) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let traffic = client.statistics();
    (Nats::builder(client).node(node(id)).data_plane(plane).join().await.unwrap(), traffic)
}

/// A body whose bytes tell where they stand.
pub(crate) fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

pub(crate) async fn ask(by: &Nats, from: &str, to: &str, body: Bytes) -> Result<Bytes, TransportError> {
    let request = Envelope { head: Bytes::from_static(b"head"), body };
    let answer = by.request(&node(from), &node(to), Subject::Invoke, request, PATIENCE).await?;
    assert_eq!(answer.head, &b"head"[..]);
    Ok(answer.body)
}

/// Gives what it is given.
#[derive(Debug, Default)]
pub(crate) struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, _: &NodeId, request: Envelope) -> Envelope {
        request
    }
}

/// Never answers; counts what it has begun and what was dropped.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    begun: AtomicUsize,
    dropped: Arc<AtomicUsize>,
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
