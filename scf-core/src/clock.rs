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

/// Where time comes from.
///
/// Every part that waits or stamps is given one. Implementations never go backwards.
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now. Called several times per invocation: some tens of nanoseconds at most.
    fn now(&self) -> Timestamp;

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
    sleepers: Vec<(Timestamp, Waker)>,
}

impl ManualClock {
    /// A clock at its start.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
}
