//! Processes that start while their broker is away, or is one that will not do.

use std::{fs, sync::Arc, time::Duration};

use scf_core::{CallState, Invocation, InvokeError, Payload};
use scf_runtime::transport::{Nats, NatsError, Standing};

use crate::{
    nats_server::NatsServer,
    outbox::{Site, completed, name},
    support::node,
};

async fn in_background(server: &NatsServer, id: &str) -> Arc<Nats> {
    let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
    let options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
    let client = options.connect(server.url()).await.unwrap();
    Arc::new(Nats::builder(client).node(node(id)).join_in_background().await.unwrap())
}

#[tokio::test]
async fn a_process_that_starts_while_its_broker_is_away_serves_and_joins_when_that_is_there() {
    let Some(mut server) = NatsServer::start("") else { return };
    server.kill();
    let nats = in_background(&server, "edge").await;
    let edge = Site::on(Arc::clone(&nats), "edge", None).await;
    edge.deploy("count").await;
    let call = |on: &str| Invocation::new(edge.fabric.new_id(), name("count"), "").key("k").on(node(on));
    assert_eq!(edge.fabric.invoke(call("edge")).await.unwrap().payload, Payload::new("1"), "with its own state");
    let queued = edge.enqueue("count", "k", "edge").await;
    assert_eq!(edge.settled(queued).await, completed("2"), "and its own queue");
    let abroad = edge.fabric.invoke(call("hub")).await;
    assert_eq!(abroad.unwrap_err(), InvokeError::Unreachable { function: name("count"), node: node("hub") });
    let forwarded = edge.enqueue("count", "k", "hub").await;
    assert_eq!(edge.fabric.outcome(forwarded).await.unwrap().unwrap().state, CallState::Waiting);
    assert!(matches!(nats.standing(), Standing::NotJoined { why: None }));

    server.restart();
    let hub = Site::start(&server, "hub").await;
    hub.deploy("count").await;
    nats.joined().await;
    assert!(nats.standing().is_joined());
    edge.until_met("hub").await;
    assert_eq!(edge.settled(forwarded).await, completed("1"), "with the hub's state");
    assert_eq!(hub.counted("k").await, 1);
}

#[tokio::test]
async fn a_broker_that_will_not_do_is_told_and_joined_once_it_does() {
    // Nobody is given what is for the node.
    let denied = r#"authorization { users: [ {user: u, password: p, permissions: { subscribe: { deny: "scf.node.>" } }} ] }
        no_auth_user: u"#;
    let Some(mut server) = NatsServer::start(denied) else { return };
    let nats = in_background(&server, "edge").await;
    let why = loop {
        match nats.standing() {
            Standing::NotJoined { why: Some(why) } => break why,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert!(matches!(*why, NatsError::Unconfirmed { .. }), "{why}");
    fs::write(server.folder().join("nats.conf"), "").unwrap();
    server.restart();
    nats.joined().await;
}
