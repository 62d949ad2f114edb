//! What a node would cost.

use std::fmt::Debug;

use super::{Candidate, Cost, Parts, Scene, context};
use crate::{
    Estimator, Objective, ProfileKey, Unknown,
    fleet::{HotView, Spot, Way},
};

/// What a call of unknown work is taken for, so that load and slowdown count.
const UNKNOWN_WORK: f32 = 0.001;
/// What a way that is not known is taken for: the data would have to be fetched by other means.
const NO_WAY: f32 = 3600.0;
/// What missing an objective for certain is taken for, in seconds: more than any way.
const MISSED: f32 = 7200.0;

/// What a placement costs; the lowest wins. Called for every admitted node of a sample: no I/O, no allocation.
pub trait Score: Debug + Send + Sync + 'static {
    /// The cost. Finite numbers only.
    fn cost(&self, scene: &Scene<'_>, candidate: &Candidate) -> Cost;

    /// What its seconds are made of; for explanations. Default: nothing is known of the parts.
    fn parts(&self, _scene: &Scene<'_>, _candidate: &Candidate) -> Option<Parts> {
        None
    }
}

/// The sum of both.
impl<A: Score, B: Score> Score for (A, B) {
    #[inline]
    fn cost(&self, scene: &Scene<'_>, candidate: &Candidate) -> Cost {
        self.0.cost(scene, candidate) + self.1.cost(scene, candidate)
    }

    fn parts(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Parts> {
        self.0.parts(scene, candidate).or_else(|| self.1.parts(scene, candidate))
    }
}

/// The time until the reply is there, and what it costs in money and energy:
/// `wait + cold start + sum of bytes / bandwidth + round trips + E[execution | function, input class, hardware]`.
#[derive(Clone, Copy, Debug)]
pub struct CompletionTime<E = Unknown> {
    estimator: E,
    crowding: f32,
    remote_byte: f32,
}

impl Default for CompletionTime {
    /// Nothing learned: the request's own word counts.
    fn default() -> Self {
        Self::new(Unknown)
    }
}

impl<E: Estimator> CompletionTime<E> {
    /// Execution times by `estimator`, calls that share a core slow each other down by a twentieth, bytes that leave
    /// their site cost what they take in time.
    #[must_use]
    pub const fn new(estimator: E) -> Self {
        Self { estimator, crowding: 0.05, remote_byte: 0.0 }
    }

    /// By what share of itself a call is slowed down by every other one on its core; default 0.05.
    #[must_use]
    pub const fn crowding(mut self, share: f32) -> Self {
        self.crowding = share;
        self
    }

    /// Seconds that each byte counts which leaves its site, beside the time that it takes; default 0. One knob from
    /// "as fast as can be" to "as little on the uplink as can be".
    #[must_use]
    pub const fn remote_byte(mut self, seconds: f32) -> Self {
        self.remote_byte = seconds;
        self
    }

    /// What execution times are taken from.
    #[must_use]
    pub const fn estimator(&self) -> &E {
        &self.estimator
    }

    #[inline]
    fn reckon(&self, scene: &Scene<'_>, candidate: &Candidate) -> (Parts, f32) {
        let request = scene.request;
        let hot = &candidate.hot;
        let key = ProfileKey { function: request.demand.function, input: request.input_class, class: hot.class() };
        let estimate = self.estimator.execution(key);
        let alone = estimate.map_or_else(|| work(scene, candidate), |estimate| estimate.seconds);
        let cores = (hot.total().milli() as f32 / 1000.0).max(0.001);
        let queued = hot.queued() as f32;
        let mut parts = Parts { execution: alone * (1.0 + self.crowding * queued / cores), ..Parts::default() };
        // What the node says, or else what the calls before it come to.
        let ahead = (queued + 1.0 - cores).max(0.0) / cores * alone;
        parts.wait = if hot.wait() > 0.0 { hot.wait() } else { ahead };
        let mut remote = 0.0;
        if let Some(from) = &scene.from {
            let time = |(there, back): (Way, Way)| there.time_for(request.payload) + back.time_for(request.reply);
            parts.transfer = candidate.ways.map_or(NO_WAY, time);
            remote += left(from, hot, request.payload + request.reply);
        }
        if !scene.fleet.is_warm(request.demand.function, candidate.node) {
            parts.cold = self.estimator.cold_start(key);
            if let Some((sources, bytes)) = &scene.artefact
                && let Some(artefact) = request.demand.artefact
                && !scene.fleet.is_holder(artefact, candidate.node)
            {
                parts.cold += scene.nearest(sources, candidate, *bytes).map_or(NO_WAY, |way| way.time_for(*bytes));
                remote += sources.first().map_or(0.0, |source| left(source, hot, *bytes));
            }
        }
        for (input, sources) in request.inputs.iter().zip(&scene.sources) {
            let time = scene.input_time(input, sources, candidate).unwrap_or(NO_WAY);
            parts.inputs += time;
            if time > 0.0 && sources.iter().all(|source| source.site != hot.site()) {
                remote += input.read + input.written;
            }
        }
        for (neighbour, place) in request.neighbours.iter().zip(&scene.neighbours) {
            let Some(place) = place else { continue };
            let time = |(there, back): (Way, Way)| {
                let incoming = if neighbour.incoming > 0.0 { there.time_for(neighbour.incoming) } else { 0.0 };
                let outgoing = if neighbour.outgoing > 0.0 { back.time_for(neighbour.outgoing) } else { 0.0 };
                incoming + outgoing
            };
            parts.neighbours += scene.ways(place, candidate).map_or(NO_WAY, time);
            remote += left(place, hot, neighbour.incoming + neighbour.outgoing);
        }
        parts.penalty = remote * self.remote_byte;
        if !context::is_plain(scene) {
            context::unmet(scene, candidate, joules(scene, candidate, alone), |_, penalty| {
                parts.penalty += if penalty.is_finite() { penalty } else { MISSED };
                true
            });
        }
        if let Some(objective) = request.objective {
            let deviation = estimate.map_or(0.0, |estimate| estimate.deviation);
            parts.objective = missed(objective, parts.latency(), deviation) * MISSED;
        }
        (parts, alone)
    }
}

impl<E: Estimator> Score for CompletionTime<E> {
    #[inline]
    fn cost(&self, scene: &Scene<'_>, candidate: &Candidate) -> Cost {
        let (parts, alone) = self.reckon(scene, candidate);
        let rates = scene.fleet.class(candidate.hot.class()).rates;
        let busy = alone * cores(scene);
        Cost { seconds: parts.sum(), money: busy * rates.money, joules: busy * rates.joules }
    }

