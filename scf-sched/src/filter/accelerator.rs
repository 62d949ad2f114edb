//! Accelerators.

use scf_core::{ClusterView, PlacementRequest};

use super::{Candidate, Filter};

/// The node has the accelerator that the function needs.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct HasAccelerator;

impl Filter for HasAccelerator {
    fn name(&self) -> &'static str {
        "accelerator"
    }

    fn admits(&self, request: &PlacementRequest<'_>, _view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let needs = &request.function.needs;
        needs.accelerator.is_none_or(|kind| candidate.status.node.units_of(kind) >= needs.accelerator_units.max(1))
    }
}
