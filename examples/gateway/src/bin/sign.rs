//! Makes keys, and compiles and signs components for gateways.
//!
//! `sign keys SECRET PUBLIC` writes a pair of keys; `sign sign SECRET COMPONENT > ARTEFACT` compiles and signs.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
};

use scf_runtime::ArtefactSigner;

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
        ["sign", secret, component] => {
            let key: [u8; 32] =
                fs::read(secret)?.try_into().map_err(|_| format!("{secret} is not a key of 32 bytes"))?;
            let component = fs::read(component).map_err(|error| format!("{component}: {error}"))?;
            io::stdout().write_all(&ArtefactSigner::new(&key).sign(&component)?)?;
        }
        _ => return Err("usage: sign keys SECRET PUBLIC | sign sign SECRET COMPONENT > ARTEFACT".into()),
    }
    Ok(())
}
