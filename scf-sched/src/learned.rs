//! How long calls take, learned from those that ended.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::{Estimate, Estimator, ProfileKey};

/// What a pair of which nothing is known is reckoned with, in seconds: little, so that it is tried.
const OPTIMISTIC: f32 = 0.05;
/// What a pair is reckoned with that is being tried and of which nothing has come back yet: more than most calls take, so
/// that one trial is enough, and less than fetching what it reads from far away.
const ON_TRIAL: f32 = 20.0;
/// A time that is only concluded from other functions is reckoned with as so much of itself.
const CONCLUDED: f32 = 0.5;
/// By so many standard errors a mean is reckoned with lower than it is.
const EXPLORATION: f32 = 0.5;
/// At this weight old calls begin to count less: a mean follows drift over about this many calls.
const MEMORY: f32 = 256.0;
/// Pairs that are kept; those of further functions are not learned, and the request's own word counts for them.
const MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    /// Placements of which nothing has come back.
    trials: u32,
    weight: f32,
    mean: f32,
    /// Sum of squared distances from the mean.
    spread: f32,
}

impl Learned {
    fn observe(&mut self, seconds: f32) {
        self.trials = 0;
        if self.weight >= MEMORY {
            let kept = 1.0 - 1.0 / MEMORY;
            self.weight *= kept;
            self.spread *= kept;
        }
        // Welford's update.
        self.weight += 1.0;
        let off = seconds - self.mean;
        self.mean += off / self.weight;
        self.spread += off * (seconds - self.mean);
    }

    fn deviation(&self) -> f32 {
        if self.weight < 2.0 { self.mean } else { (self.spread / (self.weight - 1.0)).max(0.0).sqrt() }
    }

    /// Less than the mean, by what is uncertain about it.
    fn hopeful(&self) -> f32 {
        (self.mean - EXPLORATION * self.deviation() / self.weight.sqrt()).max(0.0)
    }
}

/// Means of execution times by function, class of input and kind of hardware, learned from nothing.
///
/// What is not known is tried: first what is concluded to be fast from how other functions run there, then what nothing
/// is known of; each once until something has come back, so that one slow try does not become many. Known means are
/// reckoned with a little lower than they are while they are uncertain ("optimism in the face of uncertainty", Lai and
/// Robbins 1985).
///
/// Keeps a mean for at most 1,048,576 pairs.
#[derive(Debug, Default)]
pub struct LearnedTimes {
    pairs: RwLock<HashMap<ProfileKey, Learned>>,
}

impl LearnedTimes {
    /// Nothing learned yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The mean of what was observed of a pair, and how often, counting at most 256.
    #[must_use]
    pub fn mean(&self, key: ProfileKey) -> Option<(f32, f32)> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        pairs.get(&key).filter(|pair| pair.weight > 0.0).map(|pair| (pair.mean, pair.weight))
    }

    fn change(&self, key: ProfileKey, change: impl FnOnce(&mut Learned)) {
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() < MOST || pairs.contains_key(&key) {
            change(pairs.entry(key).or_default());
        }
    }
}

/// What the times of other functions say about a pair: they run r times as long on its hardware as on one that this
/// function is known on, so it will too. The median of all such conclusions.
fn concluded(pairs: &HashMap<ProfileKey, Learned>, key: ProfileKey) -> Option<f32> {
    let known = |function, input, class| {
        pairs.get(&ProfileKey { function, input, class }).filter(|pair| pair.weight > 0.0).map(|pair| pair.mean)
    };
    let mut all: Vec<f32> = Vec::new();
    for (other, pair) in pairs {
        if pair.weight == 0.0 || other.class != key.class || other.function == key.function {
            continue;
        }
        // Where both functions are known, their ratio carries over.
        for (same, here) in pairs {
            if same.function != key.function || same.input != key.input || here.weight == 0.0 {
                continue;
            }
            if let Some(there) = known(other.function, other.input, same.class).filter(|there| *there > 0.0) {
                all.push(here.mean * pair.mean / there);
            }
        }
    }
    all.sort_by(f32::total_cmp);
    all.get(all.len() / 2).copied()
}

impl Estimator for LearnedTimes {
    fn execution(&self, key: ProfileKey) -> Option<Estimate> {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        let pair = pairs.get(&key).copied().unwrap_or_default();
        if pair.weight > 0.0 {
            return Some(Estimate { seconds: pair.hopeful(), deviation: pair.deviation() });
        }
        if pair.trials > 0 {
            return Some(Estimate { seconds: ON_TRIAL, deviation: 0.0 });
        }
        let seconds = concluded(&pairs, key).map_or(OPTIMISTIC, |seconds| CONCLUDED * seconds);
        Some(Estimate { seconds, deviation: 0.0 })
    }

    fn cold_start(&self, _key: ProfileKey) -> f32 {
        0.0
    }

    fn placed(&self, key: ProfileKey) {
        let pairs = self.pairs.read().unwrap_or_else(PoisonError::into_inner);
        if pairs.get(&key).is_some_and(|pair| pair.weight > 0.0) {
            return;
        }
        drop(pairs);
        self.change(key, |pair| pair.trials = pair.trials.saturating_add(1));
    }

    fn observed(&self, key: ProfileKey, seconds: f32) {
        if seconds.is_finite() && seconds >= 0.0 {
            self.change(key, |pair| pair.observe(seconds));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{ClassIx, FunctionIx};

    fn key(function: u32, class: u16) -> ProfileKey {
        ProfileKey { function: FunctionIx(function), input: 0, class: ClassIx(class) }
    }

    fn seconds(times: &LearnedTimes, function: u32, class: u16) -> f32 {
        times.execution(key(function, class)).unwrap().seconds
    }

    #[test]
    fn what_is_unknown_is_tried_once_until_something_comes_back() {
        let times = LearnedTimes::new();
        assert_eq!(seconds(&times, 1, 1), OPTIMISTIC);
        times.placed(key(1, 1));
        assert_eq!(seconds(&times, 1, 1), ON_TRIAL);
        assert_eq!(seconds(&times, 1, 2), OPTIMISTIC);
        times.observed(key(1, 1), 4.0);
        assert_eq!(seconds(&times, 1, 1), 2.0);
        times.placed(key(1, 1));
        assert_eq!(seconds(&times, 1, 1), 2.0);
    }

    #[test]
    fn a_mean_is_reckoned_with_as_it_is_once_it_is_certain() {
        let times = LearnedTimes::new();
        for call in 0..200 {
            times.observed(key(1, 1), if call % 2 == 0 { 3.0 } else { 5.0 });
        }
        let estimate = times.execution(key(1, 1)).unwrap();
        assert!((estimate.seconds - 4.0).abs() < 0.05 && (estimate.deviation - 1.0).abs() < 0.01, "{estimate:?}");
    }

    #[test]
    fn a_device_that_is_slow_for_one_function_is_concluded_to_be_slow_for_another() {
        let times = LearnedTimes::new();
        times.observed(key(1, 1), 0.5);
        times.observed(key(1, 2), 50.0);
        times.observed(key(2, 1), 2.0);
        assert_eq!(seconds(&times, 2, 2), 0.5 * 200.0);
    }

    #[test]
    fn a_mean_follows_what_changes() {
        let times = LearnedTimes::new();
        (0..1000).for_each(|_| times.observed(key(1, 1), 1.0));
        (0..1000).for_each(|_| times.observed(key(1, 1), 2.0));
        assert!((times.mean(key(1, 1)).unwrap().0 - 2.0).abs() < 0.05);
    }
}
