//! How far bulk operations, which nothing interrupts, go beyond a CPU budget.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use scf::{
    core::{ByteSize, InvokeError, Limits},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

use super::{Result, guest, quantile};

const BUDGET: Duration = Duration::from_millis(1);

/// Prints, per size of memory, the time beyond a CPU budget of 1 ms of a guest that fills all of its memory at once:
/// a first time, and once more.
pub(crate) fn table(quick: bool) -> Result<()> {
    let sizes: &[u64] = if quick { &[1, 16, 64] } else { &[1, 16, 64, 256, 1024] };
    let rounds = if quick { 5 } else { 20 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    eprintln!("memory.fill beyond a CPU budget of 1 ms, p50 of {rounds}");
    eprintln!("{:>9}  {:>10}  {:>10}", "memory", "cold", "warm");
    for &mib in sizes {
        let [cold, warm] = runtime.block_on(overrun(mib, rounds))?;
        eprintln!("{mib:>5} MiB  {:>7.1} ms  {:>7.1} ms", cold * 1e3, warm * 1e3);
    }
    Ok(())
}

/// What a first fill and a second one take beyond the budget, in seconds.
async fn overrun(mib: u64, rounds: usize) -> Result<[f64; 2]> {
    let bytes = ByteSize::from_mib(mib);
    let wasm = WasmFactory::builder().instances(1).memory(bytes).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    let fill = format!("(memory.fill (i32.const 0) (i32.const 7) (i32.const {}))", bytes.bytes() as u32);
    let mut took = [0.0; 2];
    // One fill, of memory that is not there yet; and two, of which the second finds it there.
    for (place, fills) in [fill.clone(), format!("{fill} {fill}")].into_iter().enumerate() {
        let fills = format!("{fills} (loop $spin (br $spin))");
        let mut times = Vec::new();
        let name = format!("fills-{place}");
        let limits = Limits { cpu: BUDGET, memory: bytes, wall: Duration::from_secs(60), ..Limits::default() };
        let function = guest(&name, mib * 16, &fills)?.limits(limits);
        let name = function.name.clone();
        fabric.deploy(function).await?;
        for _ in 0..rounds {
            let start = Instant::now();
            let end = fabric.call(&name, "").await;
            if !matches!(end, Err(InvokeError::Limit { .. })) {
                return Err(format!("a guest that spins: {end:?}").into());
            }
            times.push(start.elapsed().saturating_sub(BUDGET));
        }
        took[place] = quantile(&mut times, 0.5);
    }
    Ok([took[0], took[1] - took[0]])
}
