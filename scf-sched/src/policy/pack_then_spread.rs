//! Few nodes while they have cores, all of them when they have not.

use super::{Policy, draw::admits};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, HotView},
    place::Scene,
};

/// Nodes that a decision names.
const CHOICES: usize = 3;

/// The hybrid of packing and least loaded (Kaffes, Yadwadkar, Kozyrakis: Hermod, SoCC 2022, section 4): while some node
/// has a core without a call, the busiest of those takes the next, one with the function started before others; when none
/// has, the one with the fewest calls per core does. Calls are bound at once and share the cores of their node.
///
/// Looks at every node that can have what is needed.
#[derive(Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct PackThenSpread;

/// Lower is better: packed and started below 1, packed below 2, spread above.
fn cost(hot: &HotView, is_warm: bool) -> f32 {
    let cores = (hot.total().milli() / 1000).max(1);
    let load = hot.queued() as f32 / cores as f32;
    let started = if is_warm { 0.0 } else { 1.0 };
    // A started function decides between equal loads only, once cores are shared.
    if hot.queued() < cores { started + (1.0 - load) * 0.99 } else { 2.0 + load + started * 1e-3 }
}

impl Policy for PackThenSpread {
    fn name(&self) -> &'static str {
        "pack then spread"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let scene = Scene::new(fleet, request);
        for node in fleet.pool(request.demand).every(request.seed as usize) {
            if let Some(hot) = admits(&scene, node, decision) {
                let cost = cost(&hot, fleet.is_warm(request.demand.function, node));
                decision.offer(Choice { node, cost }, CHOICES);
            }
        }
    }
}
