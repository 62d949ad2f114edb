//! A native function with a bug, contained: `cargo run --release --example process_isolate`
//!
//! The function runs in a jailed process of its own. What kills it, and what it tries outside its limits, is one
//! failed call; the fabric goes on.

use std::{error::Error, fs, sync::Arc, time::Instant};

use scf::{
    core::{Function, FunctionName, Limits, MediaType, Name},
    runtime::{
        Fabric,
        process::{ProcessFactory, Program, guest_main},
    },
    sched::Pipeline,
};

/// Counts the words of a text; its author forgot some cases.
fn count(input: Vec<u8>) -> Result<Vec<u8>, String> {
    let text = String::from_utf8(input).map_err(|error| error.to_string())?;
    match text.as_str() {
        "" => std::process::abort(),
        "forever" => loop {
            std::hint::spin_loop();
        },
        path if path.starts_with('/') => fs::read(path).map_err(|error| format!("{path}: {error}")),
        text => Ok(text.split_whitespace().count().to_string().into_bytes()),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    // In a child of this program it serves calls and does not return; otherwise it returns at once.
    guest_main(&[("count", count)]);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(host())
}

async fn host() -> Result<(), Box<dyn Error>> {
    let processes = ProcessFactory::builder().with("count", Program::this()).build()?;
    println!("in force: {}\n", processes.isolation());
    let fabric = Fabric::builder().scheduler(Arc::new(Pipeline::default())).isolates(Arc::new(processes)).build()?;
    let count = FunctionName::new("count")?;
    let limits = Limits { cpu: std::time::Duration::from_millis(200), ..Limits::default() };
    let function = Function::process(count.clone(), Name::new("count")?).gives(MediaType::TEXT).limits(limits);
    fabric.deploy(function).await?;

    for input in ["a rose is a rose", "", "forever", "/etc/passwd", "still here"] {
        match fabric.call(&count, input).await {
            Ok(outcome) => println!("{input:?}: {}", String::from_utf8_lossy(&outcome.payload.bytes)),
            Err(error) => println!("{input:?}: {error}"),
        }
    }

    let calls = 100;
    let start = Instant::now();
    for _ in 0..calls {
        fabric.call(&count, "a rose is a rose").await?;
    }
    let each = start.elapsed() / calls;
    println!("\na fresh process for every call: {:.2} ms each", each.as_secs_f64() * 1e3);
    Ok(())
}
