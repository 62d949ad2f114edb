//! Whether what a model is asked, and what it answers, is still what it was validated with.
//!
//! A [`Reference`] is made of what the validated model does with validated data. A [`DriftMonitor`] holds the latest
//! observations against it, by one or several [`DriftPolicy`], and says what to do.

mod monitor;
mod reference;

use scf_core::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::{monitor::DriftMonitor, reference::Reference};

/// One call of a model as a monitor sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by whoever serves")]
pub struct Observation {
    /// Numbers that describe the input, the same ones for every call; any scale.
    pub features: Vec<f32>,
    /// What the model makes of the input before or in its answer: an embedding, the logits. May be empty.
    pub embedding: Vec<f32>,
    /// The class that it answered.
    pub answer: u32,
    /// The right class, where it is known.
    pub label: Option<u32>,
}

/// By what drift is measured. Every metric is about 0 without drift, whatever the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DriftMetric {
    /// The population stability index of the feature, or of the answers, that drifted most: `Σ (p - q) ln (p / q)` over
    /// ten bins, or the classes. From it goes what chance alone exceeds in one of 10 000 measurements: two samples of one
    /// distribution have a χ² of `bins - 1` degrees times `1/n + 1/m` (Yurdakul, Naranjo, "Statistical properties of the
    /// population stability index", J. Risk Model Validation 14(4), 2020, section 3). Above 0.25 is a large change.
    Psi,
    /// How far the mean embedding moved, in standard deviations of the embeddings, less what it moves by chance.
    EmbeddingShift,
    /// How much less often answers are right than the reference's were, over those of the window with a label. Not
    /// measured while fewer than half have one.
    AccuracyLoss,
}

impl DriftMetric {
    /// The metric as one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::EmbeddingShift => "embedding-shift",
            Self::AccuracyLoss => "accuracy-loss",
        }
    }
}

/// What to do when a policy finds drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DriftAction {
    /// Train a new version.
    Retrain,
    /// Tell somebody.
    Alert,
    /// Return to the version before.
    RollBack,
}

/// When drift is found, and what to do then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct DriftPolicy {
    metric: DriftMetric,
    threshold: f64,
    window: u32,
    every: u32,
    patience: u32,
    action: DriftAction,
}

impl DriftPolicy {
    /// Finds drift when `metric` is over `threshold`, and then does `action`. Over the last 200 calls, measured every
    /// quarter of that, and found when two measurements in a row say so.
    pub const fn new(metric: DriftMetric, threshold: f64, action: DriftAction) -> Self {
        Self { metric, threshold, window: 200, every: 50, patience: 2, action }
    }

    /// Measures over the last `calls` calls, at least 20, each quarter of that anew; default 200. Drift that begins at
    /// once is found within a window.
    pub const fn window(mut self, calls: u32) -> Self {
        self.window = if calls < 20 { 20 } else { calls };
        self.every = self.window / 4;
        self
    }

    /// Measurements in a row that have to be over the threshold, at least 1; default 2.
    pub const fn patience(mut self, measurements: u32) -> Self {
        self.patience = if measurements == 0 { 1 } else { measurements };
        self
    }
}

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DriftReading {
    /// By what.
    pub metric: DriftMetric,
    /// The value.
    pub value: f64,
    /// The policy's threshold.
    pub threshold: f64,
    /// Calls that the monitor has seen.
    pub calls: u64,
    /// When.
    pub at: Timestamp,
    /// What to do, where the policy finds drift now; once until the monitor has another reference.
    pub action: Option<DriftAction>,
}

/// Why drift is not measured.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DriftError {
    /// There is too little to compare with.
    #[error("a reference is made of {least} observations at least, not {given}")]
    Few {
        /// How many were given.
        given: usize,
        /// How many there must be.
        least: usize,
    },
    /// Observations differ in what they have.
    #[error("an observation has {given} {what}, the reference has {wanted}")]
    Different {
        /// `features` or `numbers in its embedding`.
        what: &'static str,
        /// How many it has.
        given: usize,
        /// How many it must have.
        wanted: usize,
    },
    /// A number of an observation is none.
    #[error("an observation has {what} that is no finite number")]
    NotFinite {
        /// `a feature` or `a number in its embedding`.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
