use std::sync::Arc;

use async_trait::async_trait;
use scf::{
    core::{
        ByteSize, Call, Clock, Code, Function, Invocation, InvocationId, InvokeError, Isolate, IsolateFactory,
        LimitKind, Limits, MediaType, Name, Node, Payload, Phase, PrepareError, Prepared, Reply, Revision, Scope,
        StateStore, Tier,
    },
    runtime::{Fabric, NativeFactory, SystemClock, transport::InProcess},
    sched::Pipeline,
    state::{AlwaysLocal, MemoryState, PhasedState},
};

use crate::support::{function, link, node, tally};

const SEEN: &str = r#"{"top5":[{"class":1,"name":"goldfish","probability":0.5}]}"#;

/// Two nodes that share a home for state and take every scope they work on.
async fn two_nodes() -> Fabric {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let network = InProcess::builder().link(node("a"), node("b"), link(1)).build(clock.clone()).unwrap();
    let network = Arc::new(network);
    let home = Arc::new(MemoryState::new());
    let mut builder = Fabric::builder()
        .node(Node::new(node("a"), Tier::Edge))
        .node(Node::new(node("b"), Tier::Edge))
        .transport(network.clone())
        .clock(clock.clone())
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(NativeFactory::new().with("tally", tally).unwrap()));
    for name in ["a", "b"] {
        let (local, policy) = (Arc::new(MemoryState::new()), Arc::new(AlwaysLocal));
        let store = PhasedState::new(node(name), home.clone(), local, policy, clock.clone());
        builder = builder.state(node(name), Arc::new(store) as Arc<dyn StateStore>);
    }
    let fabric = builder.build().unwrap();
    let tally = Function::native(function("tally"), Name::new("tally").unwrap()).stateful();
    fabric.deploy(tally.takes(MediaType::JSON).gives(MediaType::JSON)).await.unwrap();
    fabric.ready().await;
    fabric
}

fn count(id: u128) -> Invocation {
    let seen = Payload::new(SEEN).with_media(MediaType::JSON);
    Invocation::new(InvocationId::new(id), function("tally"), seen).key("camera-1")
}

