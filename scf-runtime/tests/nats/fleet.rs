//! Fabrics of different processes that are one fleet.

use std::{sync::Arc, time::Duration};

use scf_core::{
    ByteSize, Function, FunctionName, Health, Invocation, InvokeError, MilliCpu, Name, Needs, Node, NodeId, Payload,
    Resources, Tier,
};
use scf_runtime::{
    Fabric, NativeFactory, NativeFuture,
    transport::{Nats, Presence},
};
use scf_sched::Pipeline;

use crate::{
    nats_server::NatsServer,
    support::{node, process},
};

pub(crate) const CORE: Resources = Resources { cpu: MilliCpu::from_cores(1), memory: ByteSize::from_mib(64) };

/// One process: a node of one core, and functions that say where they run or never return.
pub(crate) struct Process {
    pub(crate) fabric: Fabric,
    nats: Arc<Nats>,
}

impl Process {
    pub(crate) async fn start(server: &NatsServer, id: &str) -> Self {
        Self::over(process(server, id).await, id)
    }

    pub(crate) fn over(nats: Nats, id: &str) -> Self {
        let nats = Arc::new(nats);
        let where_it_runs = id.to_owned();
        let native = NativeFactory::new()
            .with_sync("where", move |_| Ok(Payload::new(where_it_runs.clone())))
            .unwrap()
            .with("never", |_, _| -> NativeFuture<'_> { Box::pin(std::future::pending()) })
            .unwrap();
        let fabric = Fabric::builder()
            .node(Node::new(node(id), Tier::Edge))
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(native))
            .join(Arc::clone(&nats))
            .build()
            .unwrap();
        Self { fabric, nats }
    }

    /// Waits until it is as `is` says with a node of another process.
    pub(crate) async fn until(&self, id: &str, is: impl Fn(Presence, Health) -> bool) {
        loop {
            let peers = self.fabric.peers();
            let peer = peers.iter().find(|peer| peer.status.node.id == node(id));
            if peer.is_some_and(|peer| is(peer.presence, peer.status.health)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until calls may go to a node of another process.
    pub(crate) async fn meets(&self, id: &str) {
        self.until(id, |presence, health| (presence, health) == (Presence::Alive, Health::Ready)).await;
        while self.fabric.path(&self.fabric.nodes()[0].id, &node(id)).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where a call of `function` ran.
    pub(crate) async fn call(&self, function: &str) -> Result<NodeId, InvokeError> {
        let outcome = self.fabric.call(&name(function), "").await?;
        assert_eq!(outcome.payload.bytes, outcome.receipt.node.as_str());
        Ok(outcome.receipt.node)
    }
}

fn name(text: &str) -> FunctionName {
    FunctionName::new(text).unwrap()
}

/// A function that says where it runs, on one of `nodes`.
pub(crate) fn says(text: &str, nodes: &[&str], resources: Resources) -> Function {
    let mut function = Function::native(name(text), Name::new("where").unwrap());
    function.needs = Needs { nodes: nodes.iter().map(|id| node(id)).collect(), resources, ..Needs::default() };
    function
}

#[tokio::test]
async fn a_function_that_is_deployed_on_one_runs_on_the_other() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    a.fabric.deploy(says("f", &["b"], CORE)).await.unwrap();
    assert_eq!(a.call("f").await, Ok(node("b")));
    // Where nothing of its name was, the calls of the other one find it too.
    assert_eq!(b.call("f").await, Ok(node("b")));
    let warm: Vec<_> = b.fabric.status(&name("f")).iter().map(|status| status.node.clone()).collect();
    assert_eq!(warm, [node("b")]);
}

#[tokio::test]
async fn a_call_that_names_a_node_of_another_process_runs_there() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, _b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    a.fabric.deploy(says("f", &[], CORE)).await.unwrap();
    for id in ["b", "a", "b"] {
        let invocation = Invocation::new(a.fabric.new_id(), name("f"), "").on(node(id));
        assert_eq!(a.fabric.invoke(invocation).await.unwrap().receipt.node, node(id));
    }
}

#[tokio::test]
async fn the_way_between_two_others_is_known_as_they_tell_of_it() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, _b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    let _c = Process::start(&server, "c").await;
    while a.fabric.path(&node("b"), &node("c")).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(a.fabric.path(&node("b"), &node("d")), None);
}

#[tokio::test]
async fn the_node_that_owns_the_resources_gives_them_once() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, c) = (Process::start(&server, "a").await, Process::start(&server, "c").await);
    let _b = Process::start(&server, "b").await;
    for process in [&a, &c] {
        process.meets("b").await;
    }
    a.fabric.deploy(says("f", &["b"], CORE)).await.unwrap();
    c.fabric.deploy(says("g", &["b"], CORE)).await.unwrap();
    // The one core of `b` is for whoever claims it first; both may have seen it free.
    let (f, g) = tokio::join!(a.call("f"), c.call("g"));
    assert!(f.is_ok() != g.is_ok(), "{f:?} and {g:?}");
    let (first, of_first, second, of_second) = if f.is_ok() { (&a, "f", &c, "g") } else { (&c, "g", &a, "f") };
    assert!(matches!(second.call(of_second).await, Err(InvokeError::Unplaceable { .. })));
    // What was claimed stays claimed by who has it, and is free once it is taken off.
    assert_eq!(first.call(of_first).await, Ok(node("b")));
    first.fabric.undeploy(&name(of_first));
    while second.call(of_second).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn calls_of_a_process_that_is_gone_run_elsewhere() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    a.fabric.deploy(says("f", &["a", "b"], CORE)).await.unwrap();
    a.fabric.cordon(&node("a")).unwrap();
    assert_eq!(a.call("f").await, Ok(node("b")));
    a.fabric.uncordon(&node("a")).unwrap();
    drop(b);
    assert_eq!(a.call("f").await, Ok(node("a")));
}

