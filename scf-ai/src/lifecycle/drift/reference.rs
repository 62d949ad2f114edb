//! What was, as observations are held against it.

use serde::{Deserialize, Serialize};

use super::{DriftError, Observation};

/// Bins of a feature, each with the same share of the reference.
const BINS: usize = 10;
/// Least observations of a reference: ten of each bin.
const LEAST: usize = 10 * BINS;
/// Classes that are told apart; those above count as one.
const MOST_CLASSES: usize = 4096;
/// How often chance alone may exceed what is taken off an index.
const CHANCE: f64 = 1e-4;
/// Added to the count of every bin, so that none is empty (Jeffreys).
const PRIOR: f64 = 0.5;

/// How features, answers and embeddings are distributed where there is no drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Reference {
    observations: usize,
    features: Vec<Bins>,
    /// How often each class was answered.
    answers: Vec<u32>,
    embedding: Vec<f64>,
    /// Variance of the embeddings, added up over their numbers.
    variance: f64,
    accuracy: Option<f64>,
}

/// A feature's bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bins {
    /// Where the next bin begins, ascending.
    edges: Vec<f32>,
    counts: Vec<u32>,
}

impl Bins {
    fn of(mut values: Vec<f32>) -> Self {
        values.sort_unstable_by(f32::total_cmp);
        let mut edges: Vec<f32> = (1..BINS).map(|bin| values[bin * values.len() / BINS]).collect();
        edges.dedup();
        let mut bins = Self { counts: vec![0; edges.len() + 1], edges };
        bins.counts = bins.count(values.into_iter());
        bins
    }

    fn count(&self, values: impl Iterator<Item = f32>) -> Vec<u32> {
        let mut counts = vec![0; self.counts.len()];
        for value in values {
            counts[self.edges.partition_point(|edge| *edge <= value)] += 1;
        }
        counts
    }
}

impl Reference {
    /// Of `observations`, at least 100, of a model on data that it was validated with. Their labels, where they have
    /// them, give the accuracy.
    ///
    /// # Errors
    /// [`DriftError`].
    pub fn new(observations: &[Observation]) -> Result<Self, DriftError> {
        let (given, least) = (observations.len(), LEAST);
        let Some(first) = observations.first().filter(|_| given >= least) else {
            return Err(DriftError::Few { given, least });
        };
        let mut reference = Self {
            observations: given,
            features: Vec::new(),
            answers: Vec::new(),
            embedding: vec![0.0; first.embedding.len()],
            variance: 0.0,
            accuracy: accuracy(observations.iter()).map(|(accuracy, _)| accuracy),
        };
        for observation in observations {
            check(observation, first.features.len(), first.embedding.len())?;
        }
        let feature = |at: usize| observations.iter().map(|o| o.features[at]).collect();
        reference.features = (0..first.features.len()).map(|at| Bins::of(feature(at))).collect();
        reference.answers = answers(observations.iter(), 0);
        reference.embedding = mean(observations.iter(), first.embedding.len());
        let far = |o: &Observation| squared(o.embedding.iter().map(|v| f64::from(*v)), &reference.embedding);
        reference.variance = observations.iter().map(far).sum::<f64>() / (given - 1) as f64;
        Ok(reference)
    }

    /// How often answers were right; `None` where no observation had a label.
    #[must_use]
    pub const fn accuracy(&self) -> Option<f64> {
        self.accuracy
    }

    pub(super) fn check(&self, observation: &Observation) -> Result<(), DriftError> {
        check(observation, self.features.len(), self.embedding.len())
    }

    pub(super) fn psi<'a>(&self, window: &(impl Iterator<Item = &'a Observation> + Clone)) -> f64 {
        let compared = self.features.len() + 1;
        let feature = |(at, bins): (usize, &Bins)| {
            psi(&bins.counts, &bins.count(window.clone().map(|o: &Observation| o.features[at])), compared)
        };
        let mut was = self.answers.clone();
        let is = answers(window.clone(), was.len());
        was.resize(is.len(), 0);
        self.features.iter().enumerate().map(feature).fold(psi(&was, &is, compared), f64::max)
    }

    pub(super) fn embedding_shift<'a>(&self, window: impl Iterator<Item = &'a Observation> + Clone) -> f64 {
        if self.variance <= 0.0 {
            return 0.0;
        }
        let n = window.clone().count() as f64;
        let moved = squared(mean(window, self.embedding.len()).into_iter(), &self.embedding) / self.variance;
        (moved - (1.0 / n + 1.0 / self.observations as f64)).max(0.0).sqrt()
    }

    /// `None` where too few of the window have a label, or none of the reference had.
    pub(super) fn accuracy_loss<'a>(&self, window: impl Iterator<Item = &'a Observation> + Clone) -> Option<f64> {
        let all = window.clone().count();
        let (now, labelled) = accuracy(window)?;
        if 2 * labelled < all { None } else { Some((self.accuracy? - now).max(0.0)) }
    }
}

