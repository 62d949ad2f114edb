//! When to try again what failed.

use std::time::Duration;

use scf_core::Timestamp;

const LONGEST: Duration = Duration::from_secs(60);

/// Waits twice as long after every failure, up to a minute.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failed: Option<(Timestamp, Duration)>,
}

impl Backoff {
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.failed.is_none_or(|(at, wait)| now.since(at) >= wait)
    }

    /// Notes a failure at `now`; `first` is the wait after the first one.
    pub(super) fn fail(&mut self, now: Timestamp, first: Duration) {
        let wait = self.failed.map_or(first, |(_, wait)| wait.saturating_mul(2));
        self.failed = Some((now, wait.min(LONGEST)));
    }

    pub(super) fn succeed(&mut self) {
        self.failed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_twice_as_long_after_every_failure_and_not_at_all_after_a_success() {
        let mut backoff = Backoff::default();
        let mut now = Timestamp::default();
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(backoff.is_due(now));
            backoff.fail(now, Duration::from_secs(1));
            assert!(!backoff.is_due(now + (Duration::from_secs(wait) - Duration::from_millis(1))), "{wait}");
            now = now + Duration::from_secs(wait);
        }
        backoff.fail(now, Duration::from_secs(1));
        backoff.succeed();
        assert!(backoff.is_due(now));
    }
}
