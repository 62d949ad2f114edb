//! Programs as isolates: every call in a jailed process of its own, for native libraries and for tenants that
//! must not share an address space.
//!
//! A program is registered with a [`ProcessFactory`] by name and deployed with
//! [`Function::process`](scf_core::Function::process). Whatever it does, a crash, an endless loop, a bomb, it is
//! one failed call. What keeps it in is a [`Jail`]; [`ProcessFactory::isolation`] says what is in force.
//!
//! ```no_run
//! use scf_runtime::process::{ProcessFactory, Program, guest_main};
//!
//! fn shout(input: Vec<u8>) -> Result<Vec<u8>, String> {
//!     Ok(input.to_ascii_uppercase())
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Returns at once, except in a child of this program.
//!     guest_main(&[("shout", shout)]);
//!     let processes = ProcessFactory::builder()
//!         .with("shout", Program::this())
//!         .with("ocr", Program::new("/usr/bin/python3").args(["/opt/ocr.py"]).reads("/opt/ocr.py"))
//!         .build()?;
//!     println!("{}", processes.isolation());
//!     Ok(())
//! }
//! ```
//!
//! # Protocol
//! Descriptor 0 of the program is its connection to the host, for reading and for writing; what it prints to 1
//! and 2 is logged. The environment variable `SCF_PROCESS_ENTRY` has the name that it was registered under. Both
//! sides send frames:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | length of the body in bytes, little endian |
//! | 4 | 1 | kind |
//! | 5 | 3 | of a call, which attempt it is: little endian, counted from 1; otherwise zero |
//! | 8 | length | body |
//!
//! | kind | from | body |
//! |---|---|---|
//! | 1 call | host | invocation id, 16 bytes big endian, equal when a call is tried again; then the input |
//! | 2 ready | program | empty; once, when it has started |
//! | 3 output | program | the output |
//! | 4 refused | program | why the input is none that it can work with: UTF-8, at most 4096 bytes |
//!
//! After `ready` the program answers each call with `output` or `refused`, one call at a time, until it reads an
//! end of file. [`serve`] does it for Rust, where [`current`] tells id and attempt; `tests/it/guest.py` beside this crate's tests is a guest in Python.
//!
//! # What a program can and cannot do
//! It computes, with threads, within the function's memory and CPU limits. It reads itself, the libraries of
//! the system, what [`Program::reads`] and the function's file grants say, and writes where a grant says so. It
//! makes no process, no socket, no namespace; it sees no other process and no environment but what is granted.
//! The clocks and random numbers are the machine's whatever the grants say, because a processor gives them
//! without asking. Grants that a process cannot be given (HTTP, secrets, functions …) and state per key are
//! errors when it is deployed.
//!
//! A process that is kept for later calls is stopped in between and uses nothing but memory.

mod error;
mod factory;
mod frame;
mod guest;
mod jail;
mod program;
#[cfg(target_os = "linux")]
#[path = "linux/mod.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod system;

pub use error::ProcessError;
pub use factory::{ProcessBuilder, ProcessFactory};
pub use guest::{GuestCall, GuestFunction, current, guest_main, serve};
pub use jail::{Isolation, Jail, Layer};
pub use program::Program;

/// The environment variable by which a program knows what it was started for.
const ENTRY: &str = "SCF_PROCESS_ENTRY";
