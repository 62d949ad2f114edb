//! Runs functions on a node and carries invocations between nodes.
//!
//! [`Fabric`] is assembled by its [builder](Fabric::builder) out of a scheduler, isolate factories, state stores and
//! a transport; it deploys functions and workflows and brings calls to the node that runs them.
//!
//! | module of the source | what it has |
//! |---|---|
//! | `fabric/` | assembly, the public handle, what is done by time |
//! | `hedge`, `hedged` | when a call that is late is sent to a second node |
//! | `deployment`, `route` | a function's revisions and where its traffic goes |
//! | `router`, `member`, `wire` | where a call goes, what a node has promised, calls as messages |
//! | `controller/` | admission, running, rest, per node |
//! | `host`, `device` | what isolates may ask, what they hold |
//! | `bill`, `ledger`, `tab`, `tenant`, `overhead`, `cpu` | bills, who pays them, and how CPU time is metered |
//! | `stream/` | items that go with a call while it runs, also to another node |
//! | `workflow` | functions joined to one |
//! | `service/` | what the host keeps for functions: [`StateKeyValue`], [`MemoryKeyValue`], [`MemorySecrets`] |
//! | `wasm/`, `native` | isolates: [`WasmFactory`], [`NativeFactory`] |
//! | `outbound/` | the HTTP requests of functions |
//! | [`transport`] | nodes in one process over shaped links; behind `nats`, nodes of several processes |
//! | `peer`, `claim` | nodes of other processes, and what is claimed of them |
//! | `guest`, `pull` | which functions of other processes run here, and how their code comes: [`GuestPolicy`], [`Puller`] |
//! | `clock` | [`SystemClock`] |
//! | `observe/` | spans of calls; behind `metrics` their counters: `Metrics` |
//! | `process/` | programs as jailed processes |
//! | `http/` | HTTP requests as calls: the ingress, and what handlers of requests are given |
//! | `check/`, `values` | whether functions fit together, values as payloads |
//!
//! | feature | default | makes available |
//! |---|---|---|
//! | `wasm` | yes | [`WasmFactory`] with a compiler: WebAssembly components, by wasmtime 48 |
//! | `wasm-runtime-only` | with `wasm` | [`WasmFactory`] without one: signed artefacts of components |
//! | `services` | yes | what components reach beside WASI: `wasi:keyvalue`, `wasi:blobstore`, `wasi:config`, `wasi:logging`, `scf:function` |
//! | `snapshot` | no | `WasmFactory::snapshot`: components that begin where their initialisation ended, by wizer |
//! | `wasi-http` | no | components that handle HTTP requests, and that send them to the origins that they are granted, by `HttpClient` |
//! | `wasi-nn` | no | components that ask models which are resident in the host: `wasi:nn` |
//! | `http` | no | `http::Ingress`: functions behind an axum router, or served by it alone |
//! | `check` | no | [`Fabric::check`]; workflows whose steps do not fit are refused, by wac-types |
//! | `metrics` | no | `Metrics`: counters and histograms of calls for Prometheus |
//! | `nats` | no | `transport::Nats` and `FabricBuilder::join`: nodes of several processes, over a NATS server |
//! | `process` | no | `process`: programs as jailed processes, on Linux |
//!
//! `scf_core` types are part of this API; with `http`, so are those of axum 0.8 and http 1, with `nats` those of
//! async-nats 0.51 and rustls 0.23.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod bill;
mod budget;
mod check;
mod claim;
mod clock;
mod controller;
mod counter;
mod cpu;
mod deployment;
mod depth;
mod device;
mod error;
mod escape;
mod fabric;
mod flight;
mod guest;
mod hedge;
mod hedged;
mod host;
#[cfg(feature = "http")]
pub mod http;
#[cfg(all(feature = "wasi-http", not(feature = "http")))]
mod http;
mod ledger;
mod member;
mod native;
mod observe;
#[cfg(feature = "wasi-http")]
mod outbound;
mod overhead;
mod peer;
#[cfg(feature = "process")]
pub mod process;
mod promise;
mod promised_run;
mod pull;
mod queue;
mod route;
mod router;
mod service;
mod spread;
mod stream;
mod tab;
mod tenant;
mod time;
mod timer;
pub mod transport;
mod upgrade;
mod values;
#[cfg(feature = "wasm-runtime-only")]
mod wasm;
mod wire;
mod workflow;

pub use bill::{Bill, Failures};
pub use check::CheckError;
pub use clock::SystemClock;
pub use controller::Lifecycle;
pub use error::{BuildError, DeployError, OperateError, TrafficError};
#[cfg(feature = "nats")]
pub use fabric::PeerStatus;
pub use fabric::{Fabric, FabricBuilder, RevisionStatus};
pub use guest::GuestPolicy;
pub use hedge::HedgePolicy;
pub use native::{NativeCall, NativeError, NativeFactory, NativeFuture};
#[cfg(feature = "metrics")]
pub use observe::Metrics;
#[cfg(feature = "wasi-http")]
pub use outbound::{HttpClient, Resolver, SystemResolver, TrustError};
pub use pull::{PullCounters, Puller};
pub use queue::{DispatchConfig, EnqueueError};
pub use service::{MemoryKeyValue, MemorySecrets, StateKeyValue};
pub use stream::{Answer, Streaming};
pub use upgrade::UpgradeFuture;
pub use values::{ValuesError, decode_values, encode_values};
#[cfg(feature = "snapshot")]
pub use wasm::SnapshotError;
#[cfg(feature = "wasm")]
pub use wasm::{
    ArtefactSigner, CodeLimits, CompileError, Compiler, CompilerCommand, Cpu, ScreenError, SignError, compiler_main,
};
#[cfg(feature = "wasm-runtime-only")]
pub use wasm::{Profile, WasmBuilder, WasmCounters, WasmError, WasmFactory};
pub use workflow::{WorkflowFailure, WorkflowOutcome};
