//! Elasticity in more dimensions than latency.

use std::time::Duration;

use scf_core::{Autoscaler, Carbon, Energy, Load, Money, Share};

use super::erlang::OfferedLoad;

/// What a way of running a function comes to, in every dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a choice")]
pub struct Merits {
    /// The latency at the percentile that is promised.
    pub latency: Duration,
    /// Of a call.
    pub cost: Money,
    /// Of a call.
    pub energy: Energy,
    /// Of a call.
    pub carbon: Carbon,
    /// How good its answers are.
    pub quality: Share,
}

/// What has to hold, whatever else is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Bounds {
    /// At most.
    pub latency: Option<Duration>,
    /// At most.
    pub cost: Option<Money>,
    /// At most.
    pub energy: Option<Energy>,
    /// At most.
    pub carbon: Option<Carbon>,
    /// At least.
    pub quality: Option<Share>,
}

impl Bounds {
    /// Whether `worth` keeps all of them.
    #[must_use]
    pub fn admit(&self, worth: &Merits) -> bool {
        self.latency.is_none_or(|most| worth.latency <= most)
            && self.cost.is_none_or(|most| worth.cost <= most)
            && self.energy.is_none_or(|most| worth.energy <= most)
            && self.carbon.is_none_or(|most| worth.carbon <= most)
            && self.quality.is_none_or(|least| worth.quality >= least)
    }
}

/// What weighs how much where something is better and something worse; 0: nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct Weights {
    /// Of the latency.
    pub latency: f64,
    /// Of the cost.
    pub cost: f64,
    /// Of the energy.
    pub energy: f64,
    /// Of the emissions.
    pub carbon: f64,
    /// Of the quality.
    pub quality: f64,
}

impl Default for Weights {
    /// All alike.
    fn default() -> Self {
        Self { latency: 1.0, cost: 1.0, energy: 1.0, carbon: 1.0, quality: 1.0 }
    }
}

/// How much better another choice must be before it replaces what there is.
const HYSTERESIS: f64 = 0.1;

impl Merits {
    /// Whether it is nowhere worse than `other` and somewhere better.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        let nowhere_worse = self.latency <= other.latency
            && self.cost <= other.cost
            && self.energy <= other.energy
            && self.carbon <= other.carbon
            && self.quality >= other.quality;
        nowhere_worse && self != other
    }

    /// Lower is better: the weighted logarithms, so that a tenth less of anything counts alike.
    fn score(&self, weights: &Weights) -> f64 {
        let log = |value: f64| value.max(1e-12).ln();
        weights.latency * log(self.latency.as_secs_f64())
            + weights.cost * log(self.cost.units())
            + weights.energy * log(self.energy.joules())
            + weights.carbon * log(self.carbon.grams())
            - weights.quality * log(self.quality.fraction())
    }
}

/// Chooses among `choices`: those that keep the bounds, of these those that no other dominates, and of these the one
/// with the best weighted score. The one that is `current` stays unless it breaks a bound or another is a tenth better.
/// None when none keeps the bounds.
#[must_use]
pub fn choose(choices: &[Merits], bounds: &Bounds, weights: &Weights, current: Option<usize>) -> Option<usize> {
    let admitted = |worth: &Merits| bounds.admit(worth);
    let is_dominated =
        |worth: &Merits| choices.iter().filter(|other| admitted(other)).any(|other| other.dominates(worth));
    let front = choices.iter().enumerate().filter(|(_, worth)| admitted(worth) && !is_dominated(worth));
    let best = front.min_by(|a, b| a.1.score(weights).total_cmp(&b.1.score(weights)))?;
    let stays = current.filter(|&at| choices.get(at).is_some_and(admitted));
    let is_much_better = |at: usize| best.1.score(weights) < choices[at].score(weights) + (1.0 - HYSTERESIS).ln();
    match stays {
        Some(at) if !is_much_better(at) => Some(at),
        _ => Some(best.0),
    }
}

/// What electricity emits, over the coming time in equal steps.
///
/// When a deferrable call should run: at the step with the least emissions that still ends before the deadline, of
/// equals the first. None without a step.
#[must_use]
pub fn greenest(grams_per_kwh: &[f64], step: Duration, runs: Duration, deadline: Duration) -> Option<usize> {
    let in_time =
        |at: usize| step.saturating_mul(u32::try_from(at).unwrap_or(u32::MAX)).saturating_add(runs) <= deadline;
    let possible = grams_per_kwh.iter().enumerate().filter(|(at, _)| *at == 0 || in_time(*at));
    possible.min_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at)
}

/// What a slot costs and emits on the node that it is on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a node")]
pub struct SlotPrice {
    /// Per second that it is there.
    pub per_second: Money,
    /// Watts while it serves nothing, and those that it takes more while it serves.
    pub idle_watts: f64,
    /// See above.
    pub busy_watts: f64,
    /// What the node's electricity emits.
    pub grams_per_kwh: f64,
}

