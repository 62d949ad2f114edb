//! WebAssembly components as isolates, by wasmtime.
//!
//! [`WasmFactory`] compiles a component once and makes a fresh instance of it for every call: memory from a
//! pool, its initial content mapped copy-on-write, nothing left of the call before. A function is an export
//! of the component's world of type `func(list<u8>) -> result<list<u8>, string>` or
//! `func(list<u8>) -> list<u8>`.
//!
//! Components may import WASI 0.2 (cli, clocks, filesystem, io, random) and nothing else. They are given no
//! arguments, no environment, no input, no files and no network; what they print is logged at level `debug`.
//! Memory, tables and CPU time are limited per call; a call that takes long yields to others, first after at
//! most 4 ms, then every millisecond, and is ended when it has used up its CPU time.

mod cache;
mod engine;
mod error;
mod factory;
mod isolate;
mod lane;
mod limits;
mod precompiled;
mod signature;
mod ticker;
mod wasi;

pub use error::WasmError;
pub use factory::{WasmBuilder, WasmCounters, WasmFactory};
