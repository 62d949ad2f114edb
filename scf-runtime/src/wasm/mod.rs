//! WebAssembly components as isolates, by wasmtime.
//!
//! [`WasmFactory`] compiles a component once and makes a fresh instance of it for every call: memory from a
//! pool, its initial content mapped copy-on-write, nothing left of the call before.
//!
//! A function is an exported WIT function: of the component's world (`resize`) or of an interface that it exports
//! (`acme:image/codec@1.0.0#resize`). One of type `func(list<u8>) -> result<list<u8>, string>` or
//! `func(list<u8>) -> list<u8>` is given the payload's bytes, whatever their media type. All others, without
//! resources, streams and futures, are called by their types:
//!
//! | payload | becomes |
//! |---|---|
//! | `application/json` | the parameters by name as an object, or the bare value of a single parameter |
//! | `application/vnd.scf.values` | the parameters as a list of [`scf_core::Value`]s |
//! | any other | the bytes of the single parameter, where that is a `list<u8>` or a `string` |
//!
//! The result is encoded as the call was, or as the function is declared to give: a bare value as JSON, a list of
//! one value or none, or bytes. Of `result<T, E>` it is the `T`; an `E` is [`scf_core::InvokeError::Refused`] with
//! the string, or the JSON, that it is. An input that is not of the type is [`scf_core::InvokeError::Input`], which
//! names the field.
//!
//! | WIT | JSON |
//! |---|---|
//! | integers | numbers, exact to 64 bits; `1.0` is none |
//! | `f32`, `f64` | numbers, and `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | `bool`, `string` | as they are |
//! | `char` | a string of one character |
//! | `list` | an array |
//! | `list<u8>` | a string in base64 (standard alphabet, padded); an array of numbers is taken too |
//! | `record` | an object with every field, named as in WIT |
//! | `tuple` | an array |
//! | `variant` | `{"case": value}`, or `"case"` when it has no value |
//! | `enum` | the case as a string |
//! | `option` | `null` or the value; of an option: `null` or `{"some": value}` |
//! | `result` | `{"ok": value}` or `{"err": value}`, the value `null` when there is none |
//! | `flags` | an array of those that are set |
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
mod limits;
mod precompiled;
mod signature;
mod ticker;
mod typed;
mod wasi;

pub use error::WasmError;
pub use factory::{WasmBuilder, WasmCounters, WasmFactory};
