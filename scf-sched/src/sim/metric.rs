//! What is measured.

/// Count, mean, extremes and quantiles of an amount, in bounded memory.
///
/// Quantiles come from buckets whose bounds grow by 1/32 (within 3.2 % of the value); below 1e-9 all counts as 0.
#[derive(Clone, Debug)]
pub struct Summary {
    count: u64,
    sum: f64,
    max: f64,
    buckets: Vec<u64>,
}

/// Buckets per doubling.
const PER_OCTAVE: f64 = 22.18;
const LOWEST: f64 = 1e-9;
/// 1e-9 to 1e12.
const BUCKETS: usize = 1549;

impl Default for Summary {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, max: 0.0, buckets: Vec::new() }
    }
}

impl Summary {
    /// Adds a value, which is not negative.
    pub fn add(&mut self, value: f64) {
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
        self.buckets[Self::bucket(value)] += 1;
    }

    fn bucket(value: f64) -> usize {
        if value <= LOWEST {
            return 0;
        }
        (((value / LOWEST).log2() * PER_OCTAVE) as usize + 1).min(BUCKETS - 1)
    }

    /// How many values there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Their mean, 0 without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// The greatest.
    #[must_use]
    pub const fn max(&self) -> f64 {
        self.max
    }

    /// The value that a `share` (0 to 1) of all is not above; 0 without any.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                let upper = LOWEST * (bucket as f64 / PER_OCTAVE).exp2();
                return if bucket == 0 { 0.0 } else { upper.min(self.max) };
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_percent_of_the_values() {
        let mut summary = Summary::default();
        for value in 1..=10_000 {
            summary.add(f64::from(value) * 1e-3);
        }
        for share in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let exact = share * 10.0;
            assert!((summary.quantile(share) / exact - 1.0).abs() < 0.033, "{share}: {}", summary.quantile(share));
        }
        assert!((summary.mean() - 5.0005).abs() < 1e-9);
        assert_eq!(summary.count(), 10_000);
        assert_eq!(Summary::default().quantile(0.5), 0.0);
    }
}
