//! What can go wrong with processes before the first call.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::Layer;

/// Why a [`ProcessFactory`](super::ProcessFactory) was not built or a program did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Jailed processes need Linux.
    #[error("processes as isolates need Linux; this is {os}")]
    Platform {
        /// The operating system, as Rust names it.
        os: &'static str,
    },
    /// An entry's name is none.
    #[error("entry {entry:?} is no name")]
    InvalidName {
        /// What was given.
        entry: String,
        /// Why it is none.
        #[source]
        source: scf_core::InvalidName,
    },
    /// The process is itself a jailed child that did not call [`guest_main`](super::guest_main) before.
    #[error("this process is a jailed child for entry {entry:?}: call process::guest_main first in main")]
    InsideChild {
        /// The entry that it was started for.
        entry: String,
    },
    /// A layer of the jail is required and cannot be had here.
    #[error("jail: {layer} is required and cannot be had here")]
    Layer {
        /// The layer.
        layer: Layer,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that the jail must show to the program is not there or cannot be read.
    #[error("{}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A step on the way from the host to the running program failed.
    #[error("the child failed to {step}")]
    Start {
        /// The step.
        step: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The program ended or misbehaved before it was ready.
    #[error("the program is not a guest: {problem}")]
    NotAGuest {
        /// What it did; escaped.
        problem: String,
    },
}
