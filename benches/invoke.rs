//! Calls through the fabric beside bare wasmtime: `cargo bench --bench invoke`, with `-- --quick` for less.
//!
//! The arms of a figure run interleaved in this process, on the same component, with the same pool, interruption
//! and limits; a figure is the ratio or the difference of the arms' quantiles.
#![expect(unsafe_code, reason = "an allocator that counts is how copies are counted")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    error::Error,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use criterion::Criterion;
use scf::{
    core::{Function, FunctionName, Name, Payload, Reuse},
    runtime::{Fabric, NativeFactory},
};
use wasmtime::{
    Config, Enabled, Engine, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline,
    component::{Component, ComponentExportIndex, InstancePre, Linker, TypedFunc},
};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
const INPUT: [u8; 16] = [7; 16];
const POOL: u32 = 256;
const MEMORY: usize = 64 << 20;
/// Size of the payload of which the copies are counted.
const LARGE: usize = 64 << 10;

/// Counts the allocations that a large payload would fit into.
struct Counting;

static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator, with a counter beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

type Echo = TypedFunc<(&'static [u8],), (Result<Vec<u8>, String>,)>;

/// The component on wasmtime alone, set up as the fabric sets it up.
#[derive(Clone)]
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
            .memory_reservation(65 << 20)
            .memory_guard_size(0)
            .memory_may_move(false)
            .signals_based_traps(false)
            .max_wasm_stack(256 << 10)
            .async_stack_size(512 << 10)
            .async_stack_zeroing(false)
            .epoch_interruption(true)
            .concurrency_support(false);
        let engine = Engine::new(&config)?;
        let component = Component::new(&engine, std::fs::read(ECHO)?)?;
        let export = component.get_export_index(None, "echo").ok_or("the component exports echo")?;
        let pre = Linker::new(&engine).instantiate_pre(&component)?;
        Ok(Self { engine, pre, export })
    }

    fn store(&self) -> Store<StoreLimits> {
        let limits = StoreLimitsBuilder::new().memory_size(MEMORY).instances(4).build();
        let mut store = Store::new(&self.engine, limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }

    /// One fresh instance, one call.
    async fn cold(&self) -> wasmtime::Result<Vec<u8>> {
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await?;
        let echo: Echo = instance.get_typed_func(&mut store, self.export)?;
        echo.call_async(&mut store, (&INPUT,)).await?.0.map_err(wasmtime::Error::msg)
    }

    /// The same on the caller's stack, where nothing can interrupt and go on with it.
    fn cold_sync(&self) -> wasmtime::Result<Vec<u8>> {
        let mut store = self.store();
        store.set_epoch_deadline(1_000_000);
        let instance = self.pre.instantiate(&mut store)?;
        let echo: Echo = instance.get_typed_func(&mut store, self.export)?;
        echo.call(&mut store, (&INPUT,))?.0.map_err(wasmtime::Error::msg)
    }

    /// An instance that is called again and again.
    async fn warm(&self) -> wasmtime::Result<Warm> {
        let mut store = self.store();
        let instance = self.pre.instantiate_async(&mut store).await?;
        let echo = instance.get_typed_func(&mut store, self.export)?;
        Ok(Warm { store, echo })
    }
}

struct Warm {
    store: Store<StoreLimits>,
    echo: Echo,
}

impl Warm {
    async fn call(&mut self) -> wasmtime::Result<Vec<u8>> {
        self.echo.call_async(&mut self.store, (&INPUT,)).await?.0.map_err(wasmtime::Error::msg)
    }
}

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn quantile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The deployed functions: a component with a fresh instance for each call, the same with instances that are kept,
/// a native one.
struct Names {
    echo: FunctionName,
    kept: FunctionName,
    native: FunctionName,
}

async fn fabric() -> Result<(Fabric, Names), Box<dyn Error>> {
    let native = NativeFactory::new().with_sync("native", Ok)?;
    let fabric = scf::fabric()?.isolates(Arc::new(native)).build()?;
    let name = FunctionName::new;
    let names = Names { echo: name("echo")?, kept: name("kept")?, native: name("native")? };
    let component = std::fs::read(ECHO)?;
    let forever = Reuse::Warm { max_idle: 16, max_calls: u32::MAX, max_age: Duration::MAX };
    fabric.deploy(Function::component(names.echo.clone(), component.clone(), "echo")).await?;
    fabric.deploy(Function::component(names.kept.clone(), component, "echo").reuse(forever)).await?;
    fabric.deploy(Function::native(names.native.clone(), Name::new("native")?)).await?;
    Ok((fabric, names))
}

/// Calls per second of `callers` tasks that make one call after the other.
async fn throughput<C, F>(callers: usize, each: usize, call: C) -> f64
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let start = Instant::now();
    let caller = |_| {
        let call = call.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                call().await;
            }
        })
    };
    for task in (0..callers).map(caller).collect::<Vec<_>>() {
        task.await.expect("the calls succeed");
    }
    (callers * each) as f64 / start.elapsed().as_secs_f64()
}

/// Some microseconds of work that shares nothing.
fn compute() {
    let mut sums = [1_u64; 8];
    for round in 0..2000 {
        for (place, sum) in (0..).zip(&mut sums) {
            *sum = sum.wrapping_mul(31).wrapping_add(round ^ place);
        }
    }
    black_box(sums);
}

/// Throughput of eight callers over that of one.
async fn scaling<C, F>(each: usize, call: C) -> f64
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let one = throughput(1, each, call.clone()).await;
    throughput(8, each / 2, call).await / one
}

