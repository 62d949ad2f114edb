//! What simulated platforms are asked to do.

mod pipelines;

pub use pipelines::{published_invocations, ml_pipelines};
