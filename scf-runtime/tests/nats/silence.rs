//! A link to the broker that loses what is sent and says nothing of it.

use std::sync::atomic::Ordering::Relaxed;

use scf_core::Health;
use scf_runtime::transport::{Nats, Presence};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::{
    fleet::{CORE, Process, says},
    nats_server::NatsServer,
    support::node,
};

/// A link to a server on which connections stay, and are made, while nothing goes over it.
struct Link {
    address: String,
    is_cut: watch::Sender<bool>,
}

impl Link {
    async fn to(server: &NatsServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("nats://{}", listener.local_addr().unwrap());
        let (is_cut, cut) = watch::channel(false);
        let port = server.port();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, cut.clone()));
                tokio::spawn(carry(from_far, to_near, cut.clone()));
            }
        });
        Self { address, is_cut }
    }
}

/// Carries bytes over the link. What a cut finds on its way stays there for good, as does all that follows it.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut bytes = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if *cut.borrow_and_update() {
            std::future::pending::<()>().await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_process_that_nobody_hears_knows_that_it_is_cut_off_and_meets_the_others_over_a_new_connection() {
    let Some(server) = NatsServer::start("") else { return };
    let link = Link::to(&server).await;
    let client = async_nats::connect(&link.address).await.unwrap();
    let connections = client.statistics();
    let a = Process::over(Nats::builder(client).node(node("a")).join().await.unwrap(), "a");
    let b = Process::start(&server, "b").await;
    a.meets("b").await;
    a.fabric.deploy(says("f", &["a"], CORE)).await.unwrap();
    let before = connections.connects.load(Relaxed);
    link.is_cut.send(true).unwrap();
    a.until("b", |presence, health| (presence, health) == (Presence::CutOff, Health::Unreachable)).await;
    b.until("a", |presence, _| matches!(presence, Presence::Suspected | Presence::Gone)).await;
    assert_eq!(a.call("f").await, Ok(node("a")));
    link.is_cut.send(false).unwrap();
    a.meets("b").await;
    b.meets("a").await;
    let after = connections.connects.load(Relaxed);
    assert!(after > before, "the connection that was cut carries nothing any more");
}
