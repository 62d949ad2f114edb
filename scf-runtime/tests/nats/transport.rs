//! Requests and one-way messages.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use scf_core::{Bytes, Envelope, Handler, Name, NodeId, Subject, Transport, TransportError};
use scf_runtime::transport::{Nats, NatsError};
use tokio::sync::mpsc;

use crate::{
    nats_server::NatsServer,
    silent::Silent,
    support::{Echo, PATIENCE, ask, body, node, process, process_with},
};

/// A process `a`, and a process `b` whose node is answered for by `handler`.
async fn pair(server: &NatsServer, handler: Arc<dyn Handler>) -> (Nats, Nats) {
    let (a, b) = (process(server, "a").await, process(server, "b").await);
    b.attach(&node("b"), Subject::Invoke, handler).unwrap();
    (a, b)
}

fn unreachable() -> TransportError {
    TransportError::Unreachable { node: node("b") }
}

#[tokio::test]
async fn a_request_is_answered_by_the_node_that_it_names() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, _b) = pair(&server, Arc::new(Echo)).await;
    assert_eq!(ask(&a, "a", "b", body(256)).await, Ok(body(256)));
}

#[tokio::test]
async fn what_is_too_large_for_one_message_crosses_in_parts_both_ways() {
    let Some(server) = NatsServer::start("max_payload: 64KB") else { return };
    let (a, _b) = pair(&server, Arc::new(Echo)).await;
    for bytes in [65_536, 3_000_001] {
        assert_eq!(ask(&a, "a", "b", body(bytes)).await.unwrap().len(), bytes);
        assert!(ask(&a, "a", "b", body(bytes)).await == Ok(body(bytes)), "a body of {bytes} bytes was changed");
    }
}

#[tokio::test]
async fn who_is_not_there_is_said_at_once() {
    let Some(server) = NatsServer::start("") else { return };
    let a = process(&server, "a").await;
    assert_eq!(ask(&a, "a", "b", body(1)).await, Err(unreachable()));
}

#[tokio::test]
async fn a_node_that_answers_nothing_is_unreachable() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, b) = pair(&server, Arc::new(Echo)).await;
    b.detach(&node("b"));
    assert_eq!(ask(&a, "a", "b", body(1)).await, Err(unreachable()));
}

#[tokio::test]
async fn a_process_sends_for_its_own_nodes_alone() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, _b) = pair(&server, Arc::new(Echo)).await;
    assert_eq!(ask(&a, "b", "a", body(1)).await, Err(TransportError::UnknownNode { node: node("b") }));
    let attached = a.attach(&node("b"), Subject::Invoke, Arc::new(Echo));
    assert_eq!(attached, Err(TransportError::UnknownNode { node: node("b") }));
}

#[tokio::test]
async fn the_handler_of_an_impatient_caller_is_dropped() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let (a, _b) = pair(&server, silent.clone()).await;
    {
        let asked = std::pin::pin!(ask(&a, "a", "b", body(1)));
        tokio::select! {
            answer = asked => panic!("it answered {answer:?}"),
            () = silent.begun(1) => {}
        }
    }
    silent.dropped(1).await;
}

#[tokio::test]
async fn a_caller_waits_as_long_as_its_patience() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let (a, _b) = pair(&server, silent.clone()).await;
    let patience = Duration::from_millis(50);
    let request = Envelope::default();
    let answer = a.request(&node("a"), &node("b"), Subject::Invoke, request, patience).await;
    assert_eq!(answer, Err(TransportError::TimedOut { node: node("b"), patience }));
    silent.dropped(1).await;
}

#[tokio::test]
async fn what_a_detached_node_was_answering_is_interrupted() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let (a, b) = pair(&server, silent.clone()).await;
    let detached = async {
        silent.begun(1).await;
        b.detach(&node("b"));
    };
    let (answer, ()) = tokio::join!(ask(&a, "a", "b", body(1)), detached);
    assert_eq!(answer, Err(TransportError::Interrupted { node: node("b") }));
    silent.dropped(1).await;
}

#[tokio::test]
async fn a_node_refuses_what_it_has_no_place_for_and_takes_more_afterwards() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let a = process(&server, "a").await;
    let b = process_with(&server, "b", |builder| builder.in_flight(1)).await;
    b.attach(&node("b"), Subject::Invoke, silent.clone()).unwrap();
    {
        let first = std::pin::pin!(ask(&a, "a", "b", body(1)));
        tokio::select! {
            answer = first => panic!("it answered {answer:?}"),
            () = silent.begun(1) => {}
        }
    }
    silent.dropped(1).await;
    let mut first = std::pin::pin!(ask(&a, "a", "b", body(1)));
    tokio::select! {
        answer = &mut first => panic!("it answered {answer:?}"),
        () = silent.begun(2) => {}
    }
    assert_eq!(ask(&a, "a", "b", body(1)).await, Err(TransportError::Overloaded { node: node("b") }));
}