fn invokes(fabric: &Fabric, name: &FunctionName) -> impl Fn() -> CallFuture + Clone + Send + 'static {
    let (fabric, name) = (fabric.clone(), name.clone());
    move || {
        let (fabric, name) = (fabric.clone(), name.clone());
        Box::pin(async move {
            black_box(fabric.call(&name, Payload::new(&INPUT[..])).await.expect("the call succeeds"));
        })
    }
}

type CallFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Copies of a large payload in one call: into the guest, and as often as memory of its size is allocated.
async fn copies(fabric: &Fabric, name: &FunctionName) -> Result<usize, Box<dyn Error>> {
    let input = Payload::new(vec![7; LARGE]);
    drop(fabric.call(name, input.clone()).await?);
    let before = LARGE_ALLOCATIONS.load(Relaxed);
    let output = fabric.call(name, input.clone()).await?.payload;
    let allocations = LARGE_ALLOCATIONS.load(Relaxed) - before;
    assert_eq!(output.bytes, input.bytes);
    assert_ne!(output.bytes.as_ptr(), input.bytes.as_ptr());
    Ok(1 + allocations)
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 4_000 } else { 40_000 };
    let bare = Bare::new()?;
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (fabric, names) = one.block_on(fabric())?;
    let payload = Payload::new(INPUT.to_vec());
    let call = |name: &FunctionName| one.block_on(fabric.call(name, payload.clone())).expect("the call succeeds");
    assert_eq!(one.block_on(bare.cold())?, INPUT);
    assert_eq!(&call(&names.echo).payload.bytes[..], INPUT);
    assert!(call(&names.kept).receipt.cold);
    assert!(!call(&names.kept).receipt.cold);

    let mut arms: [Vec<Duration>; 5] = Default::default();
    one.block_on(async {
        let mut bare_warm = bare.warm().await?;
        // The fabric's cold calls have other instances beside them; the slot right after the first is some percent
        // faster than every other, and would be the bare arm's alone.
        let _beside = bare.warm().await?;
        for round in 0..rounds + rounds / 10 {
            let start = Instant::now();
            black_box(bare.cold().await?);
            let bare_cold = start.elapsed();
            black_box(fabric.call(&names.echo, payload.clone()).await?);
            let cold = start.elapsed();
            black_box(bare_warm.call().await?);
            let bare_kept = start.elapsed();
            black_box(fabric.call(&names.kept, payload.clone()).await?);
            let kept = start.elapsed();
            black_box(fabric.call(&names.native, payload.clone()).await?);
            let native = start.elapsed();
            if round >= rounds / 10 {
                let took = [bare_cold, cold - bare_cold, bare_kept - cold, kept - bare_kept, native - kept];
                arms.iter_mut().zip(took).for_each(|(arm, took)| arm.push(took));
            }
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    let [mut bare_cold, mut cold, mut bare_kept, mut kept, mut native] = arms;
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut cold, share) / quantile(&mut bare_cold, share));
    figure("invoke.cold.vs_bare", p50, "ratio", rounds);
    figure("invoke.cold.p99.vs_bare", p99, "ratio", rounds);
    let overhead = quantile(&mut kept, 0.5) - quantile(&mut bare_kept, 0.5);
    figure("invoke.warm.overhead_ns", overhead * 1e9, "ns", rounds);
    figure("invoke.native.warm_us", quantile(&mut native, 0.5) * 1e6, "us", rounds);
    for name in [&names.echo, &names.kept] {
        let copies = one.block_on(copies(&fabric, name))?;
        figure("invoke.payload.copies", copies as f64, "copies", 1);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut bare_warm = one.block_on(bare.warm())?;
    criterion.bench_function("bare wasmtime, fresh instance", |b| b.iter(|| one.block_on(bare.cold())));
    criterion.bench_function("bare wasmtime, fresh instance, without yielding", |b| b.iter(|| bare.cold_sync()));
    criterion.bench_function("fabric, fresh instance", |b| b.iter(|| call(&names.echo)));
    criterion.bench_function("bare wasmtime, kept instance", |b| b.iter(|| one.block_on(bare_warm.call())));
    criterion.bench_function("fabric, kept instance", |b| b.iter(|| call(&names.kept)));
    criterion.bench_function("fabric, native", |b| b.iter(|| call(&names.native)));
    drop((fabric, bare_warm));

    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ratios = many.block_on(async {
        let (fabric, names) = self::fabric().await?;
        let mut ratios: [Vec<f64>; 4] = Default::default();
        for _ in 0..5 {
            let bare = bare.clone();
            let bare_cold = move || {
                let bare = bare.clone();
                async move {
                    black_box(bare.cold().await.expect("the call succeeds"));
                }
            };
            ratios[0].push(scaling(rounds / 4, invokes(&fabric, &names.echo)).await);
            ratios[1].push(scaling(rounds / 4, invokes(&fabric, &names.kept)).await);
            ratios[2].push(scaling(rounds / 4, bare_cold).await);
            ratios[3].push(scaling(rounds / 4, || async { compute() }).await);
        }
        Ok::<_, Box<dyn Error>>(ratios.map(median))
    })?;
    figure("invoke.parallel.scaling", ratios[0], "ratio", rounds);
    let cores = std::thread::available_parallelism()?;
    let [_, kept, bare, work] = ratios;
    println!(
        "on {cores} cores: kept instances {kept:.2}, bare wasmtime with fresh ones {bare:.2}, work that shares nothing {work:.2}"
    );
    Ok(())
}
