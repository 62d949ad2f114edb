//! The functions controller: `cargo bench --bench control`, with `-- --quick` for less.
//!
//! Metering: tasks of several tenants call short and long guests, natives, guests that are ended, natives that panic
//! and calls that are refused, on an executor of two threads. What all tenants are billed, guest and host, is held
//! against the CPU time that the operating system counts for this process over the same time, everything in it
//! included: the tasks, the executor, the clock and the ticker. Rejection: the CPU time of this thread over many
//! refused calls.

use std::{
    error::Error,
    hint::black_box,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use scf::{
    core::{Bytes, Function, FunctionName, Invocation, InvokeError, Limits, Name, Payload, Tenant, TenantName},
    runtime::{Bill, Fabric, NativeFactory},
};

const COMPONENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components");
const PHOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/assets/photos");
/// How many calls a task makes at most before it lets the others run, and for how long about: all kinds of calls are
/// made about equally often, unless they are long.
const TURN: (u32, Duration) = (100, Duration::from_millis(1));

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn component(name: &str, export: &str) -> Result<Function, Box<dyn Error>> {
    let bytes = std::fs::read(format!("{COMPONENTS}/{name}.wasm"))?;
    Ok(Function::component(FunctionName::new(export)?, bytes, export))
}

fn native(name: &str) -> Result<Function, Box<dyn Error>> {
    Ok(Function::native(FunctionName::new(name)?, Name::new(name)?))
}

/// A call of a kind: its function, input, and whose it is.
struct Load {
    function: FunctionName,
    input: Bytes,
    tenant: TenantName,
}

async fn mixed() -> Result<(Fabric, Vec<Load>), Box<dyn Error>> {
    let natives = NativeFactory::new()
        .with_sync("native", Ok)?
        .with_sync("hash", |input| {
            let sum = input
                .bytes
                .iter()
                .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            Ok(Payload::new(sum.to_le_bytes().to_vec()))
        })?
        .with_sync("panics", |_| panic!("as it should"))?
        .with("waits", |_, input| {
            Box::pin(async move {
                // Many short polls, as a call that waits for others has them.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                Ok(input)
            })
        })?;
    let fabric = scf::fabric()?
        .isolates(Arc::new(natives))
        .tenant(Tenant::new(TenantName::new("a")?).weight(3))
        .concurrency(64)
        .build()?;
    let short = Limits { cpu: Duration::from_millis(20), ..Limits::default() };
    let tight = Limits { payload: scf::core::ByteSize::from_bytes(8), ..Limits::default() };
    fabric.deploy(component("echo", "echo")?).await?;
    fabric.deploy(component("decode", "decode")?).await?;
    fabric.deploy(component("hostile", "spin")?.limits(short)).await?;
    fabric.deploy(component("hostile", "grow")?).await?;
    for name in ["native", "hash", "panics", "waits"] {
        fabric.deploy(native(name)?).await?;
    }
    let mut tight_native = native("native")?.limits(tight);
    tight_native.name = FunctionName::new("tight")?;
    fabric.deploy(tight_native).await?;
    let photo = std::fs::read_dir(PHOTO)?.next().ok_or("there are photos")??.path();
    let photo = Bytes::from(std::fs::read(photo)?);
    let (small, large) = (Bytes::from_static(&[7; 16]), Bytes::from(vec![7u8; 64 << 10]));
    let loads = [
        ("echo", &small, "a"),
        ("echo", &large, "b"),
        ("decode", &photo, "a"),
        ("spin", &small, "b"),
        ("grow", &small, "c"),
        ("native", &small, "a"),
        ("hash", &large, "b"),
        ("waits", &small, "b"),
        ("panics", &small, "c"),
        ("tight", &large, "c"),
    ];
    let mut all = Vec::new();
    for (function, input, tenant) in loads {
        let (function, tenant) = (FunctionName::new(function)?, TenantName::new(tenant)?);
        all.push(Load { function, input: input.clone(), tenant });
    }
    Ok((fabric, all))
}

/// What all tenants have been billed.
fn billed(fabric: &Fabric) -> (Duration, Duration, u64) {
    let add = |(guest, host, calls), (_, bill): (TenantName, Bill)| {
        (guest + bill.cpu, host + bill.host, calls + bill.calls + bill.failures)
    };
    fabric.tenant_bills().into_iter().fold((Duration::ZERO, Duration::ZERO, 0), add)
}

/// The same call under an id of its own.
fn again(call: &Invocation, calls: u64) -> Invocation {
    let mut again = call.clone();
    again.id = call.id.child(calls);
    again
}

/// CPU time that callers spend on making a call themselves, in seconds.
fn caller(fabric: &Fabric, Load { function, input, tenant }: &Load) -> f64 {
    const CALLS: u64 = 100_000;
    let call = Invocation::new(fabric.new_id(), function.clone(), input.clone()).tenant(tenant.clone());
    let start = cpu(ClockId::ThreadCPUTime);
    (0..CALLS).for_each(|calls| drop(black_box(again(&call, calls))));
    (cpu(ClockId::ThreadCPUTime) - start).as_secs_f64() / CALLS as f64
}

/// Calls all of `loads` for `time` and gives guest, host and process CPU time, and the number of calls.
async fn run(fabric: &Fabric, loads: &[Load], time: Duration) -> Result<[f64; 4], Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (before, process) = (billed(fabric), cpu(ClockId::ProcessCPUTime));
    let mut tasks = Vec::new();
    for Load { function, input, tenant } in loads {
        let call = Invocation::new(fabric.new_id(), function.clone(), input.clone()).tenant(tenant.clone());
        let (fabric, stop) = (fabric.clone(), Arc::clone(&stop));
        tasks.push(tokio::spawn(async move {
            // What callers do for themselves is in nobody's bill: little, and nothing that they share. So ids are made
            // from one, what is awaited is pinned where it is made, not copied, and how many calls are a turn is learned
            // from turn to turn, without a clock for each call.
            let (mut calls, mut turn) = (0, 1);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                for _ in 0..turn {
                    calls += 1;
                    let called = pin!(fabric.invoke(again(&call, calls)));
                    black_box(called.await.is_ok());
                }
                let is_short = start.elapsed() < TURN.1;
                turn = if is_short { (turn * 2).min(TURN.0) } else { (turn / 2).max(1) };
                tokio::task::yield_now().await;
            }
        }));
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await?;
    }
    let (after, process) = (billed(fabric), cpu(ClockId::ProcessCPUTime) - process);
    let [guest, host] = [after.0 - before.0, after.1 - before.1].map(|time| time.as_secs_f64());
    Ok([guest, host, process.as_secs_f64(), (after.2 - before.2) as f64])
}

