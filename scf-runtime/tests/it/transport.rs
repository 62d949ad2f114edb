//! Nodes of one process over emulated links, with time moved by hand.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use scf_core::{
    Bandwidth, Bytes, Clock, Envelope, Handler, Link, ManualClock, NodeId, Subject, Transport, TransportError,
};
use scf_runtime::transport::{InProcess, InProcessBuilder, LinkError, LinkState, Traffic};

use crate::{silent::Silent, support::node};

const PATIENCE: Duration = Duration::from_secs(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn link(latency: u64, mbit: u64) -> Link {
    Link { latency: ms(latency), bandwidth: Bandwidth::from_mbit_per_s(mbit) }
}

/// A message of so many bytes on the wire.
fn message(size: usize) -> Envelope {
    let body = vec![7; size - Envelope::OVERHEAD.bytes() as usize];
    Envelope { head: Bytes::new(), body: body.into() }
}

/// Gives what it is given.
#[derive(Debug, Default)]
struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, _: &NodeId, request: Envelope) -> Envelope {
        request
    }
}

struct World {
    clock: ManualClock,
    transport: InProcess,
}

impl World {
    fn new(describe: impl FnOnce(InProcessBuilder) -> InProcessBuilder) -> Self {
        let clock = ManualClock::new();
        let transport = describe(InProcess::builder()).build(Arc::new(clock.clone())).unwrap();
        Self { clock, transport }
    }

    /// Camera, gateway and cloud in a row, each of which echoes.
    fn row() -> Self {
        let world = Self::new(|fabric| {
            fabric.link(node("camera"), node("gateway"), link(10, 8)).link(node("gateway"), node("cloud"), link(30, 80))
        });
        for id in ["camera", "gateway", "cloud"] {
            world.attach(id, Arc::new(Echo));
        }
        world
    }

    fn attach(&self, id: &str, handler: Arc<dyn Handler>) {
        self.transport.attach(&node(id), Subject::Invoke, handler).unwrap();
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.now().nanos())
    }

    /// Moves time on in steps of 0.1 ms until `future` is done; returns what it gave and how long it took.
    async fn pass<T>(&self, future: impl Future<Output = T>) -> (T, Duration) {
        let start = self.now();
        // Polls the future only when it was woken, however often this loop goes round.
        let mut future: FuturesUnordered<_> = [future].into_iter().collect();
        loop {
            tokio::select! {
                biased;
                Some(output) = future.next() => return (output, self.now() - start),
                () = settle() => self.clock.advance(Duration::from_micros(100)),
            }
        }
    }

    async fn request(&self, from: &str, to: &str, size: usize) -> Result<Envelope, TransportError> {
        self.transport.request(&node(from), &node(to), Subject::Invoke, message(size), PATIENCE).await
    }

    fn set(&self, a: &str, b: &str, state: LinkState) {
        self.transport.set_link(&node(a), &node(b), state).unwrap();
    }

    /// Latency in milliseconds and bandwidth in Mbit/s as measured.
    fn path(&self, from: &str, to: &str) -> Option<(f64, f64)> {
        let path = self.transport.path(&node(from), &node(to))?;
        Some((path.latency.as_secs_f64() * 1e3, path.bandwidth.bits_per_s() as f64 / 1e6))
    }

    fn assert_path(&self, from: &str, to: &str, ms: f64, mbit: f64) {
        let (latency, rate) = self.path(from, to).unwrap();
        let near = (latency - ms).abs() <= 0.05 * ms + 0.2 && (rate - mbit).abs() <= 0.05 * mbit;
        assert!(near, "{from} to {to}: {latency} ms and {rate} Mbit/s, not {ms} ms and {mbit} Mbit/s");
    }
}

/// Lets every task that can run do so.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_takes_the_latency_and_its_size_by_the_bandwidth_each_way() {
    let world = World::row();
    let (answer, took) = world.pass(world.request("camera", "gateway", 1000)).await;
    assert_eq!(answer, Ok(message(1000)));
    assert_eq!(took, ms(10 + 1 + 10 + 1));
}

#[tokio::test]
async fn a_node_without_a_link_is_reached_over_others() {
    let world = World::row();
    let (answer, took) = world.pass(world.request("camera", "cloud", 10_000)).await;
    assert_eq!(answer, Ok(message(10_000)));
    assert_eq!(took, 2 * ms(10 + 10 + 30 + 1));
    assert_eq!(world.transport.hops(&node("camera"), &node("cloud")), Some(2));
    assert_eq!(world.transport.hops(&node("cloud"), &node("cloud")), Some(0));
}