/// A way to answer: a model variant, a batch size.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a function")]
pub struct Variant {
    /// What it takes, as a factor of what the function takes now.
    pub service: f64,
    /// How good its answers are.
    pub quality: Share,
}

/// Chooses slots and a variant together, by latency, cost, energy, emissions and quality.
///
/// The latency of a number of slots is that of the M/M/c queue at the percentile; cost, energy and emissions are those
/// of the slots that are there, divided by the calls that they serve.
#[derive(Clone, Debug)]
pub struct MultiDimensional {
    price: SlotPrice,
    variants: Vec<Variant>,
    bounds: Bounds,
    weights: Weights,
    share: f64,
    /// Slots and variant.
    chosen: Option<(u32, usize)>,
    rate: super::window::Buckets,
    in_flight: u32,
}

/// Numbers of slots that are compared beyond the fewest that keep up.
const COMPARED: u32 = 32;
/// Seconds over which calls are counted.
const RATE: usize = 30;

impl MultiDimensional {
    /// For slots of `price` and the promise that `percent` per cent of the calls keep the latency of `bounds`.
    #[must_use]
    pub fn new(price: SlotPrice, percent: f64, bounds: Bounds, weights: Weights) -> Self {
        let variants = vec![Variant { service: 1.0, quality: Share::ALL }];
        let rate = super::window::Buckets::new(Duration::from_secs(1), RATE);
        let share = percent.clamp(1.0, 99.999) / 100.0;
        Self { price, variants, bounds, weights, share, chosen: None, rate, in_flight: 0 }
    }

    /// Ways to answer; default one.
    #[must_use]
    pub fn variants(mut self, variants: impl IntoIterator<Item = Variant>) -> Self {
        self.variants = variants.into_iter().collect();
        self
    }

    /// The variant that was chosen with the last number of slots, by position.
    #[must_use]
    pub fn variant(&self) -> Option<usize> {
        self.chosen.map(|(_, variant)| variant)
    }

    fn merits(&self, slots: u32, variant: &Variant, arrivals: f64, service: Duration) -> Merits {
        let takes = service.mul_f64(variant.service);
        let demand = OfferedLoad {
            arrivals,
            service: 1.0 / takes.as_secs_f64(),
            wait: Duration::ZERO,
            share: self.share,
            variation: 2.0,
        };
        // P(W > t) = C·exp(-(cμ-λ)t), solved for t.
        let (waits, spare) = (demand.late(slots), f64::from(slots) * demand.service - arrivals);
        let wait = if spare <= 0.0 { f64::MAX } else { (waits / (1.0 - self.share)).ln().max(0.0) / spare };
        let latency = Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX).saturating_add(takes);
        let seconds = f64::from(slots) / arrivals;
        let joules = seconds * self.price.idle_watts + takes.as_secs_f64() * self.price.busy_watts;
        let energy = Energy::from_joules(joules);
        Merits {
            latency,
            cost: Money::from_units(self.price.per_second.units() * seconds),
            energy,
            carbon: energy.carbon(self.price.grams_per_kwh),
            quality: variant.quality,
        }
    }
}

impl Autoscaler for MultiDimensional {
    fn desired(&mut self, load: &Load) -> u32 {
        let arrived = load.ended.saturating_add(load.in_flight()).saturating_sub(self.in_flight);
        self.in_flight = load.in_flight();
        self.rate.add(load.now, f64::from(arrived));
        let arrivals = self.rate.sum(load.now, RATE) / self.rate.covered(load.now, RATE).max(1) as f64;
        if arrivals == 0.0 && load.in_flight() == 0 {
            self.chosen = None;
            return 0;
        }
        if load.service.is_zero() || arrivals == 0.0 {
            return load.in_flight().max(1);
        }
        let (mut ways, mut choices) = (Vec::new(), Vec::new());
        for (position, variant) in self.variants.iter().enumerate() {
            let offered = arrivals * load.service.as_secs_f64() * variant.service;
            let fewest = (offered.floor() as u32).saturating_add(1);
            for slots in fewest..=fewest.saturating_add(COMPARED) {
                ways.push((slots, position));
                choices.push(self.merits(slots, variant, arrivals, load.service));
            }
        }
        let current = self.chosen.and_then(|chosen| ways.iter().position(|way| *way == chosen));
        let chosen = choose(&choices, &self.bounds, &self.weights, current).or_else(|| {
            // Where nothing keeps the bounds, what is fastest.
            (0..choices.len()).min_by_key(|&at| choices[at].latency)
        });
        self.chosen = chosen.map(|at| ways[at]);
        self.chosen.map_or(1, |(slots, _)| slots)
    }
}

