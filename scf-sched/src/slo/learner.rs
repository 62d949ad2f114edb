//! What calls of a function take, by input and place.

use std::{collections::BTreeMap, time::Duration};

use scf_core::{ByteSize, Name};
use serde::{Deserialize, Serialize};

use super::{conformal::Margin, regression::Regression};

/// Classes of nodes that a learner tells apart; calls on nodes of further classes count for all of them together.
const CLASSES: usize = 64;
/// Calls after which a class stands on its own.
const OWN: u32 = 8;
/// Calls in a row that exceeded the margin after which what was learned is doubted.
const SURPRISES: u32 = 3;

/// What is known of a call before it runs.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct CallFeatures {
    /// Size of the input.
    pub bytes: ByteSize,
    /// Items in it, where that is known: pictures, rows, tokens.
    pub items: u64,
    /// What else is known as numbers, always in the same order: declared inputs, the parts of a configuration, calls
    /// beside it. At most nine count.
    pub others: Vec<f64>,
}

impl CallFeatures {
    /// Of an input of `bytes`.
    #[must_use]
    pub fn of(bytes: ByteSize) -> Self {
        Self { bytes, ..Self::default() }
    }

    fn vector(&self) -> [f64; 11] {
        let mut all = [0.0; 11];
        all[0] = (self.bytes.bytes() as f64).ln_1p();
        all[1] = (self.items as f64).ln_1p();
        all[2..].iter_mut().zip(&self.others).for_each(|(to, from)| *to = *from);
        all
    }
}

/// What a call is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prediction {
    /// As likely more as less.
    pub median: Duration,
    /// Not exceeded by the promised share of calls; [`Duration::MAX`] before anything is known.
    pub bound: Duration,
    /// What it might well take if it goes well: the median less what is not known about it. Who chooses by it tries
    /// what is unknown (LinUCB with β = 1; Li et al., WWW 2010).
    pub hoped: Duration,
    /// Calls on nodes of the class that this rests on; none where it rests on what other classes did.
    pub seen: u32,
}

/// Learns the execution time of a function from its calls: recursive least squares on the logarithm of the time over
/// the features of the input, one for every class of nodes, and an adaptive conformal margin for the promised share.
///
/// A class that was never seen starts from what is known of all classes together, shifted by how its micro-benchmark
/// compares. It is serialisable, and small: it travels with the function, so that a new node starts warm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    features: usize,
    share: f64,
    all: Model,
    classes: BTreeMap<Name, Model>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Model {
    line: Regression,
    margin: Margin,
    surprises: u32,
    /// Logarithm of how many times slower the class computes than the reference, where that is known.
    slower: f64,
}

impl Model {
    fn observe(&mut self, features: &[f64], log: f64) {
        let expected = self.line.expects(features);
        // What the first calls miss by says more about the start than about the function.
        if self.line.seen() > u32::from(u8::try_from(features.len()).unwrap_or(u8::MAX)) {
            let is_surprise = log > expected + self.margin.width();
            self.surprises = if is_surprise { self.surprises + 1 } else { 0 };
            self.margin.observe(log - expected);
            if self.surprises >= SURPRISES {
                self.line.doubt();
                self.surprises = 0;
            }
        }
        self.line.observe(features, log);
    }
}

/// Times that are told apart, in seconds.
const SHORTEST: f64 = 1e-9;
const LONGEST: f64 = 1e9;

fn seconds(log: f64) -> Duration {
    Duration::try_from_secs_f64(log.exp().clamp(SHORTEST, LONGEST)).unwrap_or(Duration::MAX)
}

impl Learner {
    /// Promises for `share` of the calls, by bytes, items and `others` further features, of at most nine.
    #[must_use]
    pub fn new(share: f64, others: usize) -> Self {
        let features = 2 + others.min(9);
        let all = Model { line: Regression::new(features), margin: Margin::new(share), surprises: 0, slower: 0.0 };
        Self { features, share, all, classes: BTreeMap::new() }
    }

