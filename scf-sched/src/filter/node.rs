//! Named nodes, tiers and labels.

use scf_core::{ClusterView, PlacementRequest};

use super::{Candidate, Filter};

/// The node and its tier are among those that the function names, and it has every label.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct AllowedNode;

impl Filter for AllowedNode {
    fn name(&self) -> &'static str {
        "node"
    }

    fn admits(&self, request: &PlacementRequest<'_>, _view: &ClusterView, candidate: Candidate<'_>) -> bool {
        let needs = &request.function.needs;
        let node = &candidate.status.node;
        (needs.nodes.is_empty() || needs.nodes.contains(&node.id))
            && (needs.tiers.is_empty() || needs.tiers.contains(&node.tier))
            && needs.labels.iter().all(|label| node.labels.contains(label))
    }
}
