//! How many calls of a function a node serves at once.

mod concurrency;
mod fixed;

pub use self::{concurrency::ConcurrencyTarget, fixed::FixedConcurrency};
