//! Sampling for all tasks of a job at once.

use super::{Policy, draw::Draw};
use crate::{Binding, Choice, Decision, Request, fleet::Fleet};

/// Batch sampling (Ousterhout et al.: Sparrow, SOSP 2013, section 3.2): for m tasks d m nodes are asked once, and the m
/// with the fewest calls take one each.
///
/// With late binding (section 3.3) nobody is asked: each of the d m gets a reservation, and the m that come to it first
/// get the tasks; with cancellation (section 3.5) the others are told. Late binding needs nodes that keep reservations;
/// it does harm where execution times are heavy-tailed and nodes share their cores (Kaffes et al.: Hermod, SoCC 2022).
#[derive(Debug)]
pub struct BatchSampling {
    ratio: f32,
    binding: Binding,
    draw: Draw,
}

impl BatchSampling {
    /// Asks `ratio` nodes per task, at least 1.
    #[must_use]
    pub fn new(ratio: f32) -> Self {
        Self { ratio: ratio.max(1.0), binding: Binding::Early, draw: Draw::default() }
    }

    /// When tasks are bound to nodes; default early.
    #[must_use]
    pub const fn binding(mut self, binding: Binding) -> Self {
        self.binding = binding;
        self
    }
}

impl Policy for BatchSampling {
    fn name(&self) -> &'static str {
        match self.binding {
            Binding::Early => "batch sampling",
            Binding::Late { cancels: false } => "late binding",
            Binding::Late { cancels: true } => "late binding, cancelling",
        }
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let tasks = request.tasks.max(1) as usize;
        let wanted = (self.ratio * tasks as f32).ceil() as usize;
        self.draw.draw(fleet, request, wanted, decision);
        decision.binding = self.binding;
        let nodes = &mut self.draw.nodes;
        if self.binding == Binding::Early {
            decision.messages = 2 * nodes.len() as u32;
            // Stable: of equals those drawn first.
            nodes.sort_by_key(|(_, hot)| hot.queued());
            // Of one task the others are for when the first is taken.
            if tasks > 1 {
                nodes.truncate(tasks);
            }
        }
        decision.choices.extend(nodes.iter().map(|(node, hot)| Choice { node: *node, cost: hot.queued() as f32 }));
    }
}
