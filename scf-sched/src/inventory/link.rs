//! How a link is, by what was measured of it.

use std::time::Duration;

use scf_core::{Bandwidth, ByteSize, LinkQuality};

/// Measurements that quantiles rest on.
const KEPT: usize = 64;
/// What a measurement weighs in the smoothed means.
const WEIGHT: f64 = 0.125;

/// Measurements of one direction of a link: smoothed means, and quantiles of the last 64.
#[derive(Clone, Debug, Default)]
pub struct LinkMeasurements {
    latency: Series,
    /// Bits per second.
    rate: Series,
    lost: f64,
    sent: u64,
}

#[derive(Clone, Debug, Default)]
struct Series {
    mean: f64,
    variance: f64,
    count: usize,
    last: Vec<f64>,
}

impl Series {
    fn add(&mut self, value: f64) {
        // The first ones are averaged, so that none of them rules.
        let weight = WEIGHT.max(1.0 / (self.count + 1) as f64);
        let apart = value - self.mean;
        self.mean += weight * apart;
        self.variance = (1.0 - weight) * (self.variance + weight * apart * apart);
        if self.last.len() < KEPT {
            self.last.push(value);
        } else {
            self.last[self.count % KEPT] = value;
        }
        self.count += 1;
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.last.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

impl LinkMeasurements {
    /// A small message took `latency` in one direction.
    pub fn delayed(&mut self, latency: Duration) {
        self.latency.add(latency.as_secs_f64());
        self.count(0.0);
    }

    /// `size` was on the wire for `time`, the latency not counted. What took no time says nothing.
    pub fn carried(&mut self, size: ByteSize, time: Duration) {
        if !time.is_zero() {
            self.rate.add(size.bytes() as f64 * 8.0 / time.as_secs_f64());
        }
    }

    /// A message was lost.
    pub fn lost(&mut self) {
        self.count(1.0);
    }

    fn count(&mut self, lost: f64) {
        self.sent += 1;
        let weight = 0.01_f64.max(1.0 / self.sent as f64);
        self.lost += weight * (lost - self.lost);
    }

    /// The latency that `share` of the last messages kept; none before one was measured.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        self.latency.quantile(share).map(Duration::from_secs_f64)
    }

    /// The rate that `share` of the last messages had at least; none before one was measured.
    #[must_use]
    pub fn bandwidth(&self, share: f64) -> Option<Bandwidth> {
        self.rate.quantile(1.0 - share).map(|rate| Bandwidth::from_bits_per_s(rate as u64))
    }

    /// The link as it is on average, for the parts that are measured; the others as `described`.
    #[must_use]
    pub fn quality(&self, described: LinkQuality) -> LinkQuality {
        let mut quality = described;
        if self.latency.count > 0 {
            quality.latency = Duration::from_secs_f64(self.latency.mean.max(0.0));
            quality.jitter = Duration::from_secs_f64(self.latency.variance.max(0.0).sqrt());
        }
        if self.rate.count > 0 {
            quality.bandwidth = Bandwidth::from_bits_per_s(self.rate.mean as u64);
        }
        if self.sent > 0 {
            quality.loss = (self.lost * 1e6).round() as u32;
        }
        quality
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> LinkQuality {
        LinkQuality::steady(Duration::from_millis(5), Bandwidth::from_mbit_per_s(100))
    }

    #[test]
    fn what_is_not_measured_is_as_described() {
        let mut link = LinkMeasurements::default();
        assert_eq!(link.quality(described()), described());
        link.carried(ByteSize::from_bytes(125_000), Duration::from_millis(100));
        let quality = link.quality(described());
        assert_eq!(quality.bandwidth, Bandwidth::from_mbit_per_s(10));
        assert_eq!(quality.latency, described().latency);
    }

    #[test]
    fn the_mean_follows_and_quantiles_tell_the_tail() {
        let mut link = LinkMeasurements::default();
        for at in 0..64 {
            link.delayed(Duration::from_millis(if at % 8 == 7 { 50 } else { 10 }));
        }
        assert_eq!(link.latency(0.5), Some(Duration::from_millis(10)));
        assert_eq!(link.latency(0.95), Some(Duration::from_millis(50)));
        let quality = link.quality(described());
        assert!(quality.jitter > Duration::from_millis(8), "{quality:?}");
        (0..64).for_each(|_| link.delayed(Duration::from_millis(2)));
        assert!(link.quality(described()).latency < Duration::from_millis(3));
        assert_eq!(link.latency(0.99), Some(Duration::from_millis(2)));
    }

    #[test]
    fn losses_are_a_share() {
        let mut link = LinkMeasurements::default();
        for at in 0..1000 {
            if at % 10 == 0 { link.lost() } else { link.delayed(Duration::from_millis(1)) }
        }
        let loss = link.quality(described()).loss;
        assert!((60_000..140_000).contains(&loss), "{loss}");
    }
}
