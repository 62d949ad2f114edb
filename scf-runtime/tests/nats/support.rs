//! Processes of a fleet, all of them inside of this one.

use std::{sync::Arc, time::Duration};

use async_nats::Statistics;
use async_trait::async_trait;
use scf_core::{Bytes, Envelope, Handler, NodeId, Subject, Transport, TransportError};
use scf_runtime::transport::{DataPlane, Nats, NatsBuilder};

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
