//! Isolates and transports as those who embed them use them.

#[cfg(feature = "wasm")]
mod check;
mod isolate;
mod support;
mod transport;
#[cfg(feature = "wasm")]
mod typed;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(feature = "wasm")]
mod wasm_cache;
