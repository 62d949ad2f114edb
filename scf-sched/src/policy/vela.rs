//! Sampling in two steps: clusters, then nodes of them.

use super::{Policy, draw::admits};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, SiteIx},
    place::Scene,
    random::Random,
};

/// How often the agent of a cluster draws again for nodes that did not satisfy the request.
const ROUNDS: usize = 5;
/// Nodes that are left for MultiBind.
const BEST: usize = 3;

/// 2-smart sampling (Pusztai, Rossi, Dustdar: Vela, IC2E 2023, section IV.B): a share of the clusters at random, and of
/// each a share of its nodes, of which those that satisfy the request are ranked by how little of them is taken; the best
/// three are left, to be tried one after the other (MultiBind).
///
/// It may find nothing while a node fits; who drives it asks again, which Vela does ten times. Does not know of locations
/// beyond what the request needs.
#[derive(Debug)]
pub struct TwoSmart {
    sites: Vec<SiteIx>,
    clusters: f32,
    nodes: f32,
}

impl TwoSmart {
    /// Samples half of the clusters, each a site, and 4 % of the nodes of each: what its evaluation uses.
    #[must_use]
    pub const fn new(clusters: Vec<SiteIx>) -> Self {
        Self { sites: clusters, clusters: 0.5, nodes: 0.04 }
    }

    /// The share of clusters and of each one's nodes that are sampled, each from 0 to 1; at least one is.
    #[must_use]
    pub const fn shares(mut self, clusters: f32, nodes: f32) -> Self {
        (self.clusters, self.nodes) = (clusters.clamp(0.0, 1.0), nodes.clamp(0.0, 1.0));
        self
    }
}

impl Policy for TwoSmart {
    fn name(&self) -> &'static str {
        "vela"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let scene = Scene::new(fleet, request);
        let mut random = Random::new(request.seed);
        let sampled = ((self.clusters * self.sites.len() as f32).ceil() as usize).clamp(1, self.sites.len().max(1));
        for at in 0..sampled.min(self.sites.len()) {
            let other = at + random.below(self.sites.len() - at);
            self.sites.swap(at, other);
            let site = self.sites[at];
            // A question to the cluster's agent, and its answer.
            decision.messages += 2;
            let wanted = ((self.nodes * fleet.site_len(site) as f32).ceil() as usize).max(1);
            let mut found = 0;
            for _ in 0..ROUNDS {
                let missing = wanted.saturating_sub(found);
                for _ in 0..missing {
                    let Some(node) = fleet.draw_of_site(site, &mut random) else { break };
                    let Some(hot) = admits(&scene, node, decision) else { continue };
                    found += 1;
                    if decision.choices.iter().all(|choice| choice.node != node) {
                        let (free, total) = (hot.free(), hot.total());
                        let share = |free: u32, total: u32| free as f32 / total.max(1) as f32;
                        let left = share(free.milli(), total.milli()) + share(free.mib(), total.mib());
                        decision.offer(Choice { node, cost: 1.0 - left / 2.0 }, BEST);
                    }
                }
            }
        }
    }
}
