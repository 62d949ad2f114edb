//! One component, one call: `cargo run --release --example hello_function -- Ada`
//!
//! The compiled component is cached, so that the next start takes a fraction of the first.

use std::{error::Error, sync::Arc, time::Instant};

use scf::{
    core::{Function, FunctionName, MediaType},
    runtime::{Fabric, WasmFactory},
    sched::Pipeline,
};

const GREET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/guests/components/greet.wasm");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let name = std::env::args().nth(1).unwrap_or_else(|| "world".into());

    let wasm = WasmFactory::builder().cache(std::env::temp_dir().join("scf-hello")).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(wasm)).build()?;
    let greet = FunctionName::new("greet")?;
    fabric.deploy(Function::component(greet.clone(), std::fs::read(GREET)?, "greet").gives(MediaType::TEXT)).await?;
    let outcome = fabric.call(&greet, name).await?;

    println!("{}", String::from_utf8(outcome.payload.bytes.to_vec())?);
    let receipt = outcome.receipt;
    println!("CPU {:?}, {} in, {} out", receipt.usage.cpu, receipt.bytes_in, receipt.bytes_out);
    println!("process start to first result: {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
