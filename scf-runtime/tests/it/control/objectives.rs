//! What is promised of functions is kept while nodes slow down and die, in the time of a clock that tests move.

use std::sync::{Mutex, atomic::AtomicU64};

use scf_core::{
    Bandwidth, Clock, Energy, Link, Load, ManualClock, Money, Node, NodeId, Objectives, Outcome, Rates, Share, Slo,
    Tier, Timestamp, Workflow, WorkflowError,
};
use scf_runtime::{
    DeployError, Lifecycle,
    transport::{InProcess, LinkState},
};
use scf_sched::{Kpa, KpaSettings, Pipeline, SloKeeper};

use super::*;
use crate::support::node;

const MS: Duration = Duration::from_millis(1);
const PROMISED: Duration = Duration::from_millis(50);

/// When a call was made and what it took, if it succeeded.
type Made = (Timestamp, Option<Duration>);

/// A camera that calls a function on a near or a far node.
struct Site {
    clock: ManualClock,
    network: Arc<InProcess>,
    fabric: Fabric,
    /// What a call takes on the near and the far node, in milliseconds.
    takes: Arc<[AtomicU64; 2]>,
    calls: Arc<Mutex<Vec<Made>>>,
}

fn p95() -> Objectives {
    Objectives::none().latency(Slo::percentile(95.0, PROMISED))
}

impl Site {
    async fn new(keeps_promises: bool) -> Self {
        Self::priced(keeps_promises, [Rates::default(); 2]).await
    }

    /// `rates`: of the near and of the far node.
    async fn priced(keeps_promises: bool, rates: [Rates; 2]) -> Self {
        let clock = ManualClock::new();
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let link = |ms| Link { latency: MS * ms, bandwidth: Bandwidth::from_mbit_per_s(1000) };
        let network = InProcess::builder()
            .link(node("camera"), node("near"), link(1))
            .link(node("camera"), node("far"), link(4))
            .build(Arc::clone(&shared))
            .unwrap();
        let network = Arc::new(network);
        let takes = Arc::new([AtomicU64::new(10), AtomicU64::new(10)]);
        let natives = NativeFactory::new().with("work", {
            let (takes, clock) = (Arc::clone(&takes), clock.clone());
            move |call, input| {
                let on = usize::from(call.call().host.node().id == node("far"));
                let time = MS * takes[on].load(Ordering::SeqCst) as u32;
                let clock = clock.clone();
                call.call().meter.add_cpu(time);
                Box::pin(async move {
                    clock.sleep(time).await;
                    Ok(input)
                })
            }
        });
        let mut builder = Fabric::builder()
            .clock(shared)
            .seed(7)
            .scheduler(Arc::new(Pipeline::default()))
            .isolates(Arc::new(natives.unwrap()))
            .transport(network.clone());
        for (name, rates) in [("camera", Rates::default()), ("near", rates[0]), ("far", rates[1])] {
            builder = builder.node(Node::new(node(name), Tier::Edge).rates(rates));
        }
        if keeps_promises {
            builder = builder.slo(Arc::new(SloKeeper::default()));
        }
        let fabric = builder.build().unwrap();
        let site = Self { clock, network, fabric, takes, calls: Arc::default() };
        let ready = tokio::spawn({
            let fabric = site.fabric.clone();
            async move { fabric.ready().await }
        });
        while !ready.is_finished() {
            site.step().await;
        }
        site
    }

    async fn step(&self) {
        self.clock.advance(MS);
        settle().await;
    }

    async fn deploy(&self, objectives: Objectives) {
        let function = native("f", "work").on([node("near"), node("far")]).objectives(objectives);
        self.fabric.deploy(function).await.unwrap();
    }

    /// A call every 5 ms for `time`.
    async fn load(&self, time: Duration) {
        for ms in 0..time.as_millis() {
            if ms % 5 == 0 {
                let (fabric, clock, calls) = (self.fabric.clone(), self.clock.clone(), Arc::clone(&self.calls));
                tokio::spawn(async move {
                    let made = clock.now();
                    let outcome: Result<Outcome, _> = fabric.call(&name("f"), "x").await;
                    calls.lock().unwrap().push((made, outcome.ok().map(|_| clock.now().since(made))));
                });
            }
            self.step().await;
        }
    }

