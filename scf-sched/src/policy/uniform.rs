//! The yardstick of sampling.

use super::{Policy, draw::Draw};
use crate::{Choice, Decision, Request, fleet::Fleet};

/// Any node that satisfies the request, each with the same chance: random placement. Knows nothing of load.
#[derive(Debug, Default)]
pub struct UniformRandom {
    draw: Draw,
}

impl UniformRandom {
    /// The policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for UniformRandom {
    fn name(&self) -> &'static str {
        "random"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.draw.draw(fleet, request, request.tasks.max(1) as usize, decision);
        decision.choices.extend(self.draw.nodes.iter().map(|(node, _)| Choice { node: *node, cost: 0.0 }));
    }
}