#[tokio::test]
async fn a_node_that_is_drained_gets_no_calls_of_others_and_one_that_left_is_not_missed() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    a.fabric.deploy(says("f", &["b"], CORE)).await.unwrap();
    assert_eq!(a.call("f").await, Ok(node("b")));
    b.fabric.cordon(&node("b")).unwrap();
    a.until("b", |_, health| health == Health::Draining).await;
    assert!(matches!(a.call("f").await, Err(InvokeError::Unplaceable { .. })));
    b.fabric.uncordon(&node("b")).unwrap();
    a.until("b", |_, health| health == Health::Ready).await;
    assert_eq!(a.call("f").await, Ok(node("b")));
    b.fabric.leave(&node("b")).await.unwrap();
    a.until("b", |presence, _| presence == Presence::Left).await;
}

#[tokio::test]
async fn what_runs_on_a_node_that_falls_silent_is_interrupted_before_its_caller_is_out_of_patience() {
    let Some(server) = NatsServer::start("") else { return };
    let (a, b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    let mut never = Function::native(name("never"), Name::new("never").unwrap());
    never.needs.nodes = vec![node("b")];
    never.limits.wall = Duration::from_secs(600);
    a.fabric.deploy(never).await.unwrap();
    let silenced = async {
        // It is running there once the other one counts it.
        while b.fabric.status(&name("never")).iter().all(|status| status.running == 0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // Its beats end, and it goes on running.
        let Process { fabric, nats } = b;
        drop(fabric);
        nats
    };
    let called = a.fabric.call(&name("never"), "");
    let (called, _nats) = tokio::join!(called, silenced);
    assert_eq!(called.unwrap_err(), InvokeError::Unreachable { function: name("never"), node: node("b") });
}

#[tokio::test]
async fn a_process_that_loses_the_broker_goes_on_alone_and_meets_the_others_again() {
    let Some(mut server) = NatsServer::start("") else { return };
    let (a, b) = (Process::start(&server, "a").await, Process::start(&server, "b").await);
    a.meets("b").await;
    a.fabric.deploy(says("f", &["a"], CORE)).await.unwrap();
    server.kill();
    a.until("b", |presence, _| presence == Presence::CutOff).await;
    assert_eq!(a.call("f").await, Ok(node("a")));
    server.restart();
    a.meets("b").await;
    b.meets("a").await;
}
