//! When a call that failed is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::InvocationId;

/// Exponential backoff with jitter, bounded by a number of attempts and a budget.
///
/// The jitter is half of the delay: calls that failed together are spread over as long as they wait at least
/// ("equal jitter" in Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct RetryPolicy {
    /// Attempts that a call has, the first included. At least 1.
    pub attempts: u32,
    /// Delay after the first failure; doubles with every further one.
    pub base: Duration,
    /// Longest delay.
    pub longest: Duration,
    /// Retries per hundred first attempts of a function that are started without holding them back: a function that
    /// fails all the time is retried no faster than [`RetryPolicy::floor`].
    pub budget: u32,
    /// Retries per second of a function that are started whatever its budget says. At least 1.
    pub floor: u32,
}

impl Default for RetryPolicy {
    /// 5 attempts, 100 ms to 30 s between them, a budget of 20 %, 10 retries a second in any case.
    fn default() -> Self {
        let (base, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        Self { attempts: 5, base, longest, budget: 20, floor: 10 }
    }
}

impl RetryPolicy {
    /// How long call `id` waits after its `failures`th failure, counted from 1; the same for the same `seed`.
    #[must_use]
    pub fn delay(&self, id: InvocationId, failures: u32, seed: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.longest);
        let random = id.child(seed ^ (u64::from(failures) << 32)).bits() as u64;
        whole / 2 + (whole / 2).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_keep_half_of_it_under_any_jitter() {
        let policy = RetryPolicy::default();
        for seed in 0..200 {
            let id = InvocationId::new(u128::from(seed) << 40);
            for (failures, whole) in [(1, 100), (2, 200), (3, 400), (9, 25_600), (10, 30_000), (4_000_000_000, 30_000)]
            {
                let (delay, whole) = (policy.delay(id, failures, seed), Duration::from_millis(whole));
                assert!(delay >= whole / 2 && delay <= whole, "{failures} failures, seed {seed}: {delay:?}");
                assert_eq!(delay, policy.delay(id, failures, seed), "a seed decides");
            }
        }
    }

    #[test]
    fn calls_that_fail_together_are_spread() {
        let policy = RetryPolicy::default();
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|i| policy.delay(InvocationId::new(i), 1, 7).as_micros() / 1000).collect();
        assert!(delays.len() > 20, "{} different milliseconds of 50", delays.len());
    }
}
