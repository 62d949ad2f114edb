//! How long a guest that spins outlives its CPU budget.

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

/// Prints p50 and p99 of the time beyond the budget, in ticks, and the number of kills.
///
/// One guest at a time: what passes is what it uses.
pub(crate) fn child(Setup { cores, quick }: Setup) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build()?;
    let rounds = if quick { 60 } else { 400 };
    let mut past = Vec::new();
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
                // On a thread of the runtime, as calls of a server are.
                let fabric = fabric.clone();
                let killed = tokio::spawn(async move {
                    let start = Instant::now();
                    let end = fabric.call(&name, "").await;
                    (start.elapsed(), end)
                });
                let (took, end) = killed.await?;
                if !matches!(end, Err(InvokeError::Limit { limit: LimitKind::Cpu, .. })) {
                    return Err(format!("a guest that spins: {end:?}").into());
                }
                past.push(took.saturating_sub(limits.cpu));
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut past, share) / TICK.as_secs_f64());
    println!("{p50} {p99} {}", past.len());
    Ok(())
}
