//! Calls whose items travel over emulated links while they run.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use scf_core::{Bandwidth, ByteSize, Bytes, Clock, InvokeError, Link, Node, NodeId, Tier};
use scf_runtime::{
    Fabric, Streaming, SystemClock,
    transport::{InProcess, LinkState},
};
use scf_sched::Pipeline;

use crate::{
    streamed::{Seen, call, function, streamed},
    support::node,
};

const ROOM: ByteSize = ByteSize::from_kib(16);
const LINK: Link = Link { latency: Duration::from_millis(1), bandwidth: Bandwidth::from_mbit_per_s(1000) };

struct Site {
    fabric: Fabric,
    network: Arc<InProcess>,
    seen: Arc<Seen>,
}

impl Site {
    /// Nodes `a`, `b` and `c`, with a link between each two.
    async fn new() -> Self {
        let [a, b, c] = ["a", "b", "c"].map(node);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let links = InProcess::builder().link(a.clone(), b.clone(), LINK).link(a.clone(), c.clone(), LINK);
        let network = Arc::new(links.build(Arc::clone(&clock)).unwrap());
        let seen = Arc::new(Seen::default());
        let builder =
            Fabric::builder().transport(network.clone()).clock(clock).scheduler(Arc::new(Pipeline::default()));
        let builder = [a, b, c].into_iter().fold(builder, |builder, id| builder.node(Node::new(id, Tier::Edge)));
        let fabric = builder.isolates(Arc::new(streamed(&seen))).build().unwrap();
        fabric.ready().await;
        Self { fabric, network, seen }
    }

    async fn stream(&self, entry: &str, nodes: &[&str], payload: impl Into<Bytes>) -> Streaming {
        self.fabric.deploy(function(entry, nodes)).await.unwrap();
        self.fabric.stream(call(&self.fabric, entry, payload), ROOM)
    }

    fn cut(&self, id: &NodeId) {
        self.network.set_link(&node("a"), id, LinkState::Cut).unwrap();
    }
}

#[tokio::test]
async fn items_come_as_they_are_made_on_the_same_node_and_on_another() {
    let site = Site::new().await;
    for at in ["a", "b"] {
        let Streaming { mut input, mut output } = site.stream("echo", &[at], "").await;
        for bytes in [0, 1, 70_000, 3] {
            let item = Bytes::from(vec![9; bytes]);
            input.send(item.clone()).await.unwrap();
            assert!(output.next().await.unwrap() == Some(item), "{bytes} bytes on {at}");
        }
        input.finish();
        assert_eq!(output.next().await, Ok(None));
        let outcome = output.outcome().await.unwrap();
        assert_eq!((&outcome.payload.bytes[..], &outcome.receipt.node), (&b"4"[..], &node(at)));
        assert_eq!(outcome.receipt.bytes_in, ByteSize::from_bytes(70_004));
        assert_eq!(outcome.receipt.on_wire.bytes() > 140_008, at == "b");
    }
    let carried: u64 = site.network.traffic().iter().map(|traffic| traffic.bytes.bytes()).sum();
    assert!(carried > 140_008, "the links carried {carried} bytes");
}

#[tokio::test]
async fn who_sends_faster_than_is_read_waits_for_room_whichever_node_that_is() {
    let site = Site::new().await;
    for at in ["a", "b"] {
        site.seen.waiting.store(0, SeqCst);
        let Streaming { mut output, .. } = site.stream("floods", &[at], "1000").await;
        while output.next().await.unwrap().is_some() {
            site.seen.waiting.fetch_sub(1, SeqCst);
        }
        let most = site.seen.most_waiting.load(SeqCst) as u64;
        assert!(most <= 2 * ROOM.bytes() / 1000 + 8, "{most} items of 1000 bytes waited on {at}");
    }
}

#[tokio::test]
async fn a_way_that_is_cut_in_the_middle_is_an_error_and_the_call_is_not_made_again() {
    let site = Site::new().await;
    let Streaming { mut output, .. } = site.stream("waits", &["b", "c"], "2").await;
    for at in 0..2 {
        assert_eq!(output.next().await, Ok(Some(at.to_string().into())));
    }
    site.cut(&node("b"));
    site.cut(&node("c"));
    let error = output.next().await.unwrap_err();
    assert!(matches!(error, InvokeError::Unreachable { .. }), "{error:?}");
    site.seen.ended(1).await;
    assert_eq!(site.seen.begun.load(SeqCst), 1);
}

#[tokio::test]
async fn a_call_of_which_nothing_was_read_yet_goes_to_another_node() {
    let site = Site::new().await;
    let Streaming { mut input, mut output } = site.stream("echo", &["b", "c"], "").await;
    site.seen.begun(1).await;
    let first = site.fabric.status(&call(&site.fabric, "echo", "").function);
    let first = first.iter().find(|status| status.running > 0).map(|status| status.node.clone()).unwrap();
    site.cut(&first);
    site.seen.begun(2).await;
    input.send("x".into()).await.unwrap();
    assert_eq!(output.next().await, Ok(Some("x".into())));
    input.finish();
    assert_eq!(output.next().await, Ok(None));
    assert_ne!(output.outcome().await.unwrap().receipt.node, first);
}

#[tokio::test]
async fn who_stops_reading_ends_the_call_wherever_it_is() {
    let site = Site::new().await;
    for (calls, at) in ["a", "b"].into_iter().enumerate() {
        let Streaming { mut output, .. } = site.stream("waits", &[at], "1").await;
        assert_eq!(output.next().await, Ok(Some("0".into())));
        drop(output);
        site.seen.ended(calls + 1).await;
    }
}

#[tokio::test]
async fn an_error_comes_behind_the_items_that_were_sent_before_it() {
    let site = Site::new().await;
    for at in ["a", "b"] {
        let Streaming { mut output, .. } = site.stream("stops", &[at], "500").await;
        for item in 0..500 {
            assert_eq!(output.next().await, Ok(Some(item.to_string().into())));
        }
        assert!(matches!(output.next().await, Err(InvokeError::Refused { .. })));
    }
}
