//! Files that `fetch-models` keeps, for tests and benches: `#[path]` brings this one in.

use std::{io, path::PathBuf};

/// Reads the file `name` from where the script puts what it fetches.
///
/// # Errors
/// Naming the path and the script, when the file is not there or cannot be read.
pub(crate) fn read(name: &str) -> io::Result<Vec<u8>> {
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let folder = set("SCF_MODELS").or_else(|| Some(cache()?.join("scf/models")));
    let folder = folder.ok_or_else(|| io::Error::other("neither SCF_MODELS nor XDG_CACHE_HOME nor HOME is set"))?;
    let path = folder.join(name);
    std::fs::read(&path).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}; run examples/assets/fetch-models", path.display()))
    })
}
