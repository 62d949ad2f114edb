//! Where data may be.

use scf_core::{ClusterView, PlacementRequest};

use super::{Candidate, Filter};

/// The node stands in the zone that the function's data must not leave.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct InZone;

impl Filter for InZone {
    fn name(&self) -> &'static str {
        "zone"
    }

    fn admits(&self, request: &PlacementRequest<'_>, _view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let zone = request.function.needs.zone.as_ref();
        zone.is_none_or(|zone| candidate.status.node.zone.as_ref() == Some(zone))
    }
}
