//! WebAssembly components as isolates, by wasmtime.
//!
//! [`WasmFactory`] compiles a component once and makes a fresh instance of it for every call: memory from a
//! pool, its initial content mapped copy-on-write, nothing left of the call before. Functions that ask for it keep
//! instances for later calls; one whose call did not end well is dropped. A function is an export of the component's
//! world of type `func(list<u8>) -> result<list<u8>, string>` or `func(list<u8>) -> list<u8>`.
//!
//! Components may import WASI 0.2 (cli, clocks, filesystem, io, random) and nothing else. They are given no
//! arguments, no environment, no input, no files and no network; what they print is logged at level `debug`.
//! Memory, tables, handles, stack and CPU time are limited per call, memory also per tenant. Tenants share cores by
//! weight; a call that takes long yields to others, first after at most 4 ms, then every millisecond, and is ended
//! when it has used up its CPU time.

mod account;
mod cache;
mod engine;
mod error;
mod factory;
mod isolate;
mod limits;
mod precompiled;
mod profile;
mod room;
mod share;
mod signature;
mod ticker;
mod warm;
mod wasi;

pub use error::WasmError;
pub use factory::{WasmBuilder, WasmCounters, WasmFactory};
pub use profile::Profile;
