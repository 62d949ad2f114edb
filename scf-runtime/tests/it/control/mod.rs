//! The functions controller as those who embed a fabric meet it.

mod admission;
mod devices;
mod lifecycle;
mod metering;
mod objectives;
mod operate;
mod placement;
mod revisions;
mod runs;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use scf_core::{
    Callee, ClusterView, Function, Invocation, Name, Placement, PlacementRequest, ScheduleError, Scheduler, TenantName,
};
use scf_runtime::{Fabric, FabricBuilder, NativeError, NativeFactory};
use tokio::sync::Semaphore;

use crate::support::name;

/// Places where the call is made, or on the first node that will do.
#[derive(Debug)]
struct Here;

impl Scheduler for Here {
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let will_do = |status: &&scf_core::NodeStatus| {
            request.function.needs.allow(&status.node) && status.health == scf_core::Health::Ready
        };
        let here = view.nodes().iter().filter(will_do).find(|status| status.node.id == *request.from);
        let chosen = here.or_else(|| view.nodes().iter().find(will_do));
        let considered = view.nodes().len() as u32;
        let status = chosen.ok_or(ScheduleError::Unplaceable { considered, refused: Vec::new() })?;
        Ok(Placement { node: status.node.id.clone(), version: status.version })
    }
}

/// Native functions and what tests steer them with.
#[derive(Clone, Debug)]
struct Stage {
    /// Calls of `gate` wait here until they are let through.
    gate: Arc<Semaphore>,
    /// Calls of `gate` that began.
    entered: Arc<AtomicU32>,
    /// Calls of `gate` inside now, and at most at the same time.
    inside: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
}

impl Stage {
    fn new() -> Self {
        let zero = || Arc::new(AtomicU32::new(0));
        Self { gate: Arc::new(Semaphore::new(0)), entered: zero(), inside: zero(), most: zero() }
    }

    fn entered(&self) -> u32 {
        self.entered.load(Ordering::SeqCst)
    }

    /// `echo` gives what it is given; `gate` waits; `burn` uses milliseconds of CPU, a decimal, gives them back and
    /// fails as its input says; `outer` calls `inner`.
    fn natives(&self) -> NativeFactory {
        let stage = self.clone();
        NativeFactory::new()
            .with_sync("echo", Ok)
            .unwrap()
            .with("gate", move |_, input| {
                let stage = stage.clone();
                Box::pin(async move {
                    stage.entered.fetch_add(1, Ordering::SeqCst);
                    let inside = Leaves::enter(&stage.inside);
                    stage.most.fetch_max(inside.0.load(Ordering::SeqCst), Ordering::SeqCst);
                    stage.gate.acquire().await.expect("the gate is never closed").forget();
                    Ok(input)
                })
            })
            .unwrap()
            .with("burn", |_, input| {
                Box::pin(async move {
                    let text = String::from_utf8_lossy(&input.bytes).into_owned();
                    let (millis, end) = text.split_once(' ').unwrap_or((&text, ""));
                    burn(Duration::from_millis(millis.parse().unwrap()));
                    match end {
                        "panics" => panic!("as it was told"),
                        "refuses" => Err(NativeError::refused("as it was told")),
                        "hangs" => std::future::pending().await,
                        _ => Ok(input),
                    }
                })
            })
            .unwrap()
            .with("outer", |call, payload| {
                Box::pin(async move {
                    let callee = Callee { function: name("inner"), node: None, key: None, payload };
                    call.invoke(callee).await
                })
            })
            .unwrap()
    }
}

/// Counts one inside for as long as it lives.
struct Leaves<'a>(&'a AtomicU32);

impl<'a> Leaves<'a> {
    fn enter(inside: &'a AtomicU32) -> Self {
        inside.fetch_add(1, Ordering::SeqCst);
        Self(inside)
    }
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Uses CPU time of this thread.
fn burn(cpu: Duration) {
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let start = used();
    while used() - start < cpu {
        std::hint::spin_loop();
    }
}

fn native(function: &str, entry: &str) -> Function {
    Function::native(name(function), Name::new(entry).unwrap())
}

fn tenant(text: &str) -> TenantName {
    TenantName::new(text).unwrap()
}

/// One node with the natives of `stage`.
fn alone(stage: &Stage, with: impl FnOnce(FabricBuilder) -> FabricBuilder) -> Fabric {
    with(Fabric::builder().scheduler(Arc::new(Here)).isolates(Arc::new(stage.natives()))).build().unwrap()
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A call in the background.
fn spawn(
    fabric: &Fabric,
    invocation: Invocation,
) -> tokio::task::JoinHandle<Result<scf_core::Outcome, scf_core::InvokeError>> {
    let fabric = fabric.clone();
    tokio::spawn(async move { fabric.invoke(invocation).await })
}

fn to(fabric: &Fabric, function: &str) -> Invocation {
    Invocation::new(fabric.new_id(), name(function), "x")
}
