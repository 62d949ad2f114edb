//! The queue's own time: what has passed, across restarts, whatever the machine's clock is set to.

use std::{sync::Arc, time::Duration};

use scf_core::{Clock, Due, Timestamp, WallTime};
use serde::{Deserialize, Serialize};

/// Both times at once. A record carries it, so that a queue that is opened again knows where its time stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment {
    /// Time that passed since the queue began. While a process runs it is the monotonic clock's; the time between
    /// two processes is what civil time says passed, or none where that went back.
    pub(super) passed: Duration,
    pub(super) wall: WallTime,
}

/// When a call becomes due, on one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum DueAt {
    Passed(Duration),
    Wall(WallTime),
}

impl Moment {
    pub(super) fn due(self, due: Due) -> DueAt {
        match due {
            Due::After(wait) => DueAt::Passed(self.passed.saturating_add(wait)),
            Due::At(wall) => DueAt::Wall(wall),
            _ => DueAt::Passed(self.passed),
        }
    }

    /// When what was due `at` and comes every `period` is due next: the first time after now.
    pub(super) fn next(self, at: DueAt, period: Duration) -> DueAt {
        let periods = |behind: Duration| {
            let missed = behind.as_nanos() / period.as_nanos().max(1);
            period.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX))
        };
        match at {
            DueAt::Passed(at) => DueAt::Passed(at.saturating_add(periods(self.passed.saturating_sub(at)))),
            DueAt::Wall(at) => DueAt::Wall(at + periods(self.wall.since(at))),
        }
    }
}

/// Tells the time of a queue from a clock.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) clock: Arc<dyn Clock>,
    base: Duration,
    start: Timestamp,
}

impl Passing {
    /// Goes on from `last`, the latest moment that was recorded.
    pub(super) fn from(clock: Arc<dyn Clock>, last: Moment) -> Self {
        let between = clock.wall().since(last.wall);
        // A first record has no civil time to count from.
        let between = if last == Moment::default() { Duration::ZERO } else { between };
        let start = clock.now();
        Self { clock, base: last.passed + between, start }
    }

    /// How far civil time went another way than time did between two moments.
    pub(super) fn drift(from: Moment, to: Moment) -> Duration {
        let (passed, civil) = (to.passed.saturating_sub(from.passed), to.wall.since(from.wall));
        let back = from.wall.since(to.wall);
        passed.abs_diff(civil) + back
    }

    pub(super) fn now(&self) -> Moment {
        Moment { passed: self.base + self.clock.now().since(self.start), wall: self.clock.wall() }
    }
}

#[cfg(test)]
mod tests {
    use scf_core::ManualClock;

    use super::*;

    #[test]
    fn setting_the_clock_passes_no_time_and_a_restart_passes_what_civil_time_says() {
        let clock = ManualClock::new();
        clock.set_wall(WallTime::from_millis(1_000_000));
        let passing = Passing::from(Arc::new(clock.clone()), Moment::default());
        assert_eq!(passing.now().passed, Duration::ZERO);
        clock.advance(Duration::from_secs(5));
        clock.set_wall(WallTime::from_millis(90_000_000));
        assert_eq!(passing.now().passed, Duration::from_secs(5));
        let last = passing.now();
        for (wall, between) in [(90_007_000, 7), (1000, 0)] {
            clock.set_wall(WallTime::from_millis(wall));
            let again = Passing::from(Arc::new(clock.clone()), last);
            assert_eq!(again.now().passed, Duration::from_secs(5 + between));
        }
    }

    #[test]
    fn a_reminder_comes_next_after_now_on_the_beat_it_had() {
        let now = Moment { passed: Duration::from_secs(35), wall: WallTime::from_millis(35_000) };
        let period = Duration::from_secs(10);
        assert_eq!(now.next(DueAt::Passed(Duration::from_secs(2)), period), DueAt::Passed(Duration::from_secs(42)));
        assert_eq!(now.next(DueAt::Passed(Duration::from_secs(35)), period), DueAt::Passed(Duration::from_secs(45)));
        let wall = DueAt::Wall(WallTime::from_millis(2000));
        assert_eq!(now.next(wall, period), DueAt::Wall(WallTime::from_millis(42_000)));
    }
}
