//! SCF, the Serverless Computing Fabric: parts of which serverless runtimes for edge AI are assembled.
//!
//! Who you are and where to go:
//! - **You embed a runtime.** Start at [`fabric`], replace the parts you have better ones for on the
//!   [`FabricBuilder`](runtime::FabricBuilder), then [`deploy`](runtime::Fabric::deploy) and
//!   [`call`](runtime::Fabric::call).
//! - **You implement a part**: a scheduler, a state backend, an isolate, a model block, a transport. Depend on
//!   `scf-core` alone, here [`core`], and hold your part against its conformance suite.
//! - **You study a policy.** Schedulers, autoscalers, phase policies and split planners are pure functions of what
//!   they are given; replace one and measure.
//!
//! ```
//! use scf::core::{Function, FunctionName, Name, Payload};
//! use scf::runtime::NativeFactory;
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let native = NativeFactory::new().with_sync("double", |input| {
//!     Ok(Payload::new([input.bytes.clone(), input.bytes].concat()))
//! })?;
//! let fabric = scf::fabric()?.isolates(Arc::new(native)).build()?;
//! let double = FunctionName::new("double")?;
//! fabric.deploy(Function::native(double.clone(), Name::new("double")?)).await?;
//! assert_eq!(&fabric.call(&double, "ab").await?.payload.bytes[..], b"abab");
//! # Ok(())
//! # }
//! ```
//!
//! | crate | here | what it does |
//! |---|---|---|
//! | `scf-core` | [`core`] | vocabulary and contracts |
//! | `scf-runtime` | [`runtime`] | runs functions and carries invocations |
//! | `scf-sched` | [`sched`] | decides where and how many |
//! | `scf-state` | [`state`] | remembers, remotely and locally |
//! | `scf-ai` | [`ai`] | infers, split between nodes |
//!
//! | feature | makes available |
//! |---|---|
//! | `check` | [`Fabric::check`](runtime::Fabric::check); workflows whose steps do not fit are refused |
//! | `http` | `runtime::http::Ingress`: functions behind an axum router, or served by it alone |
//! | `kube` | `sched::kube`: the nodes of a Kubernetes or K3s cluster in the inventory |
//! | `metrics` | `runtime::Metrics`: counters and histograms of calls for Prometheus |
//! | `nats` | `runtime::transport::Nats` and [`FabricBuilder`](runtime::FabricBuilder)`::join`: nodes of several processes |
//! | `process` | `runtime::process`: programs as jailed processes, on Linux |
//! | `wasi-http` | components that handle HTTP requests, and that send them to the origins that they are granted |
//! | `wasi-nn` | components that ask models which are resident in the host: `wasi:nn` |
//! | `cuda` | candle's CUDA backend; needs nvcc when built |
//! | `jpeg` | `ai::behind_jpeg`: photos as the files that they are, in front of a network |
//! | `metal` | candle's Metal backend; macOS only |
//!
//! No feature changes a default.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

use std::sync::Arc;

#[doc(inline)]
pub use scf_ai as ai;
#[doc(inline)]
pub use scf_core as core;
#[doc(inline)]
pub use scf_runtime as runtime;
#[doc(inline)]
pub use scf_sched as sched;
#[doc(inline)]
pub use scf_state as state;

/// A builder filled with the default parts: one node, this machine; the filter and score pipeline as scheduler;
/// the keeper of objectives over error budgets of 30 days;
/// WebAssembly components as isolates. Every part can be replaced or added to.
///
/// # Errors
/// [`WasmError`](runtime::WasmError) when this machine cannot give the memory that isolates are pooled in.
pub fn fabric() -> Result<runtime::FabricBuilder, runtime::WasmError> {
    let wasm = runtime::WasmFactory::builder().build()?;
    Ok(runtime::Fabric::builder()
        .scheduler(Arc::new(sched::Pipeline::default()))
        .slo(Arc::new(sched::SloKeeper::default()))
        .isolates(Arc::new(wasm)))
}

/// What carries calls over a broker that was joined, under its fabric's name: name this process's nodes, then
/// [`join`](runtime::transport::NatsBuilder::join).
///
/// [`NatsOptions`](state::NatsOptions) say who joins where, and refuse a broker on another machine without TLS. State
/// may be kept at the same broker, over the same connection: [`NatsState`](state::NatsState).
///
/// ```no_run
/// # async fn join() -> Result<(), Box<dyn std::error::Error>> {
/// use scf::{core::{Node, NodeId, Tier}, state::{NatsCredentials, NatsOptions}};
/// use std::sync::Arc;
///
/// let broker = NatsOptions::new(["tls://hub.plant.example:4222"])
///     .fabric("plant-7")
///     .credentials(NatsCredentials::CredsFile("/etc/scf/edge-1.creds".into()))
///     .connect()
///     .await?;
/// let edge = NodeId::new("edge-1")?;
/// let nats = scf::nats(&broker).node(edge.clone()).join().await?;
/// let fabric = scf::fabric()?.node(Node::new(edge, Tier::Edge)).join(Arc::new(nats)).build()?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "nats")]
pub fn nats(broker: &state::Broker) -> runtime::transport::NatsBuilder {
    // Whether it may be plaintext the options have said.
    runtime::transport::Nats::builder(broker.client()).prefix(broker.fabric().clone()).allow_plaintext()
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
