//! Runs functions on a node and carries invocations between nodes.
//!
//! [`Fabric`] is assembled by its [builder](Fabric::builder) out of a scheduler, isolate factories, state stores and
//! a transport; it deploys functions and workflows and brings calls to the node that runs them.
//!
//! | module of the source | what it has |
//! |---|---|
//! | `fabric/` | assembly, the public handle, what is done by time |
//! | `router`, `member`, `wire` | where a call goes, what a node has promised, calls as messages |
//! | `controller`, `host`, `ledger` | admission and running, what isolates may ask, bills |
//! | `workflow` | functions joined to one |
//! | `service/` | what the host keeps for functions: [`StateKeyValue`], [`MemoryKeyValue`], [`MemorySecrets`] |
//! | `wasm/`, `native` | isolates: [`WasmFactory`], [`NativeFactory`] |
//! | `outbound/` | the HTTP requests of functions |
//! | [`transport`] | nodes in one process over shaped links |
//! | `clock` | [`SystemClock`] |
//!
//! | feature | default | makes available |
//! |---|---|---|
//! | `wasm` | yes | [`WasmFactory`]: WebAssembly components, by wasmtime 48 |
//! | `wasi-http` | no | components that send HTTP requests to the origins that they are granted, by `HttpClient` |
//!
//! `scf_core` types are part of this API.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod clock;
mod controller;
mod cpu;
mod error;
mod escape;
mod fabric;
mod host;
mod ledger;
mod member;
mod native;
#[cfg(feature = "wasi-http")]
mod outbound;
mod router;
mod service;
pub mod transport;
#[cfg(feature = "wasm")]
mod wasm;
mod wire;
mod workflow;

pub use clock::SystemClock;
pub use error::{BuildError, DeployError};
pub use fabric::{Fabric, FabricBuilder};
pub use ledger::Bill;
pub use native::{NativeCall, NativeError, NativeFactory, NativeFuture};
#[cfg(feature = "wasi-http")]
pub use outbound::{HttpClient, Resolver, SystemResolver, TrustError};
pub use service::{MemoryKeyValue, MemorySecrets, StateKeyValue};
#[cfg(feature = "wasm")]
pub use wasm::{WasmBuilder, WasmCounters, WasmError, WasmFactory};
pub use workflow::{WorkflowFailure, WorkflowOutcome};
