//! What a placement costs.

mod latency;

use std::fmt::Debug;

use scf_core::{ClusterView, PlacementRequest};

pub use self::latency::Latency;
use crate::Candidate;

/// The cost of a placement, in seconds. Called for every admitted node of the sample: no I/O, no allocation.
pub trait Score: Debug + Send + Sync + 'static {
    /// The cost; the lowest wins. A number, not infinite.
    fn cost(&self, request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> f64;
}
