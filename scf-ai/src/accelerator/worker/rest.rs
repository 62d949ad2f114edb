//! When a worker that ended is started again.

use std::time::{Duration, Instant};

/// The rest after the second death in a row; each further one doubles it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(30);

/// How often a worker ended since it last did what it was asked. After one death it is started again at once: most
/// workers that die once work when they are started again.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    count: u32,
    until: Option<Instant>,
}

impl Deaths {
    /// It ended at `now`.
    pub(super) fn died(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.until = self
            .count
            .checked_sub(2)
            .map(|doublings| now + FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST));
    }

    /// It did what it was asked.
    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// How often it died, and how long it is left alone yet.
    pub(super) fn rest(&self, now: Instant) -> Option<(u32, Duration)> {
        let left = self.until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((self.count, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_none_at_first_then_double_up_to_a_bound_and_end_with_success() {
        let (mut deaths, now) = (Deaths::default(), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..12 {
            deaths.died(now);
            rests.push(deaths.rest(now).map(|(_, rest)| rest.as_millis()));
        }
        let expected = [None, Some(100), Some(200), Some(400), Some(800)];
        assert_eq!(rests[..5], expected);
        assert_eq!(rests[11], Some(LONGEST.as_millis()));
        assert_eq!(deaths.rest(now + LONGEST), None);
        deaths.worked();
        deaths.died(now);
        assert_eq!(deaths.rest(now), None);
    }
}
