//! What a node must offer.

use std::fmt::Debug;

use super::{Candidate, Scene, context};
use crate::Reason;

/// A need that a node satisfies or not. Called for every node of a sample: no I/O, no allocation.
pub trait Filter: Debug + Send + Sync + 'static {
    /// The first thing that the node does not satisfy.
    fn refuses(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Reason>;

    /// Gives everything that the node does not satisfy; for explanations.
    fn every(&self, scene: &Scene<'_>, candidate: &Candidate, each: &mut dyn FnMut(Reason)) {
        if let Some(reason) = self.refuses(scene, candidate) {
            each(reason);
        }
    }
}

/// Refuses nothing.
impl Filter for () {
    fn refuses(&self, _scene: &Scene<'_>, _candidate: &Candidate) -> Option<Reason> {
        None
    }
}

/// Refuses what either refuses.
impl<A: Filter, B: Filter> Filter for (A, B) {
    #[inline]
    fn refuses(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Reason> {
        self.0.refuses(scene, candidate).or_else(|| self.1.refuses(scene, candidate))
    }

    fn every(&self, scene: &Scene<'_>, candidate: &Candidate, each: &mut dyn FnMut(Reason)) {
        self.0.every(scene, candidate, each);
        self.1.every(scene, candidate, each);
    }
}

const UNAVAILABLE: Reason = Reason::new("takes no calls");
const NODE: Reason = Reason::new("node");
const TIER: Reason = Reason::new("tier");
const CAPABILITY: Reason = Reason::new("capability");
const ACCELERATOR: Reason = Reason::new("accelerator");
const ZONE: Reason = Reason::new("zone");
const REGION: Reason = Reason::new("region");
const CPU: Reason = Reason::new("processor");
const MEMORY: Reason = Reason::new("memory");
const SLOTS: Reason = Reason::new("slots");
const UNREACHABLE: Reason = Reason::new("unreachable");
const WITHIN: Reason = Reason::new("within");

/// Every need that a function can state, the cheapest first.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has no parts")]
pub struct Needs;

impl Filter for Needs {
    #[inline]
    fn refuses(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Reason> {
        let mut first = None;
        visit(scene, candidate, &mut |reason| {
            first = Some(reason);
            false
        });
        first
    }

    fn every(&self, scene: &Scene<'_>, candidate: &Candidate, each: &mut dyn FnMut(Reason)) {
        visit(scene, candidate, &mut |reason| {
            each(reason);
            true
        });
    }
}

/// Gives what the node does not satisfy, until `each` says to stop.
#[inline]
fn visit(scene: &Scene<'_>, candidate: &Candidate, each: &mut impl FnMut(Reason) -> bool) {
    let hot = &candidate.hot;
    let demand = scene.request.demand;
    let (free, need) = (hot.free(), demand.need);
    let mut check = |is_met: bool, reason| is_met || each(reason);
    let goes_on = check(hot.is_ready(), UNAVAILABLE)
        && check(hot.caps().meets(demand.tiers), TIER)
        && check(hot.caps().has(demand.caps), CAPABILITY)
        && check(hot.units().fits(need.units), ACCELERATOR)
        && check(demand.zone.is_none() || hot.zone() == demand.zone, ZONE)
        && check(free.milli() >= need.amount.milli(), CPU)
        && check(free.mib() >= need.amount.mib(), MEMORY)
        && check(free.slots() >= need.amount.slots(), SLOTS);
    if !goes_on {
        return;
    }
    let in_region = demand.regions.is_empty() || hot.region().is_some_and(|region| demand.regions.contains(&region));
    if !in_region && !each(REGION) {
        return;
    }
    if !(demand.nodes.is_empty() || demand.nodes.contains(&candidate.node)) && !each(NODE) {
        return;
    }
    match candidate.ways {
        None if !each(UNREACHABLE) => return,
        Some((there, _)) if there.delay > demand.within && !each(WITHIN) => return,
        _ => {}
    }
    if !context::is_plain(scene) {
        let joules = super::score::joules(scene, candidate, super::score::work(scene, candidate));
        context::unmet(scene, candidate, joules, |reason, penalty| !penalty.is_infinite() || each(reason));
    }
}
