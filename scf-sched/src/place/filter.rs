//! What a node must offer.

use std::fmt::Debug;

use super::{Candidate, Scene, context};
use crate::{Reason, Request, fleet::HotView};

/// A need that a node satisfies or not. Called for every node of a sample: no I/O, no allocation.
pub trait Filter: Debug + Send + Sync + 'static {
    /// The first thing that can be seen in the node's record alone not to be satisfied: asked of every node of a
    /// sample, before the ways to it are looked up. Default: nothing can be.
    #[inline]
    fn glance(&self, _request: &Request<'_>, _hot: &HotView) -> Option<Reason> {
        None
    }

    /// The first other thing that the node does not satisfy; asked of nodes that nothing was seen of at a glance.
    fn refuses(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Reason>;

    /// Gives everything that the node does not satisfy; for explanations.
    fn every(&self, scene: &Scene<'_>, candidate: &Candidate, each: &mut dyn FnMut(Reason)) {
        let seen = self.glance(scene.request, &candidate.hot).into_iter();
        seen.chain(self.refuses(scene, candidate)).for_each(each);
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
    fn glance(&self, request: &Request<'_>, hot: &HotView) -> Option<Reason> {
        self.0.glance(request, hot).or_else(|| self.1.glance(request, hot))
    }

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
    fn glance(&self, request: &Request<'_>, hot: &HotView) -> Option<Reason> {
        let mut first = None;
        seen(request, hot, &mut |reason| {
            first = Some(reason);
            false
        });
        first
    }

    #[inline]
    fn refuses(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Reason> {
        let mut first = None;
        looked_up(scene, candidate, &mut |reason| {
            first = Some(reason);
            false
        });
        first
    }

    fn every(&self, scene: &Scene<'_>, candidate: &Candidate, each: &mut dyn FnMut(Reason)) {
        let mut each = |reason| {
            each(reason);
            true
        };
        seen(scene.request, &candidate.hot, &mut each);
        looked_up(scene, candidate, &mut each);
    }
}

/// Gives what can be seen not to be satisfied, until `each` says to stop.
#[inline]
fn seen(request: &Request<'_>, hot: &HotView, each: &mut impl FnMut(Reason) -> bool) {
    let demand = request.demand;
    let (free, need) = (hot.free(), demand.need);
    let in_region = || demand.regions.is_empty() || hot.region().is_some_and(|region| demand.regions.contains(&region));
    let mut check = |is_met: bool, reason| is_met || each(reason);
    let _all = check(hot.is_ready(), UNAVAILABLE)
        && check(hot.caps().meets(demand.tiers), TIER)
        && check(hot.caps().has(demand.caps), CAPABILITY)
        && check(hot.units().fits(need.units), ACCELERATOR)
        && check(demand.zone.is_none() || hot.zone() == demand.zone, ZONE)
        && check(free.milli() >= need.amount.milli(), CPU)
        && check(free.mib() >= need.amount.mib(), MEMORY)
        && check(free.slots() >= need.amount.slots(), SLOTS)
        && check(in_region(), REGION);
}

/// Gives what has to be looked up and is not satisfied, until `each` says to stop.
#[inline]
fn looked_up(scene: &Scene<'_>, candidate: &Candidate, each: &mut impl FnMut(Reason) -> bool) {
    let demand = scene.request.demand;
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
