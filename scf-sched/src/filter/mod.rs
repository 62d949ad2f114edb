//! What a node must offer. Each filter is one need; none is ever bent.

mod accelerator;
mod node;
mod reach;
mod resources;
mod surroundings;
mod zone;

use std::fmt::Debug;

use scf_core::{ClusterView, NodeStatus, PlacementRequest};

pub use self::{
    accelerator::HasAccelerator, node::AllowedNode, reach::Reach, resources::FreeResources, surroundings::Surroundings,
    zone::InZone,
};

/// A node that is looked at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// The node.
    pub status: &'a NodeStatus,
    /// Its position in the view.
    pub position: usize,
    /// The position of the caller in the view.
    pub from: usize,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new(view: &'a ClusterView, position: usize, from: usize) -> Self {
        Self { status: &view.nodes()[position], position, from }
    }
}

/// One need that a node satisfies or not. Called for every node of the sample: no I/O, no allocation.
pub trait Filter: Debug + Send + Sync + 'static {
    /// A short name for [`Refusal`](scf_core::Refusal).
    fn name(&self) -> &'static str;

    /// Whether the node satisfies the need.
    fn admits(&self, request: &PlacementRequest<'_>, view: &ClusterView, candidate: Candidate<'_>) -> bool;
}

/// The filters of every need that [`Needs`](scf_core::Needs) can state, cheapest first.
#[must_use]
pub fn needs() -> Vec<Box<dyn Filter>> {
    vec![
        Box::new(AllowedNode),
        Box::new(HasAccelerator),
        Box::new(InZone),
        Box::new(FreeResources),
        Box::new(Reach),
        Box::new(Surroundings),
    ]
}

/// The first of `filters` that refuses the node, by position; `None` when all admit it.
pub(crate) fn refuses(
    filters: &[Box<dyn Filter>],
    request: &PlacementRequest<'_>,
    view: &ClusterView,
    candidate: Candidate<'_>,
) -> Option<usize> {
    filters.iter().position(|filter| !filter.admits(request, view, candidate))
}
