//! What will be asked for shortly.

use std::collections::VecDeque;

/// Residuals that the bounds of a forecast rest on.
const RESIDUALS: usize = 128;
/// Steps after which the smoothing of the errors forgets half, as a share of a season.
const ERRORS: f64 = 0.5;

/// Additive Holt–Winters smoothing (Holt 1957, Winters 1960) of a series with a season, which falls back to an
/// exponentially weighted mean where it predicts worse than repeating the last value would.
///
/// Per step: `l = α(x − s) + (1 − α)(l + b)`, `b = β(l − l') + (1 − β)b`, `s = γ(x − l) + (1 − γ)s`. It holds 3 + m
/// numbers for a season of m steps, and its last residuals.
#[derive(Clone, Debug)]
pub struct Forecast {
    alpha: f64,
    beta: f64,
    gamma: f64,
    level: f64,
    trend: f64,
    season: Box<[f64]>,
    /// Steps so far.
    steps: usize,
    mean: f64,
    last: f64,
    /// Smoothed relative errors of this, of the fall-back and of repeating the last value.
    errors: [f64; 3],
    /// Steps for which the season has been worse than repeating the last value.
    worse: usize,
    residuals: VecDeque<f64>,
}

/// Seasons for which Holt–Winters must be worse before it is not used.
const SEASONS_WORSE: usize = 3;

impl Forecast {
    /// For a season of `season` steps; without one (0 or 1) level and trend alone are smoothed.
    #[must_use]
    pub fn new(season: usize) -> Self {
        Self {
            alpha: 0.3,
            beta: 0.05,
            gamma: 0.3,
            level: 0.0,
            trend: 0.0,
            season: vec![0.0; season.max(1)].into(),
            steps: 0,
            mean: 0.0,
            last: 0.0,
            errors: [0.0; 3],
            worse: 0,
            residuals: VecDeque::new(),
        }
    }

    /// The smoothing of level, trend and season, each between 0 and 1; default 0.3, 0.05 and 0.3.
    #[must_use]
    pub const fn smoothing(mut self, alpha: f64, beta: f64, gamma: f64) -> Self {
        (self.alpha, self.beta, self.gamma) = (alpha.clamp(0.0, 1.0), beta.clamp(0.0, 1.0), gamma.clamp(0.0, 1.0));
        self
    }

    /// Takes down the value of the step that ended.
    pub fn observe(&mut self, value: f64) {
        if self.steps > 0 {
            self.judge(value);
        } else {
            (self.level, self.mean) = (value, value);
        }
        let m = self.season.len();
        let at = self.steps % m;
        let has_season = m > 1;
        if has_season && self.steps < m {
            // The first season is its own estimate.
            self.season[at] = value;
            if self.steps + 1 == m {
                self.level = self.season.iter().sum::<f64>() / m as f64;
                let level = self.level;
                self.season.iter_mut().for_each(|value| *value -= level);
            }
        } else {
            let (before, season) = (self.level, if has_season { self.season[at] } else { 0.0 });
            self.level = self.alpha * (value - season) + (1.0 - self.alpha) * (before + self.trend);
            self.trend = self.beta * (self.level - before) + (1.0 - self.beta) * self.trend;
            if has_season {
                self.season[at] = self.gamma * (value - self.level) + (1.0 - self.gamma) * season;
            }
        }
        self.mean = self.alpha * value + (1.0 - self.alpha) * self.mean;
        self.last = value;
        self.steps += 1;
    }

    /// Holds what was forecast for this step against `value`.
    fn judge(&mut self, value: f64) {
        let forecasts = [self.smoothed(1), self.mean, self.last];
        if self.residuals.len() == RESIDUALS {
            self.residuals.pop_front();
        }
        self.residuals.push_back(value - self.ahead(1));
        let keep = 0.5_f64.powf(1.0 / (ERRORS * self.season.len() as f64).max(8.0));
        for (error, forecast) in self.errors.iter_mut().zip(forecasts) {
            // Relative to what there was, and to one where there was less.
            *error = keep * *error + (1.0 - keep) * (value - forecast).abs() / value.abs().max(1.0);
        }
        self.worse = if self.errors[0] > self.errors[2] { self.worse + 1 } else { 0 };
    }

