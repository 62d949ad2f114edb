//! The suites that implementations of the contracts pass.
//!
//! Each takes a closure that makes a fresh instance, needs no runtime of its own, and panics with a sentence
//! that says what was promised and what happened instead.

pub mod blob;
mod handover;
pub mod history;
pub mod isolate;
pub mod keyvalue;
pub mod model;
pub mod object;
pub mod queue;
pub mod scheduler;
pub mod session;
pub mod state;