    fn parts(&self, scene: &Scene<'_>, candidate: &Candidate) -> Option<Parts> {
        Some(self.reckon(scene, candidate).0)
    }
}

/// Seconds that the call takes on a candidate by the request's own word.
#[inline]
pub(super) fn work(scene: &Scene<'_>, candidate: &Candidate) -> f32 {
    let work = if scene.request.work > 0.0 { scene.request.work } else { UNKNOWN_WORK };
    work * scene.fleet.class(candidate.hot.class()).slowdown
}

/// Energy of a call that runs for that long on a candidate, in joules.
#[inline]
pub(super) fn joules(scene: &Scene<'_>, candidate: &Candidate, seconds: f32) -> f32 {
    seconds * cores(scene) * scene.fleet.class(candidate.hot.class()).rates.joules
}

/// Cores that a call keeps busy: what it reserves, or one.
#[inline]
fn cores(scene: &Scene<'_>) -> f32 {
    let milli = scene.request.demand.need.amount.milli();
    if milli == 0 { 1.0 } else { milli as f32 / 1000.0 }
}

/// The bytes if they leave the other node's site.
#[inline]
fn left(other: &Spot, hot: &HotView, bytes: f32) -> f32 {
    if other.site == hot.site() { 0.0 } else { bytes }
}

/// By how much the probability of being in time falls short of what is wanted, from 0 to 1, and a little that grows
/// with the time, so that of two that miss it the faster is better.
#[inline]
fn missed(objective: Objective, seconds: f32, deviation: f32) -> f32 {
    let late = seconds - objective.within;
    let in_time = if deviation > 0.0 { normal(-late / deviation) } else { f32::from(late <= 0.0) };
    let short = (objective.share - in_time).max(0.0);
    if short > 0.0 { short + (late / objective.within.max(1e-6)).clamp(0.0, 1e3) * 1e-3 } else { 0.0 }
}

/// The standard normal distribution function, by a logistic of a cubic (Bowling et al., Journal of Industrial
/// Engineering and Management 2(1), 2009, equation 10: off by at most 0.00014).
#[inline]
fn normal(z: f32) -> f32 {
    1.0 / (1.0 + (-(0.070_565_f32.mul_add(z * z, 1.5976) * z)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_distribution_is_close_to_its_table() {
        for (z, table) in [(-1.96, 0.024_998), (-1.0, 0.158_655), (0.0, 0.5), (1.644_854, 0.95), (2.326, 0.99)] {
            assert!((normal(z) - table).abs() < 2e-4, "{z}: {}", normal(z));
        }
    }

    #[test]
    fn an_objective_that_is_met_costs_nothing_and_a_missed_one_more_the_later() {
        let objective = Objective { within: 1.0, share: 0.95 };
        assert_eq!(missed(objective, 0.5, 0.1), 0.0);
        assert!(missed(objective, 0.95, 0.1) > 0.0, "the mean is in time, the 95th percentile is not");
        assert!(missed(objective, 3.0, 0.0) > missed(objective, 2.0, 0.0));
    }
}