    fn smoothed(&self, steps: usize) -> f64 {
        let m = self.season.len();
        if m > 1 && self.steps < m {
            return self.mean;
        }
        let season = if m > 1 { self.season[(self.steps + steps - 1) % m] } else { 0.0 };
        self.level + steps as f64 * self.trend + season
    }

    /// Whether the season has been worse than repeating the last value for three seasons, so that the mean is used.
    #[must_use]
    pub fn has_fallen_back(&self) -> bool {
        self.worse >= SEASONS_WORSE * self.season.len().max(8)
    }

    /// What is expected `steps` steps ahead, of at least 1.
    #[must_use]
    pub fn ahead(&self, steps: usize) -> f64 {
        let expected = if self.has_fallen_back() { self.mean } else { self.smoothed(steps.max(1)) };
        expected.max(0.0)
    }

    /// What will not be exceeded `steps` steps ahead with a probability of `share`, by what forecasts missed lately.
    #[must_use]
    pub fn bound(&self, steps: usize, share: f64) -> f64 {
        let mut residuals: Vec<f64> = self.residuals.iter().copied().collect();
        residuals.sort_by(f64::total_cmp);
        let rank = (residuals.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let margin = residuals.get(rank.saturating_sub(1)).copied().unwrap_or(0.0);
        (self.ahead(steps) + margin.max(0.0) * (steps.max(1) as f64).sqrt()).max(0.0)
    }

    /// The smoothed relative error of one step ahead, and that of repeating the last value.
    #[must_use]
    pub fn errors(&self) -> (f64, f64) {
        let own = if self.has_fallen_back() { self.errors[1] } else { self.errors[0] };
        (own, self.errors[2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_is_learned_in_two() {
        let mut forecast = Forecast::new(24);
        let value = |step: usize| 100.0 + 50.0 * ((step % 24) as f64 / 24.0 * std::f64::consts::TAU).sin();
        (0..72).for_each(|step| forecast.observe(value(step)));
        for ahead in 1..=24 {
            assert!((forecast.ahead(ahead) - value(71 + ahead)).abs() < 8.0, "{ahead}: {}", forecast.ahead(ahead));
        }
        let (own, naive) = forecast.errors();
        assert!(own < 0.5 * naive && !forecast.has_fallen_back(), "{own} {naive}");
    }

    #[test]
    fn a_trend_is_followed() {
        let mut forecast = Forecast::new(0);
        (0..200).for_each(|step| forecast.observe(f64::from(step)));
        assert!((forecast.ahead(10) - 209.0).abs() < 1.0, "{}", forecast.ahead(10));
    }

    #[test]
    fn a_season_that_is_none_is_given_up_for_the_mean() {
        let mut forecast = Forecast::new(12);
        // Long plateaus at changing heights: the last value is the best guess.
        (0..600_u32).for_each(|step| forecast.observe(f64::from((step / 50).wrapping_mul(2_654_435_761) % 100)));
        assert!(forecast.has_fallen_back());
    }

    #[test]
    fn the_bound_is_above_what_comes_as_often_as_is_said() {
        let mut forecast = Forecast::new(0).smoothing(0.05, 0.01, 0.0);
        let mut random = crate::random::Random::new(3);
        let (mut below, mut all) = (0, 0);
        for step in 0..4000 {
            let value = 100.0 + random.below(100) as f64;
            if step > 400 {
                below += u32::from(value <= forecast.bound(1, 0.95));
                all += 1;
            }
            forecast.observe(value);
        }
        let share = f64::from(below) / f64::from(all);
        assert!((0.93..0.97).contains(&share), "{share}");
    }
}
