//! Isolates and transports as those who embed them use them.

mod control;
mod isolate;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
mod support;
mod transport;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(feature = "wasm")]
mod wasm_cache;
