//! Processor and memory.

use scf_core::{ClusterView, PlacementRequest};

use super::{Candidate, Filter};

/// What the function reserves is free.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct FreeResources;

impl Filter for FreeResources {
    fn name(&self) -> &'static str {
        "resources"
    }

    fn admits(&self, request: &PlacementRequest<'_>, _view: &ClusterView, candidate: Candidate<'_>) -> bool {
        candidate.status.free.fits(&request.function.needs.resources)
    }
}
