//! Makes keys, and compiles and signs components for gateways.
//!
//! `sign keys SECRET PUBLIC` writes a pair of keys; `sign sign SECRET COMPONENT > ARTEFACT` compiles and signs;
//! `sign snapshot SECRET COMPONENT INIT > ARTEFACT` calls the export INIT before, so that what the gateway starts has
//! that behind it.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use scf_core::{Function, FunctionName, Payload};
use scf_runtime::{ArtefactSigner, WasmFactory};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["keys", secret, public] => {
            let mut key = [0; 32];
            getrandom::fill(&mut key)?;
            // Never over another key, readable to its owner only.
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(secret);
            file.and_then(|mut file| file.write_all(&key)).map_err(|error| format!("{secret}: {error}"))?;
            fs::write(public, ArtefactSigner::new(&key).verifying_key())?;
        }
        ["sign", secret, component] => sign(secret, &read(component)?)?,
        ["snapshot", secret, component, init] => {
            let function = Function::component(FunctionName::new("snapshot")?, read(component)?, init);
            let factory = WasmFactory::builder().instances(1).build()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            sign(secret, &runtime.block_on(factory.snapshot(&function, init, Payload::default()))?)?;
        }
        _ => {
            let usage = "sign keys SECRET PUBLIC | sign sign SECRET COMPONENT > ARTEFACT \
                         | sign snapshot SECRET COMPONENT INIT > ARTEFACT";
            return Err(format!("usage: {usage}").into());
        }
    }
    Ok(())
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

/// Compiles, signs and writes to the standard output.
fn sign(secret: &str, component: &[u8]) -> Result<(), Box<dyn Error>> {
    let key: [u8; 32] = read(secret)?.try_into().map_err(|_| format!("{secret} is not a key of 32 bytes"))?;
    Ok(io::stdout().write_all(&ArtefactSigner::new(&key).sign(component)?)?)
}
