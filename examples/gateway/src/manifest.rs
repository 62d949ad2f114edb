//! Which functions there are.

use std::{collections::HashMap, error::Error, fs, path::Path};

use bytes::Bytes;
use scf_core::FunctionName;

/// A function, the export that it calls, and its artefact.
pub(crate) type Entry = (FunctionName, String, Bytes);

/// Reads the manifest of a folder and the artefacts that it names, each once.
pub(crate) fn read(folder: &Path) -> Result<Vec<Entry>, Box<dyn Error>> {
    let mut artefacts: HashMap<&str, Bytes> = HashMap::new();
    let manifest = fs::read_to_string(folder.join("manifest"))?;
    let mut functions = Vec::new();
    for line in manifest.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, export, file] = words[..] else {
            return Err(format!("the manifest has {line:?} where NAME EXPORT ARTEFACT is expected").into());
        };
        let artefact = match artefacts.get(file) {
            Some(artefact) => artefact.clone(),
            None => {
                let bytes = Bytes::from(fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}"))?);
                artefacts.insert(file, bytes.clone());
                bytes
            }
        };
        functions.push((FunctionName::new(name)?, export.to_owned(), artefact));
    }
    Ok(functions)
}