fn metering(time: Duration) -> Result<(), Box<dyn Error>> {
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (fabric, loads) = executor.block_on(mixed())?;
    executor.block_on(run(&fabric, &loads, time / 10))?;
    for load in &loads {
        let alone = std::slice::from_ref(load);
        let [guest, host, process, calls] = executor.block_on(run(&fabric, alone, time / 10))?;
        eprintln!(
            "{:>8} {:>6} B alone: {calls:>8} calls, guest {:.1} %, host {:.1} %, not billed {:.1} % of {process:.2} s",
            load.function,
            load.input.len(),
            100.0 * guest / process,
            100.0 * host / process,
            100.0 * (1.0 - (guest + host) / process),
        );
    }
    let caller = loads.iter().map(|load| caller(&fabric, load)).sum::<f64>() / loads.len() as f64;
    let mut errors = Vec::new();
    let mut calls = 0;
    for _ in 0..5 {
        let [guest, host, process, more] = executor.block_on(run(&fabric, &loads, time / 5))?;
        eprintln!(
            "mixed: guest {guest:.3} s, host {host:.3} s, process {process:.3} s, {more} calls, which callers make in \
             {:.3} s: {:+.2} %",
            caller * more,
            100.0 * ((guest + host) / process - 1.0)
        );
        errors.push(((guest + host) / process - 1.0).abs());
        calls += more as usize;
    }
    errors.sort_by(f64::total_cmp);
    figure("metering.cpu_error", errors[errors.len() / 2], "share", calls);
    Ok(())
}

fn rejection(refusals: usize) -> Result<(), Box<dyn Error>> {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let natives = NativeFactory::new().with("waits", |_, _| Box::pin(std::future::pending()))?;
    executor.block_on(async {
        let fabric = scf::fabric()?.isolates(Arc::new(natives)).build()?;
        let limits = Limits { concurrency: 1, queue: 1, ..Limits::default() };
        fabric.deploy(native("waits")?.limits(limits)).await?;
        let waits = FunctionName::new("waits")?;
        let payload = Payload::new(vec![7u8; 64 << 10]);
        // One runs and one waits for as long as this goes on.
        let mut held: Vec<_> = (0..2).map(|_| Box::pin(fabric.call(&waits, payload.clone()))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for call in &mut held {
            assert!(Pin::new(call).poll(&mut context).is_pending());
        }
        let mut parts = Vec::new();
        for _ in 0..20 {
            let start = cpu(ClockId::ThreadCPUTime);
            for _ in 0..refusals / 20 {
                match fabric.call(&waits, payload.clone()).await {
                    Err(InvokeError::Overloaded { retry_after, .. }) => assert!(!black_box(retry_after).is_zero()),
                    other => return Err(format!("not refused: {other:?}").into()),
                }
            }
            parts.push((cpu(ClockId::ThreadCPUTime) - start).as_secs_f64() * 1e6 / (refusals / 20) as f64);
        }
        parts.sort_by(f64::total_cmp);
        figure("overload.reject_us", parts[parts.len() / 2], "us", refusals);
        Ok(())
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    // Natives that panic do so on purpose.
    std::panic::set_hook(Box::new(|_| {}));
    rejection(if quick { 20_000 } else { 200_000 })?;
    metering(Duration::from_secs(if quick { 5 } else { 20 }))
}
