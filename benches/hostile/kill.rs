//! How long a guest that spins outlives its CPU budget.
//!
//! The figure is what passes, from the call to its end, without the budget. Beside it stand how far the guest itself ran
//! beyond its budget, in CPU time, and for how long threads of this process waited for a core: on an idle machine hardly
//! at all, on another as long as what else runs lets them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scf::{
    core::{ByteSize, FunctionName, InvokeError, LimitKind, Limits},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

use super::{Result, Setup, quantile, suite::spins};

/// CPU budgets in milliseconds.
const BUDGETS: [u64; 5] = [1, 2, 5, 10, 20];
/// The tick that guests are interrupted by.
const TICK: Duration = Duration::from_millis(1);

/// Prints p50 and p99 of the time beyond the budget, p99 of the CPU time beyond it and of the time waited for a core, all
/// in ticks, and the number of kills.
///
/// One guest at a time: what passes is what it uses.
pub(crate) fn child(Setup { cores, quick }: Setup) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let rounds = if quick { 60 } else { 400 };
    let (mut past, mut ran, mut waited) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let wasm = WasmFactory::builder().instances(8).build()?;
        let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
        for round in 0..rounds {
            for budget in BUDGETS {
                let limits =
                    Limits { cpu: Duration::from_millis(budget), memory: ByteSize::from_mib(1), ..Limits::default() };
                let name = FunctionName::new(&format!("spins-{budget}"))?;
                let mut spins = spins().limits(limits);
                spins.name = name.clone();
                if round == 0 {
                    fabric.deploy(spins).await?;
                }
                let before = (billed(&fabric, &name), queued());
                // On a thread of the runtime, as calls of a server are.
                let (caller, called) = (fabric.clone(), name.clone());
                let killed = tokio::spawn(async move {
                    let start = Instant::now();
                    let end = caller.call(&called, "").await;
                    (start.elapsed(), end)
                });
                let (took, end) = killed.await?;
                if !matches!(end, Err(InvokeError::Limit { limit: LimitKind::Cpu, .. })) {
                    return Err(format!("a guest that spins: {end:?}").into());
                }
                past.push(took.saturating_sub(limits.cpu));
                ran.push((billed(&fabric, &name) - before.0).saturating_sub(limits.cpu));
                waited.push(queued().saturating_sub(before.1));
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut past, share) / TICK.as_secs_f64());
    let [ran, waited] = [&mut ran, &mut waited].map(|times| quantile(times, 0.99) / TICK.as_secs_f64());
    println!("{p50} {p99} {ran} {waited} {}", past.len());
    Ok(())
}

/// CPU time of the isolates of `name` so far.
fn billed(fabric: &Fabric, name: &FunctionName) -> Duration {
    fabric.bills().iter().find(|(function, _)| function == name).map(|(_, bill)| bill.cpu).unwrap_or_default()
}

/// For how long the threads of this process that are alive were ready to run and did not; zero where the system does
/// not say.
fn queued() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let queued = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
    });
    queued.sum()
}
