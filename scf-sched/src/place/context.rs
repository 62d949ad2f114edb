//! Needs that can be bent: what of them a node leaves unsatisfied, and what that costs.

use super::{Candidate, Scene};
use crate::{
    Bound, LinkBound, Reason,
    fleet::{Evenness, Fleet, HotView, Spot, Way},
};

/// Metres of a geo cell's edge, the distance that a node has to move before it counts as elsewhere.
const CELL_M: f64 = 11_119.5;

pub(super) const AREA: Reason = Reason::new("area");
pub(super) const BATTERY: Reason = Reason::new("battery");
pub(super) const DWELL: Reason = Reason::new("dwell");
pub(super) const DATA: Reason = Reason::new("data");
pub(super) const NEIGHBOUR: Reason = Reason::new("neighbour unreachable");
pub(super) const BANDWIDTH: Reason = Reason::new("bandwidth");
pub(super) const LATENCY: Reason = Reason::new("latency");
pub(super) const JITTER: Reason = Reason::new("jitter");
pub(super) const LOSS: Reason = Reason::new("loss");

/// Whether there is anything to look at.
#[inline]
pub(super) fn is_plain(scene: &Scene<'_>) -> bool {
    let demand = scene.request.demand;
    demand.area.is_none()
        && demand.battery.is_none()
        && demand.dwell.is_none()
        && demand.data.is_none()
        && demand.link.is_none()
        && scene.request.inputs.iter().all(|input| input.within.is_none())
        && scene.request.neighbours.is_empty()
}

/// Gives each need that the candidate does not satisfy, with what that costs, infinite when it is ruled out, until
/// `each` says to stop. `joules` is what one call draws there.
pub(super) fn unmet(scene: &Scene<'_>, candidate: &Candidate, joules: f32, mut each: impl FnMut(Reason, f32) -> bool) {
    let hot = &candidate.hot;
    let demand = scene.request.demand;
    if let Some(area) = demand.area
        && !hot.point().is_some_and(|point| area.what.contains(point))
        && !each(AREA, area.penalty)
    {
        return;
    }
    if let Some(battery) = demand.battery
        && !has_charge(scene, candidate, battery.what.percent, battery.what.share, joules)
        && !each(BATTERY, battery.penalty)
    {
        return;
    }
    if let Some(dwell) = demand.dwell
        && stays(scene, hot) < f64::from(dwell.what)
        && !each(DWELL, dwell.penalty)
    {
        return;
    }
    if let Some(data) = demand.data {
        let times = scene.request.inputs.iter().zip(&scene.sources);
        let times = times.map(|(input, sources)| scene.input_time(input, sources, candidate));
        let all = times.fold(0.0, |all, time| all + time.unwrap_or(f32::INFINITY));
        if all > data.what && !each(DATA, data.penalty) {
            return;
        }
    }
    for (input, sources) in scene.request.inputs.iter().zip(&scene.sources) {
        if let Some(within) = input.within
            && scene.input_time(input, sources, candidate).is_none_or(|time| time > within.what)
            && !each(DATA, within.penalty)
        {
            return;
        }
    }
    if let Some(link) = demand.link
        && !carries(scene, scene.from.as_ref(), candidate, candidate.ways, link, &mut each)
    {
        return;
    }
    for (neighbour, place) in scene.request.neighbours.iter().zip(&scene.neighbours) {
        let ways = place.as_ref().and_then(|place| scene.ways(place, candidate));
        if ways.is_none() && !each(NEIGHBOUR, f32::INFINITY) {
            return;
        }
        if let Some(link) = neighbour.link.or(demand.link)
            && !carries(scene, place.as_ref(), candidate, ways, link, &mut each)
        {
            return;
        }
    }
}

/// Holds both directions of a way against what is asked; `false` when `each` said to stop.
fn carries(
    scene: &Scene<'_>,
    other: Option<&Spot>,
    candidate: &Candidate,
    ways: Option<(Way, Way)>,
    link: Bound<LinkBound>,
    each: &mut impl FnMut(Reason, f32) -> bool,
) -> bool {
    let asked = link.what;
    let Some((there, back)) = ways else { return each(LATENCY, link.penalty) };
    // A caller from outside has no way that could be uneven.
    let even: [Evenness; 2] = other.map_or_else(Default::default, |other| {
        let network = scene.fleet.network();
        [network.evenness(other, &candidate.spot), network.evenness(&candidate.spot, other)]
    });
    lacking(there, back, even, asked).all(|reason| each(reason, link.penalty))
}

/// Whether the ways between two nodes are as a hard link must be, in both directions; a soft one only asks for ways.
pub(crate) fn is_carried(fleet: &Fleet, a: &Spot, b: &Spot, link: Option<Bound<LinkBound>>) -> bool {
    let network = fleet.network();
    let Some((there, back)) = network.ways(a, b) else { return false };
    let even = || [network.evenness(a, b), network.evenness(b, a)];
    link.is_none_or(|link| !link.is_hard() || lacking(there, back, even(), link.what).next().is_none())
}

/// What two ways, there and back, lack of what is asked.
fn lacking(there: Way, back: Way, even: [Evenness; 2], asked: LinkBound) -> impl Iterator<Item = Reason> {
    let met = [
        (there.rate.min(back.rate) >= asked.rate, BANDWIDTH),
        (there.delay.max(back.delay) <= asked.delay, LATENCY),
        (even.iter().all(|even| even.jitter <= asked.jitter), JITTER),
        (even.iter().all(|even| even.loss <= asked.loss), LOSS),
    ];
    met.into_iter().filter(|(is_met, _)| !is_met).map(|(_, reason)| reason)
}

/// Whether a node without mains has what is asked: a charge, and that one call draws no more than a share of what is
/// left.
fn has_charge(scene: &Scene<'_>, candidate: &Candidate, percent: u8, share: u32, joules: f32) -> bool {
    let Some(charge) = candidate.hot.charge() else { return true };
    if charge < percent {
        return false;
    }
    let full = || scene.fleet.node(candidate.node)?.battery.map(|battery| f64::from(battery.watt_hours) * 3600.0);
    let left = full().unwrap_or(f64::INFINITY) * f64::from(charge) / 100.0;
    f64::from(joules) <= left * f64::from(share) * 1e-6
}

/// Seconds that a node is expected to stay in the asked area, or else in a cell about it.
fn stays(scene: &Scene<'_>, hot: &HotView) -> f64 {
    let speed = f64::from(hot.speed());
    if speed == 0.0 {
        return f64::INFINITY;
    }
    let metres = match (scene.request.demand.area, hot.point()) {
        (Some(area), Some(point)) => f64::from(area.what.metres) - area.what.centre.metres_to(point),
        // From somewhere in a cell, the mean way to its edge is about a quarter of it.
        _ => CELL_M / 4.0,
    };
    metres.max(0.0) / speed
}
