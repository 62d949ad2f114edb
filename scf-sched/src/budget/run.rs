//! A run of a workflow that keeps its time.

use std::time::Duration;

use scf_core::Money;

use super::split::{BudgetStep, SplitError, longest, split};

/// Chooses the option of each step as it begins, by what the steps before it took: what is left of the time is split
/// anew every time.
///
/// This is the online form of ChunkFunc's optimiser (Nastic et al., IEEE TPDS 2025), with the exact split in place of
/// its share by the critical path.
#[derive(Clone, Debug)]
pub struct BudgetRun {
    steps: Vec<BudgetStep>,
    within: Duration,
    slower: f64,
    /// Of each step when it began, since the run did, and its option; and how long it took once it is over.
    began: Vec<Option<(Duration, usize)>>,
    took: Vec<Option<Duration>>,
}

impl BudgetRun {
    /// A run of `steps` that is to be over `within` its time.
    ///
    /// # Errors
    /// [`SplitError`] as of [`split`], except for a time that is too short: then every step runs as fast as it can.
    pub fn new(steps: Vec<BudgetStep>, within: Duration) -> Result<Self, SplitError> {
        match split(&steps, within) {
            Ok(_) | Err(SplitError::TooShort { .. }) => {}
            Err(error) => return Err(error),
        }
        let count = steps.len();
        Ok(Self { steps, within, slower: 1.0, began: vec![None; count], took: vec![None; count] })
    }

    /// How many times longer than their options say steps may take, at least 1; default 1. With the 99th percentile of
    /// what they take over what was expected, runs are late as rarely.
    #[must_use]
    pub const fn slower(mut self, factor: f64) -> Self {
        self.slower = factor.max(1.0);
        self
    }

    /// The option to run `step` as, which begins `elapsed` after the run did. Out of range or without options: 0.
    pub fn begin(&mut self, step: usize, elapsed: Duration) -> usize {
        let Some(own) = self.steps.get(step) else { return 0 };
        let fastest = (0..own.options.len()).min_by_key(|&at| own.options[at]).unwrap_or(0);
        let planned: Vec<_> = (0..self.steps.len()).map(|at| self.planned(at, elapsed)).collect();
        // What passed between the end of the steps before it and now is gone for all that follows.
        let ends = |at: usize| planned[at].options[0].0;
        let before = longest(&planned[..step], |at| if self.is_before(at, step) { ends(at) } else { Duration::ZERO });
        let lost = elapsed.saturating_sub(before);
        let option = split(&planned, self.within.saturating_sub(lost)).map_or(fastest, |split| split.options[step]);
        self.began[step] = Some((elapsed, option));
        option
    }

    /// `step` is over, `elapsed` after the run began.
    pub fn end(&mut self, step: usize, elapsed: Duration) {
        if let Some(Some((began, _))) = self.began.get(step) {
            self.took[step] = Some(elapsed.saturating_sub(*began));
        }
    }

    /// Whether `step` has to wait for `at`.
    fn is_before(&self, at: usize, step: usize) -> bool {
        self.steps[step].after.iter().any(|&after| after == at || self.is_before(at, after))
    }

    /// A step as it stands: over, running, or still to be chosen.
    fn planned(&self, at: usize, elapsed: Duration) -> BudgetStep {
        let BudgetStep { after, options } = &self.steps[at];
        let slow = |time: Duration| time.mul_f64(self.slower);
        let options = match (self.took[at], self.began[at]) {
            (Some(took), _) => vec![(took, Money::ZERO)],
            (None, Some((began, option))) => {
                let so_far = elapsed.saturating_sub(began);
                vec![(slow(options[option].0).max(so_far), Money::ZERO)]
            }
            _ => options.iter().map(|(time, cost)| (slow(*time), *cost)).collect(),
        };
        BudgetStep { after: after.clone(), options }
    }
}
