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
//! | `spread` | what every call reads, apart for each core |
//! | `workflow` | functions joined to one |
//! | `wasm/`, `native` | isolates: [`WasmFactory`], [`NativeFactory`] |
//! | [`transport`] | nodes in one process over shaped links |
//! | `clock` | [`SystemClock`] |
//!
//! | feature | default | makes available |
//! |---|---|---|
//! | `wasm` | yes | [`WasmFactory`]: WebAssembly components, by wasmtime 48 |
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
mod router;
mod spread;
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
#[cfg(feature = "wasm")]
pub use wasm::{Profile, WasmBuilder, WasmCounters, WasmError, WasmFactory};
pub use workflow::{WorkflowFailure, WorkflowOutcome};
