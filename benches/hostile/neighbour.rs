//! What a neighbour notices of guests that never return.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use scf::{
    core::{ByteSize, Function, FunctionName, Limits, TenantName},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};
use tokio::runtime::Runtime;

use super::{Result, Setup, quantile, suite::spins};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
/// Endless loops at the same time.
const SPINNING: usize = 64;
/// How long the neighbour calls before it changes between alone and beside.
const WINDOW: Duration = Duration::from_millis(250);
/// What the hostile guests are given to settle down.
const SETTLE: Duration = Duration::from_millis(50);
/// Between two calls of the neighbour, in microseconds: as requests of a network come, one after the other.
const BETWEEN: std::ops::Range<u64> = 200..1200;

/// Prints the ratio of the neighbour's p99 beside hostile guests and alone, both in microseconds, and the number of
/// calls beside.
///
/// A call begins when it is handed to the runtime by a thread that is none of it, as a request that arrives does,
/// and ends when its outcome is there: waiting for a thread of the runtime counts.
pub(crate) fn child(Setup { cores, quick }: Setup) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let (fabric, echo, spins) = runtime.block_on(site())?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    calls(&runtime, &fabric, &echo, &mut seed)?;
    for _ in 0..if quick { 6 } else { 40 } {
        alone.extend(calls(&runtime, &fabric, &echo, &mut seed)?);
        let stop = Arc::new(AtomicBool::new(false));
        let hostile: Vec<_> = (0..SPINNING)
            .map(|_| {
                let (fabric, spins, stop) = (fabric.clone(), spins.clone(), Arc::clone(&stop));
                runtime.spawn(async move {
                    while !stop.load(Relaxed) {
                        // Ended by its CPU budget.
                        let ended = fabric.call(&spins, "").await;
                        assert!(ended.is_err(), "a loop without end ended");
                    }
                })
            })
            .collect();
        thread::sleep(SETTLE);
        beside.extend(calls(&runtime, &fabric, &echo, &mut seed)?);
        stop.store(true, Relaxed);
        hostile.iter().for_each(tokio::task::JoinHandle::abort);
        runtime.block_on(futures::future::join_all(hostile));
        thread::sleep(SETTLE);
    }
    let n = beside.len();
    let [alone, beside] = [&mut alone, &mut beside].map(|times| quantile(times, 0.99) * 1e6);
    println!("{} {alone} {beside} {n}", beside / alone);
    Ok(())
}

/// A fabric with a neighbour and a function that never returns, of different tenants.
async fn site() -> Result<(Fabric, FunctionName, FunctionName)> {
    let wasm = WasmFactory::builder().instances(256).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    let echo = Function::component(FunctionName::new("neighbour")?, std::fs::read(ECHO)?, "echo")
        .tenant(TenantName::new("neighbour")?);
    let limits = Limits {
        concurrency: SPINNING as u32,
        cpu: Duration::from_millis(200),
        memory: ByteSize::from_mib(1),
        ..Limits::default()
    };
    let spins = spins().tenant(TenantName::new("stranger")?).limits(limits);
    let names = (echo.name.clone(), spins.name.clone());
    fabric.deploy(echo).await?;
    fabric.deploy(spins).await?;
    Ok((fabric, names.0, names.1))
}

/// Calls of the neighbour for a window, and how long each took.
fn calls(runtime: &Runtime, fabric: &Fabric, echo: &FunctionName, seed: &mut u64) -> Result<Vec<Duration>> {
    let (sender, done) = mpsc::channel();
    let end = Instant::now() + WINDOW;
    let mut times = Vec::new();
    while Instant::now() < end {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        thread::sleep(Duration::from_micros(BETWEEN.start + *seed % (BETWEEN.end - BETWEEN.start)));
        let (fabric, echo, sender) = (fabric.clone(), echo.clone(), sender.clone());
        let begun = Instant::now();
        runtime.spawn(async move {
            let outcome = fabric.call(&echo, "still here?").await;
            // Received below.
            let _ = sender.send((begun.elapsed(), outcome));
        });
        let (took, outcome) = done.recv()?;
        if &outcome?.payload.bytes[..] != b"still here?" {
            return Err("the neighbour gave something else".into());
        }
        times.push(took);
    }
    Ok(times)
}
