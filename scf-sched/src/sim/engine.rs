//! Virtual time and what happens in it.

use std::{cmp::Ordering, collections::BinaryHeap, time::Duration};

use scf_core::Timestamp;

use super::EventLog;

/// What can happen in a model: a small plain value.
pub trait Event: Copy {
    /// A number that differs where two events differ; it goes into the hash of the [`EventLog`]. Called once per
    /// event that happens.
    fn digest(&self) -> u64;
}

struct Pending<E> {
    at: Timestamp,
    /// Counts up, so that events of one moment happen in the order in which they were scheduled.
    seq: u64,
    event: E,
}

impl<E> PartialEq for Pending<E> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}

impl<E> Eq for Pending<E> {}

impl<E> PartialOrd for Pending<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Pending<E> {
    /// The earliest is the greatest, because the heap gives the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// Keeps the events to come and the virtual time; a model takes one after the other with [`next`](Self::next) and
/// schedules others.
///
/// Nothing here reads a clock: the order of events is that of (time, order of scheduling), whatever machine it runs on.
/// Events are not taken back: a model that no longer wants one gives it a generation and drops those that are stale.
/// Memory grows with the number of events to come, which is the model's to bound.
pub struct Engine<E> {
    heap: BinaryHeap<Pending<E>>,
    now: Timestamp,
    seq: u64,
    log: EventLog,
}

impl<E> std::fmt::Debug for Engine<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now", &self.now)
            .field("pending", &self.heap.len())
            .field("log", &self.log)
            .finish()
    }
}

impl<E: Event> Default for Engine<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), now: Timestamp::default(), seq: 0, log: EventLog::default() }
    }
}

impl<E: Event> Engine<E> {
    /// An engine at time zero with nothing to come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The virtual time: that of the event that was given last.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Schedules `event` at a point of time, or now if that is past.
    pub fn at(&mut self, at: Timestamp, event: E) {
        self.seq += 1;
        self.heap.push(Pending { at: at.max(self.now), seq: self.seq, event });
    }

    /// Schedules `event` after a time.
    pub fn after(&mut self, wait: Duration, event: E) {
        self.at(self.now + wait, event);
    }

    /// Schedules `event` after a time in seconds; what is negative or not a number counts as 0.
    pub fn after_s(&mut self, seconds: f64, event: E) {
        self.at(later(self.now, seconds), event);
    }

    /// The next event, to whose time the clock moves.
    #[expect(
        clippy::should_implement_trait,
        reason = "an engine is not an iterator: what it gives depends on what is put in"
    )]
    pub fn next(&mut self) -> Option<E> {
        let next = self.heap.pop()?;
        self.now = next.at;
        self.log.note(next.at, next.event.digest());
        Some(next.event)
    }

    /// How many events are to come.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.heap.len()
    }

    /// What has happened, as a hash and a count.
    #[must_use]
    pub const fn log(&self) -> &EventLog {
        &self.log
    }
}

/// `seconds` after `now`, to the nanosecond.
pub(crate) fn later(now: Timestamp, seconds: f64) -> Timestamp {
    // Above 584 years, and infinity, the cast saturates.
    Timestamp::from_nanos(now.nanos().saturating_add((seconds.max(0.0) * 1e9).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Tick(u64);

    impl Event for Tick {
        fn digest(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn events_happen_by_time_and_at_one_time_in_the_order_of_scheduling() {
        let mut engine = Engine::new();
        for (at, tick) in [(5, 1), (3, 2), (5, 3), (3, 4), (0, 5)] {
            engine.at(Timestamp::from_nanos(at), Tick(tick));
        }
        let order: Vec<u64> = std::iter::from_fn(|| engine.next()).map(|tick| tick.0).collect();
        assert_eq!(order, [5, 2, 4, 1, 3]);
        assert_eq!(engine.now(), Timestamp::from_nanos(5));
    }

    #[test]
    fn what_is_scheduled_in_the_past_happens_now() {
        let mut engine = Engine::new();
        engine.at(Timestamp::from_nanos(9), Tick(1));
        engine.next();
        engine.at(Timestamp::from_nanos(2), Tick(2));
        engine.next();
        assert_eq!(engine.now(), Timestamp::from_nanos(9));
    }

    #[test]
    fn seconds_that_are_no_time_count_as_none() {
        let now = Timestamp::from_nanos(7);
        assert_eq!(later(now, -1.0), now);
        assert_eq!(later(now, f64::NAN), now);
        assert_eq!(later(now, 1e-9).nanos(), 8);
        assert_eq!(later(now, f64::INFINITY).nanos(), u64::MAX);
    }
}
