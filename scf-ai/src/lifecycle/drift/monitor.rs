//! The watch over a model that serves.

use std::collections::VecDeque;

use scf_core::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DriftError, DriftMetric, DriftPolicy, DriftReading, Observation, Reference};

/// Holds the latest calls of a model against a reference. Pure: time is passed in, the same observations give the same
/// readings. Keeps as many observations as the largest window has; as a value it can be a function's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct DriftMonitor {
    reference: Reference,
    watches: Vec<Watch>,
    latest: VecDeque<Observation>,
    /// Calls since the reference.
    since: u64,
    calls: u64,
}

/// A policy and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Watch {
    policy: DriftPolicy,
    /// Measurements in a row that were over the threshold.
    over: u32,
    has_acted: bool,
}

impl DriftMonitor {
    /// Watches by `policies` for what departs from `reference`.
    pub fn new(reference: Reference, policies: impl IntoIterator<Item = DriftPolicy>) -> Self {
        let watch = |policy| Watch { policy, over: 0, has_acted: false };
        let watches = policies.into_iter().map(watch).collect();
        Self { reference, watches, latest: VecDeque::new(), since: 0, calls: 0 }
    }

    /// Begins anew with another reference: another version serves, or what changed is as it should be.
    pub fn rebase(&mut self, reference: Reference) {
        self.reference = reference;
        self.latest.clear();
        self.since = 0;
        self.watches.iter_mut().for_each(|watch| (watch.over, watch.has_acted) = (0, false));
    }

    /// Takes down a call that ended at `now`, and gives what was measured with it: of every policy whose window is full,
    /// each quarter of it. Linear in the window where something is measured.
    ///
    /// # Errors
    /// [`DriftError`] when it does not have what the reference has; it is then not taken down.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) -> Result<Vec<DriftReading>, DriftError> {
        self.reference.check(&observation)?;
        let most = self.watches.iter().map(|watch| watch.policy.window as usize).max().unwrap_or(0);
        self.latest.push_back(observation);
        if self.latest.len() > most {
            self.latest.pop_front();
        }
        self.since += 1;
        self.calls += 1;
        let mut readings = Vec::new();
        for watch in &mut self.watches {
            let policy = watch.policy;
            if self.since < u64::from(policy.window) || !self.since.is_multiple_of(u64::from(policy.every)) {
                continue;
            }
            let window = self.latest.iter().rev().take(policy.window as usize);
            let value = match policy.metric {
                DriftMetric::Psi => Some(self.reference.psi(&window)),
                DriftMetric::EmbeddingShift => Some(self.reference.embedding_shift(window)),
                DriftMetric::AccuracyLoss => self.reference.accuracy_loss(window),
            };
            let Some(value) = value else { continue };
            watch.over = if value > policy.threshold { watch.over + 1 } else { 0 };
            let acts = watch.over >= policy.patience && !watch.has_acted;
            watch.has_acted |= acts;
            let DriftPolicy { metric, threshold, action, .. } = policy;
            let action = acts.then_some(action);
            readings.push(DriftReading { metric, value, threshold, calls: self.calls, at: now, action });
        }
        Ok(readings)
    }
}
