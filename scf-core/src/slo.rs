//! What is promised about a function, and whether it held.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A latency objective: so many per cent of the calls within so much time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slo {
    /// The share of calls, above 0 and at most 1.
    pub share: f64,
    /// The time they have.
    pub within: Duration,
}

impl Slo {
    /// `percent` per cent of the calls within `within`; `percent` is held between 1 and 100.
    #[must_use]
    pub fn percentile(percent: f64, within: Duration) -> Self {
        Self { share: percent.clamp(1.0, 100.0) / 100.0, within }
    }

    /// Holds measured latencies against the objective.
    #[must_use]
    pub fn report(&self, latencies: &[Duration]) -> SloReport {
        let met = latencies.iter().filter(|&&latency| latency <= self.within).count();
        SloReport { calls: latencies.len(), met, wanted: self.share }
    }
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} % within {:?}", self.share * 100.0, self.within)
    }
}

/// How a [`Slo`] fared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SloReport {
    /// Calls looked at.
    pub calls: usize,
    /// Calls within the time.
    pub met: usize,
    /// The share that was promised.
    pub wanted: f64,
}

impl SloReport {
    /// The share of calls within the time; 1 when there were none.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.calls == 0 { 1.0 } else { self.met as f64 / self.calls as f64 }
    }

    /// Whether the objective held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.share() >= self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_per_cent_hold_with_one_of_ten_late_and_not_with_two() {
        let slo = Slo::percentile(90.0, Duration::from_millis(10));
        let mut latencies = vec![Duration::from_millis(5); 9];
        latencies.push(Duration::from_millis(50));
        assert!(slo.report(&latencies).holds());
        latencies[0] = Duration::from_millis(11);
        assert!(!slo.report(&latencies).holds());
    }
}
