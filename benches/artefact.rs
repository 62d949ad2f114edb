//! From a signed artefact to a function that can be called: `cargo bench --bench artefact`, with `-- --quick` for
//! less.
//!
//! One load is what a deployment costs the factory: hash, signature, loading the machine code, checking the export,
//! linking. The parts are printed beside it, to the standard error.
//!
//! Then what a snapshot saves: cold calls through a fabric of a guest that fills a table of 1 MiB when it first needs
//! it, and of the same guest from a snapshot that has the table in it, taken in turn.

use std::{
    error::Error,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use scf::{
    core::{Function, FunctionName, IsolateFactory, Payload},
    runtime::{ArtefactSigner, WasmFactory},
};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
const SECRET: [u8; 32] = [7; 32];

/// A guest that takes some milliseconds to become ready.
const HEAVY: &str = r#"(component
  (core module $m
    (memory (export "memory") 17)
    (global $ready (mut i32) (i32.const 0))
    (func $init (local $at i32) (local $value i32)
      (local.set $value (i32.const 1))
      (loop $next
        (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 1103515245)) (i32.const 12345)))
        (i32.store offset=65536 (i32.and (i32.shl (local.get $at) (i32.const 2)) (i32.const 0xfffff)) (local.get $value))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $at) (i32.const 4000000))))
      (global.set $ready (i32.const 1)))
    (func (export "run") (param i32 i32) (result i32)
      (if (i32.eqz (global.get $ready)) (then (call $init)))
      (i32.store (i32.const 512) (i32.const 65536))
      (i32.store (i32.const 516) (i32.const 4))
      (i32.const 512))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $i (instantiate $m))
  (func (export "run") (param "input" (list u8)) (result (list u8))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))"#;

fn figure(bar: &str, value: f64, unit: &str, n: usize) {
    println!(r#"{{"bar":"{bar}","value":{value:.4},"unit":"{unit}","n":{n}}}"#);
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 500 } else { 5000 };
    let signer = ArtefactSigner::new(&SECRET);
    let component = std::fs::read(ECHO)?;
    let artefact = bytes::Bytes::from(signer.sign(&component)?);
    let name = FunctionName::new("echo")?;
    let echo = Function::component(name.clone(), artefact.clone(), "echo");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let factory = WasmFactory::builder().trust(signer.verifying_key()).build()?;

    let (mut signed, mut shared, mut hashed) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        for _ in 0..rounds {
            let start = Instant::now();
            let prepared = factory.prepare(&echo).await?;
            signed.push(start.elapsed());
            // While the first is there, another function with this code shares it.
            let start = Instant::now();
            black_box(factory.prepare(&echo).await?);
            shared.push(start.elapsed());
            drop(prepared);
            let start = Instant::now();
            black_box(blake3::hash(&artefact));
            hashed.push(start.elapsed());
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    assert_eq!(factory.counters().verified, rounds as u64, "every load was one");
    let start = Instant::now();
    let plain = WasmFactory::builder().build()?;
    runtime.block_on(plain.prepare(&Function::component(name, component, "echo")))?;
    eprintln!(
        "{} bytes; hashing once {:.1} us, another function of the same code {:.1} us, compiling once {:.0} us",
        artefact.len(),
        median(&mut hashed),
        median(&mut shared),
        start.elapsed().as_secs_f64() * 1e6
    );
    figure("artifact.signed_load_us", median(&mut signed), "us", rounds);
    runtime.block_on(snapshot(if quick { 30 } else { 300 }))
}

/// Starts of a heavy guest, with a snapshot and without.
async fn snapshot(rounds: usize) -> Result<(), Box<dyn Error>> {
    let factory = WasmFactory::builder().build()?;
    let [cold, ready] = [FunctionName::new("cold")?, FunctionName::new("ready")?];
    let heavy = Function::component(cold.clone(), wat::parse_str(HEAVY)?, "run");
    let start = Instant::now();
    let bytes = factory.snapshot(&heavy, "run", Payload::default()).await?;
    let (taken, size) = (start.elapsed(), bytes.len());
    let fabric = scf::fabric()?.isolates(Arc::new(factory)).build()?;
    fabric.deploy(heavy).await?;
    fabric.deploy(Function::component(ready.clone(), bytes, "run")).await?;
    fabric.ready().await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (name, times) in [(&cold, &mut without), (&ready, &mut with)] {
            let start = Instant::now();
            let outcome = fabric.call(name, "").await?;
            times.push(start.elapsed());
            assert_eq!(outcome.payload.bytes.len(), 4);
            assert!(outcome.receipt.cold);
        }
    }
    assert_eq!(fabric.call(&cold, "").await?.payload, fabric.call(&ready, "").await?.payload);
    let (without, with) = (median(&mut without), median(&mut with));
    eprintln!("a snapshot of {} KiB took {:.0} ms", size >> 10, taken.as_secs_f64() * 1e3);
    figure("snapshot.start.without_us", without, "us", rounds);
    figure("snapshot.start.with_us", with, "us", rounds);
    Ok(())
}
