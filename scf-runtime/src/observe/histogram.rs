//! How often what size was seen, without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts values below bounds. One value costs a search among the bounds and two relaxed additions.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    /// One more than bounds: the last is for what is over all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A histogram at one time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) sum: f64,
    pub(super) count: u64,
    /// Upper bound and number of values up to it and over the bound before.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// With ascending bounds.
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub(super) fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What was seen, `scale` being what one of the unit of the values is in that of the reading.
    pub(super) fn read(&self, scale: f64) -> Reading {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 * scale).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.counts.iter().map(|count| count.load(Relaxed))).collect();
        // Of the buckets, so that the parts of a reading agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading { sum: self.sum.load(Relaxed) as f64 * scale, count, buckets }
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_under_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [0, 10, 11, 100, 101] {
            histogram.observe(value);
        }
        let buckets = vec![(1.0, 2), (10.0, 2), (f64::INFINITY, 1)];
        assert_eq!(histogram.read(0.1), Reading { sum: 222.0 * 0.1, count: 5, buckets });
    }
}