#[cfg(test)]
mod tests {
    use scf_core::Timestamp;

    use super::*;

    fn merits(ms: u64, cost: f64, joules: f64, quality: f64) -> Merits {
        let energy = Energy::from_joules(joules);
        Merits {
            latency: Duration::from_millis(ms),
            cost: Money::from_units(cost),
            energy,
            carbon: energy.carbon(400.0),
            quality: Share::from_percent(quality),
        }
    }

    #[test]
    fn bounds_come_before_weights_and_what_is_dominated_is_never_chosen() {
        let choices = [
            merits(80, 1.0, 2.0, 70.0),
            merits(40, 2.0, 2.0, 70.0),
            merits(45, 2.5, 2.0, 70.0),
            merits(20, 9.0, 5.0, 70.0),
        ];
        let bounds = Bounds { latency: Some(Duration::from_millis(50)), ..Bounds::default() };
        let cheap = Weights { latency: 0.0, cost: 1.0, energy: 0.0, carbon: 0.0, quality: 0.0 };
        assert_eq!(choose(&choices, &bounds, &cheap, None), Some(1));
        let fast = Weights { latency: 9.0, ..cheap };
        assert_eq!(choose(&choices, &bounds, &fast, None), Some(3));
        let latency = Some(Duration::from_millis(10));
        assert_eq!(choose(&choices, &Bounds { latency, ..bounds }, &fast, None), None);
        let quality = Some(Share::from_percent(80.0));
        assert_eq!(choose(&choices, &Bounds { quality, ..Bounds::default() }, &cheap, None), None);
    }

    #[test]
    fn what_there_is_stays_unless_another_is_a_tenth_better() {
        let weights = Weights { latency: 0.0, cost: 1.0, energy: 0.0, carbon: 0.0, quality: 0.0 };
        let at = |cost| {
            choose(&[merits(10, 1.0, 1.0, 90.0), merits(10, cost, 1.0, 90.0)], &Bounds::default(), &weights, Some(0))
        };
        assert_eq!(at(0.95), Some(0));
        assert_eq!(at(0.85), Some(1));
    }

    #[test]
    fn a_call_that_can_wait_runs_when_electricity_is_cleanest_and_still_in_time() {
        let (grams, hour) = ([500.0, 400.0, 90.0, 50.0], Duration::from_secs(3600));
        assert_eq!(greenest(&grams, hour, hour, 3 * hour), Some(2));
        assert_eq!(greenest(&grams, hour, hour, 9 * hour), Some(3));
        assert_eq!(greenest(&grams, hour, hour, Duration::ZERO), Some(0));
    }

    fn run(scaler: &mut MultiDimensional, per_100_ms: u32) -> u32 {
        let service = Duration::from_millis(100);
        (0..600).fold(0, |_, tick| {
            let now = Timestamp::from_nanos(tick * 100_000_000);
            scaler.desired(&Load { now, running: per_100_ms, ended: per_100_ms, service, ..Load::default() })
        })
    }

    #[test]
    fn the_fewest_slots_that_keep_the_latency_are_taken_where_cost_counts_and_more_where_latency_does() {
        let per_second = Money::from_units(0.001);
        let price = SlotPrice { per_second, idle_watts: 1.0, busy_watts: 4.0, grams_per_kwh: 300.0 };
        let bounds = Bounds { latency: Some(Duration::from_millis(200)), ..Bounds::default() };
        let cheap = Weights { latency: 0.0, ..Weights::default() };
        // 50 calls per second of 100 ms that wait 100 ms at most: the queueing autoscaler's 7.
        assert_eq!(run(&mut MultiDimensional::new(price, 95.0, bounds, cheap), 5), 7);
        let fast = Weights { latency: 50.0, ..Weights::default() };
        assert!(run(&mut MultiDimensional::new(price, 95.0, bounds, fast), 5) > 7);
    }

    #[test]
    fn a_worse_variant_is_chosen_only_where_its_quality_is_enough() {
        let price =
            SlotPrice { per_second: Money::from_units(1.0), idle_watts: 1.0, busy_watts: 4.0, grams_per_kwh: 300.0 };
        let variants = [
            Variant { service: 1.0, quality: Share::from_percent(90.0) },
            Variant { service: 0.2, quality: Share::from_percent(70.0) },
        ];
        let chosen = |least: f64| {
            let bounds = Bounds { quality: Some(Share::from_percent(least)), ..Bounds::default() };
            let mut scaler = MultiDimensional::new(price, 95.0, bounds, Weights::default()).variants(variants);
            run(&mut scaler, 5);
            scaler.variant()
        };
        assert_eq!((chosen(60.0), chosen(80.0)), (Some(1), Some(0)));
    }
}
