//! As many as the concurrency of the last minute asks for.

use std::{collections::VecDeque, time::Duration};

use scf_core::{Autoscaler, Load, Timestamp};

use super::window::Buckets;

/// What a [`Kpa`] aims at. The defaults are Knative's.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct KpaSettings {
    /// What one replica can have at the same time; default 100.
    pub total: f64,
    /// The share of it that should be used; default 0.7.
    pub utilisation: f64,
    /// Seconds of the stable window; default 60.
    pub stable_window: u32,
    /// Seconds of the panic window; default 6.
    pub panic_window: u32,
    /// How many times what there is the panic window must ask for; default 2.
    pub panic_factor: f64,
    /// The most that is added at once, as a factor of what is ready; default 1000.
    pub up_rate: f64,
    /// The most that is taken away at once, as a factor of what is ready; default 2.
    pub down_rate: f64,
    /// The fewest replicas while there is anything to do; default 0.
    pub least: u32,
    /// The most replicas; default no bound.
    pub most: u32,
    /// What burst beyond the replicas' room must be taken without queueing; default 211.
    pub burst: f64,
    /// How long it is kept at one after the stable window was empty; default 30 s.
    pub grace: Duration,
    /// How long fewer replicas must have been enough before some are taken away, at most an hour; default zero.
    pub down_delay: Duration,
    /// Whether newer seconds weigh more.
    pub averaging: Averaging,
}

/// How the seconds of a window are averaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Averaging {
    /// All alike.
    #[default]
    Mean,
    /// Exponentially, the newest most.
    Weighted,
}

impl Default for KpaSettings {
    fn default() -> Self {
        Self {
            total: 100.0,
            utilisation: 0.7,
            stable_window: 60,
            panic_window: 6,
            panic_factor: 2.0,
            up_rate: 1000.0,
            down_rate: 2.0,
            least: 0,
            most: u32::MAX,
            burst: 211.0,
            grace: Duration::from_secs(30),
            down_delay: Duration::ZERO,
            averaging: Averaging::Mean,
        }
    }
}

impl KpaSettings {
    /// For the slots of one node, of which each has one call at a time.
    #[must_use]
    pub fn slots() -> Self {
        Self { total: 1.0, burst: 0.0, ..Self::default() }
    }

    /// What one replica is aimed to have.
    fn target(&self) -> f64 {
        (self.total * self.utilisation).max(0.01)
    }
}

/// What a [`Kpa`] decided.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct KpaDecision {
    /// Replicas.
    pub desired: u32,
    /// What the ready replicas can still take; below zero, calls should be queued in front of them.
    pub excess_burst: f64,
    /// Whether nothing is taken away for now.
    pub panicking: bool,
}

/// Follows the mean concurrency of a stable window, and that of a short panic window when it bursts: the Knative Pod
/// Autoscaler (knative/serving, `pkg/autoscaler/scaling/autoscaler.go`).
///
/// Per decision both windows are divided by the target and held between a fall by `down_rate` and a rise by
/// `up_rate`. When the panic window alone asks for `panic_factor` times what is ready, the larger of both counts and
/// nothing is taken away until it has been over for a stable window. As [`Autoscaler`] it records the calls in flight
/// and decides whenever it is asked; where that is not wanted, [`record`](Self::record) and
/// [`decide`](Self::decide) are the two halves.
#[derive(Clone, Debug)]
pub struct Kpa {
    settings: KpaSettings,
    buckets: Buckets,
    /// When the panic window was last over the threshold, and the most that was wanted since it began.
    panic: Option<(Timestamp, u32)>,
    /// What was wanted in each second of the delay, falling from the front: a maximum over a window.
    wanted: VecDeque<(u64, u32)>,
    /// Since when nothing is wanted.
    empty: Option<Timestamp>,
}

/// Seconds that a decision to scale down is delayed at most.
const MOST_DELAY: u64 = 3600;

impl Kpa {
    /// Starts without any history.
    #[must_use]
    pub fn new(settings: KpaSettings) -> Self {
        let longest = settings.stable_window.max(settings.panic_window).max(1) as usize;
        let buckets = Buckets::new(Duration::from_secs(1), longest);
        Self { settings, buckets, panic: None, wanted: VecDeque::new(), empty: None }
    }

