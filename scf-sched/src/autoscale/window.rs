//! Means over the last seconds.

use std::time::Duration;

use scf_core::Timestamp;

/// Millionths: what means are rounded to, so that sums of them are exact.
const UNIT: f64 = 1e6;

/// A ring of buckets, each with the mean of what was recorded in it, and the mean over several of them.
///
/// As Knative's `TimedFloat64Buckets` (knative/serving, `pkg/autoscaler/aggregation/bucketing.go`): the mean divides
/// by the buckets since the first record, at most by all; buckets without a record count as zero; when nothing was
/// recorded for the whole ring it begins anew.
#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    width: u64,
    /// Sum of what was recorded in a bucket, in millionths, and the number of records.
    ring: Box<[(u64, u32)]>,
    /// Numbers of the first and the last bucket with a record since the ring began.
    span: Option<(u64, u64)>,
}

impl Buckets {
    /// `buckets` buckets of `width` each; at least one, at least a nanosecond.
    pub(crate) fn new(width: Duration, buckets: usize) -> Self {
        let width = u64::try_from(width.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self { width, ring: vec![(0, 0); buckets.max(1)].into(), span: None }
    }

    fn slot(&mut self, bucket: u64) -> &mut (u64, u32) {
        let len = self.ring.len() as u64;
        &mut self.ring[(bucket % len) as usize]
    }

    /// Takes down `value` at `now`, one of several that are averaged; time does not go backwards.
    pub(crate) fn record(&mut self, now: Timestamp, value: f64) {
        let slot = self.open(now);
        slot.0 = slot.0.saturating_add((value.max(0.0) * UNIT).round() as u64);
        slot.1 = slot.1.saturating_add(1);
    }

    /// Adds `value` to what was added since its bucket began.
    pub(crate) fn add(&mut self, now: Timestamp, value: f64) {
        let slot = self.open(now);
        *slot = (slot.0.saturating_add((value.max(0.0) * UNIT).round() as u64), 1);
    }

    /// The bucket of `now`, with those between it and the last one emptied.
    fn open(&mut self, now: Timestamp) -> &mut (u64, u32) {
        let bucket = now.nanos() / self.width;
        let len = self.ring.len() as u64;
        match self.span {
            Some((first, last)) if bucket < last + len => {
                for skipped in last + 1..=bucket {
                    *self.slot(skipped) = (0, 0);
                }
                self.span = Some((first, last.max(bucket)));
            }
            _ => {
                self.ring.fill((0, 0));
                self.span = Some((bucket, bucket));
            }
        }
        self.slot(bucket)
    }

    /// Numbers of the buckets of the last `window` that count at `now`, the oldest first; none when nothing was
    /// recorded for so long.
    fn range(&self, now: Timestamp, window: usize) -> Option<(u64, u64)> {
        let (first, last) = self.span?;
        let (now, window) = ((now.nanos() / self.width).max(last), window.clamp(1, self.ring.len()) as u64);
        (now < last + window).then(|| (first.max((now + 1).saturating_sub(window)), now))
    }

    fn mean_in(&self, bucket: u64) -> f64 {
        let (sum, count) = self.ring[(bucket % self.ring.len() as u64) as usize];
        // A bucket after the last record holds what was there a ring ago.
        let is_recorded = self.span.is_some_and(|(_, last)| bucket <= last);
        if is_recorded && count > 0 { sum as f64 / UNIT / f64::from(count) } else { 0.0 }
    }

    /// The mean over the last `window` buckets.
    pub(crate) fn mean(&self, now: Timestamp, window: usize) -> f64 {
        let Some((from, to)) = self.range(now, window) else { return 0.0 };
        let sum: f64 = (from..=to).map(|bucket| self.mean_in(bucket)).sum();
        (sum / (to - from + 1) as f64 * UNIT).round() / UNIT
    }

    /// The mean in which a bucket weighs `m(1-m)^k`, the newest with k = 0, with
    /// `m = max(0.2, 1 - (1 - 0.9999)^(1/window))`.
    pub(crate) fn weighted_mean(&self, now: Timestamp, window: usize) -> f64 {
        let Some((from, to)) = self.range(now, window) else { return 0.0 };
        let m = (1.0 - 1e-4_f64.powf(1.0 / window.max(1) as f64)).max(0.2);
        let (mut weight, mut sum) = (m, 0.0);
        for bucket in (from..=to).rev() {
            sum += weight * self.mean_in(bucket);
            weight *= 1.0 - m;
        }
        sum
    }

    /// The sum of the means over the last `window` buckets.
    pub(crate) fn sum(&self, now: Timestamp, window: usize) -> f64 {
        self.range(now, window).map_or(0.0, |(from, to)| (from..=to).map(|bucket| self.mean_in(bucket)).sum())
    }

    /// For how many buckets, of at most `window`, there are records.
    pub(crate) fn covered(&self, now: Timestamp, window: usize) -> u64 {
        self.range(now, window).map_or(0, |(from, to)| to - from + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    fn seconds(buckets: usize) -> Buckets {
        Buckets::new(Duration::from_secs(1), buckets)
    }

    #[test]
    fn a_partial_window_divides_by_what_there_is() {
        let mut buckets = seconds(60);
        buckets.record(at(100), 30.0);
        assert_eq!(buckets.mean(at(100), 60), 30.0);
        assert_eq!(buckets.mean(at(102), 60), 10.0, "gaps count as zero");
        buckets.record(at(102), 30.0);
        assert_eq!(buckets.mean(at(102), 60), 20.0);
        assert_eq!(buckets.mean(at(102), 2), 15.0);
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut buckets = seconds(4);
        (0..4).for_each(|second| buckets.record(at(second), 8.0));
        assert_eq!(buckets.mean(at(3), 4), 8.0);
        assert_eq!(buckets.mean(at(5), 4), 4.0);
        assert_eq!(buckets.mean(at(7), 4), 0.0);
        buckets.record(at(9), 5.0);
        assert_eq!(buckets.mean(at(9), 4), 5.0, "the ring began anew");
    }

    #[test]
    fn several_records_of_a_bucket_are_averaged() {
        let mut buckets = seconds(4);
        for value in [1.0, 3.0, 2.0] {
            buckets.record(at(1), value);
        }
        assert_eq!((buckets.mean(at(1), 4), buckets.sum(at(1), 4)), (2.0, 2.0));
        assert_eq!(buckets.covered(at(2), 4), 2);
    }

    #[test]
    fn the_weights_of_six_buckets_are_knatives() {
        let mut buckets = seconds(60);
        (0..6).for_each(|second| buckets.record(at(second), f64::from(second == 5)));
        assert!((buckets.weighted_mean(at(5), 6) - 0.785).abs() < 1e-3);
        assert!((buckets.weighted_mean(at(5), 60) - 0.2).abs() < 1e-12);
    }
}
