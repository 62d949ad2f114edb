//! Amounts of time that vary.

use serde::Deserialize;

use super::Rng;

/// A distribution of times in seconds, or of other amounts that the user of it names.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::exhaustive_enums, reason = "written by literal in models and scenarios")]
pub enum Distribution {
    /// Always the same.
    Constant(f64),
    /// Every value between the two alike.
    Uniform {
        /// The least.
        min: f64,
        /// The bound above.
        max: f64,
    },
    /// `shift` and an exponentially distributed time.
    Exponential {
        /// What there is at least.
        #[serde(default)]
        shift: f64,
        /// Mean of what comes on top.
        mean: f64,
    },
    /// A shifted log-normal, as SciPy names its parameters, of which only values in [min, max] are taken.
    LogNormal {
        /// Standard deviation of the logarithm (`shape` in SciPy).
        sigma: f64,
        /// What is added.
        loc: f64,
        /// Median of what it is added to.
        scale: f64,
        /// The least that was observed; smaller draws are drawn again.
        min: f64,
        /// The greatest that was observed; greater draws are drawn again.
        max: f64,
    },
}

/// After so many draws outside the bounds the value is set to the nearer bound: a fit whose bounds leave less than a
/// hundredth of its mass is not what it claims to be.
const DRAWS: u32 = 1000;

impl Distribution {
    /// A value.
    pub fn draw(&self, rng: &mut Rng) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Uniform { min, max } => min + (max - min) * rng.unit(),
            Self::Exponential { shift, mean } => shift + rng.exponential(mean),
            Self::LogNormal { sigma, loc, scale, min, max } => {
                let mut value = loc;
                for _ in 0..DRAWS {
                    value = loc + scale * (sigma * rng.normal()).exp();
                    if (min..=max).contains(&value) {
                        return value;
                    }
                }
                value.clamp(min, max)
            }
        }
    }

    /// The mean. Of a log-normal with bounds it is that of 4,096 draws from a fixed stream, which is within some percent
    /// and always the same.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Constant(value) => value,
            Self::Uniform { min, max } => f64::midpoint(min, max),
            Self::Exponential { shift, mean } => shift + mean,
            Self::LogNormal { .. } => {
                let mut rng = Rng::of(0, 0, 0);
                (0..4096).map(|_| self.draw(&mut rng)).sum::<f64>() / 4096.0
            }
        }
    }

    /// Whether it can be drawn from: finite, nothing below 0, bounds in order.
    pub(crate) fn is_sound(&self) -> bool {
        match *self {
            Self::Constant(value) => value.is_finite() && value >= 0.0,
            Self::Uniform { min, max } => min >= 0.0 && max >= min && max.is_finite(),
            Self::Exponential { shift, mean } => shift >= 0.0 && mean >= 0.0 && (shift + mean).is_finite(),
            Self::LogNormal { sigma, loc, scale, min, max } => {
                (sigma + loc + scale).is_finite()
                    && sigma >= 0.0
                    && scale >= 0.0
                    && min >= 0.0
                    && max >= min
                    && max.is_finite()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn average(of: &Distribution) -> f64 {
        let mut rng = Rng::of(11, 0, 0);
        (0..100_000).map(|_| of.draw(&mut rng)).sum::<f64>() / 1e5
    }

    #[test]
    fn draws_have_the_mean_that_is_told() {
        let training = Distribution::LogNormal { sigma: 0.0755, loc: 12.5017, scale: 6.3395, min: 17.641, max: 20.333 };
        for of in [
            Distribution::Constant(2.0),
            Distribution::Uniform { min: 1.0, max: 3.0 },
            Distribution::Exponential { shift: 25.0, mean: 50.0 },
            training,
        ] {
            assert!((average(&of) / of.mean() - 1.0).abs() < 0.01, "{of:?}: {} against {}", average(&of), of.mean());
        }
    }

    #[test]
    fn a_fit_is_never_drawn_outside_what_was_observed() {
        // Of the preprocessing on a NUC in the FGCS 2021 data: 44 % of the mass lies above the bound.
        let wide = Distribution::LogNormal { sigma: 23.56, loc: 0.101, scale: 0.000_123_8, min: 0.101, max: 0.105 };
        let mut rng = Rng::of(1, 0, 0);
        for _ in 0..10_000 {
            assert!((0.101..=0.105).contains(&wide.draw(&mut rng)));
        }
    }
}
