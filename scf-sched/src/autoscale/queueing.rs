//! As many as a queue of calls needs to be served in time.

use std::time::Duration;

use scf_core::{Autoscaler, Load};

use super::{erlang::OfferedLoad, window::Buckets};

/// Seconds of the windows over which calls are counted.
const SHORT: usize = 10;
const LONG: usize = 120;
/// How many times the long window's rate the short one must have before it counts alone.
const BURST: f64 = 2.0;

/// As many slots as keep a percentile of the waits within a budget, by the rate of calls and what they take: LaSS
/// (Wang et al., HPDC 2021) with the exact tail of the M/M/c queue.
///
/// The rate is that of the last two minutes, or of the last ten seconds where that is at least twice as high. After
/// two minutes without a call it goes to zero.
#[derive(Clone, Debug)]
pub struct Queueing {
    wait: Duration,
    share: f64,
    variation: f64,
    /// Calls per second of each second.
    rates: Buckets,
    /// Calls in flight when it was asked before.
    in_flight: u32,
    service: Duration,
}

impl Queueing {
    /// Keeps `percent` per cent of the waits within `wait`.
    #[must_use]
    pub fn new(percent: f64, wait: Duration) -> Self {
        let share = percent.clamp(1.0, 99.999) / 100.0;
        let rates = Buckets::new(Duration::from_secs(1), LONG);
        Self { wait, share, variation: 2.0, rates, in_flight: 0, service: Duration::ZERO }
    }

    /// Squared coefficients of variation of the times between calls and of the service times, added; default 2, that
    /// of Poisson arrivals and exponential service.
    #[must_use]
    pub const fn variation(mut self, variation: f64) -> Self {
        self.variation = variation.clamp(0.01, 1000.0);
        self
    }

    /// Calls per second now.
    fn rate(&self, load: &Load) -> f64 {
        let over = |window: usize| {
            let covered = self.rates.covered(load.now, window).max(1) as f64;
            self.rates.sum(load.now, window) / covered
        };
        let (short, long) = (over(SHORT), over(LONG));
        if short >= BURST * long { short } else { long }
    }
}

impl Autoscaler for Queueing {
    fn desired(&mut self, load: &Load) -> u32 {
        let arrived = load.ended.saturating_add(load.in_flight()).saturating_sub(self.in_flight);
        self.in_flight = load.in_flight();
        self.rates.add(load.now, f64::from(arrived));
        if !load.service.is_zero() {
            self.service = load.service;
        }
        let is_empty = load.in_flight() == 0 && self.rates.sum(load.now, LONG) == 0.0;
        if is_empty {
            return 0;
        }
        if self.service.is_zero() {
            return load.in_flight().max(1);
        }
        let demand = OfferedLoad {
            arrivals: self.rate(load),
            service: 1.0 / self.service.as_secs_f64(),
            wait: self.wait,
            share: self.share,
            variation: self.variation,
        };
        demand.servers().max(1)
    }
}

#[cfg(test)]
mod tests {
    use scf_core::Timestamp;

    use super::*;

    /// Asks every 100 ms for `seconds` from `from`, with `calls` calls of 100 ms per second; gives the last answer.
    fn run(scaler: &mut Queueing, from: u64, seconds: u64, calls: u32) -> u32 {
        let service = Duration::from_millis(100);
        (from * 10..(from + seconds) * 10).fold(0, |current, tick| {
            let now = Timestamp::from_nanos(tick * 100_000_000);
            let (ended, running) = (calls / 10, calls / 10);
            scaler.desired(&Load { now, running, waiting: 0, current, ended, service })
        })
    }

    #[test]
    fn provides_for_the_rate_of_two_minutes() {
        assert_eq!(run(&mut Queueing::new(95.0, Duration::from_millis(100)), 0, 120, 50), 7);
    }

    #[test]
    fn follows_a_rate_that_doubles_within_ten_seconds() {
        let mut scaler = Queueing::new(95.0, Duration::from_millis(100));
        run(&mut scaler, 0, 120, 40);
        assert_eq!(run(&mut scaler, 120, 10, 100), 13);
    }

    #[test]
    fn goes_to_zero_after_two_minutes_without_calls_and_gives_a_slot_per_call_before_it_knows_them() {
        let mut scaler = Queueing::new(95.0, Duration::from_millis(100));
        assert_eq!(scaler.desired(&Load { running: 3, ..Load::default() }), 3);
        run(&mut scaler, 0, 10, 50);
        assert!(run(&mut scaler, 10, 100, 0) >= 1);
        assert_eq!(run(&mut scaler, 110, 22, 0), 0);
    }
}
