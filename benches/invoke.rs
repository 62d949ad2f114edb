//! Calls through the fabric beside bare wasmtime: `cargo bench --bench invoke`, with `-- --quick` for less.
//!
//! The arms of a figure run interleaved in this process, on the same component, with the same pool, interruption
//! and limits; a figure is the ratio of the arms' quantiles.

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::Criterion;
use scf::{
    core::{Function, FunctionName, Name, Payload},
    runtime::{Fabric, NativeFactory},
};
use wasmtime::{
    Config, Enabled, Engine, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
    component::{Component, ComponentExportIndex, InstancePre, Linker},
};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
const INPUT: [u8; 16] = [7; 16];
const POOL: u32 = 256;
const MEMORY: usize = 64 << 20;

/// The component on wasmtime alone, set up as the fabric sets it up.
struct Bare {
    engine: Engine,
    pre: InstancePre<StoreLimits>,
    export: ComponentExportIndex,
}

impl Bare {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(POOL)
            .total_core_instances(POOL * 4)
            .total_memories(POOL)
            .total_tables(POOL * 2)
            .total_stacks(POOL)
            .max_memory_size(MEMORY)
            .table_elements(10_000)
            .linear_memory_keep_resident(128 << 10)
            .table_keep_resident(4 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .allocation_strategy(pool)
            .memory_reservation(MEMORY as u64)
            .memory_guard_size(64 << 10)
            .memory_may_move(false)
            .max_wasm_stack(256 << 10)
            .async_stack_size(512 << 10)
            .epoch_interruption(true)
            .concurrency_support(false);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, std::fs::read(ECHO)?)?;
        let export = component.get_export_index(None, "echo").ok_or("the component exports echo")?;
        let pre = Linker::new(&engine).instantiate_pre(&component)?;
        Ok(Self { engine, pre, export })
    }

    /// One fresh instance, one call.
    fn cold(&self) -> wasmtime::Result<Vec<u8>> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY).instances(4).build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(1_000_000);
        let instance = self.pre.instantiate(&mut store)?;
        let echo = instance.get_typed_func::<(&[u8],), (Result<Vec<u8>, String>,)>(&mut store, self.export)?;
        echo.call(&mut store, (&INPUT,))?.0.map_err(wasmtime::Error::msg)
    }
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64()
}

/// A fabric with the component `echo` and the native function `native`.
async fn fabric() -> Result<(Fabric, FunctionName, FunctionName), Box<dyn Error>> {
    let native = NativeFactory::new().with_sync("native", Ok)?;
    let fabric = scf::fabric()?.isolates(Arc::new(native)).build()?;
    let (echo, native) = (FunctionName::new("echo")?, FunctionName::new("native")?);
    fabric.deploy(Function::component(echo.clone(), std::fs::read(ECHO)?, "echo")).await?;
    fabric.deploy(Function::native(native.clone(), Name::new("native")?)).await?;
    Ok((fabric, echo, native))
}

/// Calls per second of `callers` tasks that call `echo` one call after the other.
async fn throughput(fabric: &Fabric, echo: &FunctionName, callers: usize, each: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (fabric, echo) = (fabric.clone(), echo.clone());
            tokio::spawn(async move {
                for _ in 0..each {
                    fabric.call(&echo, Payload::new(INPUT.to_vec())).await?;
                }
                Ok::<_, scf::core::InvokeError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok((callers * each) as f64 / start.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 4_000 } else { 40_000 };
    let bare = Bare::new()?;
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (fabric, echo, native) = one.block_on(fabric())?;
    let payload = Payload::new(INPUT.to_vec());
    let call = |name: &FunctionName| one.block_on(fabric.call(name, payload.clone())).expect("the call succeeds");
    assert_eq!(bare.cold()?, INPUT);
    assert_eq!(&call(&echo).payload.bytes[..], INPUT);

    let (mut alone, mut ours, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    one.block_on(async {
        for round in 0..rounds + rounds / 10 {
            let start = Instant::now();
            black_box(bare.cold()?);
            let after_bare = start.elapsed();
            black_box(fabric.call(&echo, payload.clone()).await?);
            let after_echo = start.elapsed();
            black_box(fabric.call(&native, payload.clone()).await?);
            let after_native = start.elapsed();
            if round >= rounds / 10 {
                alone.push(after_bare);
                ours.push(after_echo - after_bare);
                warm.push(after_native - after_echo);
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut ours, share) / quantile(&mut alone, share));
    figure("invoke.cold.vs_bare", p50, "ratio", rounds);
    figure("invoke.cold.p99.vs_bare", p99, "ratio", rounds);
    figure("invoke.native.warm_us", quantile(&mut warm, 0.5) * 1e6, "us", rounds);
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("bare wasmtime, fresh instance", |b| b.iter(|| bare.cold()));
    criterion.bench_function("fabric, fresh instance", |b| b.iter(|| call(&echo)));
    criterion.bench_function("fabric, native", |b| b.iter(|| call(&native)));
    drop(fabric);

    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scaling = many.block_on(async {
        let (fabric, echo, _) = self::fabric().await?;
        let mut ratios = Vec::new();
        for _ in 0..5 {
            let one = throughput(&fabric, &echo, 1, rounds / 4).await?;
            ratios.push(throughput(&fabric, &echo, 8, rounds / 8).await? / one);
        }
        ratios.sort_by(f64::total_cmp);
        Ok::<_, Box<dyn Error>>(ratios[ratios.len() / 2])
    })?;
    figure("invoke.parallel.scaling", scaling, "ratio", rounds);
    Ok(())
}