    /// Starts beside `ready` replicas of which nobody knows what they have had: where there is more than one, nothing
    /// is taken away for a stable window.
    #[must_use]
    pub fn resume(settings: KpaSettings, ready: u32, now: Timestamp) -> Self {
        let panic = (ready > 1).then_some((now, ready));
        Self { panic, ..Self::new(settings) }
    }

    /// Takes down what the replicas have now, all together.
    pub fn record(&mut self, now: Timestamp, concurrency: f64) {
        self.buckets.record(now, concurrency);
    }

    /// Decides by what was recorded, with `ready` replicas ready.
    pub fn decide(&mut self, now: Timestamp, ready: u32) -> KpaDecision {
        let Averages { stable, panic } = self.averages(now);
        self.decide_for(now, ready, stable, panic)
    }

    fn averages(&self, now: Timestamp) -> Averages {
        let mean = |seconds: u32| match self.settings.averaging {
            Averaging::Mean => self.buckets.mean(now, seconds as usize),
            Averaging::Weighted => self.buckets.weighted_mean(now, seconds as usize),
        };
        Averages { stable: mean(self.settings.stable_window), panic: mean(self.settings.panic_window) }
    }

    /// Decides by given means of the two windows, with `ready` replicas ready.
    pub fn decide_for(&mut self, now: Timestamp, ready: u32, stable: f64, panic: f64) -> KpaDecision {
        let settings = &self.settings;
        let (target, r) = (settings.target(), f64::from(ready.max(1)));
        // A revision without anything ready cannot fall slowly: there is nothing to keep.
        let floor = if ready == 0 { 0.0 } else { (r / settings.down_rate).floor() };
        let ceiling = (settings.up_rate * r).ceil();
        let wanted = |mean: f64| (mean / target).ceil();
        let clamp = |wanted: f64| wanted.max(floor).min(ceiling) as u32;
        if wanted(panic) / r >= settings.panic_factor {
            let most = self.panic.map_or(0, |(_, most)| most);
            self.panic = Some((now, most));
        } else if let Some((since, _)) = self.panic
            && now.since(since) > Duration::from_secs(u64::from(settings.stable_window))
        {
            self.panic = None;
        }
        let (stable, over) = (clamp(wanted(stable)), clamp(wanted(panic)));
        let mut desired = stable;
        if let Some((_, most)) = &mut self.panic {
            *most = stable.max(over).max(*most);
            desired = *most;
        }
        let excess_burst = (f64::from(ready) * settings.total - settings.burst - panic).floor();
        let (least, most) = (settings.least, settings.most.max(settings.least));
        let desired = self.delayed(now, desired).clamp(least, most);
        KpaDecision { desired, excess_burst, panicking: self.panic.is_some() }
    }

    /// The most that was wanted during the delay.
    fn delayed(&mut self, now: Timestamp, desired: u32) -> u32 {
        let delay = self.settings.down_delay.as_secs().min(MOST_DELAY);
        if delay == 0 {
            return desired;
        }
        let second = now.nanos() / 1_000_000_000;
        while self.wanted.back().is_some_and(|(_, wanted)| *wanted <= desired) {
            self.wanted.pop_back();
        }
        // One entry per second at most: within a second only a smaller one follows, and it lasts no longer.
        if self.wanted.back().is_none_or(|(at, _)| *at < second) {
            self.wanted.push_back((second, desired));
        }
        while self.wanted.front().is_some_and(|(at, _)| at + delay < second) {
            self.wanted.pop_front();
        }
        self.wanted.front().map_or(desired, |(_, wanted)| *wanted)
    }
}

struct Averages {
    stable: f64,
    panic: f64,
}

impl Default for Kpa {
    /// Over the slots of one node.
    fn default() -> Self {
        Self::new(KpaSettings::slots())
    }
}