#[tokio::test]
async fn a_handler_that_panics_interrupts_its_message_alone() {
    #[derive(Debug)]
    struct Panics;
    #[async_trait]
    impl Handler for Panics {
        async fn handle(&self, _: &NodeId, request: Envelope) -> Envelope {
            assert!(request.body.len() < 2, "two is too many");
            request
        }
    }
    let Some(server) = NatsServer::start("") else { return };
    let (a, _b) = pair(&server, Arc::new(Panics)).await;
    assert_eq!(ask(&a, "a", "b", body(2)).await, Err(TransportError::Interrupted { node: node("b") }));
    assert_eq!(ask(&a, "a", "b", body(1)).await, Ok(body(1)));
}

#[tokio::test]
async fn a_one_way_message_arrives_whole_and_nobody_waits_for_its_handler() {
    #[derive(Debug)]
    struct Told(mpsc::UnboundedSender<Bytes>);
    #[async_trait]
    impl Handler for Told {
        async fn handle(&self, _: &NodeId, message: Envelope) -> Envelope {
            self.0.send(message.body).unwrap();
            std::future::pending().await
        }
    }
    let Some(server) = NatsServer::start("max_payload: 64KB") else { return };
    let (told, mut hears) = mpsc::unbounded_channel();
    let (a, b) = pair(&server, Arc::new(Told(told))).await;
    for bytes in [10, 100_000] {
        let message = Envelope { head: Bytes::new(), body: body(bytes) };
        a.send(&node("a"), &node("b"), Subject::Invoke, message).await.unwrap();
        assert!(hears.recv().await == Some(body(bytes)));
    }
    b.detach(&node("b"));
    let lost = a.send(&node("a"), &node("b"), Subject::Invoke, Envelope::default()).await;
    assert_eq!(lost, Err(unreachable()));
}

#[tokio::test]
async fn nodes_of_one_process_need_no_broker() {
    let Some(mut server) = NatsServer::start("") else { return };
    let a = process_with(&server, "a", |builder| builder.node(node("b"))).await;
    a.attach(&node("b"), Subject::Invoke, Arc::new(Echo)).unwrap();
    server.kill();
    let request = body(256);
    let at = request.as_ptr();
    assert_eq!(ask(&a, "a", "b", request).await.unwrap().as_ptr(), at);
}

#[tokio::test]
async fn fabrics_of_different_prefixes_do_not_see_each_other() {
    let Some(server) = NatsServer::start("") else { return };
    let a = process_with(&server, "a", |builder| builder.prefix(Name::new("other").unwrap())).await;
    let b = process(&server, "b").await;
    b.attach(&node("b"), Subject::Invoke, Arc::new(Echo)).unwrap();
    assert_eq!(ask(&a, "a", "b", body(1)).await, Err(unreachable()));
}

#[tokio::test]
async fn a_broker_that_comes_back_carries_messages_again() {
    let Some(mut server) = NatsServer::start("") else { return };
    let (a, _b) = pair(&server, Arc::new(Echo)).await;
    assert_eq!(ask(&a, "a", "b", body(1)).await, Ok(body(1)));
    server.restart();
    let mut answer = Err(unreachable());
    // Both have to notice and connect again, which the client does by itself.
    while answer == Err(unreachable()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        answer = ask(&a, "a", "b", body(1)).await;
    }
    assert!(matches!(answer, Ok(_) | Err(TransportError::Interrupted { .. })), "{answer:?}");
}

#[tokio::test]
async fn the_way_to_a_peer_is_known_once_it_was_measured_and_until_the_peer_is_gone() {
    let Some(server) = NatsServer::start("") else { return };
    let a = process_with(&server, "a", |builder| builder.peer(node("b"))).await;
    let (from, to) = (node("a"), node("b"));
    a.probe(&from).await;
    assert_eq!(a.path(&from, &to), None);
    let b = process(&server, "b").await;
    a.probe(&from).await;
    assert!(a.path(&from, &to).is_some_and(|path| path.latency < PATIENCE));
    drop(b);
    // The broker hears of it on another connection.
    while a.path(&from, &to).is_some() {
        a.probe(&from).await;
    }
}

#[tokio::test]
async fn a_process_without_a_node_does_not_join() {
    let Some(server) = NatsServer::start("") else { return };
    let client = async_nats::connect(server.url()).await.unwrap();
    assert!(matches!(Nats::builder(client).join().await, Err(NatsError::NoNode)));
}