    /// Says that nodes of `class` compute `slower` times slower than the reference, by a micro-benchmark, before calls
    /// there were seen; without it they count as equal.
    pub fn benchmark(&mut self, class: &Name, slower: f64) {
        let slower = slower.clamp(1e-6, 1e6).ln();
        if self.classes.len() < CLASSES || self.classes.contains_key(class) {
            let shift = slower - self.all.slower;
            let share = self.share;
            let all = &self.all;
            let model = self.classes.entry(class.clone()).or_insert_with(|| Model {
                line: Regression::like(&all.line, shift),
                margin: if all.line.seen() == 0 { Margin::new(share) } else { all.margin.clone() },
                surprises: 0,
                slower,
            });
            model.slower = slower;
        }
    }

    /// Takes down that a call on a node of `class` took `took`.
    pub fn observe(&mut self, class: &Name, features: &CallFeatures, took: Duration) {
        let log = took.as_secs_f64().clamp(SHORTEST, LONGEST).ln();
        let vector = features.vector();
        let vector = &vector[..self.features];
        if !self.classes.contains_key(class) {
            self.benchmark(class, 1.0);
        }
        let slower = self.classes.get(class).map_or(0.0, |model| model.slower);
        // Of all classes together it learns what the reference would have taken.
        self.all.observe(vector, log - slower);
        if let Some(model) = self.classes.get_mut(class) {
            model.observe(vector, log);
        }
    }

    /// What a call is expected to take on a node of `class`.
    #[must_use]
    pub fn predict(&self, class: &Name, features: &CallFeatures) -> Prediction {
        let vector = features.vector();
        let vector = &vector[..self.features];
        let own = self.classes.get(class);
        let slower = own.map_or(0.0, |model| model.slower);
        let (model, shift, seen) = match own {
            Some(model) if model.line.seen() > 0 => (model, 0.0, model.line.seen()),
            _ => (&self.all, slower, 0),
        };
        if model.line.seen() == 0 {
            return Prediction { median: Duration::ZERO, bound: Duration::MAX, hoped: Duration::ZERO, seen };
        }
        let expected = model.line.expects(vector) + shift;
        // The margin of a class that is hardly known is that of all where that is wider.
        let width = if seen < OWN { model.margin.width().max(self.all.margin.width()) } else { model.margin.width() };
        let spread = width.min(4.0) * model.line.uncertainty(vector);
        Prediction {
            median: seconds(expected),
            bound: if width.is_finite() { seconds(expected + width) } else { Duration::MAX },
            hoped: seconds(expected - spread.max(0.0)),
            seen,
        }
    }
}

/// A way of running a call: where, and how it is configured.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a choice")]
pub struct Configuration {
    /// The class of nodes.
    pub class: Name,
    /// The features of the call there: its input and the configuration.
    pub features: CallFeatures,
    /// What does not depend on the execution: the way there and back, the wait, a cold start.
    pub overhead: Duration,
    /// What a second of it costs; any unit that is the same for all.
    pub per_second: f64,
}

/// Whether what is unknown is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exploration {
    /// A way may be chosen by what is hoped of it.
    Hopeful,
    /// Only by what is promised of it.
    Careful,
}

