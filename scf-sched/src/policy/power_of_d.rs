//! The shortest of a few queues.

use super::{Policy, draw::Draw};
use crate::{Choice, Decision, Request, fleet::Fleet};

/// The power of d choices: for each task d nodes are asked and the one with the fewest calls takes it (Mitzenmacher: The
/// power of two choices in randomized load balancing, IEEE TPDS 12, 2001; per-task sampling in Ousterhout et al.:
/// Sparrow, SOSP 2013, section 3.1).
///
/// The nodes that the tasks of one request ask differ. Of a request for one task the others are left as further choices.
#[derive(Debug)]
pub struct PowerOfD {
    choices: usize,
    draw: Draw,
}

impl PowerOfD {
    /// Asks `d` nodes per task, at least 1.
    #[must_use]
    pub fn new(d: usize) -> Self {
        Self { choices: d.max(1), draw: Draw::default() }
    }
}

impl Policy for PowerOfD {
    fn name(&self) -> &'static str {
        "power of d"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let tasks = request.tasks.max(1) as usize;
        self.draw.draw(fleet, request, tasks * self.choices, decision);
        // A question and an answer each.
        decision.messages = 2 * self.draw.nodes.len() as u32;
        let choices = |(node, hot): &(_, crate::fleet::HotView)| Choice { node: *node, cost: hot.queued() as f32 };
        if tasks == 1 {
            self.draw.nodes.iter().for_each(|node| decision.offer(choices(node), self.choices));
            return;
        }
        // Where there are not enough nodes for all, the last tasks have fewer to choose from, or none and are asked for
        // again.
        for asked in self.draw.nodes.chunks(self.choices) {
            let least = asked.iter().map(choices).min_by(|a, b| a.cost.total_cmp(&b.cost));
            decision.choices.extend(least);
        }
    }
}