    /// How long after `fault` the promise was broken for the last time, in windows of half a second.
    fn broken_for(&self, fault: Timestamp) -> Duration {
        let window = Duration::from_millis(500);
        let calls = self.calls.lock().unwrap();
        let mut windows: std::collections::BTreeMap<u128, Vec<Duration>> = std::collections::BTreeMap::new();
        for (made, took) in calls.iter().filter(|(made, _)| *made >= fault) {
            let number = made.since(fault).as_nanos() / window.as_nanos();
            windows.entry(number).or_default().push(took.unwrap_or(Duration::MAX));
        }
        let broken = windows.iter().filter(|(_, took)| !Slo::percentile(95.0, PROMISED).report(took).holds());
        broken.map(|(number, _)| window * (*number as u32 + 1)).max().unwrap_or_default()
    }

    fn failed(&self) -> usize {
        self.calls.lock().unwrap().iter().filter(|(_, took)| took.is_none()).count()
    }
}

fn is_on(site: &Site, on: &NodeId) -> bool {
    site.fabric.status(&name("f")).iter().any(|status| status.node == *on && status.running > 0)
}

#[tokio::test]
async fn a_function_leaves_a_node_that_becomes_slow_and_keeps_its_promise_again_within_five_seconds() {
    let site = Site::new(true).await;
    site.deploy(p95()).await;
    site.load(MS * 2000).await;
    assert!(is_on(&site, &node("near")));
    site.takes[0].store(70, Ordering::SeqCst);
    let fault = site.clock.now();
    site.load(MS * 8000).await;
    let broken = site.broken_for(fault);
    assert!(broken > Duration::ZERO && broken <= MS * 5000, "broken for {broken:?}");
    assert_eq!(site.failed(), 0);
}

#[tokio::test]
async fn without_anybody_who_keeps_promises_it_stays_on_the_slow_node() {
    let site = Site::new(false).await;
    site.deploy(Objectives::none()).await;
    site.load(MS * 1000).await;
    site.takes[0].store(70, Ordering::SeqCst);
    let fault = site.clock.now();
    site.load(MS * 8000).await;
    assert!(site.broken_for(fault) >= MS * 7500, "{:?}", site.broken_for(fault));
}

#[tokio::test]
async fn a_node_that_dies_under_load_costs_no_call_and_the_promise_is_kept_again_within_five_seconds() {
    let site = Site::new(true).await;
    site.deploy(p95()).await;
    site.load(MS * 2000).await;
    site.network.set_link(&node("camera"), &node("near"), LinkState::Cut).unwrap();
    let fault = site.clock.now();
    site.load(MS * 6000).await;
    assert!(site.broken_for(fault) <= MS * 5000, "broken for {:?}", site.broken_for(fault));
    assert_eq!(site.failed(), 0);
}

/// A near node of which a second costs ten times what one of the far node does.
fn dear_near() -> [Rates; 2] {
    [1.0, 0.1].map(|money| Rates { money, joules: 5.0, carbon: 0.0 })
}

#[tokio::test]
async fn calls_go_to_the_cheaper_node_as_long_as_it_keeps_the_latency_that_is_promised() {
    let site = Site::priced(true, dear_near()).await;
    site.deploy(p95().cost(Money::from_units(0.005))).await;
    // A call costs 0.01 near and 0.001 far away, and is in time on both.
    site.load(MS * 2000).await;
    let before = site.fabric.bills()[0].1;
    site.load(MS * 2000).await;
    let cheap = site.fabric.bills()[0].1;
    let mean = (cheap.spent.money.units() - before.spent.money.units()) / (cheap.calls - before.calls) as f64;
    assert!(mean < 0.005, "{mean} a call");
    site.takes[1].store(70, Ordering::SeqCst);
    let fault = site.clock.now();
    site.load(MS * 8000).await;
    assert!(site.broken_for(fault) <= MS * 5000, "broken for {:?}", site.broken_for(fault));
    assert_eq!(site.failed(), 0);
}

#[tokio::test]
async fn without_a_promise_of_cost_calls_stay_on_the_near_node() {
    let site = Site::priced(true, dear_near()).await;
    site.deploy(p95()).await;
    site.load(MS * 2000).await;
    let bill = site.fabric.bills()[0].1;
    assert!(bill.spent.money.units() / bill.calls as f64 > 0.0099, "{bill:?}");
}

#[tokio::test]
async fn a_function_leaves_a_node_that_uses_more_energy_than_is_promised() {
    let rates = [20.0, 2.0].map(|joules| Rates { joules, ..Rates::default() });
    let site = Site::priced(true, rates).await;
    // A call uses 0.2 J near and 0.02 J far away.
    site.deploy(Objectives::none().energy(Energy::from_joules(0.1))).await;
    site.load(MS * 2000).await;
    let before = site.fabric.bills()[0].1;
    site.load(MS * 1000).await;
    let after = site.fabric.bills()[0].1;
    let mean = (after.spent.energy.joules() - before.spent.energy.joules()) / (after.calls - before.calls) as f64;
    assert!(mean < 0.1, "{mean} J a call");
}

