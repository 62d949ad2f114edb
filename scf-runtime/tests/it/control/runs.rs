//! What is promised of runs of a workflow is kept while a step slows down, in the time of a clock that tests move.

use std::sync::{Mutex, atomic::AtomicU64};

use scf_core::{
    Bandwidth, Clock, DueStep, Expectation, Link, ManualClock, Node, NodeId, Objectives, ObservedCall, ObservedRun,
    Payload, Rates, Reaction, Slo, SloPolicy, StepShare, Tier, Timestamp, Workflow,
};
use scf_runtime::{NativeCall, NativeFuture, transport::InProcess};
use scf_sched::{Pipeline, SloKeeper};

use super::*;
use crate::support::node;

const MS: Duration = Duration::from_millis(1);

/// A [`SloKeeper`] that notes what the first steps of runs get.
#[derive(Debug, Default)]
struct Noted {
    keeper: SloKeeper,
    first: Mutex<Vec<StepShare>>,
}

impl SloPolicy for Noted {
    fn observed(&self, function: &Function, call: &ObservedCall<'_>) {
        self.keeper.observed(function, call);
    }

    fn expects(&self, function: &Function, site: &scf_core::Site<'_>) -> Expectation {
        self.keeper.expects(function, site)
    }

    fn react(&self, function: &Function, now: Timestamp) -> Reaction {
        self.keeper.react(function, now)
    }

    fn share(&self, due: &DueStep<'_>) -> Option<StepShare> {
        let share = self.keeper.share(due)?;
        if due.step == 0 {
            self.first.lock().unwrap().push(share.clone());
        }
        Some(share)
    }

    fn step_observed(&self, workflow: &Workflow, step: usize, call: &ObservedCall<'_>) {
        self.keeper.step_observed(workflow, step, call);
    }

    fn run_observed(&self, workflow: &Workflow, run: &ObservedRun) {
        self.keeper.run_observed(workflow, run);
    }
}

/// When a run began, and how long it took if it was answered.
type Run = (Timestamp, Option<Duration>);

/// A camera that runs a workflow: its first step on a cheap and slow or a dear and fast node, its second on the latter.
struct Site {
    clock: ManualClock,
    fabric: Fabric,
    noted: Arc<Noted>,
    /// What the second step takes, in milliseconds.
    second: Arc<AtomicU64>,
    runs: Arc<Mutex<Vec<Run>>>,
}

fn p95() -> Slo {
    Slo::percentile(95.0, MS * 100)
}

/// A native function that takes what `takes` says of the node that it runs on.
fn work(
    clock: ManualClock,
    takes: impl Fn(&NodeId) -> Duration + Send + Sync + 'static,
) -> impl for<'a> Fn(&'a NativeCall<'a>, Payload) -> NativeFuture<'a> + Send + Sync + 'static {
    move |call, input| {
        let (clock, time) = (clock.clone(), takes(&call.call().host.node().id));
        call.call().meter.add_cpu(time);
        Box::pin(async move {
            clock.sleep(time).await;
            Ok(input)
        })
    }
}

impl Site {
    async fn new() -> Self {
        let (clock, noted, second) = (ManualClock::new(), Arc::new(Noted::default()), Arc::new(AtomicU64::new(15)));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let link = || Link { latency: MS, bandwidth: Bandwidth::from_mbit_per_s(1000) };
        let network = InProcess::builder()
            .link(node("camera"), node("cheap"), link())
            .link(node("camera"), node("dear"), link())
            .build(Arc::clone(&shared))
            .unwrap();
        let slow = Arc::clone(&second);
        let first = work(clock.clone(), |on| if *on == node("dear") { MS * 15 } else { MS * 60 });
        let then = work(clock.clone(), move |_| MS * slow.load(Ordering::SeqCst) as u32);
        let natives = NativeFactory::new().with("first", first).unwrap().with("second", then).unwrap();
        let priced = |name, money| Node::new(node(name), Tier::Edge).rates(Rates { money, ..Rates::default() });
        let fabric = Fabric::builder()
            .clock(shared)
            .seed(7)
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(natives))
            .transport(Arc::new(network))
            .slo(noted.clone())
            .node(Node::new(node("camera"), Tier::Edge))
            .node(priced("cheap", 0.1))
            .node(priced("dear", 1.0))
            .build()
            .unwrap();
        let site = Self { clock, fabric, noted, second, runs: Arc::default() };
        let ready = tokio::spawn({
            let fabric = site.fabric.clone();
            async move { fabric.ready().await }
        });
        while !ready.is_finished() {
            site.step().await;
        }
        let places = [node("cheap"), node("dear")];
        site.fabric.deploy(native("first", "first").on(places.clone())).await.unwrap();
        site.fabric.deploy(native("second", "second").on([node("dear")])).await.unwrap();
        let workflow = Workflow::new(Name::new("w").unwrap()).then(name("first")).then(name("second"));
        let promised = workflow.objectives(Objectives::none().latency(p95()));
        site.fabric.deploy_workflow(promised).unwrap();
        site
    }

    async fn step(&self) {
        self.clock.advance(MS);
        settle().await;
    }

    /// A run every 20 ms for `time`; gives how the last second of them fared.
    async fn load(&self, time: Duration) -> scf_core::SloReport {
        for ms in 0..time.as_millis() {
            if ms % 20 == 0 {
                let (fabric, clock, runs) = (self.fabric.clone(), self.clock.clone(), Arc::clone(&self.runs));
                tokio::spawn(async move {
                    let (made, workflow) = (clock.now(), Name::new("w").unwrap());
                    let outcome = fabric.run(&workflow, &node("camera"), fabric.new_id(), None, "x").await;
                    runs.lock().unwrap().push((made, outcome.ok().map(|_| clock.now().since(made))));
                });
            }
            self.step().await;
        }
        let (now, runs) = (self.clock.now(), self.runs.lock().unwrap());
        let is_last = |made: Timestamp| now.since(made) <= MS * 1200 && now.since(made) > MS * 200;
        let took = runs.iter().filter(|(made, _)| is_last(*made)).map(|(_, took)| took.unwrap_or(Duration::MAX));
        p95().report(&took.collect::<Vec<_>>())
    }

    fn last_first(&self) -> StepShare {
        self.noted.first.lock().unwrap().last().unwrap().clone()
    }
}

#[tokio::test]
async fn the_first_step_gets_less_time_and_a_faster_node_when_the_second_slows_down_and_runs_are_in_time_again() {
    let site = Site::new().await;
    let before = site.load(MS * 4000).await;
    assert!(before.holds() && before.calls > 40, "{before:?}");
    let cheap = site.last_first();
    assert_eq!(cheap.node, node("cheap"));
    site.second.store(60, Ordering::SeqCst);
    let after = site.load(MS * 5000).await;
    assert!(after.holds() && after.calls > 40, "{after:?}");
    let dear = site.last_first();
    assert_eq!(dear.node, node("dear"));
    assert!(dear.within < cheap.within, "{:?} instead of {:?}", dear.within, cheap.within);
    let report = site.noted.keeper.runs(&Name::new("w").unwrap(), site.clock.now()).unwrap();
    assert!(report.runs > 400 && report.cost.units() > 0.0, "{report:?}");
}
