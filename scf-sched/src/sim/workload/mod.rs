//! What simulated platforms are asked to do.

mod pipelines;

pub use pipelines::{ml_pipelines, published_invocations};