/// Of counts of two samples over the same bins, less what they exceed by chance in one of 10 000 measurements in which so
/// many indices are `compared`; not below 0.
fn psi(was: &[u32], is: &[u32], compared: usize) -> f64 {
    let total = |counts: &[u32]| counts.iter().map(|c| f64::from(*c)).sum::<f64>();
    let (n, m, bins) = (total(was), total(is), was.len() as f64);
    let share = |count: u32, of: f64| (f64::from(count) + PRIOR) / (of + PRIOR * bins);
    let part = |(was, is): (&u32, &u32)| {
        let (p, q) = (share(*is, m), share(*was, n));
        (p - q) * (p / q).ln()
    };
    let sum: f64 = was.iter().zip(is).map(part).sum();
    (sum - chi_square(bins - 1.0, CHANCE / compared as f64) * (1.0 / n + 1.0 / m)).max(0.0)
}

/// What a χ² variable of `freedom` degrees exceeds with a probability `tail` below a half: the normal quantile by
/// Abramowitz and Stegun 26.2.23, taken to χ² as Wilson and Hilferty do (26.4.17).
fn chi_square(freedom: f64, tail: f64) -> f64 {
    if freedom < 1.0 {
        return 0.0;
    }
    let t = (-2.0 * tail.ln()).sqrt();
    let over = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let under = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let (z, part) = (t - over / under, 2.0 / (9.0 * freedom));
    freedom * (1.0 - part + z * part.sqrt()).powi(3)
}

/// How often each class was answered, at least as long as `classes`.
fn answers<'a>(observations: impl Iterator<Item = &'a Observation>, classes: usize) -> Vec<u32> {
    let mut counts = vec![0; classes];
    for observation in observations {
        let class = (observation.answer as usize).min(MOST_CLASSES);
        if class >= counts.len() {
            counts.resize(class + 1, 0);
        }
        counts[class] += 1;
    }
    counts
}

/// How often answers are right, and of how many that is known; `None` where of none.
fn accuracy<'a>(observations: impl Iterator<Item = &'a Observation>) -> Option<(f64, usize)> {
    let (mut right, mut labelled) = (0usize, 0usize);
    for observation in observations {
        labelled += usize::from(observation.label.is_some());
        right += usize::from(observation.label == Some(observation.answer));
    }
    (labelled > 0).then(|| (right as f64 / labelled as f64, labelled))
}

fn mean<'a>(observations: impl Iterator<Item = &'a Observation>, size: usize) -> Vec<f64> {
    let (mut sums, mut count) = (vec![0.0; size], 0.0);
    for observation in observations {
        sums.iter_mut().zip(&observation.embedding).for_each(|(sum, v)| *sum += f64::from(*v));
        count += 1.0;
    }
    sums.iter_mut().for_each(|sum| *sum /= f64::max(count, 1.0));
    sums
}

fn squared(a: impl Iterator<Item = f64>, b: &[f64]) -> f64 {
    a.zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn check(observation: &Observation, features: usize, embedding: usize) -> Result<(), DriftError> {
    let different = |what, given: usize, wanted| Err(DriftError::Different { what, given, wanted });
    if observation.features.len() != features {
        return different("features", observation.features.len(), features);
    }
    if observation.embedding.len() != embedding {
        return different("numbers in its embedding", observation.embedding.len(), embedding);
    }
    if observation.features.iter().any(|v| !v.is_finite()) {
        return Err(DriftError::NotFinite { what: "a feature" });
    }
    if observation.embedding.iter().any(|v| !v.is_finite()) {
        return Err(DriftError::NotFinite { what: "a number in its embedding" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, tail, table) in [(9.0, 0.05, 16.92), (9.0, 0.001, 27.88), (1.0, 0.01, 6.63), (4.0, 0.0001, 23.51)]
        {
            let quantile = chi_square(freedom, tail);
            assert!((quantile / table - 1.0).abs() < 0.03, "{freedom} degrees, {tail}: {quantile} for {table}");
        }
    }

    #[test]
    fn an_index_is_nothing_between_equals_and_much_between_opposites() {
        assert_eq!(psi(&[50, 50, 100], &[25, 25, 50], 1), 0.0);
        assert_eq!(psi(&[60, 40], &[50, 50], 1), 0.0, "chance");
        assert!(psi(&[190, 10], &[10, 190], 1) > 4.0);
        assert_eq!(psi(&[7], &[9], 1), 0.0, "one bin");
    }
}
