//! What a model must be to go on.

use scf_core::Name;
use thiserror::Error;

use super::artefact::{Artefact, ArtefactId};

/// Lets a model through whose metric is high enough, and not much lower than that of the one that serves.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Gate {
    metric: Name,
    at_least: f64,
    margin: f64,
}

impl Gate {
    /// `metric`, of which more is better, must be `at_least` so much, and not lower than that of the model that serves.
    pub const fn new(metric: Name, at_least: f64) -> Self {
        Self { metric, at_least, margin: 0.0 }
    }

    /// How much lower than that of the model that serves it may be; default nothing.
    pub const fn margin(mut self, margin: f64) -> Self {
        self.margin = margin;
        self
    }

    /// Whether `candidate` may take the place of `serving`. Both have to be measured on the same data for that.
    ///
    /// # Errors
    /// [`Held`], which says by how much it fails.
    pub fn check(&self, candidate: &Artefact, serving: Option<&Artefact>) -> Result<(), Held> {
        let measured = |of: &Artefact| {
            let (artefact, metric) = (of.id.clone(), self.metric.clone());
            of.metrics.get(&self.metric).copied().ok_or(Held::Unmeasured { artefact, metric })
        };
        let (artefact, metric, value) = (candidate.id.clone(), self.metric.clone(), measured(candidate)?);
        if value < self.at_least {
            return Err(Held::Below { artefact, metric, value, at_least: self.at_least });
        }
        let Some(serving) = serving else { return Ok(()) };
        let serves = measured(serving)?;
        if value < serves - self.margin {
            return Err(Held::Worse { artefact, metric, value, serving: Box::new(serving.id.clone()), serves });
        }
        Ok(())
    }
}

/// Why a model may not go on.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum Held {
    /// The metric was not measured.
    #[error("{artefact} is held: its {metric} was not measured")]
    Unmeasured {
        /// The model of which it was not measured.
        artefact: ArtefactId,
        /// The metric.
        metric: Name,
    },
    /// It is too low.
    #[error("{artefact} is held: {metric} is {value}, at least {at_least} is needed")]
    Below {
        /// The candidate.
        artefact: ArtefactId,
        /// The metric.
        metric: Name,
        /// What it is.
        value: f64,
        /// What it has to be.
        at_least: f64,
    },
    /// It is lower than that of the model that serves.
    #[error("{artefact} is held: {metric} is {value}, that of {serving}, which serves, is {serves}")]
    Worse {
        /// The candidate.
        artefact: ArtefactId,
        /// The metric.
        metric: Name,
        /// What it is.
        value: f64,
        /// The model that serves.
        serving: Box<ArtefactId>,
        /// What it is there.
        serves: f64,
    },
}
