//! Promises kept through faults: `cargo bench -p scf-runtime --bench recover`, with `-- --quick` for less.
//!
//! A camera calls a native function 200 times a second, of which 95 % are promised within 50 ms. It runs on one of two
//! gateways, over links inside the process, until that one becomes seven times slower, or is cut off. Measured is how
//! long after the fault a half second passes for the last time in which fewer than 95 % kept the time; the larger of
//! both faults counts. The baseline is the same fabric without anybody who keeps promises.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use scf_core::{Bandwidth, Function, FunctionName, Link, Name, Node, NodeId, Objectives, Slo, Tier};
use scf_runtime::{
    Fabric, NativeFactory, SystemClock,
    transport::{InProcess, LinkState},
};
use scf_sched::{Pipeline, SloKeeper};

const PROMISED: Duration = Duration::from_millis(50);
const WINDOW: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Slow,
    Cut,
}

/// What was seen of a run: for how long the promise was broken, and calls that failed.
struct Seen {
    broken: Duration,
    failed: usize,
    calls: usize,
}

/// When a call was made and what it took, if it succeeded.
type Calls = Arc<Mutex<Vec<(Instant, Option<Duration>)>>>;

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn natives(takes: &Arc<[AtomicU64; 2]>) -> Result<NativeFactory, Box<dyn Error>> {
    let (takes, far) = (Arc::clone(takes), NodeId::new("far")?);
    Ok(NativeFactory::new().with("work", move |call, input| {
        let on = usize::from(call.call().host.node().id == far);
        let time = Duration::from_millis(takes[on].load(Ordering::SeqCst));
        Box::pin(async move {
            tokio::time::sleep(time).await;
            Ok(input)
        })
    })?)
}

async fn load(fabric: &Fabric, function: &FunctionName, calls: &Calls, time: Duration) {
    let mut ticks = tokio::time::interval(EVERY);
    let end = Instant::now() + time;
    while Instant::now() < end {
        ticks.tick().await;
        let (fabric, function, calls) = (fabric.clone(), function.clone(), Arc::clone(calls));
        tokio::spawn(async move {
            let made = Instant::now();
            let took = fabric.call(&function, "x").await.ok().map(|_| made.elapsed());
            calls.lock().unwrap_or_else(PoisonError::into_inner).push((made, took));
        });
    }
}

async fn run(fault: Fault, keeps_promises: bool, before: Duration, after: Duration) -> Result<Seen, Box<dyn Error>> {
    let (camera, near, far) = (NodeId::new("camera")?, NodeId::new("near")?, NodeId::new("far")?);
    let clock = Arc::new(SystemClock::new());
    let link = |ms| Link { latency: Duration::from_millis(ms), bandwidth: Bandwidth::from_mbit_per_s(1000) };
    let network = InProcess::builder()
        .link(camera.clone(), near.clone(), link(1))
        .link(camera.clone(), far.clone(), link(8))
        .build(clock.clone())?;
    let network = Arc::new(network);
    let takes = Arc::new([AtomicU64::new(10), AtomicU64::new(10)]);
    let mut builder = Fabric::builder()
        .clock(clock)
        .seed(7)
        .scheduler(Arc::new(Pipeline::default()))
        .isolates(Arc::new(natives(&takes)?))
        .transport(network.clone());
    for id in [&camera, &near, &far] {
        builder = builder.node(Node::new(id.clone(), Tier::Edge));
    }
    let function = FunctionName::new("work")?;
    let mut work = Function::native(function.clone(), Name::new("work")?).on([near.clone(), far.clone()]);
    if keeps_promises {
        builder = builder.slo(Arc::new(SloKeeper::default()));
        work = work.objectives(Objectives::none().latency(Slo::percentile(95.0, PROMISED)));
    }
    let fabric = builder.build()?;
    fabric.ready().await;
    fabric.deploy(work).await?;
    let calls = Calls::default();
    load(&fabric, &function, &calls, before).await;
    let broke = Instant::now();
    match fault {
        Fault::Slow => takes[0].store(70, Ordering::SeqCst),
        Fault::Cut => network.set_link(&camera, &near, LinkState::Cut)?,
    }
    load(&fabric, &function, &calls, after).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
    let mut windows: BTreeMap<u128, Vec<Duration>> = BTreeMap::new();
    // Whole windows only: in the rest of one a single late call would be too many.
    for (made, took) in calls.iter().filter(|(made, _)| *made >= broke && *made < broke + after) {
        let number = made.duration_since(broke).as_nanos() / WINDOW.as_nanos();
        windows.entry(number).or_default().push(took.unwrap_or(Duration::MAX));
    }
    let is_broken = |took: &[Duration]| !Slo::percentile(95.0, PROMISED).report(took).holds();
    let last = windows.iter().filter(|(_, took)| is_broken(took)).map(|(number, _)| *number as u32 + 1).max();
    let failed = calls.iter().filter(|(_, took)| took.is_none()).count();
    Ok(Seen { broken: WINDOW * last.unwrap_or(0), failed, calls: calls.len() })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let (rounds, before, after) = if quick { (1, 1, 4) } else { (5, 2, 8) };
    let (before, after) = (Duration::from_secs(before), Duration::from_secs(after));
    let (mut worst, mut without, mut failed, mut calls) = (Duration::ZERO, Duration::ZERO, 0, 0);
    for _ in 0..rounds {
        for fault in [Fault::Slow, Fault::Cut] {
            let seen = run(fault, true, before, after).await?;
            eprintln!("{fault:?}: broken for {:?}, {} of {} calls failed", seen.broken, seen.failed, seen.calls);
            worst = worst.max(seen.broken);
            failed += seen.failed;
            calls += seen.calls;
            without = without.max(run(fault, false, before, after).await?.broken);
        }
    }
    figure("slo.recover_s", worst.as_secs_f64(), "s", rounds * 2);
    figure("slo.recover_s.without", without.as_secs_f64(), "s", rounds * 2);
    figure("slo.recover_lost", failed as f64, "calls", calls);
    Ok(())
}
