//! A node without a compiler: runs signed artefacts, serves calls line by line.
//!
//! ```text
//! cargo run -p scf-gateway --features sign --bin sign -- keys secret.key public.key
//! cargo run -p scf-gateway --features sign --bin sign -- sign secret.key echo.wasm > functions/echo.scfx
//! echo 'echo echo echo.scfx' > functions/manifest
//! cargo build -p scf-gateway --profile gateway
//! echo 'call echo hello' | target/gateway/scf-gateway public.key functions
//! ```
//!
//! The manifest names a function, the export that it calls and the artefact, one function a line. Commands are
//! `call FUNCTION TEXT`, answered by `ok TEXT` or `error PROBLEM`, and `memory`.

mod manifest;
mod memory;

use std::{
    error::Error,
    fs,
    io::{self, BufRead, Write},
    path::Path,
    sync::Arc,
};

use scf_core::{Function, FunctionName, Payload};
use scf_runtime::{Fabric, WasmFactory};
use scf_sched::RoundRobin;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [key, folder] = &arguments[..] else { return Err("usage: scf-gateway PUBLIC-KEY FOLDER".into()) };
    let wasm = WasmFactory::builder().trust(public_key(Path::new(key))?).build()?;
    let fabric = Fabric::builder().scheduler(Arc::new(RoundRobin::default())).isolates(Arc::new(wasm)).build()?;
    let before = memory::resident()?;
    let mut functions = 0_usize;
    for (name, export, artefact) in manifest::read(Path::new(folder))? {
        fabric.deploy(Function::component(name, artefact, export)).await?;
        functions += 1;
    }
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("call", rest)) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                match call(&fabric, name, text).await {
                    Ok(reply) => writeln!(output, "ok {reply}")?,
                    Err(error) => writeln!(output, "error {error}")?,
                }
            }
            _ if line == "memory" => {
                let now = memory::resident()?;
                writeln!(output, r#"{{"resident":{now},"before_functions":{before},"functions":{functions}}}"#)?;
            }
            _ => writeln!(output, "error the commands are: call FUNCTION TEXT, memory")?,
        }
        output.flush()?;
    }
    Ok(())
}

async fn call(fabric: &Fabric, name: &str, text: &str) -> Result<String, Box<dyn Error>> {
    let outcome = fabric.call(&FunctionName::new(name)?, Payload::new(text.to_owned())).await?;
    // One line a reply, whatever the function gives.
    Ok(String::from_utf8_lossy(&outcome.payload.bytes).escape_debug().to_string())
}

fn public_key(file: &Path) -> Result<[u8; 32], Box<dyn Error>> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    bytes.try_into().map_err(|_| format!("{} is not a key of 32 bytes", file.display()).into())
}
