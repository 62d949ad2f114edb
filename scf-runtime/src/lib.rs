//! Runs functions on a node and carries invocations between nodes.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod clock;
mod cpu;
mod escape;
mod native;
pub mod transport;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use clock::SystemClock;
pub use native::{NativeCall, NativeError, NativeFactory, NativeFuture};
