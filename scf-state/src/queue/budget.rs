//! How many retries a function may have.

use std::time::Duration;

use scf_core::RetryPolicy;

/// Retries of one function: each first attempt earns a share of one, and some per second are free.
///
/// After Finagle's `RetryBudget` (Twitter, 2015): a function that always fails adds at most its share and the floor to
/// the load, whatever the number of attempts per call.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Hundredths of a retry.
    earned: u64,
    /// When the next free retry may be.
    next_free: Duration,
}

/// Retries that are saved up at most.
const SAVED: u64 = 100;

impl Budget {
    /// A first attempt began.
    pub(super) fn earn(&mut self, policy: &RetryPolicy) {
        self.earned = (self.earned + u64::from(policy.budget)).min(SAVED * 100);
    }

    /// When a retry that would be due `at` may be.
    pub(super) fn spend(&mut self, policy: &RetryPolicy, at: Duration) -> Duration {
        if self.earned >= 100 {
            self.earned -= 100;
            return at;
        }
        let at = at.max(self.next_free);
        self.next_free = at + Duration::from_secs(1) / policy.floor.max(1);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_beyond_the_share_of_first_attempts_are_a_floor_per_second() {
        let policy = RetryPolicy { budget: 20, floor: 10, ..RetryPolicy::default() };
        let mut budget = Budget::default();
        (0..50).for_each(|_| budget.earn(&policy));
        let at = Duration::from_secs(1);
        let spent: Vec<_> = (0..15).map(|_| budget.spend(&policy, at)).collect();
        assert_eq!(spent[..11], [at; 11], "ten that were earned, and the first free one");
        let free: Vec<_> = spent[10..].iter().map(|at| at.as_millis()).collect();
        assert_eq!(free, [1000, 1100, 1200, 1300, 1400]);
    }
}