#[tokio::test]
async fn a_receipt_says_what_the_call_came_to_where_it_ran() {
    let site = Site::priced(false, dear_near()).await;
    site.deploy(Objectives::none()).await;
    let call = tokio::spawn({
        let fabric = site.fabric.clone();
        async move { fabric.call(&name("f"), "x").await }
    });
    while !call.is_finished() {
        site.step().await;
    }
    let receipt = call.await.unwrap().unwrap().receipt;
    assert_eq!(receipt.node, node("near"));
    let cpu = receipt.usage.cpu.as_secs_f64();
    assert!(cpu >= 0.01);
    assert!(
        (receipt.spent.money.units() - cpu).abs() < 1e-8 && (receipt.spent.energy.joules() - 5.0 * cpu).abs() < 1e-5
    );
    assert_eq!(site.fabric.bills()[0].1.spent, receipt.spent);
}

#[tokio::test]
async fn what_nobody_keeps_is_not_promised() {
    let site = Site::new(false).await;
    let promised = native("f", "work").objectives(Objectives::none().availability(Share::from_percent(99.0)));
    let error = site.fabric.deploy(promised).await.unwrap_err();
    assert!(matches!(error, DeployError::NoSlo { .. }), "{error}");
    site.deploy(Objectives::none()).await;
    let workflow = Workflow::new(Name::new("w").unwrap()).then(name("f")).objectives(p95());
    let error = site.fabric.deploy_workflow(workflow).unwrap_err();
    assert!(matches!(error, WorkflowError::Objectives { .. }), "{error}");
}

#[tokio::test]
async fn scaling_to_zero_and_back_under_bursts_loses_no_call() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let fabric = alone(&stage, |builder| {
        let settings = || KpaSettings { stable_window: 2, panic_window: 1, grace: MS * 500, ..KpaSettings::slots() };
        builder.clock(Arc::new(clock.clone())).autoscaler(move |_| Box::new(Kpa::new(settings())))
    });
    fabric.deploy(native("f", "echo")).await.unwrap();
    let (mut slept, mut made) = (0, 0);
    for burst in 0..80_u32 {
        // Some bursts come while the function falls asleep, some long after.
        for _ in 0..(burst * 13 % 90) {
            clock.advance(MS * 50);
            settle().await;
        }
        slept += u32::from(fabric.status(&name("f"))[0].lifecycle == Lifecycle::Dormant);
        let calls: Vec<_> = (0..100).map(|_| spawn(&fabric, to(&fabric, "f"))).collect();
        for call in calls {
            while !call.is_finished() {
                clock.advance(MS);
                settle().await;
            }
            call.await.unwrap().expect("no call is lost");
            made += 1;
        }
    }
    assert!(slept > 10 && slept < 70, "asleep before {slept} of 80 bursts");
    assert_eq!(fabric.bills()[0].1.calls, made);
    assert_eq!(fabric.bills()[0].1.failures, 0);
}

/// Says that one call is expected at a time, and keeps nothing otherwise.
#[derive(Debug)]
struct Expects(Timestamp);

impl scf_core::Autoscaler for Expects {
    fn desired(&mut self, load: &Load) -> u32 {
        let is_expected = load.now >= self.0 && load.now.since(self.0) < MS * 1000;
        load.in_flight().max(u32::from(is_expected))
    }

    fn wakes_at(&self) -> Option<Timestamp> {
        Some(self.0)
    }
}

#[tokio::test]
async fn a_dormant_function_wakes_when_its_autoscaler_expects_a_call() {
    let (stage, clock) = (Stage::new(), ManualClock::new());
    let at = Timestamp::default() + MS * 5000;
    let fabric =
        alone(&stage, |builder| builder.clock(Arc::new(clock.clone())).autoscaler(move |_| Box::new(Expects(at))));
    let warm = scf_core::Reuse::Warm { max_idle: 1, max_calls: 10, max_age: Duration::from_secs(60) };
    fabric.deploy(native("f", "echo").reuse(warm)).await.unwrap();
    fabric.call(&name("f"), "x").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..80 {
        clock.advance(MS * 100);
        settle().await;
        seen.push((clock.now(), fabric.status(&name("f"))[0].lifecycle));
    }
    let is_ready_at = |ms: u64| {
        seen.iter().find(|(now, _)| *now >= Timestamp::default() + MS * ms as u32).unwrap().1 == Lifecycle::Ready
    };
    assert_eq!((is_ready_at(3000), is_ready_at(5300), is_ready_at(7000)), (false, true, false), "{seen:?}");
}