#[tokio::test]
async fn messages_share_a_link_and_its_directions_are_apart() {
    let world = World::row();
    let two =
        futures::future::join(world.request("camera", "gateway", 10_000), world.request("camera", "gateway", 10_000));
    let (_, took) = world.pass(two).await;
    assert_eq!(took, ms(10 + 10 + 10 + 10 + 10));
    let both =
        futures::future::join(world.request("camera", "gateway", 10_000), world.request("gateway", "camera", 64));
    let (_, took) = world.pass(both).await;
    assert_eq!(took, ms(10 + 10 + 10 + 10));
}

#[tokio::test]
async fn within_a_node_nothing_takes_time_and_nothing_is_copied() {
    let world = World::row();
    let request = message(1000);
    let body = request.body.as_ptr();
    let at = node("cloud");
    let answer = world.transport.request(&at, &at, Subject::Invoke, request, PATIENCE).await.unwrap();
    assert_eq!((answer.body.as_ptr(), world.now()), (body, Duration::ZERO));
}

#[tokio::test]
async fn bodies_are_passed_on_as_they_are() {
    let world = World::row();
    let request = message(1000);
    let body = request.body.as_ptr();
    let (camera, cloud) = (node("camera"), node("cloud"));
    let (answer, _) = world.pass(world.transport.request(&camera, &cloud, Subject::Invoke, request, PATIENCE)).await;
    assert_eq!(answer.unwrap().body.as_ptr(), body);
}

#[tokio::test]
async fn a_link_counts_what_it_carries_each_way() {
    let world = World::row();
    world.pass(world.request("camera", "cloud", 1000)).await.0.unwrap();
    world.pass(world.transport.send(&node("camera"), &node("gateway"), Subject::Invoke, message(100))).await.0.unwrap();
    world.pass(settle()).await;
    let carried: Vec<_> = world
        .transport
        .traffic()
        .into_iter()
        .map(|Traffic { from, to, messages, bytes, .. }| (format!("{from}-{to}"), messages, bytes.bytes()))
        .collect();
    let count = |way: &str, messages, bytes| (way.to_owned(), messages, bytes);
    assert_eq!(
        carried,
        [
            count("camera-gateway", 2, 1100),
            count("gateway-camera", 1, 1000),
            count("gateway-cloud", 1, 1000),
            count("cloud-gateway", 1, 1000),
        ]
    );
}

#[tokio::test]
async fn a_cut_while_a_message_is_under_way_is_noticed_at_once() {
    let world = World::row();
    let mut request = pin!(world.request("camera", "cloud", 10_000));
    tokio::select! {
        biased;
        _ = &mut request => panic!("it takes longer"),
        _ = world.pass(world.clock.sleep(ms(25))) => {}
    }
    world.set("gateway", "cloud", LinkState::Cut);
    let (answer, took) = world.pass(request).await;
    assert_eq!((answer, took), (Err(TransportError::Interrupted { node: node("cloud") }), Duration::ZERO));
    assert_eq!(world.path("camera", "cloud"), None);
}

#[tokio::test]
async fn a_cut_while_a_request_is_handled_drops_the_handler() {
    let world = World::row();
    let silent = Arc::new(Silent::default());
    world.attach("cloud", Arc::clone(&silent) as Arc<dyn Handler>);
    let mut request = pin!(world.request("camera", "cloud", 64));
    tokio::select! {
        biased;
        _ = &mut request => panic!("nobody answers"),
        _ = world.pass(silent.begun(1)) => {}
    }
    world.set("camera", "gateway", LinkState::Cut);
    let (answer, took) = world.pass(request).await;
    assert_eq!((answer, took), (Err(TransportError::Interrupted { node: node("cloud") }), Duration::ZERO));
    silent.dropped(1).await;
}

#[tokio::test]
async fn detaching_a_node_drops_what_it_handles() {
    let world = World::row();
    let silent = Arc::new(Silent::default());
    world.attach("cloud", Arc::clone(&silent) as Arc<dyn Handler>);
    let mut request = pin!(world.request("camera", "cloud", 64));
    tokio::select! {
        biased;
        _ = &mut request => panic!("nobody answers"),
        _ = world.pass(silent.begun(1)) => {}
    }
    world.transport.detach(&node("cloud"));
    assert_eq!(world.pass(request).await.0, Err(TransportError::Interrupted { node: node("cloud") }));
    silent.dropped(1).await;
    assert_eq!(world.request("camera", "cloud", 64).await, Err(TransportError::Unreachable { node: node("cloud") }));
    assert_eq!(world.pass(world.request("camera", "gateway", 64)).await.0, Ok(message(64)));
}

