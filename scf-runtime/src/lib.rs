//! Runs functions on a node and carries invocations between nodes.
//!
//! [`Fabric`] is assembled by its [builder](Fabric::builder) out of a scheduler, isolate factories, state stores and
//! a transport; it deploys functions and workflows and brings calls to the node that runs them.
//!
//! | module of the source | what it has |
//! |---|---|
//! | `fabric/` | assembly, the public handle, what is done by time |
//! | `deployment` | a function's revisions and where its traffic goes |
//! | `router`, `member`, `wire` | where a call goes, what a node has promised, calls as messages |
//! | `controller/` | admission, running, rest, per node |
//! | `host`, `device` | what isolates may ask, what they hold |
//! | `ledger`, `tenant`, `overhead`, `cpu` | bills, who pays them, and how CPU time is metered |
//! | `workflow` | functions joined to one |
//! | `wasm/`, `native` | isolates: [`WasmFactory`], [`NativeFactory`] |
//! | [`transport`] | nodes in one process over shaped links |
//! | `clock` | [`SystemClock`] |
//! | `observe/` | spans of calls; behind `metrics` their counters: `Metrics` |
//! | `process/` | programs as jailed processes, behind `process` |
//!
//! | feature | default | makes available |
//! |---|---|---|
//! | `wasm` | yes | [`WasmFactory`]: WebAssembly components, by wasmtime 48 |
//! | `metrics` | no | `Metrics`: counters and histograms of calls for Prometheus |
//! | `process` | no | `process`: programs as jailed processes, on Linux |
//!
//! `scf_core` types are part of this API.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod clock;
mod controller;
mod cpu;
mod deployment;
mod device;
mod error;
mod escape;
mod fabric;
mod host;
mod ledger;
mod member;
mod native;
mod observe;
mod overhead;
#[cfg(feature = "process")]
pub mod process;
mod router;
mod tenant;
pub mod transport;
#[cfg(feature = "wasm")]
mod wasm;
mod wire;
mod workflow;

pub use clock::SystemClock;
pub use controller::Lifecycle;
pub use error::{BuildError, DeployError, TrafficError};
pub use fabric::{Fabric, FabricBuilder, RevisionStatus};
pub use ledger::{Bill, Failures};
pub use native::{NativeCall, NativeError, NativeFactory, NativeFuture};
#[cfg(feature = "metrics")]
pub use observe::Metrics;
#[cfg(feature = "wasm")]
pub use wasm::{WasmBuilder, WasmCounters, WasmError, WasmFactory};
pub use workflow::{WorkflowFailure, WorkflowOutcome};
