//! A function's home, and its neighbours when that is busy.

use super::{Policy, draw::admits, ring::Ring};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, NodeIx},
    place::Scene,
};

/// Points of each node on the ring.
const POINTS: usize = 16;
/// Nodes that a decision names.
const CHOICES: usize = 3;

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam: Consistent hashing with bounded loads, SODA
/// 2018): calls of a function go to the first node behind its place on a ring that has fewer calls than `c` times the
/// average, rounded up. They find it started there, and no node gets more than that.
///
/// Nodes are on the ring by their ids; one that takes no calls is passed over, and only what was on it moves. Adds up the
/// calls of every node for a decision.
#[derive(Debug)]
pub struct BoundedLoads {
    c: f32,
    ring: Ring,
}

impl Default for BoundedLoads {
    /// A quarter above the average.
    fn default() -> Self {
        Self::new(1.25)
    }
}

impl BoundedLoads {
    /// No node gets more than `c` times the average, at least 1; default 1.25.
    #[must_use]
    pub const fn new(c: f32) -> Self {
        Self { c: c.max(1.0), ring: Ring::new(POINTS) }
    }
}

impl Policy for BoundedLoads {
    fn name(&self) -> &'static str {
        "bounded loads"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.ring.keep_up(fleet);
        let scene = Scene::new(fleet, request);
        let ready = (0..fleet.len()).filter_map(|at| fleet.look(NodeIx::new(at as u32))).filter(|hot| hot.is_ready());
        let (calls, nodes) =
            ready.fold((0u64, 0u64), |(calls, nodes), hot| (calls + u64::from(hot.queued()), nodes + 1));
        let bound = (self.c * (calls + 1) as f32 / nodes.max(1) as f32).ceil() as u32;
        for (at, node) in self.ring.from(request.demand.function).enumerate() {
            if decision.choices.len() == CHOICES {
                return;
            }
            let is_below = fleet.look(node).is_some_and(|hot| hot.queued() < bound);
            if !is_below || decision.choices.iter().any(|choice| choice.node == node) {
                continue;
            }
            if admits(&scene, node, decision).is_some() {
                decision.choices.push(Choice { node, cost: at as f32 });
            }
        }
    }
}
