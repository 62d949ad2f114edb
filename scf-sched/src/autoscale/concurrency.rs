//! As many slots as the concurrency of the last minute asks for.

use std::time::Duration;

use scf_core::{Autoscaler, Load, Timestamp};

/// Seconds of the stable window.
const STABLE: usize = 60;

/// Follows the mean concurrency of a stable window, and that of a short panic window when it bursts: the rule
/// of the Knative Pod Autoscaler (knative/serving, `pkg/autoscaler/scaling/autoscaler.go`), applied to the slots
/// of one node.
///
/// `desired = ceil(mean concurrency / target utilisation)`. When the panic window alone asks for twice what
/// there is, the higher of both is taken and nothing is taken away until the panic has been over for a stable
/// window. After a grace period without calls it goes to zero.
#[derive(Clone, Debug)]
pub struct ConcurrencyTarget {
    utilisation: f64,
    panic_window: usize,
    panic_factor: f64,
    grace: Duration,
    /// Sum and number of the observations of each second, by second modulo the window.
    seconds: Vec<(u64, f64, u32)>,
    panic_since: Option<(Timestamp, u32)>,
    busy: Option<Timestamp>,
}

impl Default for ConcurrencyTarget {
    /// 70 % utilisation, a stable window of 60 s, a panic window of 6 s at factor 2, 30 s of grace.
    fn default() -> Self {
        Self {
            utilisation: 0.7,
            panic_window: 6,
            panic_factor: 2.0,
            grace: Duration::from_secs(30),
            seconds: vec![(u64::MAX, 0.0, 0); STABLE],
            panic_since: None,
            busy: None,
        }
    }
}

impl ConcurrencyTarget {
    /// The share of the slots that should be busy, held between 0.01 and 1; default 0.7.
    #[must_use]
    pub const fn utilisation(mut self, share: f64) -> Self {
        self.utilisation = share.clamp(0.01, 1.0);
        self
    }

    /// How long without calls before it goes to zero; default 30 s.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The mean concurrency of the last `window` seconds.
    fn mean(&self, second: u64, window: usize) -> f64 {
        let recent = |at: u64| at <= second && second - at < window as u64;
        let (sum, count) = self
            .seconds
            .iter()
            .filter(|(at, ..)| recent(*at))
            .fold((0.0, 0u32), |(sum, count), (_, s, n)| (sum + s / f64::from((*n).max(1)), count + 1));
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }
}

impl Autoscaler for ConcurrencyTarget {
    fn desired(&mut self, load: &Load) -> u32 {
        let second = load.now.nanos() / 1_000_000_000;
        let concurrency = f64::from(load.running + load.waiting);
        let bucket = &mut self.seconds[(second % STABLE as u64) as usize];
        if bucket.0 != second {
            *bucket = (second, 0.0, 0);
        }
        bucket.1 += concurrency;
        bucket.2 += 1;
        if concurrency > 0.0 {
            self.busy = Some(load.now);
        }
        let slots = |mean: f64| (mean / self.utilisation).ceil() as u32;
        let stable = slots(self.mean(second, STABLE));
        let panic = slots(self.mean(second, self.panic_window));
        if f64::from(panic) >= self.panic_factor * f64::from(load.current.max(1)) {
            let highest = self.panic_since.map_or(panic, |(_, slots)| slots.max(panic));
            self.panic_since = Some((load.now, highest));
        }
        if let Some((since, highest)) = self.panic_since {
            if load.now.since(since) < Duration::from_secs(STABLE as u64) {
                self.panic_since = Some((since, highest.max(panic)));
                return stable.max(highest).max(panic);
            }
            self.panic_since = None;
        }
        let idle = self.busy.is_none_or(|busy| load.now.since(busy) >= self.grace);
        if stable == 0 && !idle { 1 } else { stable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scaler: &mut ConcurrencyTarget, from: u64, seconds: u64, running: u32, current: u32) -> u32 {
        let mut slots = current;
        for second in from..from + seconds {
            let now = Timestamp::from_nanos(second * 1_000_000_000);
            slots = scaler.desired(&Load { now, running, waiting: 0, current: slots });
        }
        slots
    }

    #[test]
    fn steady_concurrency_gets_its_share_of_slots() {
        assert_eq!(run(&mut ConcurrencyTarget::default(), 0, 60, 7, 10), 10);
    }

    #[test]
    fn a_burst_is_followed_within_the_panic_window_and_kept_for_a_stable_window() {
        let mut scaler = ConcurrencyTarget::default();
        assert_eq!(run(&mut scaler, 0, 60, 1, 2), 2);
        let burst = run(&mut scaler, 60, 6, 14, 2);
        assert!(burst >= 17, "{burst} slots for 14 calls at once");
        assert_eq!(run(&mut scaler, 66, 30, 1, burst), burst);
    }

    #[test]
    fn without_calls_it_goes_to_zero_after_the_grace_period_and_not_before() {
        let mut scaler = ConcurrencyTarget::default();
        run(&mut scaler, 0, 10, 1, 2);
        assert!(run(&mut scaler, 10, 20, 0, 2) >= 1);
        assert_eq!(run(&mut scaler, 30, 90, 0, 1), 0);
    }
}
