//! What a node serves.

use std::time::Duration;

use scf_core::{ServiceTimes, Timestamp};

/// Calls and how long they took, older ones counting less: a minute ago by a factor e per window.
#[derive(Debug)]
pub(super) struct LoadMeter {
    window: Duration,
    began: Option<Timestamp>,
    last: Timestamp,
    remote: Sums,
    local: Sums,
    /// Of remote calls, spent on remote accesses.
    accesses: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    calls: f64,
    seconds: f64,
    squares: f64,
}

impl Sums {
    fn fade(&mut self, by: f64) {
        self.calls *= by;
        self.seconds *= by;
        self.squares *= by;
    }

    fn add(&mut self, took: f64) {
        self.calls += 1.0;
        self.seconds += took;
        self.squares += took * took;
    }

    fn times(&self) -> ServiceTimes {
        if self.calls <= 0.0 || self.seconds <= 0.0 {
            return ServiceTimes::default();
        }
        let mean = self.seconds / self.calls;
        let variance = (self.squares / self.calls - mean * mean).max(0.0);
        ServiceTimes { calls: self.calls, mean, variation: variance / (mean * mean) }
    }
}

impl LoadMeter {
    pub(super) fn new(window: Duration) -> Self {
        let (remote, local) = (Sums::default(), Sums::default());
        Self { window, began: None, last: Timestamp::default(), remote, local, accesses: 0.0 }
    }

    /// A call took `took`; `accesses` of it were spent on remote accesses, in the remote phase.
    pub(super) fn call(&mut self, now: Timestamp, took: Duration, accesses: Option<Duration>) {
        self.fade(now);
        match accesses {
            Some(accesses) => {
                self.remote.add(took.as_secs_f64());
                self.accesses += accesses.as_secs_f64();
            }
            None => self.local.add(took.as_secs_f64()),
        }
    }

    fn fade(&mut self, now: Timestamp) {
        self.began.get_or_insert(now);
        let passed = now.since(self.last).as_secs_f64();
        self.last = self.last.max(now);
        let by = (-passed / self.window.as_secs_f64().max(f64::MIN_POSITIVE)).exp();
        self.remote.fade(by);
        self.local.fade(by);
        self.accesses *= by;
    }

    /// Calls per second; calls on remote state, calls on local state; seconds that remote ones spend on accesses.
    pub(super) fn read(&mut self, now: Timestamp) -> (f64, ServiceTimes, ServiceTimes, f64) {
        self.fade(now);
        let window = self.window.as_secs_f64();
        let measured = self.began.map_or(0.0, |began| now.since(began).as_secs_f64());
        let weight = window * (1.0 - (-measured / window.max(f64::MIN_POSITIVE)).exp());
        let rate = if weight > 0.0 { (self.remote.calls + self.local.calls) / weight } else { 0.0 };
        let accesses = if self.remote.calls > 0.0 { self.accesses / self.remote.calls } else { 0.0 };
        (rate, self.remote.times(), self.local.times(), accesses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_rate_and_service_times_and_forgets_old_ones() {
        let mut meter = LoadMeter::new(Duration::from_secs(10));
        let at = |ms: u64| Timestamp::default() + Duration::from_millis(ms);
        for call in 0..1000u64 {
            let took = Duration::from_millis(if call % 2 == 0 { 10 } else { 30 });
            meter.call(at(call * 20), took, Some(took / 2));
        }
        let (rate, remote, local, accesses) = meter.read(at(20_000));
        assert!((rate - 50.0).abs() < 0.5, "{rate}");
        assert!((remote.mean - 0.020).abs() < 1e-4 && (remote.variation - 0.25).abs() < 1e-2, "{remote:?}");
        assert!((accesses - 0.010).abs() < 1e-4, "{accesses}");
        assert_eq!(local, ServiceTimes::default());
        for call in 1000..6000u64 {
            meter.call(at(call * 20), Duration::from_millis(10), None);
        }
        let (rate, remote, local, _) = meter.read(at(120_000));
        assert!((rate - 50.0).abs() < 0.5 && remote.calls < 0.1, "{rate} {remote:?}");
        assert!((local.mean - 0.010).abs() < 1e-6 && local.variation < 1e-6);
    }
}
