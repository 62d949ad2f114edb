//! From a signed artefact to a function that can be called: `cargo bench --bench artefact`, with `-- --quick` for
//! less.
//!
//! One load is what a deployment costs the factory: hash, signature, loading the machine code, checking the export,
//! linking. The parts are printed beside it, to the standard error.

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use scf::{
    core::{Function, FunctionName, IsolateFactory},
    runtime::{ArtefactSigner, WasmFactory},
};

const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/echo.wasm");
const SECRET: [u8; 32] = [7; 32];

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
    Ok(())
}
