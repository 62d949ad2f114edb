//! Whether and how fast the node answers.

use scf_core::{ClusterView, Health, PlacementRequest};

use super::{Candidate, Filter};

/// The node takes calls, a way leads there, and its delay is within what the function allows.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Reach;

impl Filter for Reach {
    fn name(&self) -> &'static str {
        "reach"
    }

    fn admits(&self, request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let within = request.function.needs.within;
        candidate.status.health == Health::Ready
            && view
                .path(candidate.from, candidate.position)
                .is_some_and(|path| within.is_none_or(|within| path.latency <= within))
    }
}
