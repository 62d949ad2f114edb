//! A line through what was seen, one observation at a time.

use serde::{Deserialize, Serialize};

/// Features of a call that a model knows at most, the constant included.
pub const MOST_FEATURES: usize = 12;

/// How much what is seen later counts more: an observation counts half after 138 more.
const FORGETTING: f64 = 0.995;
/// Variance of the coefficients before anything was seen.
const UNKNOWN: f64 = 100.0;
/// The variance of no coefficient grows beyond this while its feature does not change.
const WIDEST: f64 = 1e4;

/// Recursive least squares with exponential forgetting (Haykin, Adaptive Filter Theory, chapter on RLS; λ = 0.995).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Regression {
    /// Features with the constant.
    width: usize,
    theta: [f64; MOST_FEATURES],
    /// Inverse correlation, row by row, of which `width` rows and columns are used.
    p: [[f64; MOST_FEATURES]; MOST_FEATURES],
    seen: u32,
}

impl Regression {
    pub(super) fn new(features: usize) -> Self {
        let mut p = [[0.0; MOST_FEATURES]; MOST_FEATURES];
        let width = (features + 1).min(MOST_FEATURES);
        (0..width).for_each(|at| p[at][at] = UNKNOWN);
        Self { width, theta: [0.0; MOST_FEATURES], p, seen: 0 }
    }

    /// One that expects what `other` does and is as open to be told otherwise as one that has seen nothing; `shift` is
    /// added to all that it expects.
    pub(super) fn like(other: &Self, shift: f64) -> Self {
        let mut theta = other.theta;
        theta[0] += shift;
        // How the inputs matter is mostly the same elsewhere, how much all of it takes is not.
        let mut p = [[0.0; MOST_FEATURES]; MOST_FEATURES];
        (0..other.width).for_each(|at| p[at][at] = if at == 0 { 1.0 } else { 0.01 });
        Self { width: other.width, theta, p, seen: 0 }
    }

    pub(super) const fn seen(&self) -> u32 {
        self.seen
    }

    fn padded(&self, features: &[f64]) -> [f64; MOST_FEATURES] {
        let mut all = [0.0; MOST_FEATURES];
        all[0] = 1.0;
        for (to, from) in all[1..self.width].iter_mut().zip(features) {
            *to = if from.is_finite() { *from } else { 0.0 };
        }
        all
    }

    pub(super) fn expects(&self, features: &[f64]) -> f64 {
        let phi = self.padded(features);
        (0..self.width).map(|at| self.theta[at] * phi[at]).sum()
    }

    /// How little is known about these features: the standard deviation of what is expected, in units of that of one
    /// observation.
    pub(super) fn uncertainty(&self, features: &[f64]) -> f64 {
        let phi = self.padded(features);
        let row = |i: usize| (0..self.width).map(|j| self.p[i][j] * phi[j]).sum::<f64>();
        (0..self.width).map(|i| phi[i] * row(i)).sum::<f64>().max(0.0).sqrt()
    }

    pub(super) fn observe(&mut self, features: &[f64], value: f64) {
        let (phi, width) = (self.padded(features), self.width);
        let mut gain = [0.0; MOST_FEATURES];
        for (gain, row) in gain[..width].iter_mut().zip(&self.p) {
            *gain = (0..width).map(|j| row[j] * phi[j]).sum();
        }
        let scale = FORGETTING + (0..width).map(|i| phi[i] * gain[i]).sum::<f64>();
        let error = value - (0..width).map(|i| self.theta[i] * phi[i]).sum::<f64>();
        for (theta, gain) in self.theta.iter_mut().zip(&gain[..width]) {
            *theta += gain / scale * error;
        }
        for i in 0..width {
            // The upper half is computed and mirrored, so that rounding does not make it lopsided.
            for j in i..width {
                let next = (self.p[i][j] - gain[i] * gain[j] / scale) / FORGETTING;
                (self.p[i][j], self.p[j][i]) = (next, next);
            }
        }
        for i in 0..width {
            if self.p[i][i] > WIDEST {
                let shrink = WIDEST / self.p[i][i];
                for j in 0..width {
                    self.p[i][j] *= shrink.sqrt();
                    self.p[j][i] *= shrink.sqrt();
                }
            }
        }
        self.seen = self.seen.saturating_add(1);
    }

    /// Forgets how sure it is, as where everything has changed.
    pub(super) fn doubt(&mut self) {
        for i in 0..self.width {
            self.p[i][i] += 1.0 / f64::from(self.width as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_in_few_observations() {
        let mut line = Regression::new(2);
        for i in 0..40 {
            let (a, b) = (f64::from(i % 7), f64::from(i % 5));
            line.observe(&[a, b], 2.0 + 3.0 * a - b);
        }
        assert!((line.expects(&[4.0, 1.0]) - 13.0).abs() < 0.05, "{}", line.expects(&[4.0, 1.0]));
        assert!(line.uncertainty(&[4.0, 1.0]) < 0.6 && line.uncertainty(&[400.0, 1.0]) > 5.0);
    }

    #[test]
    fn a_feature_that_never_changes_does_no_harm() {
        let mut line = Regression::new(2);
        for i in 0..20_000 {
            line.observe(&[f64::from(i % 3), 0.0], f64::from(i % 3));
        }
        assert!((line.expects(&[2.0, 0.0]) - 2.0).abs() < 1e-6);
        line.observe(&[1.0, 1.0], 3.0);
        assert!(line.expects(&[1.0, 1.0]).is_finite());
    }
}
