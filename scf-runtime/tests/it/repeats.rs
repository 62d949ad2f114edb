//! Calls that are made again, and those that never are.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use scf_core::{
    Bandwidth, Clock, Function, Invocation, InvokeError, Link, Name, Needs, Node, NodeId, Outcome, Payload, Repeat,
    Share, Tier,
};
use scf_runtime::{
    Fabric, HedgePolicy, NativeFactory, NativeFuture, SystemClock,
    transport::{InProcess, LinkState},
};
use scf_sched::Pipeline;
use tokio::sync::Notify;

use crate::support::{name, node};

const LINK: Link = Link { latency: Duration::from_millis(1), bandwidth: Bandwidth::from_mbit_per_s(1000) };

/// What the calls of `holds` did: the first one that begins when that is wanted is held for good.
#[derive(Debug, Default)]
struct Stage {
    holds: AtomicBool,
    held: Mutex<Option<NodeId>>,
    begun: AtomicUsize,
    given_up: AtomicUsize,
    changed: Notify,
}

/// Counts a call that did not come to its end.
struct GivenUp<'a>(&'a Stage, bool);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(usize::from(self.1), SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Stage {
    async fn until(&self, is: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if is(self) {
                return;
            }
            changed.await;
        }
    }

    async fn run(&self, here: NodeId) {
        let mut unfinished = GivenUp(self, true);
        let is_held = self.holds.swap(false, SeqCst);
        if is_held {
            *self.held.lock().unwrap() = Some(here);
        }
        self.begun.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
        if is_held {
            std::future::pending::<()>().await;
        }
        unfinished.1 = false;
    }

    /// Waits until a call is held; where that is.
    async fn held(&self) -> NodeId {
        self.until(|stage| stage.held.lock().unwrap().is_some()).await;
        self.held.lock().unwrap().clone().unwrap()
    }
}

struct Site {
    fabric: Fabric,
    network: Arc<InProcess>,
    stage: Arc<Stage>,
}

impl Site {
    /// A caller `a`, and `b` and `c` that run `holds`.
    async fn new(repeat: Repeat, hedging: HedgePolicy) -> Self {
        let [a, b, c] = ["a", "b", "c"].map(node);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let links = InProcess::builder().link(a.clone(), b.clone(), LINK).link(a.clone(), c.clone(), LINK);
        let network = Arc::new(links.build(Arc::clone(&clock)).unwrap());
        let stage = Arc::new(Stage::default());
        let of = Arc::clone(&stage);
        let native = NativeFactory::new().with("holds", move |call, _| -> NativeFuture<'_> {
            let stage = Arc::clone(&of);
            Box::pin(async move {
                stage.run(call.call().host.node().id.clone()).await;
                Ok(Payload::default())
            })
        });
        let builder =
            Fabric::builder().transport(network.clone()).clock(clock).scheduler(Arc::new(Pipeline::default()));
        let builder = [a, b, c].into_iter().fold(builder, |builder, id| builder.node(Node::new(id, Tier::Edge)));
        let fabric = builder.isolates(Arc::new(native.unwrap())).hedging(hedging).build().unwrap();
        let mut function = Function::native(name("holds"), Name::new("holds").unwrap()).repeat(repeat);
        function.needs = Needs { nodes: vec![node("b"), node("c")], ..Needs::default() };
        fabric.deploy(function).await.unwrap();
        fabric.ready().await;
        Self { fabric, network, stage }
    }

    async fn call(&self) -> Result<Outcome, InvokeError> {
        self.fabric.invoke(Invocation::new(self.fabric.new_id(), name("holds"), "")).await
    }

    /// Makes as many calls as must be measured before one is late, of which none is hedged.
    async fn measured(&self) {
        for _ in 0..20 {
            self.call().await.unwrap();
        }
        assert_eq!(self.stage.begun.load(SeqCst), 20);
    }

    /// Makes a call, and cuts the way to its node while it runs there.
    async fn cut_in_the_middle(&self) -> Result<Outcome, InvokeError> {
        self.measured().await;
        self.stage.holds.store(true, SeqCst);
        let cut = async {
            let at = self.stage.held().await;
            self.network.set_link(&node("a"), &at, LinkState::Cut).unwrap();
        };
        tokio::join!(self.call(), cut).0
    }
}

/// Hedges whatever may be, however often; who is late is so by the measured calls alone.
fn at_once() -> HedgePolicy {
    HedgePolicy::default().budget(Share::ALL)
}

#[tokio::test]
async fn what_may_not_be_repeated_is_run_once_at_most_though_its_node_is_lost() {
    let site = Site::new(Repeat::Never, at_once()).await;
    let error = site.cut_in_the_middle().await.unwrap_err();
    assert!(matches!(error, InvokeError::Interrupted { .. }), "{error:?}");
    assert_eq!(site.stage.begun.load(SeqCst), 21);
}

#[tokio::test]
async fn what_may_not_be_repeated_goes_to_another_node_where_it_did_not_reach_the_first() {
    let site = Site::new(Repeat::Never, at_once()).await;
    let at = site.call().await.unwrap().receipt.node;
    site.network.set_link(&node("a"), &at, LinkState::Cut).unwrap();
    assert_ne!(site.call().await.unwrap().receipt.node, at);
    assert_eq!(site.stage.begun.load(SeqCst), 2);
}

#[tokio::test]
async fn a_call_whose_node_is_lost_in_the_middle_is_made_again_on_another() {
    let site = Site::new(Repeat::AfterLoss, at_once()).await;
    let outcome = site.cut_in_the_middle().await.unwrap();
    assert!(!outcome.receipt.hedged);
    assert_eq!(site.stage.begun.load(SeqCst), 22);
}

#[tokio::test]
async fn a_call_that_is_late_is_answered_by_a_second_node_and_given_up_on_the_first() {
    let site = Site::new(Repeat::Freely, at_once()).await;
    site.measured().await;
    site.stage.holds.store(true, SeqCst);
    let outcome = site.call().await.unwrap();
    assert!(outcome.receipt.hedged);
    assert_ne!(outcome.receipt.node, site.stage.held().await);
    site.stage.until(|stage| stage.given_up.load(SeqCst) == 1).await;
    let bill = site.fabric.bills()[0].1;
    assert_eq!((bill.hedged, bill.calls), (1, 21));
}

#[tokio::test]
async fn nothing_is_hedged_that_is_not_said_to_be_idempotent_or_for_which_there_is_no_budget() {
    for (repeat, budget) in
        [(Repeat::Never, Share::ALL), (Repeat::AfterLoss, Share::ALL), (Repeat::Freely, Share::NONE)]
    {
        let site = Site::new(repeat, HedgePolicy::default().budget(budget)).await;
        site.measured().await;
        site.stage.holds.store(true, SeqCst);
        let invocation = Invocation::new(site.fabric.new_id(), name("holds"), "").patience(Duration::from_millis(200));
        let error = site.fabric.invoke(invocation).await.unwrap_err();
        assert!(matches!(error, InvokeError::Limit { .. }), "{repeat:?}: {error:?}");
        assert_eq!((site.stage.begun.load(SeqCst), site.fabric.bills()[0].1.hedged), (21, 0), "{repeat:?}");
    }
}