/// Chooses how to run a call so that it ends within `within`: of the ways that keep it, the one that is expected to
/// cost least; where none does, the one that is expected to be fastest. None without a way.
#[must_use]
pub fn choose_configuration(
    learner: &Learner,
    ways: &[Configuration],
    within: Duration,
    exploration: Exploration,
) -> Option<usize> {
    let predicted = ways.iter().map(|way| (way, learner.predict(&way.class, &way.features)));
    let judged: Vec<_> = predicted
        .map(|(way, prediction)| {
            let promised = match exploration {
                Exploration::Hopeful => prediction.hoped.min(prediction.bound),
                Exploration::Careful if prediction.seen == 0 => Duration::MAX,
                Exploration::Careful => prediction.bound,
            };
            let keeps = promised.saturating_add(way.overhead) <= within;
            let cost = prediction.median.as_secs_f64() * way.per_second;
            (keeps, cost, prediction.median.saturating_add(way.overhead))
        })
        .collect();
    let keeping = judged.iter().enumerate().filter(|(_, (keeps, ..))| *keeps);
    let cheapest = keeping.min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(at, _)| at);
    cheapest.or_else(|| {
        let known = |at: &usize| exploration == Exploration::Hopeful || judged[*at].2 > ways[*at].overhead;
        let fastest = |at: &usize| judged[*at].2;
        (0..ways.len()).filter(known).min_by_key(fastest).or_else(|| (0..ways.len()).min_by_key(fastest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn class(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn normal(random: &mut Random) -> f64 {
        (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }

    fn call(random: &mut Random) -> CallFeatures {
        CallFeatures::of(ByteSize::from_bytes(1000 + random.below(1_000_000) as u64))
    }

    /// Milliseconds per 100 kB, times `slower`, log-normal.
    fn took(random: &mut Random, features: &CallFeatures, slower: f64) -> Duration {
        let mean = features.bytes.bytes() as f64 / 1e8 + 0.002;
        Duration::from_secs_f64(mean * slower * (0.2 * normal(random)).exp())
    }

    #[test]
    fn the_bound_follows_the_size_of_the_input() {
        let (mut learner, mut random) = (Learner::new(0.95, 0), Random::new(2));
        for _ in 0..400 {
            let features = call(&mut random);
            learner.observe(&class("edge"), &features, took(&mut random, &features, 1.0));
        }
        let small = learner.predict(&class("edge"), &CallFeatures::of(ByteSize::from_bytes(10_000)));
        let large = learner.predict(&class("edge"), &CallFeatures::of(ByteSize::from_bytes(900_000)));
        assert!(small.median * 2 < large.median && small.median < small.bound, "{small:?} {large:?}");
    }

    #[test]
    fn an_unknown_class_starts_from_the_others_and_its_benchmark() {
        let (mut learner, mut random) = (Learner::new(0.95, 0), Random::new(3));
        for _ in 0..300 {
            let features = call(&mut random);
            learner.observe(&class("server"), &features, took(&mut random, &features, 1.0));
        }
        learner.benchmark(&class("gateway"), 8.0);
        let features = CallFeatures::of(ByteSize::from_bytes(500_000));
        let there = learner.predict(&class("server"), &features).median.as_secs_f64();
        let here = learner.predict(&class("gateway"), &features).median.as_secs_f64();
        assert!((here / there - 8.0).abs() < 1.0, "{here} {there}");
    }

    #[test]
    fn it_travels_and_goes_on_as_before() {
        let (mut learner, mut random) = (Learner::new(0.95, 1), Random::new(4));
        for _ in 0..500 {
            let features = CallFeatures { others: vec![2.0], ..call(&mut random) };
            learner.observe(&class("edge"), &features, took(&mut random, &features, 1.0));
        }
        let bytes = postcard::to_allocvec(&learner).unwrap();
        assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
        let mut again: Learner = postcard::from_bytes(&bytes).unwrap();
        let features = call(&mut random);
        again.observe(&class("edge"), &features, Duration::from_millis(3));
        learner.observe(&class("edge"), &features, Duration::from_millis(3));
        assert_eq!(again, learner);
    }

    #[test]
    fn the_cheapest_way_that_keeps_the_time_is_chosen_and_else_the_fastest() {
        let (mut learner, mut random) = (Learner::new(0.95, 0), Random::new(5));
        for _ in 0..300 {
            let features = call(&mut random);
            for (name, slower) in [("small", 4.0), ("large", 1.0)] {
                learner.observe(&class(name), &features, took(&mut random, &features, slower));
            }
        }
        let way = |name: &str, per_second: f64| Configuration {
            class: class(name),
            features: CallFeatures::of(ByteSize::from_bytes(500_000)),
            overhead: Duration::from_millis(1),
            per_second,
        };
        let ways = [way("small", 1.0), way("large", 10.0), way("never-seen", 0.1)];
        let within = |ms| choose_configuration(&learner, &ways, Duration::from_millis(ms), Exploration::Careful);
        assert_eq!(within(100), Some(0));
        assert_eq!(within(14), Some(1));
        assert_eq!(within(2), Some(1));
    }
}
