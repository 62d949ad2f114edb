//! Time as a part: production reads the machine's, tests and the simulator move it by hand.

use std::{
    fmt::Debug,
    ops::Add,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// A point of monotonic time: nanoseconds since the start of the [`Clock`] that gave it.
///
/// Timestamps of two clocks cannot be compared; between nodes only durations travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A point `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this point, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A point of civil time: milliseconds since 1970-01-01 UTC, without leap seconds.
///
/// For what outlives a process: when values expire and when timers are due. It jumps, in both directions, when
/// the machine's clock is set; nothing that must hold may rest on it. Leases rest on [`Timestamp`]s and fences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(u64);

impl WallTime {
    /// A point `millis` milliseconds after the beginning of 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this point, or zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    /// The point so much later, in whole milliseconds rounded up, so that nothing ends early.
    fn add(self, after: Duration) -> Self {
        let millis = after.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// Where time comes from.
///
/// Every part that waits or stamps is given one. [`Clock::now`] never goes backwards; [`Clock::wall`] may.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now. Called several times per invocation: some tens of nanoseconds at most.
    fn now(&self) -> Timestamp;

    /// The civil time now. A clock that does not know it counts from the beginning of 1970 at its start.
    fn wall(&self) -> WallTime {
        WallTime::from_millis(self.now().nanos() / 1_000_000)
    }

    /// Returns once `wait` has passed. Dropping the future cancels the wait.
    async fn sleep(&self, wait: Duration);
}

const _: fn(&dyn Clock) = |_| {};

/// A clock that stands still until it is told to move on.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<Manual>>);

#[derive(Debug, Default)]
struct Manual {
    now: Timestamp,
    /// The civil time at `set_at`.
    wall: WallTime,
    set_at: Timestamp,
    sleepers: Vec<(Timestamp, Waker)>,
}

impl ManualClock {
    /// A clock at its start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the civil time, as an operator or a time server does: it jumps, the monotonic time does not.
    pub fn set_wall(&self, wall: WallTime) {
        let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (manual.wall, manual.set_at) = (wall, manual.now);
    }

    /// Moves on by `step` and wakes the sleepers whose time has come.
    pub fn advance(&self, step: Duration) {
        let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        manual.now = manual.now + step;
        let now = manual.now;
        let (due, later) = std::mem::take(&mut manual.sleepers).into_iter().partition(|(at, _)| *at <= now);
        manual.sleepers = later;
        drop(manual);
        let due: Vec<(Timestamp, Waker)> = due;
        for (_, waker) in due {
            waker.wake();
        }
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn wall(&self) -> WallTime {
        let manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = manual.now.since(manual.set_at).as_millis();
        WallTime::from_millis(manual.wall.millis().saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    async fn sleep(&self, wait: Duration) {
        let until = self.now() + wait;
        std::future::poll_fn(|cx| {
            let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if manual.now >= until {
                return Poll::Ready(());
            }
            manual.sleepers.push((until, cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_reaches_it_and_not_before() {
        let clock = ManualClock::new();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(2)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), Timestamp::from_nanos(2_000_000_000));
    }

    #[test]
    fn civil_time_goes_on_from_where_it_was_set_and_the_monotonic_does_not_jump() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(3));
        assert_eq!(clock.wall(), WallTime::from_millis(3000));
        clock.set_wall(WallTime::from_millis(1_000_000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.wall(), WallTime::from_millis(1_001_000));
        clock.set_wall(WallTime::from_millis(5));
        assert_eq!((clock.wall(), clock.now()), (WallTime::from_millis(5), Timestamp::from_nanos(4_000_000_000)));
        assert_eq!(WallTime::from_millis(5) + Duration::from_micros(1), WallTime::from_millis(6));
    }
}
