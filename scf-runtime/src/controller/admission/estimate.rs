//! How long calls hold a slot, and what that says about those that wait.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Assumed where no call has ended yet.
const UNKNOWN: Duration = Duration::from_millis(10);
/// The least and the most that a caller is told to wait.
const LEAST: Duration = Duration::from_millis(1);
const MOST: Duration = Duration::from_secs(60);

/// The mean time for which the calls of a function hold a slot, over the last ten or so.
#[derive(Debug, Default)]
pub(crate) struct ServiceTime {
    /// In nanoseconds; 0 before the first call ended. Two calls that end at once may count as one.
    mean: AtomicU64,
}

impl ServiceTime {
    /// Takes down how long a call held its slot.
    pub(crate) fn observe(&self, time: Duration) {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.mean.load(Relaxed);
        let mean = if mean == 0 { time } else { mean - mean / 8 + time / 8 };
        self.mean.store(mean.max(1), Relaxed);
    }

    /// The mean; none before the first call ended.
    pub(crate) fn mean(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.mean.load(Relaxed))).filter(|mean| !mean.is_zero())
    }
}

/// What is ahead of a call that would have to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// The mean time for which a call of the function holds its slot.
    pub(super) service: Option<Duration>,
    /// Calls of the function that wait, and its slots.
    pub(super) waiting: u32,
    pub(super) slots: u32,
    /// Time for which what waits of the same tenant will hold slots of the node, and how many slots of the node are
    /// the tenant's share; none where the node does not bound its calls.
    pub(super) share: Option<(Duration, f64)>,
}

impl Ahead {
    /// The time that the call will wait, when what runs now is half done.
    fn wait(&self, service: Duration) -> Duration {
        let by_function = service.mul_f64((f64::from(self.waiting) + 0.5) / f64::from(self.slots.max(1)));
        let by_node = self.share.map_or(Duration::ZERO, |(ahead, slots)| ahead.div_f64(slots.max(f64::MIN_POSITIVE)));
        by_function.max(by_node)
    }

    /// When a call that can wait for `patience` would be in time, if it is not now: also where what runs then has
    /// just begun.
    pub(super) fn too_late(&self, patience: Duration) -> Option<Duration> {
        let service = self.service?;
        let late = (self.wait(service) + service).checked_sub(patience)?;
        let spare = service.div_f64(2.0 * f64::from(self.slots.max(1)));
        (!late.is_zero()).then(|| (late + spare).clamp(LEAST, MOST))
    }

    /// When one of those that wait will have been served.
    pub(super) fn one_is_served(&self) -> Duration {
        let service = self.service.unwrap_or(UNKNOWN);
        let by_function = service.div_f64(f64::from(self.slots.max(1)));
        let by_node = self.share.map_or(Duration::ZERO, |(_, slots)| service.div_f64(slots.max(f64::MIN_POSITIVE)));
        by_function.max(by_node).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_mean_follows_what_calls_take() {
        let time = ServiceTime::default();
        assert_eq!(time.mean(), None);
        time.observe(8 * MS);
        assert_eq!(time.mean(), Some(8 * MS));
        (0..60).for_each(|_| time.observe(80 * MS));
        let mean = time.mean().unwrap();
        assert!(mean > 79 * MS && mean <= 80 * MS, "{mean:?}");
    }

    #[test]
    fn a_call_is_too_late_where_queue_and_service_are_longer_than_its_patience() {
        let ahead = Ahead { service: Some(10 * MS), waiting: 7, slots: 2, share: None };
        // 2.5 ms until a slot is free, 35 ms of others, 10 ms of its own; 2.5 ms more to be sure.
        assert_eq!(ahead.too_late(40 * MS), Some(10 * MS));
        assert_eq!(ahead.too_late(48 * MS), None);
        assert_eq!(Ahead { service: None, ..ahead }.too_late(MS), None, "nothing is known, nothing is refused");
    }

    #[test]
    fn a_tenants_queue_drains_at_its_share_of_the_node() {
        let ahead = Ahead { service: Some(10 * MS), waiting: 0, slots: 64, share: Some((60 * MS, 0.5)) };
        assert_eq!(ahead.too_late(110 * MS).map(|after| after.as_millis()), Some(20));
        assert_eq!(ahead.one_is_served(), 20 * MS);
    }
}
