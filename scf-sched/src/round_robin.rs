//! The yardstick.

use scf_core::{ClusterView, Placement, PlacementRequest, ScheduleError, Scheduler};

use crate::{Candidate, Filter, filter, pipeline::unplaceable};

/// Takes the first node that satisfies every need, beginning at the request's seed: with seeds that count up,
/// one node after the other. Knows no cost; other schedulers have to be better than it.
#[derive(Debug)]
pub struct RoundRobin {
    filters: Vec<Box<dyn Filter>>,
}

impl Default for RoundRobin {
    /// The filters of every need.
    fn default() -> Self {
        Self { filters: filter::needs() }
    }
}

impl Scheduler for RoundRobin {
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError> {
        let from =
            view.position(request.from).ok_or_else(|| ScheduleError::UnknownCaller { from: request.from.clone() })?;
        let nodes = view.nodes().len();
        let start = (request.seed % nodes as u64) as usize;
        let found = (start..start + nodes).map(|at| at % nodes).find(|&position| {
            filter::refuses(&self.filters, request, view, Candidate::new(view, position, from)).is_none()
        });
        let Some(position) = found else { return Err(unplaceable(&self.filters, request, view, from)) };
        let status = &view.nodes()[position];
        Ok(Placement { node: status.node.id.clone(), version: status.version })
    }
}
