//! A function's home, and its neighbours when that is busy.

use super::{Policy, draw::admits};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, FunctionIx, NodeIx},
    place::Scene,
    random::Random,
};

/// Points of each node on the ring.
const POINTS: u64 = 16;
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
    /// Points in their order, of the first so many nodes of the fleet.
    ring: Vec<(u64, NodeIx)>,
    nodes: usize,
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
        Self { c: c.max(1.0), ring: Vec::new(), nodes: 0 }
    }

    /// Puts nodes on the ring that joined since.
    fn keep_up(&mut self, fleet: &Fleet) {
        let len = fleet.len();
        if len == self.nodes {
            return;
        }
        for node in (self.nodes..len).map(|at| NodeIx::new(at as u32)) {
            let Some(described) = fleet.node(node) else { continue };
            // FNV-1a (RFC 9923), then mixed: ids that differ in the last character are to be far apart.
            let id = described.id.as_str().bytes();
            let hash = id.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let mut points = Random::new(hash);
            self.ring.extend((0..POINTS).map(|_| (points.next(), node)));
        }
        self.ring.sort_unstable();
        self.nodes = len;
    }

    fn home(&self, function: FunctionIx) -> usize {
        let place = Random::new(function.index() as u64).next();
        self.ring.partition_point(|(point, _)| *point < place)
    }
}

impl Policy for BoundedLoads {
    fn name(&self) -> &'static str {
        "bounded loads"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.keep_up(fleet);
        let scene = Scene::new(fleet, request);
        let ready = (0..fleet.len()).filter_map(|at| fleet.look(NodeIx::new(at as u32))).filter(|hot| hot.is_ready());
        let (calls, nodes) =
            ready.fold((0u64, 0u64), |(calls, nodes), hot| (calls + u64::from(hot.queued()), nodes + 1));
        let bound = (self.c * (calls + 1) as f32 / nodes.max(1) as f32).ceil() as u32;
        let home = self.home(request.demand.function);
        let (before, after) = self.ring.split_at(home);
        for (at, (_, node)) in after.iter().chain(before).enumerate() {
            if decision.choices.len() == CHOICES {
                return;
            }
            let is_below = fleet.look(*node).is_some_and(|hot| hot.queued() < bound);
            if !is_below || decision.choices.iter().any(|choice| choice.node == *node) {
                continue;
            }
            if admits(&scene, *node, decision).is_some() {
                decision.choices.push(Choice { node: *node, cost: at as f32 });
            }
        }
    }
}
