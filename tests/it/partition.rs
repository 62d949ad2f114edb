use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf::{
    ai::{FixedSplit, LatencyOptimal, SplitTrace},
    core::{
        Batch, Bytes, Callee, Caps, Clock, Commit, Entry, Fence, Function, Head, Invocation, InvocationId, InvokeError,
        Name, Node, NodeId, PlanError, Scope, Snapshot, SplitPlan, SplitPlanner, SplitProblem, StateBackend,
        StateError, Tier, Timestamp, WireForm,
    },
    runtime::{
        Fabric, NativeFactory, SystemClock, WorkflowFailure, WorkflowOutcome,
        transport::{InProcess, LinkState},
    },
    sched::Pipeline,
};

use crate::support::{Site, link, node, photo};

/// The link between camera and gateway, once there is a network to cut it in.
#[derive(Clone, Debug, Default)]
struct Scissors(Arc<OnceLock<Arc<InProcess>>>);

impl Scissors {
    fn cut(&self) {
        if let Some(network) = self.0.get() {
            network.set_link(&node("camera"), &node("gateway"), LinkState::Cut).unwrap();
        }
    }

    fn mend(&self) {
        self.0.get().unwrap().set_link(&node("camera"), &node("gateway"), LinkState::Shaped(link(1))).unwrap();
    }
}

/// Hands everything after the stem to the gateway as long as there is one, and cuts it off when it got that.
#[derive(Debug)]
struct CutOnArrival(Scissors);

impl SplitPlanner for CutOnArrival {
    fn name(&self) -> &'static str {
        "cut-on-arrival"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        if *problem.names[0] == node("gateway") {
            self.0.cut();
        }
        let split = FixedSplit::here().hand_over(1, node("gateway"), WireForm::Int8);
        split.plan(problem).or_else(|_| FixedSplit::here().plan(problem))
    }
}

async fn run(site: &Site, id: u128) -> Result<WorkflowOutcome, WorkflowFailure> {
    let name = Name::new("photos").unwrap();
    site.fabric.run(&name, &node("camera"), InvocationId::new(id), Some("camera-1"), photo("coffee")).await
}

#[tokio::test]
async fn a_frame_whose_second_half_is_cut_off_is_finished_where_it_began_and_counted_once() {
    let scissors = Scissors::default();
    let site = Site::new(CutOnArrival(scissors.clone())).await;
    scissors.0.set(site.network.clone()).unwrap();

    let failure = run(&site, 1).await.unwrap_err();
    let WorkflowFailure::Step { step: 3, function, done, source, .. } = failure else { panic!("{failure:?}") };
    let classified = SplitTrace::of(&done[1].receipt);
    assert_eq!(classified.stretches.iter().map(|part| part.blocks.len()).sum::<usize>(), 18);
    assert!(classified.stretches.iter().all(|part| part.node == node("camera")), "{classified}");
    assert_eq!(function.as_str(), "tally");
    assert!(matches!(source, InvokeError::State { .. }), "{source:?}");
    assert!(source.is_retryable());

    scissors.mend();
    site.measured().await;
    assert_eq!(site.counted("espresso").await, 0);
    // The same call again, as the workflow makes it, and once more as an impatient caller would.
    for _ in 0..2 {
        let id = InvocationId::new(1).child(3);
        let call = Invocation::new(id, crate::support::function("tally"), done[2].payload.clone()).key("camera-1");
        site.fabric.invoke_from(&node("camera"), call).await.unwrap();
    }
    assert_eq!(site.counted("espresso").await, 1);
}

#[tokio::test]
async fn a_tally_whose_commit_was_applied_and_whose_answer_was_lost_counts_once() {
    let scissors = Scissors::default();
    let wrapped = scissors.clone();
    let site = Site::with_home(LatencyOptimal, |inner| Arc::new(CutAfterCommit { inner, scissors: wrapped })).await;
    scissors.0.set(site.network.clone()).unwrap();

    let failure = run(&site, 7).await.unwrap_err();
    let WorkflowFailure::Step { step: 3, source, .. } = &failure else { panic!("{failure:?}") };
    let InvokeError::State { source, .. } = source else { panic!("{source:?}") };
    assert!(matches!(**source, StateError::Unknown { .. }), "{source:?}");
    assert_eq!(site.counted("espresso").await, 1);

    scissors.mend();
    site.measured().await;
    let outcome = run(&site, 7).await.unwrap();
    assert!(String::from_utf8_lossy(&outcome.payload().unwrap().bytes).contains("\"count\":1"));
    assert_eq!(site.counted("espresso").await, 1);
}

#[tokio::test]
async fn with_both_other_nodes_gone_the_camera_classifies_alone() {
    let site = Site::new(LatencyOptimal).await;
    site.network.set_link(&node("camera"), &node("gateway"), LinkState::Cut).unwrap();
    site.measured().await;
    let failure = run(&site, 1).await.unwrap_err();
    let WorkflowFailure::Step { step: 3, done, .. } = failure else { panic!("{failure:?}") };
    let nodes: Vec<_> = done.iter().map(|outcome| outcome.receipt.node.as_str()).collect();
    assert_eq!(nodes, ["camera"; 3]);
}

#[tokio::test]
async fn a_call_whose_own_callee_is_cut_off_is_not_run_again() {
    let (runs, camera, gateway) = (Arc::new(AtomicUsize::new(0)), node("camera"), node("gateway"));
    let counted = runs.clone();
    let relay = NativeFactory::new().with("relay", move |call, payload| {
        counted.fetch_add(1, Relaxed);
        let (function, node) = (crate::support::function("far"), Some(node("gateway")));
        Box::pin(call.invoke(Callee { function, node, key: None, payload }))
    });
    let natives = relay.unwrap().with_sync("far", Ok).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let network = InProcess::builder().link(camera.clone(), gateway.clone(), link(1)).build(clock.clone());
    let network = Arc::new(network.unwrap());
    let fabric = Fabric::builder()
        .node(Node::new(camera.clone(), Tier::Device))
        .node(Node::new(gateway.clone(), Tier::Edge))
        .transport(network.clone())
        .clock(clock)
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(natives))
        .build()
        .unwrap();
    for name in ["relay", "far"] {
        let function = Function::native(crate::support::function(name), Name::new(name).unwrap());
        fabric.deploy(function).await.unwrap();
    }
    fabric.ready().await;
    let relay = crate::support::function("relay");
    assert_eq!(&fabric.call(&relay, "x").await.unwrap().payload.bytes[..], b"x");
    network.set_link(&camera, &gateway, LinkState::Cut).unwrap();
    let error = fabric.call(&relay, "x").await.unwrap_err();
    assert_eq!(error, InvokeError::Unreachable { function: crate::support::function("far"), node: gateway });
    assert_eq!(runs.load(Relaxed), 2, "one run per call");
}

/// Cuts the caller off between the commit of its changes and the answer, as long as it is told to.
#[derive(Debug)]
struct CutAfterCommit {
    inner: Arc<dyn StateBackend>,
    scissors: Scissors,
}

#[async_trait]
impl StateBackend for CutAfterCommit {
    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        let result = self.inner.commit(batch).await;
        self.scissors.cut();
        result
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        self.inner.get(scope, key).await
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        self.inner.head(scope, now).await
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        self.inner.result_of(scope, invocation).await
    }

    async fn acquire(&self, s: &Scope, owner: &NodeId, lease: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.inner.acquire(s, owner, lease, now).await
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.inner.renew(scope, fence, lease, now).await
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.inner.release(scope, fence).await
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        self.inner.export(scope).await
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.inner.import(scope, fence, snapshot).await
    }
}
