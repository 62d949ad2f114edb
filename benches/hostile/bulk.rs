//! How far bulk operations, which nothing interrupts, go beyond a CPU budget.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scf::{
    core::{ByteSize, Function, InvokeError, Limits},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

use super::{Result, guest, quantile};

/// The budget that the first fill exceeds.
const BUDGET: Duration = Duration::from_millis(1);

/// Prints, per size of memory, how far a guest that fills all of its memory in a loop goes beyond its CPU budget at
/// worst: where that is over in the first fill, of memory that is not there yet, and in a later one.
pub(crate) fn table(quick: bool) -> Result<()> {
    let sizes: &[u64] = if quick { &[1, 16, 64] } else { &[1, 16, 64, 256, 1024] };
    let rounds = if quick { 5 } else { 20 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    eprintln!("a loop of memory.fill beyond its CPU budget, worst of {rounds}");
    eprintln!("{:>9}  {:>10}  {:>10}", "memory", "cold", "warm");
    for &mib in sizes {
        let [cold, warm] = runtime.block_on(overruns(mib, rounds))?;
        eprintln!("{mib:>5} MiB  {:>7.1} ms  {:>7.1} ms", cold * 1e3, warm * 1e3);
    }
    Ok(())
}

/// The longest overruns of a first fill and of a later one, in seconds.
async fn overruns(mib: u64, rounds: usize) -> Result<[f64; 2]> {
    let bytes = ByteSize::from_mib(mib);
    let wasm = WasmFactory::builder().instances(1).memory(bytes).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    let fill = format!("(memory.fill (i32.const 0) (i32.const 7) (i32.const {}))", bytes.bytes() as u32);
    let fills = guest("fills", mib * 16, &format!("(loop $again {fill} (br $again))"))?;
    let cold = worst(&fabric, &fills, bytes, BUDGET, rounds).await?;
    // Over in the fourth fill or so: where in it differs from call to call.
    let warm = worst(&fabric, &fills, bytes, BUDGET + Duration::from_secs_f64(2.0 * cold), rounds).await?;
    Ok([cold, warm])
}

async fn worst(fabric: &Fabric, fills: &Function, memory: ByteSize, cpu: Duration, rounds: usize) -> Result<f64> {
    fabric
        .deploy(fills.clone().limits(Limits { cpu, memory, wall: Duration::from_secs(60), ..Limits::default() }))
        .await?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        let end = fabric.call(&fills.name, "").await;
        if !matches!(end, Err(InvokeError::Limit { .. })) {
            return Err(format!("a guest that fills its memory: {end:?}").into());
        }
        times.push(start.elapsed().saturating_sub(cpu));
    }
    Ok(quantile(&mut times, 1.0))
}
