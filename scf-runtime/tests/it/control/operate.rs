use std::sync::atomic::{AtomicBool, AtomicU64};

use scf_core::{Bandwidth, ByteSize, Health, InvokeError, Link, MilliCpu, Node, Resources, ScheduleError, Tier};
use scf_runtime::{OperateError, SystemClock, transport::InProcess};
use scf_sched::Pipeline;

use super::*;
use crate::support::node;

/// `nodes` of one core each, near to one another, over the scheduler that the router is given by default.
pub(super) async fn several(stage: &Stage, nodes: &[&str]) -> Fabric {
    let ids: Vec<_> = nodes.iter().map(|text| node(text)).collect();
    let link = Link { latency: Duration::from_micros(50), bandwidth: Bandwidth::from_mbit_per_s(20) };
    let pairs = ids.iter().enumerate().flat_map(|(at, a)| ids[..at].iter().map(move |b| (a.clone(), b.clone())));
    let network = pairs.fold(InProcess::builder(), |network, (a, b)| network.link(a, b, link));
    let mut builder = Fabric::builder()
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(stage.natives()))
        .transport(Arc::new(network.build(Arc::new(SystemClock::new())).unwrap()));
    for id in ids {
        let resources = Resources { cpu: MilliCpu::from_cores(1), memory: ByteSize::from_mib(64) };
        builder = builder.node(Node::new(id, Tier::Edge).resources(resources));
    }
    let fabric = builder.build().unwrap();
    fabric.ready().await;
    fabric
}

pub(super) async fn where_it_runs(fabric: &Fabric, function: &str) -> String {
    fabric.call(&name(function), "x").await.unwrap().receipt.node.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_are_drained_in_turn_under_load_lose_no_call() {
    const NODES: [&str; 3] = ["a", "b", "c"];
    let fabric = several(&Stage::new(), &NODES).await;
    fabric.deploy(native("f", "echo")).await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers = NODES.map(|from| {
        let (fabric, stop, done) = (fabric.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                fabric.invoke_from(&node(from), to(&fabric, "f")).await.expect("no call is lost");
                done.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    for at in 0..30 {
        let drained = node(NODES[at % NODES.len()]);
        fabric.drain(&drained).await.unwrap();
        // Each caller had at most one call on its way when the node was drained.
        let before = done.load(Ordering::SeqCst);
        while done.load(Ordering::SeqCst) < before + 2 * NODES.len() as u64 {
            tokio::task::yield_now().await;
        }
        let outcome = fabric.invoke_from(&drained, to(&fabric, "f")).await.unwrap();
        assert_ne!(outcome.receipt.node, drained, "a drained node is given nothing");
        fabric.uncordon(&drained).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let (_, bill) = fabric.bills().remove(0);
    assert_eq!((bill.calls, bill.failures), (done.load(Ordering::SeqCst) + 30, 0));
}

#[tokio::test]
async fn a_drain_waits_for_the_calls_that_run_and_gives_back_what_they_claimed() {
    let stage = Stage::new();
    let fabric = several(&stage, &["a", "b"]).await;
    let mut function = native("f", "gate");
    function.needs.resources.memory = ByteSize::from_mib(64);
    fabric.deploy(function.clone()).await.unwrap();
    let running = spawn(&fabric, to(&fabric, "f"));
    while stage.entered() == 0 {
        tokio::task::yield_now().await;
    }
    let a = node("a");
    let drain = tokio::spawn({
        let (fabric, a) = (fabric.clone(), a.clone());
        async move { fabric.drain(&a).await }
    });
    while fabric.health(&a) != Some(Health::Draining) {
        tokio::task::yield_now().await;
    }
    settle().await;
    assert!(!drain.is_finished(), "a call runs there");
    stage.gate.add_permits(1);
    assert_eq!(running.await.unwrap().unwrap().receipt.node, a);
    drain.await.unwrap().unwrap();
    // What the first function claimed of the node is free for another one that needs all of it.
    fabric.uncordon(&a).unwrap();
    let mut other = native("g", "echo");
    other.needs = function.needs;
    other.needs.nodes = vec![a];
    fabric.deploy(other).await.unwrap();
    assert_eq!(where_it_runs(&fabric, "g").await, "a");
}

#[tokio::test]
async fn a_cordoned_node_gets_nothing_new_until_it_may_serve_again_and_one_that_left_never_does() {
    let fabric = several(&Stage::new(), &["a", "b"]).await;
    fabric.deploy(native("f", "echo")).await.unwrap();
    assert_eq!(where_it_runs(&fabric, "f").await, "a", "where it is called");
    fabric.cordon(&node("a")).unwrap();
    assert_eq!(where_it_runs(&fabric, "f").await, "b");
    fabric.cordon(&node("b")).unwrap();
    let error = fabric.call(&name("f"), "x").await.unwrap_err();
    assert!(
        matches!(&error, InvokeError::Unplaceable { source: ScheduleError::Unplaceable { considered: 2, .. }, .. }),
        "{error:?}"
    );
    fabric.uncordon(&node("a")).unwrap();
    assert_eq!(where_it_runs(&fabric, "f").await, "a");
    fabric.leave(&node("b")).await.unwrap();
    assert_eq!(fabric.health(&node("b")), Some(Health::Unreachable));
    assert!(matches!(fabric.uncordon(&node("b")), Err(OperateError::Left { node: left }) if left == node("b")));
    let stranger = node("z");
    assert_eq!(fabric.health(&stranger), None);
    assert!(matches!(fabric.cordon(&stranger), Err(OperateError::NoSuchNode { node }) if node == stranger));
}

#[tokio::test]
async fn the_only_node_refuses_calls_while_it_is_cordoned() {
    let fabric = alone(&Stage::new(), |builder| builder);
    fabric.deploy(native("f", "echo")).await.unwrap();
    assert_eq!(where_it_runs(&fabric, "f").await, "local");
    fabric.cordon(&node("local")).unwrap();
    assert!(matches!(fabric.call(&name("f"), "x").await, Err(InvokeError::Unplaceable { .. })));
    fabric.uncordon(&node("local")).unwrap();
    assert_eq!(where_it_runs(&fabric, "f").await, "local");
}
