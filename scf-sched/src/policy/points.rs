//! What the schedulers that give points have in common: they look at nodes in turn and take the one with most points.

use crate::{
    Choice, Decision, Reason, Request,
    fleet::{Fleet, HotView, NodeIx},
};

/// The most points that a node gets for one thing.
pub(super) const MOST: f32 = 10.0;

const UNAVAILABLE: Reason = Reason::new("takes no calls");
const RESOURCES: Reason = Reason::new("resources");

/// Nodes that will do, with the points each has so far; kept from decision to decision.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) nodes: Vec<(NodeIx, HotView)>,
    pub(super) points: Vec<f32>,
    pub(super) raw: Vec<f32>,
    /// Where the next decision begins.
    next: usize,
}

impl Field {
    /// Fills in the nodes that a request fits on, beginning behind the last that was found before, until there are `most`.
    pub(super) fn gather(&mut self, fleet: &Fleet, request: &Request<'_>, most: usize, decision: &mut Decision) {
        self.nodes.clear();
        let len = fleet.len();
        let need = request.demand.need;
        for step in 0..len {
            if self.nodes.len() >= most {
                break;
            }
            let node = NodeIx::new(((self.next + step) % len) as u32);
            let Some(hot) = fleet.look(node) else { continue };
            decision.evaluated += 1;
            if !hot.is_ready() {
                decision.refuse(UNAVAILABLE);
            } else if !(hot.free().fits(need.amount) && hot.units().fits(need.units)) {
                decision.refuse(RESOURCES);
            } else {
                self.nodes.push((node, hot));
            }
        }
        if let Some((last, _)) = self.nodes.last() {
            self.next = (last.index() + 1) % len;
        }
        self.points.clear();
        self.points.resize(self.nodes.len(), 0.0);
    }

    /// Points for a request that takes the same share of what is free of processor and of memory
    /// (`BalancedResourceAllocation` of kube-scheduler 1.13).
    pub(super) fn balanced(&mut self, request: &Request<'_>, weight: f32) {
        let need = request.demand.need.amount;
        for ((_, hot), points) in self.nodes.iter().zip(&mut self.points) {
            let free = hot.free();
            let cpu = need.milli() as f32 / free.milli().max(1) as f32;
            let memory = need.mib() as f32 / free.mib().max(1) as f32;
            if cpu < 1.0 && memory < 1.0 {
                *points += weight * ((1.0 - (cpu - memory).abs()) * MOST).floor();
            }
        }
    }

    /// Offers the first of the nodes with most points, and those after it by points. Costs are points missing from `full`.
    pub(super) fn offer(&self, full: f32, most: usize, decision: &mut Decision) {
        for ((node, _), points) in self.nodes.iter().zip(&self.points) {
            decision.offer(Choice { node: *node, cost: full - points }, most);
        }
    }
}