#[tokio::test]
async fn calls_of_one_key_from_two_nodes_are_all_counted_once() {
    let fabric = two_nodes().await;
    let calls: Vec<_> = (0..40)
        .map(|id| {
            let fabric = fabric.clone();
            let from = if id % 2 == 0 { node("a") } else { node("b") };
            tokio::spawn(async move { fabric.invoke_from(&from, count(id)).await })
        })
        .collect();
    let mut counts = Vec::new();
    for call in calls {
        let outcome = call.await.unwrap().unwrap();
        let counted: serde_json::Value = serde_json::from_slice(&outcome.payload.bytes).unwrap();
        counts.push(counted["count"].as_u64().unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_goes_to_the_node_that_owns_the_state() {
    let fabric = two_nodes().await;
    let here = |outcome: scf::core::Outcome| outcome.receipt.node.to_string();
    for id in 0..3 {
        assert_eq!(here(fabric.invoke_from(&node("a"), count(id)).await.unwrap()), "a");
    }
    assert_eq!(here(fabric.invoke_from(&node("b"), count(10)).await.unwrap()), "a");
    fabric.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_same_invocation_has_the_same_answer_and_one_effect() {
    let fabric = two_nodes().await;
    let first = fabric.invoke_from(&node("a"), count(7)).await.unwrap().payload;
    fabric.invoke_from(&node("a"), count(8)).await.unwrap();
    assert_eq!(fabric.invoke_from(&node("b"), count(7)).await.unwrap().payload, first);
    let third = fabric.invoke_from(&node("a"), count(9)).await.unwrap().payload;
    assert!(String::from_utf8_lossy(&third.bytes).contains("\"count\":3"));
}

#[tokio::test]
async fn published_state_is_taken_over_by_the_next_fabric() {
    let home = Arc::new(MemoryState::new());
    let scope = Scope { function: function("tally"), key: "camera-1".into() };
    for expected in 1..=2 {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (local, policy) = (Arc::new(MemoryState::new()), Arc::new(AlwaysLocal));
        let store = Arc::new(PhasedState::new(node("a"), home.clone(), local, policy, clock.clone()));
        let native = NativeFactory::new().with("tally", tally).unwrap();
        let fabric = scf::fabric().unwrap().node(Node::new(node("a"), Tier::Edge)).clock(clock);
        let fabric = fabric.isolates(Arc::new(native)).state(node("a"), store.clone()).build().unwrap();
        let tally = Function::native(function("tally"), Name::new("tally").unwrap()).stateful();
        fabric.deploy(tally.takes(MediaType::JSON).gives(MediaType::JSON)).await.unwrap();
        let outcome = fabric.invoke(count(expected)).await.unwrap();
        assert!(String::from_utf8_lossy(&outcome.payload.bytes).contains(&format!("\"count\":{expected}")));
        fabric.shutdown().await.unwrap();
        assert_eq!(store.phase(&scope), Phase::Remote);
    }
}

#[tokio::test]
async fn state_outlives_the_revision_that_wrote_it() {
    let fabric = two_nodes().await;
    for at in 1..=3 {
        let outcome = fabric.invoke_from(&node("a"), count(u128::from(at))).await.unwrap();
        assert_eq!(outcome.receipt.revision, Revision::new(at));
        assert!(String::from_utf8_lossy(&outcome.payload.bytes).contains(&format!("\"count\":{at}")));
        let tally = Function::native(function("tally"), Name::new("tally").unwrap()).stateful();
        fabric.deploy(tally.takes(MediaType::JSON).gives(MediaType::JSON)).await.unwrap();
    }
}

/// Runs natives and gives far more than they do where the input says so.
#[derive(Debug)]
struct Talkative(NativeFactory);

#[derive(Debug)]
struct TalkativePrepared(Arc<dyn Prepared>);

#[derive(Debug)]
struct TalkativeIsolate(Box<dyn Isolate>);

#[async_trait]
impl IsolateFactory for Talkative {
    fn name(&self) -> &'static str {
        "talkative"
    }

    fn accepts(&self, code: &Code) -> bool {
        self.0.accepts(code)
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        Ok(Arc::new(TalkativePrepared(self.0.prepare(function).await?)))
    }
}

#[async_trait]
impl Prepared for TalkativePrepared {
    async fn instantiate(&self) -> Result<Box<dyn Isolate>, InvokeError> {
        Ok(Box::new(TalkativeIsolate(self.0.instantiate().await?)))
    }
}

#[async_trait]
impl Isolate for TalkativeIsolate {
    async fn invoke(&mut self, call: &Call, input: Payload) -> Result<Reply, InvokeError> {
        let is_talkative = call.id == InvocationId::new(2);
        let mut reply = self.0.invoke(call, input).await?;
        if is_talkative {
            reply.payload = Payload::new(vec![b'x'; 5000]).with_media(MediaType::JSON);
        }
        Ok(reply)
    }
}

#[tokio::test]
async fn an_output_over_the_limit_leaves_no_effect() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (home, local, policy) = (Arc::new(MemoryState::new()), Arc::new(MemoryState::new()), Arc::new(AlwaysLocal));
    let store = PhasedState::new(node("a"), home, local, policy, clock.clone());
    let natives = Talkative(NativeFactory::new().with("tally", tally).unwrap());
    let fabric = Fabric::builder()
        .node(Node::new(node("a"), Tier::Edge))
        .clock(clock)
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(natives))
        .state(node("a"), Arc::new(store) as Arc<dyn StateStore>)
        .build()
        .unwrap();
    let limits = Limits { payload: ByteSize::from_kib(4), ..Limits::default() };
    let tally = Function::native(function("tally"), Name::new("tally").unwrap()).stateful().limits(limits);
    fabric.deploy(tally.takes(MediaType::JSON).gives(MediaType::JSON)).await.unwrap();
    fabric.invoke(count(1)).await.unwrap();
    let error = fabric.invoke(count(2)).await.unwrap_err();
    assert_eq!(error, InvokeError::Limit { function: function("tally"), limit: LimitKind::Output });
    let third = fabric.invoke(count(3)).await.unwrap().payload;
    assert!(String::from_utf8_lossy(&third.bytes).contains("\"count\":2"), "the call before had no effect");
}
