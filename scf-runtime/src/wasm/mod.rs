//! WebAssembly components as isolates, by wasmtime.
//!
//! [`WasmFactory`] compiles a component once and makes a fresh instance of it for every call: memory from a
//! pool, its initial content mapped copy-on-write, nothing left of the call before.
//!
//! What a component is made from is data until it is trusted. Machine code, from the cache or in an artefact that
//! was signed elsewhere, is loaded only after its keyed hash or its signature was found to be right. A component is
//! held to [`CodeLimits`] and checked for features that are left out before it is compiled; it can be compiled in a
//! process of its own ([`Compiler::Child`]). Without the feature `wasm` there is no compiler, and artefacts are all
//! that runs.
//!
//! A function is an exported WIT function, of the component's world or of an interface that it exports; how it is
//! called is said at [`WasmFactory`].
//!
//! Components may import WASI 0.2 (cli, clocks, filesystem, io, random, sockets), `wasi:keyvalue`,
//! `wasi:blobstore`, `wasi:config`, `wasi:logging`, `scf:function`, and with their features `wasi:http` and `wasi:nn`.
//! They are given what the function's [`Grants`](scf_core::Grants) list and nothing else: see `world/`. What they print is logged at level
//! `debug`.
//!
//! Memory, tables and CPU time are limited per call; a call that takes long yields to others, first after at
//! most 4 ms, then every millisecond, and is ended when it has used up its CPU time.

mod account;
mod artefact;
mod builder;
#[cfg(feature = "wasm")]
mod cache;
mod checked;
#[cfg(feature = "wasm")]
mod compile;
#[cfg(feature = "wasm")]
mod compile_child;
mod engine;
mod error;
mod factory;
#[cfg(feature = "wasm")]
mod feature;
#[cfg(feature = "wasi-http")]
mod http;
mod isolate;
mod lane;
mod limits;
mod live;
mod made;
mod pinned;
mod precompiled;
mod profile;
mod program;
mod room;
mod run;
#[cfg(feature = "wasm")]
mod screen;
mod share;
mod shelf;
#[cfg(feature = "wasm")]
mod sign;
mod signature;
mod slice;
#[cfg(feature = "snapshot")]
mod snapshot;
#[cfg(feature = "snapshot")]
mod snapshot_state;
mod source;
mod target;
mod ticker;
#[cfg(feature = "wasm")]
mod trim;
mod typed;
mod warm;
mod world;

pub(crate) use artefact::is_artefact;
pub use builder::WasmBuilder;
#[cfg(feature = "wasm")]
pub use compile::{CompileError, Compiler, CompilerCommand};
#[cfg(feature = "wasm")]
pub use compile_child::compiler_main;
pub use error::WasmError;
pub use factory::{WasmCounters, WasmFactory};
pub use profile::Profile;
#[cfg(feature = "wasm")]
pub use screen::{CodeLimits, ScreenError};
#[cfg(feature = "wasm")]
pub use sign::{ArtefactSigner, Cpu, SignError};
#[cfg(feature = "snapshot")]
pub use snapshot::SnapshotError;
