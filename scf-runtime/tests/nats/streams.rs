//! Calls whose items travel between processes while they run.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use scf_core::{ByteSize, Bytes, InvokeError, LimitKind, Node, Tier, Transport};
use scf_runtime::{
    Fabric, Streaming,
    transport::{DataPlane, Nats},
};
use scf_sched::Pipeline;

use crate::{
    nats_server::NatsServer,
    streamed::{Seen, call, function, streamed},
    support::{body, node, process_with},
};

const ROOM: ByteSize = ByteSize::from_kib(16);

/// Two processes, of which `b` runs what `a` calls.
struct Pair {
    a: Fabric,
    b: Fabric,
    of_a: Arc<Nats>,
    of_b: Arc<Nats>,
    seen: Arc<Seen>,
}

impl Pair {
    async fn start(server: &NatsServer, has_plane: bool) -> Self {
        let seen = Arc::new(Seen::default());
        let (a, of_a) = join(server, "a", has_plane, &seen).await;
        let (b, of_b) = join(server, "b", has_plane, &seen).await;
        while a.path(&node("a"), &node("b")).is_none() || b.path(&node("b"), &node("a")).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for entry in ["echo", "stops", "waits", "floods"] {
            a.deploy(function(entry, &["b"])).await.unwrap();
        }
        Self { a, b, of_a, of_b, seen }
    }

    fn stream(&self, entry: &str, payload: impl Into<Bytes>) -> Streaming {
        self.a.stream(call(&self.a, entry, payload), ROOM)
    }
}

async fn join(server: &NatsServer, id: &str, has_plane: bool, seen: &Arc<Seen>) -> (Fabric, Arc<Nats>) {
    let plane = DataPlane::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    let with_plane = |builder: scf_runtime::transport::NatsBuilder| match has_plane {
        true => builder.data_plane(plane),
        false => builder,
    };
    let nats = Arc::new(process_with(server, id, with_plane).await);
    let builder = Fabric::builder().node(Node::new(node(id), Tier::Edge)).scheduler(Arc::new(Pipeline::default()));
    let fabric = builder.isolates(Arc::new(streamed(seen))).join(Arc::clone(&nats)).build().unwrap();
    (fabric, nats)
}

#[tokio::test]
async fn items_travel_both_ways_while_the_call_runs_and_the_end_is_its_own() {
    let Some(server) = NatsServer::start("max_payload: 64KB") else { return };
    for has_plane in [false, true] {
        let pair = Pair::start(&server, has_plane).await;
        let Streaming { mut input, mut output } = pair.stream("echo", "");
        // The next one is not sent before this one is back, so each travels while the call runs.
        let sizes = [0, 1, 100, 5000, 200_000, 7];
        for bytes in sizes {
            input.send(body(bytes)).await.unwrap();
            assert!(output.next().await.unwrap() == Some(body(bytes)), "{bytes} bytes, a plane: {has_plane}");
        }
        input.finish();
        assert_eq!(output.next().await, Ok(None));
        let outcome = output.outcome().await.unwrap();
        assert_eq!((&outcome.payload.bytes[..], &outcome.receipt.node), (&b"6"[..], &node("b")));
        let carried = ByteSize::from_bytes(sizes.iter().sum::<usize>() as u64);
        assert_eq!((outcome.receipt.bytes_in, outcome.receipt.bytes_out), (carried, carried + ByteSize::from_bytes(1)));
        assert!(outcome.receipt.on_wire.bytes() > 2 * carried.bytes());
    }
}

#[tokio::test]
async fn what_a_function_sent_before_it_failed_is_read_before_its_error() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::start(&server, true).await;
    let Streaming { mut output, .. } = pair.stream("stops", "1000");
    for at in 0..1000 {
        assert_eq!(output.next().await, Ok(Some(at.to_string().into())));
    }
    let error = output.next().await.unwrap_err();
    assert!(matches!(&error, InvokeError::Refused { message, .. } if message == "that was all"), "{error:?}");
    assert_eq!(output.outcome().await, Err(error));
}

#[tokio::test]
async fn who_stops_reading_ends_the_call_on_the_other_node() {
    let Some(server) = NatsServer::start("") else { return };
    for has_plane in [false, true] {
        let pair = Pair::start(&server, has_plane).await;
        let Streaming { mut output, .. } = pair.stream("waits", "1");
        assert_eq!(output.next().await, Ok(Some("0".into())));
        assert_eq!(pair.seen.ended.load(SeqCst), 0);
        drop(output);
        pair.seen.ended(1).await;
    }
}

#[tokio::test]
async fn who_sends_faster_than_is_read_waits_for_room() {
    const ITEMS: usize = 2000;
    let Some(server) = NatsServer::start("") else { return };
    for has_plane in [false, true] {
        let pair = Pair::start(&server, has_plane).await;
        let Streaming { mut output, .. } = pair.stream("floods", ITEMS.to_string());
        let mut read = 0;
        while output.next().await.unwrap().is_some() {
            pair.seen.waiting.fetch_sub(1, SeqCst);
            read += 1;
        }
        assert_eq!(read, ITEMS);
        let most = pair.seen.most_waiting.load(SeqCst) as u64;
        // One room on each node, what is cut off for a message, and the items in the hands of both ends.
        assert!(most <= 2 * ROOM.bytes() / 1000 + 8, "{most} items of 1000 bytes waited");
    }
}

#[tokio::test]
async fn an_input_that_its_caller_broke_off_is_told_from_one_that_ended() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::start(&server, true).await;
    let Streaming { mut input, mut output } = pair.stream("echo", "");
    input.send(body(3)).await.unwrap();
    assert_eq!(output.next().await, Ok(Some(body(3))));
    drop(input);
    let error = output.next().await.unwrap_err();
    assert!(matches!(&error, InvokeError::Refused { message, .. } if message.contains("before its end")), "{error:?}");
}

#[tokio::test]
async fn a_node_that_is_lost_in_the_middle_is_an_error_behind_what_it_sent() {
    let Some(server) = NatsServer::start("") else { return };
    for has_plane in [false, true] {
        let pair = Pair::start(&server, has_plane).await;
        let Streaming { mut output, .. } = pair.stream("waits", "3");
        for at in 0..3 {
            assert_eq!(output.next().await, Ok(Some(at.to_string().into())));
        }
        pair.seen.begun(1).await;
        pair.of_b.detach(&node("b"));
        let error = output.next().await.unwrap_err();
        assert!(matches!(&error, InvokeError::Unreachable { node: lost, .. } if *lost == node("b")), "{error:?}");
        pair.seen.ended(1).await;
        assert_eq!(pair.seen.begun.load(SeqCst), 1);
    }
}

#[tokio::test]
async fn a_function_that_reads_from_a_node_that_is_lost_is_told_so() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::start(&server, true).await;
    let Streaming { mut input, mut output } = pair.stream("echo", "");
    input.send(body(3)).await.unwrap();
    assert_eq!(output.next().await, Ok(Some(body(3))));
    pair.of_a.detach(&node("a"));
    pair.seen.ended(1).await;
    drop(pair.b);
}

#[tokio::test]
async fn the_deadline_of_a_call_ends_its_streams() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::start(&server, true).await;
    let invocation = call(&pair.a, "waits", "0").patience(Duration::from_millis(300));
    let Streaming { mut output, .. } = pair.a.stream(invocation, ROOM);
    let error = output.next().await.unwrap_err();
    assert!(matches!(error, InvokeError::Limit { limit: LimitKind::Wall, .. }), "{error:?}");
    pair.seen.ended(pair.seen.begun.load(SeqCst)).await;
}
