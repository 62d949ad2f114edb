//! Where data may be.

use scf_core::{ClusterView, PlacementRequest};

use super::{Candidate, Filter};

/// The node stands in the zone that the function's data must not leave, and in a legal region that will do.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct InZone;

impl Filter for InZone {
    fn name(&self) -> &'static str {
        "zone"
    }

    fn admits(&self, request: &PlacementRequest<'_>, _view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let (needs, node) = (&request.function.needs, &candidate.status.node);
        let in_region = || node.region.as_ref().is_some_and(|region| needs.regions.contains(region));
        needs.zone.as_ref().is_none_or(|zone| node.zone.as_ref() == Some(zone))
            && (needs.regions.is_empty() || in_region())
    }
}