#[tokio::test]
async fn a_message_that_is_given_up_on_a_slower_link_tells_of_the_link() {
    let world = World::row();
    let (camera, gateway) = (node("camera"), node("gateway"));
    world.pass(world.transport.probe(&camera)).await;
    world.assert_path("camera", "gateway", 10.0, 8.0);
    world.set("camera", "gateway", LinkState::Shaped(link(10, 1)));
    let request = world.transport.request(&camera, &gateway, Subject::Invoke, message(100_000), ms(210));
    let (answer, _) = world.pass(request).await;
    assert_eq!(answer, Err(TransportError::TimedOut { node: gateway, patience: ms(210) }));
    // After 200 ms at 1 Mbit/s, of which the caller only knows that it was not 4.
    world.assert_path("camera", "gateway", 10.0, 4.0);
}

#[tokio::test]
async fn an_impatient_caller_drops_the_handler() {
    let world = World::row();
    let silent = Arc::new(Silent::default());
    world.attach("gateway", Arc::clone(&silent) as Arc<dyn Handler>);
    let (camera, gateway) = (node("camera"), node("gateway"));
    let request = world.transport.request(&camera, &gateway, Subject::Invoke, message(64), ms(50));
    let (answer, took) = world.pass(request).await;
    assert_eq!((answer, took), (Err(TransportError::TimedOut { node: gateway, patience: ms(50) }), ms(50)));
    settle().await;
    assert_eq!((silent.begun.load(Ordering::SeqCst), silent.dropped.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_node_takes_so_many_messages_and_no_more() {
    let world = World::new(|fabric| fabric.link(node("a"), node("b"), link(1, 8)).in_flight(2));
    let silent = Arc::new(Silent::default());
    world.attach("b", Arc::clone(&silent) as Arc<dyn Handler>);
    let mut two = Box::pin(futures::future::join(world.request("a", "b", 64), world.request("a", "b", 64)));
    tokio::select! {
        biased;
        _ = &mut two => panic!("nobody answers"),
        () = settle() => {}
    }
    assert_eq!(world.request("a", "b", 64).await, Err(TransportError::Overloaded { node: node("b") }));
    drop(two);
    world.attach("b", Arc::new(Echo));
    assert_eq!(world.pass(world.request("a", "b", 64)).await.0, Ok(message(64)));
}

#[tokio::test]
async fn who_is_not_there_is_said_at_once() {
    let world = World::new(|fabric| fabric.link(node("a"), node("b"), link(1, 8)).node(node("island")));
    world.attach("island", Arc::new(Echo));
    let unreachable = |id| Err(TransportError::Unreachable { node: node(id) });
    assert_eq!(world.request("a", "island", 64).await, unreachable("island"));
    assert_eq!(world.request("a", "b", 64).await, unreachable("b"));
    assert_eq!(world.request("a", "nowhere", 64).await, Err(TransportError::UnknownNode { node: node("nowhere") }));
    world.set("b", "island", LinkState::Shaped(link(1, 8)));
    assert_eq!(world.pass(world.request("a", "island", 64)).await.0, Ok(message(64)));
}

#[tokio::test]
async fn a_change_of_bandwidth_counts_for_what_is_under_way() {
    let world = World::row();
    let mut request = pin!(world.request("camera", "gateway", 100_000));
    tokio::select! {
        biased;
        _ = &mut request => panic!("it takes longer"),
        _ = world.pass(world.clock.sleep(ms(50))) => {}
    }
    world.set("camera", "gateway", LinkState::Shaped(link(10, 80)));
    // Half of the request at ten times the rate, then the answer.
    assert_eq!(world.pass(request).await.1, ms(5 + 10 + 10 + 10));
}

#[tokio::test]
async fn a_link_that_cannot_be_is_refused() {
    let clock = || Arc::new(ManualClock::new());
    let looped = InProcess::builder().link(node("a"), node("a"), link(1, 1)).build(clock()).unwrap_err();
    assert_eq!(looped, LinkError::Loop { node: node("a") });
    let empty = InProcess::builder().link(node("a"), node("b"), link(1, 0)).build(clock()).unwrap_err();
    assert_eq!(empty, LinkError::NoBandwidth { a: node("a"), b: node("b") });
    let world = World::row();
    let unknown = world.transport.set_link(&node("camera"), &node("x"), LinkState::Cut).unwrap_err();
    assert_eq!(unknown, LinkError::UnknownNode { node: node("x") });
}

#[tokio::test]
async fn probes_measure_every_way_end_to_end() {
    let world = World::row();
    assert_eq!(world.path("camera", "cloud"), None);
    world.pass(world.transport.probe(&node("camera"))).await;
    world.assert_path("camera", "gateway", 10.0, 8.0);
    // 8 and 80 Mbit/s in a row, store and forward.
    world.assert_path("camera", "cloud", 40.0, 80.0 / 11.0);
    assert_eq!(world.path("cloud", "camera"), None);
}

#[tokio::test]
async fn a_slow_link_is_measured_in_a_third_of_a_second_and_a_change_by_the_next_probe() {
    let world = World::new(|fabric| fabric.link(node("a"), node("b"), link(20, 100)));
    world.attach("b", Arc::new(Echo));
    world.pass(world.transport.probe(&node("a"))).await;
    world.assert_path("a", "b", 20.0, 100.0);
    world.set("a", "b", LinkState::Shaped(link(20, 1)));
    let ((), took) = world.pass(world.transport.probe(&node("a"))).await;
    world.assert_path("a", "b", 20.0, 1.0);
    assert!(took < ms(300), "{took:?}");
    world.set("a", "b", LinkState::Shaped(link(5, 100)));
    world.pass(world.transport.probe(&node("a"))).await;
    world.assert_path("a", "b", 5.0, 100.0);
}

#[tokio::test]
async fn a_probe_that_waits_behind_a_long_message_is_no_cut() {
    let world = World::new(|fabric| fabric.link(node("a"), node("b"), link(10, 1)));
    ["a", "b"].into_iter().for_each(|id| world.attach(id, Arc::new(Echo)));
    let (a, b) = (node("a"), node("b"));
    world.pass(world.transport.probe(&a)).await;
    // Eight seconds of sending.
    let long = world.transport.request(&a, &b, Subject::Invoke, message(1_000_000), PATIENCE);
    let probe = world.transport.probe(&a);
    let (mut long, mut probed) = (pin!(long), None);
    let watch = async {
        tokio::select! {
            answer = &mut long => panic!("answered before the probe gave up: {answer:?}"),
            () = probe => probed = world.transport.path(&a, &b),
        }
    };
    world.pass(watch).await;
    assert!(probed.is_some(), "the way was taken for cut");
}

#[tokio::test]
async fn a_way_is_lost_with_the_first_failure_and_back_with_the_first_success() {
    let world = World::row();
    world.pass(world.transport.probe(&node("camera"))).await;
    world.set("gateway", "cloud", LinkState::Cut);
    world.request("camera", "cloud", 64).await.unwrap_err();
    assert_eq!(world.path("camera", "cloud"), None);
    world.assert_path("camera", "gateway", 10.0, 8.0);
    world.set("gateway", "cloud", LinkState::Shaped(link(30, 80)));
    world.pass(world.request("camera", "cloud", 64)).await.0.unwrap();
    world.assert_path("camera", "cloud", 40.0, 80.0 / 11.0);
}

#[tokio::test]
async fn transfers_measure_too() {
    let world = World::row();
    for id in ["camera", "gateway"] {
        world.pass(world.transport.probe(&node(id))).await;
    }
    world.set("camera", "gateway", LinkState::Shaped(link(10, 1)));
    world.pass(world.request("camera", "gateway", 50_000)).await.0.unwrap();
    world.assert_path("camera", "gateway", 10.0, 1.0);
    world.assert_path("gateway", "camera", 10.0, 1.0);
}

#[tokio::test]
async fn dropping_the_transport_ends_what_is_handled() {
    let world = World::row();
    let silent = Arc::new(Silent::default());
    world.attach("gateway", Arc::clone(&silent) as Arc<dyn Handler>);
    let (camera, gateway) = (node("camera"), node("gateway"));
    let sent = world.transport.send(&camera, &gateway, Subject::Invoke, message(64));
    world.pass(sent).await.0.unwrap();
    world.pass(silent.begun(1)).await;
    let World { transport, .. } = world;
    drop(transport);
    silent.dropped(1).await;
}
