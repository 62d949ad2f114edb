//! Isolates and transports as those who embed them use them.

mod actor;
#[cfg(all(feature = "wasm", feature = "services"))]
mod blobs;
mod cache;
#[cfg(feature = "wasm")]
mod check;
#[cfg(all(feature = "wasm", feature = "services"))]
mod component_actor;
#[cfg(all(feature = "wasm", feature = "services"))]
mod context;
mod control;
mod isolate;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(all(feature = "wasm-runtime-only", not(feature = "wasm")))]
mod no_compiler;
mod objects;
#[cfg(feature = "wasi-http")]
mod outbound;
mod pinned;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
mod pull;
mod queue;
#[cfg(all(feature = "wasm", unix))]
mod quota;
mod repeats;
#[cfg(all(feature = "wasm", feature = "services"))]
mod services;
#[path = "../support/silent.rs"]
mod silent;
#[cfg(feature = "snapshot")]
mod snapshot;
#[cfg(all(feature = "wasm", feature = "services"))]
mod stateful;
#[path = "../support/streamed.rs"]
mod streamed;
mod streams;
mod support;
mod trace;
mod transport;
#[cfg(feature = "wasm")]
mod typed;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(feature = "wasm")]
mod wasm_artefact;
#[cfg(feature = "wasm")]
mod wasm_cache;
#[cfg(feature = "wasm")]
mod wasm_limits;
#[cfg(feature = "wasm")]
mod wasm_screen;
#[cfg(feature = "wasm")]
mod wasm_warm;
#[cfg(feature = "wasm")]
mod world;
