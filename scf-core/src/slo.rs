//! What is promised about a function or a workflow, and whether it held.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Energy, Money, Share};

/// A latency objective: so many per cent of the calls within so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Slo {
    /// The share of calls, above 0 and at most 1.
    pub share: Share,
    /// The time they have, from when the call is made to when its outcome is there.
    pub within: Duration,
}

impl Slo {
    /// `percent` per cent of the calls within `within`; `percent` is held between 1 and 100.
    #[must_use]
    pub fn percentile(percent: f64, within: Duration) -> Self {
        Self { share: Share::from_percent(percent.clamp(1.0, 100.0)), within }
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
        write!(f, "{} within {:?}", self.share, self.within)
    }
}

/// How a [`Slo`] fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SloReport {
    /// Calls looked at.
    pub calls: usize,
    /// Calls within the time.
    pub met: usize,
    /// The share that was promised.
    pub wanted: Share,
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
        self.share() >= self.wanted.fraction()
    }
}

/// All that is promised about a function or a workflow. Nothing, unless it is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Objectives {
    /// Latency, at as many percentiles as are promised.
    pub latency: Vec<Slo>,
    /// The share of calls that succeed.
    pub availability: Option<Share>,
    /// The mean cost of a call, at most.
    pub cost: Option<Money>,
    /// The mean energy of a call, at most.
    pub energy: Option<Energy>,
}

impl Objectives {
    /// Nothing is promised.
    #[must_use]
    pub const fn none() -> Self {
        Self { latency: Vec::new(), availability: None, cost: None, energy: None }
    }

    /// Adds a latency objective, in place of an earlier one at the same percentile.
    #[must_use]
    pub fn latency(mut self, slo: Slo) -> Self {
        self.latency.retain(|other| other.share != slo.share);
        self.latency.push(slo);
        self.latency.sort_by_key(|slo| slo.share);
        self
    }

    /// The share of calls that succeed; default nothing is promised.
    #[must_use]
    pub const fn availability(mut self, share: Share) -> Self {
        self.availability = Some(share);
        self
    }

    /// The mean cost of a call, at most; default unbounded.
    #[must_use]
    pub const fn cost(mut self, per_call: Money) -> Self {
        self.cost = Some(per_call);
        self
    }

    /// The mean energy of a call, at most; default unbounded.
    #[must_use]
    pub const fn energy(mut self, per_call: Energy) -> Self {
        self.energy = Some(per_call);
        self
    }

    /// Whether nothing is promised.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.latency.is_empty() && self.availability.is_none() && self.cost.is_none() && self.energy.is_none()
    }

    /// The latency objective that allows the smallest time: what a call has to keep to count as in time for all of
    /// them is bounded by it.
    #[must_use]
    pub fn tightest(&self) -> Option<Slo> {
        self.latency.iter().min_by_key(|slo| slo.within).copied()
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

    #[test]
    fn a_percentile_is_promised_once() {
        let within = Duration::from_millis;
        let promised = Objectives::none()
            .latency(Slo::percentile(99.0, within(80)))
            .latency(Slo::percentile(95.0, within(50)))
            .latency(Slo::percentile(99.0, within(90)));
        assert_eq!(promised.latency, [Slo::percentile(95.0, within(50)), Slo::percentile(99.0, within(90))]);
        assert_eq!(promised.tightest().unwrap().within, within(50));
        assert!(Objectives::none().is_empty() && !promised.is_empty());
    }
}
