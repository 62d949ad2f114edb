//! A margin that is exceeded as often as is said.

use serde::{Deserialize, Serialize};

/// Residuals that a margin rests on.
const WINDOW: usize = 256;
/// How fast the level follows what was covered: γ of adaptive conformal inference.
const STEP: f64 = 0.01;
/// Below so many residuals the largest one is the margin.
const FEW: usize = 20;

/// Adaptive conformal inference (Gibbs and Candès, NeurIPS 2021): the quantile of the last residuals whose level is
/// raised a little whenever a value was not covered and lowered when it was, so that in the long run the promised share
/// is covered whatever the distribution is and however it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Margin {
    share: f64,
    /// The share that is aimed not to be covered now, α of the paper.
    alpha: f64,
    /// In ascending order.
    sorted: Vec<f64>,
    /// In the order in which they came, a ring; `next` is the oldest once it is full.
    ring: Vec<f64>,
    next: usize,
}

impl Margin {
    pub(super) fn new(share: f64) -> Self {
        let share = share.clamp(0.01, 0.9999);
        Self { share, alpha: 1.0 - share, sorted: Vec::new(), ring: Vec::new(), next: 0 }
    }

    /// What has to be added to what is expected.
    pub(super) fn width(&self) -> f64 {
        let Some(largest) = self.sorted.last().copied() else { return f64::INFINITY };
        if self.sorted.len() < FEW {
            // Nobody knows the tail yet: as far again as the largest was.
            return largest.max(0.0) * 1.5;
        }
        // The quantile of n + 1, of which the new one is one; between two ranks in proportion.
        let rank = (1.0 - self.alpha) * (self.sorted.len() + 1) as f64 - 1.0;
        if rank >= (self.sorted.len() - 1) as f64 {
            return largest;
        }
        let (below, part) = (rank.max(0.0).floor() as usize, rank.max(0.0).fract());
        self.sorted[below] + part * (self.sorted[below + 1] - self.sorted[below])
    }

    /// Takes down what was missed by: positive where more came than was expected.
    pub(super) fn observe(&mut self, residual: f64) {
        if !residual.is_finite() {
            return;
        }
        let is_missed = residual > self.width();
        if self.sorted.len() >= FEW {
            let error = f64::from(u8::from(is_missed));
            self.alpha = (self.alpha + STEP * (1.0 - self.share - error)).clamp(0.0, 1.0);
        }
        if self.ring.len() < WINDOW {
            self.ring.push(residual);
        } else {
            let old = std::mem::replace(&mut self.ring[self.next], residual);
            self.next = (self.next + 1) % WINDOW;
            let at = self.sorted.partition_point(|other| *other < old);
            self.sorted.remove(at.min(self.sorted.len() - 1));
        }
        let at = self.sorted.partition_point(|other| *other < residual);
        self.sorted.insert(at, residual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_share_is_covered_also_when_the_distribution_changes() {
        let mut random = Random::new(11);
        let mut margin = Margin::new(0.9);
        let (mut covered, mut all) = (0, 0);
        for step in 0..20_000 {
            let scale = if (step / 2000) % 2 == 0 { 1.0 } else { 5.0 };
            let residual = scale * (random.below(1000) as f64 / 1000.0);
            if step > 200 {
                covered += u32::from(residual <= margin.width());
                all += 1;
            }
            margin.observe(residual);
        }
        let share = f64::from(covered) / f64::from(all);
        assert!((share - 0.9).abs() < 0.01, "{share}");
    }
}
