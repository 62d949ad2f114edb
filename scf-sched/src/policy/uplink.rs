//! A budget for what leaves places.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use super::{Event, Policy};
use crate::{
    Decision, Request,
    fleet::Fleet,
    place::{Candidate, Cost, Scene, Score},
};

/// What a byte costs that leaves its site, in seconds; rises and falls with what is used of an [`UplinkBudget`]. Clones
/// share it.
#[derive(Clone, Debug, Default)]
pub struct UplinkPrice(Arc<AtomicU32>);

impl UplinkPrice {
    /// Free at first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Seconds per byte.
    #[must_use]
    pub fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Relaxed))
    }

    fn set(&self, price: f32) {
        self.0.store(price.to_bits(), Relaxed);
    }
}

impl Score for UplinkPrice {
    #[inline]
    fn cost(&self, scene: &Scene<'_>, candidate: &Candidate) -> Cost {
        Cost::seconds(leaving(scene, candidate) * self.get())
    }
}

/// Bytes of the inputs that come from or go to another site.
fn leaving(scene: &Scene<'_>, candidate: &Candidate) -> f32 {
    let inputs = scene.request.inputs.iter().zip(&scene.sources);
    let outside = inputs
        .filter(|(_, sources)| !sources.is_empty() && sources.iter().all(|source| source.site != candidate.spot.site));
    outside.map(|(input, _)| input.read + input.written).sum()
}

/// Keeps what leaves sites to a number of bytes per decision on average, whatever the policy below does within that.
///
/// The price of a byte is the Lagrange multiplier of the budget, found as decisions come: after each it rises in
/// proportion to what was used above the budget and falls to what was left of it (dual gradient ascent; Neely:
/// Stochastic Network Optimization, 2010, chapter 4, where it is the virtual queue). The policy below must have the
/// [`UplinkPrice`] among its scores.
#[derive(Debug)]
pub struct UplinkBudget<P> {
    policy: P,
    price: UplinkPrice,
    budget: f32,
    step: f32,
}

impl<P: Policy> UplinkBudget<P> {
    /// `bytes` may leave sites per decision.
    #[must_use]
    pub const fn new(policy: P, price: UplinkPrice, bytes: f32) -> Self {
        Self { policy, price, budget: bytes, step: 2.5e-16 }
    }

    /// Seconds per byte by which the price changes for each byte above or below the budget; default 2.5e-16: a decision
    /// that moves 200 MB makes the next 200 MB dearer by 10 s.
    #[must_use]
    pub const fn step(mut self, step: f32) -> Self {
        self.step = step;
        self
    }
}

impl<P: Policy> Policy for UplinkBudget<P> {
    fn name(&self) -> &'static str {
        "scf, uplink budget"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        self.policy.decide(fleet, request, decision);
        let scene = Scene::new(fleet, request);
        let looked = decision.best().and_then(|node| Some((node, fleet.look(node)?)));
        let Some(used) = looked.map(|(node, hot)| leaving(&scene, &Candidate::new(&scene, node, hot))) else { return };
        self.price.set(self.step.mul_add(used - self.budget, self.price.get()).max(0.0));
    }

    fn note(&mut self, fleet: &Fleet, event: &Event) {
        self.policy.note(fleet, event);
    }
}
