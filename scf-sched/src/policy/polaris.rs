//! Polaris, a scheduler for service graphs with quality of service on their links.

use std::collections::HashMap;

use scf_core::Tier;

use super::{Policy, draw::admits};
use crate::{
    Bound, Choice, Decision, LinkBound, Neighbour, Reason, Request,
    fleet::{Caps, Fleet, FunctionIx, HotView, Need, NodeIx, Spot},
    place::{Scene, is_carried},
};

/// The most points that a node gets for one thing.
const MOST: f32 = 100.0;
/// What the quality of the network counts, and how often the function fits.
const WEIGHTS: [f32; 2] = [10.0, 1.0];
/// Nodes that a decision names.
const CHOICES: usize = 3;

const LINKS: Reason = Reason::new("no link of the node will do");
const PATHS: Reason = Reason::new("no path from a step before");

/// Polaris Scheduler (Nastic, Pusztai, Morichetta, Casamayor Pujol, Dustdar, Vij, Xiong: Polaris Scheduler: Edge sensitive
/// and SLO aware workload scheduling in cloud-edge-IoT clusters, CLOUD 2021; in its version of 2022, UCC): a node will do
/// when one of its links is as good as the strictest of the service asks, and when for each incoming link of the service
/// graph *some* replica of the step before has a path to it that is as asked. Of those the node with the most even paths
/// is taken, and of equal ones, away from data centres where that is possible, the one on which the service fits most
/// often.
///
/// Replicas of a step before are the neighbours that ask the same of their link. Looks at every node. Rates of a fleet
/// have no variance, and count as even; the prices of nodes and the kinds of workloads, which together weigh a sixth of the
/// network, are left out.
#[derive(Debug, Default)]
pub struct Polaris {
    strictest: HashMap<FunctionIx, LinkBound>,
    /// Nodes that will do: the points for the network, and how often the service fits there.
    field: Vec<(NodeIx, f32, f32)>,
}

impl Polaris {
    /// The policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the strictest of the links from and to a service asks; default nothing.
    #[must_use]
    pub fn strictest(mut self, function: FunctionIx, link: LinkBound) -> Self {
        self.strictest.insert(function, link);
        self
    }

    /// Looks at a node, and keeps it when it will do.
    fn consider(&mut self, scene: &Scene<'_>, node: NodeIx, links: &[Neighbour], decision: &mut Decision) {
        let Some((hot, here)) = admits(scene, node, decision).zip(scene.fleet.spot(node)) else { return };
        let hard = |what| Some(Bound { what, penalty: f32::INFINITY });
        if let Some(strictest) = self.strictest.get(&scene.request.demand.function).copied() {
            let mut others = (0..scene.fleet.len() as u32).map(NodeIx::new).filter(|other| *other != node);
            let has_link = |other: Spot| is_carried(scene.fleet, &here, &other, hard(strictest));
            if !others.any(|other| scene.fleet.spot(other).is_some_and(has_link)) {
                decision.refuse(LINKS);
                return;
            }
        }
        let mut evenness = MOST;
        for (position, link) in links.iter().enumerate() {
            let is_replica = |other: &&Neighbour| other.link == link.link;
            if links[..position].iter().any(|other| is_replica(&other)) {
                continue;
            }
            let spots = links.iter().filter(is_replica).filter_map(|replica| scene.fleet.spot(replica.node));
            let paths = spots.filter(|spot| is_carried(scene.fleet, spot, &here, link.link));
            let delay = |spot: &Spot| scene.fleet.network().way(spot, &here).map_or(f32::INFINITY, |way| way.delay);
            let Some(best) = paths.min_by(|a, b| delay(a).total_cmp(&delay(b))) else {
                decision.refuse(PATHS);
                return;
            };
            let jitter = scene.fleet.network().evenness(&best, &here).jitter;
            if jitter > 0.0 {
                evenness = evenness.min((MOST - MOST * jitter / delay(&best)).max(0.0));
            }
        }
        // The mean of what the rate and the delay get.
        let network = f32::midpoint(MOST, evenness);
        self.field.push((node, network, fits(&hot, scene.request.demand.need)));
    }
}

/// How often a need fits into what is free of a node.
fn fits(hot: &HotView, need: Need) -> f32 {
    let times = |free: u32, need: u32| free.checked_div(need).unwrap_or(u32::MAX);
    let free = hot.free();
    times(free.milli(), need.amount.milli()).min(times(free.mib(), need.amount.mib())) as f32
}

impl Policy for Polaris {
    fn name(&self) -> &'static str {
        "polaris"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.field.clear();
        let alone = Request { neighbours: &[], ..*request };
        let scene = Scene::new(fleet, &alone);
        for node in fleet.pool(request.demand).every(request.seed as usize) {
            self.consider(&scene, node, request.neighbours, decision);
        }
        let is_cloud = |node: NodeIx| fleet.look(node).is_some_and(|hot| hot.caps().has(Caps::tier(Tier::Cloud)));
        let has_edge = self.field.iter().any(|(node, ..)| !is_cloud(*node));
        let most = self.field.iter().map(|(_, _, times)| *times).fold(1.0, f32::max);
        for (node, network, times) in &self.field {
            let often = if has_edge && is_cloud(*node) { 0.0 } else { MOST * times / most };
            let points = WEIGHTS[0] * network + WEIGHTS[1] * often;
            decision.offer(Choice { node: *node, cost: MOST * (WEIGHTS[0] + WEIGHTS[1]) - points }, CHOICES);
        }
    }
}
