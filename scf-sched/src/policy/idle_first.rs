//! Nodes that offered themselves.

use std::collections::VecDeque;

use super::{Event, Policy, draw::admits};
use crate::{
    Choice, Decision, Request,
    fleet::{Fleet, NodeIx},
    place::Scene,
};

/// Offers that are kept.
const OFFERS: usize = 1 << 16;

/// Puts tasks where nodes said that they have nothing to do: join-idle-queue (Lu et al.: Join-Idle-Queue, Performance
/// Evaluation 68, 2011, section 3). An offer is one message of a node to one scheduler, made off the way of requests, and
/// placing a task by it is one more: nobody is asked.
///
/// An offer ([`Event::Idle`]) is for one task and is used up by it, oldest first; whoever makes it keeps the room for this
/// scheduler. Of several tasks as many are placed as there are offers. When there is none that will do the policy below
/// decides; without one there is no choice, and the request is to be asked for again, here when a node offers itself or
/// at another scheduler at once.
#[derive(Debug, Default)]
pub struct IdleFirst<P> {
    policy: Option<P>,
    offers: VecDeque<NodeIx>,
    most: usize,
}

impl<P: Policy> IdleFirst<P> {
    /// Without an offer `policy` decides.
    #[must_use]
    pub const fn or(policy: P) -> Self {
        Self { policy: Some(policy), offers: VecDeque::new(), most: OFFERS }
    }

    /// How many offers are kept, at least 1; default 65,536. Of more the oldest are forgotten.
    #[must_use]
    pub fn most(mut self, offers: usize) -> Self {
        self.most = offers.max(1);
        self
    }

    /// Offers that were not used yet.
    #[must_use]
    pub fn offers(&self) -> usize {
        self.offers.len()
    }
}

impl IdleFirst<super::UniformRandom> {
    /// Without an offer there is no choice.
    #[must_use]
    pub const fn only() -> Self {
        Self { policy: None, offers: VecDeque::new(), most: OFFERS }
    }
}

impl<P: Policy> Policy for IdleFirst<P> {
    fn name(&self) -> &'static str {
        "idle first"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let scene = Scene::new(fleet, request);
        let tasks = request.tasks.max(1) as usize;
        // Offers that do not do for this request stay for others, behind those not looked at.
        for _ in 0..self.offers.len() {
            if decision.choices.len() == tasks {
                break;
            }
            let Some(node) = self.offers.pop_front() else { break };
            match admits(&scene, node, decision) {
                Some(_) => decision.choices.push(Choice { node, cost: 0.0 }),
                None if fleet.look(node).is_some_and(|hot| hot.is_ready()) => self.offers.push_back(node),
                // It is gone, and so is its offer.
                None => {}
            }
        }
        if let Some(policy) = self.policy.as_mut().filter(|_| decision.choices.is_empty()) {
            decision.refused.clear();
            policy.decide(fleet, request, decision);
        }
    }

    fn note(&mut self, fleet: &Fleet, event: &Event) {
        if let Event::Idle { node, .. } = event {
            if self.offers.len() >= self.most {
                self.offers.pop_front();
            }
            self.offers.push_back(*node);
        }
        if let Some(policy) = &mut self.policy {
            policy.note(fleet, event);
        }
    }
}
