//! Programs that functions run, as the integrator registers them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where programs find the libraries that they are linked to, as far as these exist.
const LIBRARIES: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];

/// A program that speaks the [protocol](super) of guests.
#[derive(Clone, Debug)]
pub struct Program {
    /// None: the program that runs now.
    pub(super) path: Option<PathBuf>,
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) reads: Vec<PathBuf>,
    pub(super) libraries: Vec<PathBuf>,
}

impl Program {
    /// The program at `path`, absolute, without arguments. In its jail it sees itself there, the system's
    /// libraries and nothing else.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), ..Self::this() }
    }

    /// The program that runs now, which calls [`guest_main`](super::guest_main) first in `main` with a function for
    /// the entry.
    #[must_use]
    pub fn this() -> Self {
        let libraries = LIBRARIES.iter().map(PathBuf::from).filter(|path| path.exists()).collect();
        Self { path: None, args: Vec::new(), environment: Vec::new(), reads: Vec::new(), libraries }
    }

    /// Adds arguments; default none.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to its environment, which otherwise has what the protocol and the function's grants put
    /// there.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Lets it read a file or a folder with all that is below, at the same path: a script, a model, a library
    /// of its own.
    #[must_use]
    pub fn reads(mut self, path: impl AsRef<Path>) -> Self {
        self.reads.push(path.as_ref().to_owned());
        self
    }

    /// Where it finds libraries; default the system's folders of them. Empty for a statically linked program.
    #[must_use]
    pub fn libraries<P: Into<PathBuf>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.libraries = paths.into_iter().map(Into::into).collect();
        self
    }
}
