//! Remembers: backends and phases of a stateful function.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod change;
mod disk;
mod head;
#[cfg(test)]
mod loopback;
mod memory;
mod redb;
mod remote;
mod results;

pub use disk::{FileDisk, MemoryDisk};
pub use memory::MemoryState;
pub use remote::{RemoteState, StateServer};
pub use crate::redb::{OpenError, RedbConfig, RedbState};