impl Autoscaler for Kpa {
    fn desired(&mut self, load: &Load) -> u32 {
        self.record(load.now, f64::from(load.in_flight()));
        let decision = self.decide(load.now, load.current);
        // What it decides for is ready at once here, so that a fall by half at every question would be no limit: it
        // is the windows that keep it from falling fast.
        if decision.desired > 0 {
            self.empty = None;
            return decision.desired;
        }
        let since = *self.empty.get_or_insert(load.now);
        u32::from(load.now.since(since) < self.settings.grace).max(self.settings.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    /// Decides for ready, stable, panic; gives desired and whether it panics.
    fn golden(kpa: &mut Kpa, ready: u32, stable: f64, panic: f64) -> (u32, bool) {
        let decision = kpa.decide_for(at(100), ready, stable, panic);
        (decision.desired, decision.panicking)
    }

    #[test]
    fn decides_as_knative_does() {
        let fresh = || Kpa::new(KpaSettings::default());
        assert_eq!(golden(&mut fresh(), 1, 70.0, 70.0), (1, false));
        assert_eq!(golden(&mut fresh(), 1, 70.0, 141.0), (3, true));
        assert_eq!(golden(&mut fresh(), 4, 280.0, 560.0), (8, true));
        assert_eq!(golden(&mut fresh(), 10, 70.0, 0.0), (5, false));
        let mut panicking = Kpa::resume(KpaSettings::default(), 10, at(99));
        assert_eq!(golden(&mut panicking, 10, 70.0, 70.0), (10, true));
        assert_eq!(fresh().decide_for(at(1), 3, 0.0, 20.0).excess_burst, 69.0);
    }

    #[test]
    fn a_panic_never_takes_away_and_is_over_a_stable_window_after_the_last_burst() {
        let mut kpa = Kpa::new(KpaSettings::default());
        assert_eq!(kpa.decide_for(at(0), 1, 70.0, 700.0).desired, 10);
        assert_eq!(kpa.decide_for(at(30), 10, 70.0, 70.0).desired, 10);
        assert_eq!(kpa.decide_for(at(60), 10, 70.0, 70.0).desired, 10);
        let after = kpa.decide_for(at(61), 10, 70.0, 70.0);
        assert_eq!((after.desired, after.panicking), (5, false));
    }

    #[test]
    fn the_first_calls_after_nothing_count_at_once_in_both_windows() {
        let mut kpa = Kpa::new(KpaSettings::default());
        kpa.record(at(500), 140.0);
        assert_eq!(kpa.decide(at(500), 0).desired, 2);
    }

    #[test]
    fn a_restarted_one_takes_nothing_away_before_it_knows_anything() {
        let mut kpa = Kpa::resume(KpaSettings::default(), 7, at(0));
        assert_eq!(kpa.decide(at(59), 7).desired, 7);
        assert!(kpa.decide(at(61), 7).desired < 7);
    }

    #[test]
    fn what_is_taken_away_waits_for_the_delay() {
        let settings = KpaSettings { down_delay: Duration::from_secs(20), ..KpaSettings::default() };
        let mut kpa = Kpa::new(settings);
        assert_eq!(kpa.decide_for(at(0), 6, 420.0, 420.0).desired, 6);
        assert_eq!(kpa.decide_for(at(10), 6, 280.0, 280.0).desired, 6);
        assert_eq!(kpa.decide_for(at(20), 6, 210.0, 210.0).desired, 6);
        assert_eq!(kpa.decide_for(at(21), 6, 210.0, 210.0).desired, 4);
        assert_eq!(kpa.decide_for(at(31), 6, 210.0, 210.0).desired, 3);
        assert_eq!(kpa.decide_for(at(32), 6, 560.0, 560.0).desired, 8, "more is not delayed");
    }

    fn run(kpa: &mut Kpa, seconds: std::ops::Range<u64>, running: u32, current: u32) -> u32 {
        let ask = |current, second| kpa.desired(&Load { now: at(second), running, current, ..Load::default() });
        seconds.fold(current, ask)
    }

    #[test]
    fn steady_concurrency_gets_its_share_of_slots() {
        assert_eq!(run(&mut Kpa::default(), 0..60, 7, 10), 10);
    }

    #[test]
    fn a_burst_is_followed_within_the_panic_window_and_kept_for_a_stable_window() {
        let mut kpa = Kpa::default();
        assert_eq!(run(&mut kpa, 0..60, 1, 2), 2);
        let burst = run(&mut kpa, 60..66, 14, 2);
        assert!(burst >= 17, "{burst} slots for 14 calls at once");
        assert_eq!(run(&mut kpa, 66..96, 1, burst), burst);
    }

    #[test]
    fn without_calls_it_goes_to_zero_after_window_and_grace_and_not_before() {
        let mut kpa = Kpa::default();
        run(&mut kpa, 0..10, 1, 2);
        assert!(run(&mut kpa, 10..98, 0, 2) >= 1);
        assert_eq!(run(&mut kpa, 98..102, 0, 1), 0);
    }
}
