//! Isolates and transports as those who embed them use them.

mod isolate;
#[cfg(feature = "wasi-http")]
mod outbound;
#[cfg(feature = "wasm")]
mod services;
mod support;
mod transport;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(feature = "wasm")]
mod wasm_cache;
#[cfg(feature = "wasm")]
mod world;
