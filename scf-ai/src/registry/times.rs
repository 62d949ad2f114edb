//! How long batches take, as measured.

use std::time::Duration;

use scf_core::Timestamp;

/// Times of a size that are kept: ten, as Clockwork keeps (Gujarati et al., OSDI 2020, section 5.3).
const WINDOW: usize = 10;
/// Age from which on the times of a size no longer keep requests away: what was slow is tried again.
const STALE: Duration = Duration::from_secs(10);

/// Times of one model on one device by the size of the batch, and what they say of the next.
///
/// A size is expected to take the 99th percentile of its last ten times, which of ten is the longest. Two more bounds
/// hold it down: a larger batch takes no less, and a batch can be run as several smaller ones. Sizes that never ran
/// are so estimated from those that did. The estimate of what has not run for ten seconds is the shortest of the ten,
/// halved with every further ten seconds.
#[derive(Clone, Debug)]
pub struct BatchTimes {
    expected: Duration,
    /// By size, from 1 on.
    sizes: Vec<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    last: [Duration; WINDOW],
    seen: usize,
    at: Timestamp,
}

impl Window {
    fn add(&mut self, took: Duration, now: Timestamp) {
        self.last[self.seen % WINDOW] = took;
        // Wraps from a full window to a full window.
        self.seen = if self.seen + 1 == 2 * WINDOW { WINDOW } else { self.seen + 1 };
        self.at = now;
    }

    fn estimate(&self, now: Timestamp) -> Option<Duration> {
        let seen = &self.last[..self.seen.min(WINDOW)];
        let ages = now.since(self.at).as_nanos() / STALE.as_nanos();
        if ages == 0 {
            return seen.iter().max().copied();
        }
        let halvings = u32::try_from(ages - 1).unwrap_or(u32::MAX);
        seen.iter().min().map(|shortest| *shortest / 1u32.checked_shl(halvings).unwrap_or(u32::MAX))
    }
}

impl BatchTimes {
    /// Of batches of up to `largest`, of which none has run; one of size 1 is taken to last `expected`.
    #[must_use]
    pub fn new(largest: usize, expected: Duration) -> Self {
        Self { expected, sizes: vec![Window::default(); largest.max(1)] }
    }

    /// The largest size that is kept.
    #[must_use]
    pub const fn largest(&self) -> usize {
        self.sizes.len()
    }

    /// Takes down that a batch of `size` ended at `now` after `took`. Sizes that are not kept are left out.
    pub fn observe(&mut self, size: usize, took: Duration, now: Timestamp) {
        if let Some(window) = size.checked_sub(1).and_then(|at| self.sizes.get_mut(at)) {
            window.add(took, now);
        }
    }

    /// The time that a batch of `size` will take.
    #[must_use]
    pub fn estimate(&self, size: usize, now: Timestamp) -> Duration {
        let runs = |of: usize| u32::try_from(size.div_ceil(of)).unwrap_or(u32::MAX);
        let measured = (1..).zip(&self.sizes).filter_map(|(of, window)| Some((of, window.estimate(now)?)));
        let bound = measured.map(|(of, took)| took.saturating_mul(runs(of))).min();
        bound.unwrap_or_else(|| self.expected.saturating_mul(runs(1)))
    }

    /// What a request adds to the time that the device is busy where batches are as large as they may be.
    #[must_use]
    pub fn share(&self, now: Timestamp) -> Duration {
        let largest = self.largest();
        self.estimate(largest, now) / u32::try_from(largest).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_nanos(0);

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_longest_of_the_last_ten_counts_until_nobody_measures() {
        let mut times = BatchTimes::new(1, ms(7));
        assert_eq!(times.estimate(1, START), ms(7));
        times.observe(1, ms(90), START);
        (4..=12).for_each(|i| times.observe(1, ms(i), START));
        assert_eq!(times.estimate(1, START), ms(90));
        let later = |seconds: u64| START + Duration::from_secs(seconds);
        assert_eq!([10, 20, 30].map(|s| times.estimate(1, later(s))), [ms(4), ms(2), ms(1)]);
        assert!(times.estimate(1, later(1_000_000)) < Duration::from_micros(1));
        times.observe(1, ms(5), START);
        assert_eq!(times.estimate(1, START), ms(12));
        (0..100).for_each(|_| times.observe(1, ms(3), START));
        assert_eq!(times.estimate(1, START), ms(3));
    }

    #[test]
    fn sizes_that_never_ran_are_bounded_by_those_that_did() {
        let mut times = BatchTimes::new(8, ms(10));
        assert_eq!(times.estimate(8, START), ms(80), "nothing ran");
        times.observe(1, ms(6), START);
        assert_eq!([1, 2, 8].map(|size| times.estimate(size, START)), [ms(6), ms(12), ms(48)]);
        times.observe(4, ms(11), START);
        assert_eq!([1, 2, 3, 4, 5, 8].map(|size| times.estimate(size, START)), [6, 11, 11, 11, 22, 22].map(ms));
        assert_eq!(times.share(START), ms(22) / 8);
        times.observe(9, ms(1), START);
        times.observe(0, ms(1), START);
        assert_eq!(times.estimate(1, START), ms(6), "sizes that are not kept say nothing");
    }

    #[test]
    fn one_slow_run_of_a_size_is_forgiven_where_a_larger_one_is_faster() {
        let mut times = BatchTimes::new(2, ms(10));
        times.observe(1, ms(50), START);
        times.observe(2, ms(12), START);
        assert_eq!(times.estimate(1, START), ms(12));
    }
}
