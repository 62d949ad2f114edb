//! The default policy.

use super::{
    Candidate, CompletionTime, Exchange, Explanation, Filter, Locality, Needs, Quality, Sample, Sampler, Scene, Score,
};
use crate::{
    Choice, Decision, Estimator, MOST_CHOICES, Policy, Request,
    fleet::{Fleet, HotView, NodeIx},
    random::Random,
};

/// Nodes that are looked at per decision: the best of 16 is among the best quarter with 99 %.
const SAMPLE: usize = 16;
/// Nodes that a decision names: the best and two for when it is taken meanwhile (Vela's m = 3).
const CHOICES: usize = 3;
/// Costs that differ by less than this share are taken for equal, and the seed decides, so that schedulers that see
/// the same fleet do not all choose the same node.
const TIE: f32 = 0.02;
/// Nodes with room that are looked at when the sample had none that will do, before every node is.
const NEARLY_EXACT: u32 = 4096;
/// Nodes with room that are looked at when the sample had fewer that will do than a decision names.
const MORE: u32 = 12;
/// Of them so many that have about as much to spare.
const MORE_PER_STEP: usize = 3;
/// Records that are read together.
const READ: usize = 16;
/// Of those that will do, so many are compared.
const FITTING: usize = 16;

/// Samples nodes near to what the request needs and others at random, leaves out those that do not satisfy it, and
/// takes those where the reply is there soonest, or cheapest by the [`Exchange`] given.
///
/// A decision costs what its sample costs, however large the fleet. When no node of the sample will do, those with
/// room are looked at, and at last every node that can have what is needed: a request is never refused while a node
/// fits.
#[derive(Clone, Debug)]
pub struct Scf<C = CompletionTime, F = Needs, S = Locality> {
    sampler: S,
    judge: Judge<C, F>,
    size: usize,
    choices: usize,
    sample: Sample,
}

/// What is done with each node.
#[derive(Clone, Debug)]
struct Judge<C, F> {
    filter: F,
    score: C,
    exchange: Exchange,
}

impl Default for Scf {
    /// [`Locality`], [`Needs`] and [`CompletionTime`] without a learner, a sample of 16, three choices.
    fn default() -> Self {
        Self::new(CompletionTime::default())
    }
}

impl<E: Estimator> Scf<CompletionTime<E>> {
    /// The default with execution times by `estimator`.
    #[must_use]
    pub fn learning(estimator: E) -> Self {
        Self::new(CompletionTime::new(estimator))
    }
}

impl<C: Score> Scf<C> {
    /// The default sampler and filter with another cost.
    #[must_use]
    pub fn new(score: C) -> Self {
        let judge = Judge { filter: Needs, score, exchange: Exchange::default() };
        Self { sampler: Locality, judge, size: SAMPLE, choices: CHOICES, sample: Sample::new() }
    }
}

impl<C: Score, F: Filter, S: Sampler> Scf<C, F, S> {
    /// Adds a filter after the others.
    #[must_use]
    pub fn filter<G: Filter>(self, filter: G) -> Scf<C, (F, G), S> {
        let Self { sampler, judge, size, choices, sample } = self;
        let judge = Judge { filter: (judge.filter, filter), score: judge.score, exchange: judge.exchange };
        Scf { sampler, judge, size, choices, sample }
    }

    /// Adds a cost to the others.
    #[must_use]
    pub fn score<D: Score>(self, score: D) -> Scf<(C, D), F, S> {
        let Self { sampler, judge, size, choices, sample } = self;
        let judge = Judge { filter: judge.filter, score: (judge.score, score), exchange: judge.exchange };
        Scf { sampler, judge, size, choices, sample }
    }

    /// Which nodes are looked at; default [`Locality`].
    #[must_use]
    pub fn sampler<T: Sampler>(self, sampler: T) -> Scf<C, F, T> {
        let Self { judge, size, choices, sample, .. } = self;
        Scf { sampler, judge, size, choices, sample }
    }

    /// What money and energy are worth in time; default nothing.
    #[must_use]
    pub const fn exchange(mut self, exchange: Exchange) -> Self {
        self.judge.exchange = exchange;
        self
    }

    /// How many nodes are looked at, 1 to 128; default 16.
    #[must_use]
    pub fn sample(mut self, nodes: usize) -> Self {
        self.size = nodes.clamp(1, self.sample.inline_size());
        self
    }

    /// How good the best of the sample is wanted to be; default 16 nodes whatever that is.
    #[must_use]
    pub fn quality(self, quality: Quality) -> Self {
        self.sample(quality.sample())
    }

    /// How many nodes a decision names, 1 to 16; default 3.
    #[must_use]
    pub fn choices(mut self, choices: usize) -> Self {
        self.choices = choices.clamp(1, MOST_CHOICES);
        self
    }

    /// What the filters and the cost say about one node.
    #[must_use]
    pub fn explain(&self, fleet: &Fleet, request: &Request<'_>, node: NodeIx) -> Option<Explanation> {
        let scene = Scene::new(fleet, request);
        let candidate = Candidate::new(&scene, node, fleet.look(node)?);
        let mut refused = Vec::new();
        self.judge.filter.every(&scene, &candidate, &mut |reason| refused.push(reason));
        let cost = self.judge.score.cost(&scene, &candidate);
        let parts = self.judge.score.parts(&scene, &candidate);
        let node = fleet.node(node)?.id.clone();
        Some(Explanation { node, refused, cost, seconds: self.judge.exchange.seconds(cost), parts })
    }
}

impl<C: Score, F: Filter> Judge<C, F> {
    /// Looks at a node; `true` when it will do.
    #[inline]
    fn look(&self, scene: &Scene<'_>, node: NodeIx, most: usize, decision: &mut Decision) -> bool {
        scene.fleet.look(node).is_some_and(|hot| self.consider(scene, node, hot, most, decision))
    }

    /// Considers a node of which `hot` was read; `true` when it will do.
    #[inline]
    fn consider(&self, scene: &Scene<'_>, node: NodeIx, hot: HotView, most: usize, decision: &mut Decision) -> bool {
        decision.evaluated += 1;
        if let Some(reason) = self.filter.glance(scene.request, &hot) {
            decision.refuse(reason);
            return false;
        }
        let candidate = Candidate::new(scene, node, hot);
        if let Some(reason) = self.filter.refuses(scene, &candidate) {
            decision.refuse(reason);
            return false;
        }
        if decision.choices.iter().any(|choice| choice.node == node) {
            return true;
        }
        let cost = self.exchange.seconds(self.score.cost(scene, &candidate));
        decision.offer(Choice { node, cost }, most);
        true
    }

    /// Takes for the choices behind the first nodes that differ in how much they have to spare, where the sample had too
    /// few that will do: what fits closest is then what every scheduler chooses, and one that loses all it chose must
    /// decide again.
    #[cold]
    fn others(&self, scene: &Scene<'_>, turn: usize, most: usize, decision: &mut Decision) {
        let Some(first) = decision.choices.first().copied() else { return };
        let (mut others, mut left) = (Decision::new(), MORE);
        scene.fleet.with_room_spread(scene.request.demand, turn, MORE_PER_STEP, |node| {
            if node != first.node {
                self.look(scene, node, MORE as usize, &mut others);
            }
            left -= 1;
            left > 0
        });
        decision.evaluated += others.evaluated;
        // Of those that cost the same the ones with most to spare, which were found last.
        let equal = others.choices.iter().rev().filter(|choice| choice.cost <= first.cost * (1.0 + TIE));
        for choice in equal.take(most - 1) {
            if decision.choices.iter().any(|other| other.node == choice.node) {
                continue;
            }
            if decision.choices.len() == most {
                decision.choices.pop();
            }
            decision.choices.insert(1, *choice);
        }
    }

    /// Looks beyond the sample: nodes with room first, then every one that can have what is needed.
    #[cold]
    fn exact(&self, scene: &Scene<'_>, most: usize, decision: &mut Decision) {
        let (fleet, demand, turn) = (scene.fleet, scene.request.demand, scene.request.seed as usize);
        let pool = fleet.pool(demand);
        let mut found = 0;
        if pool.len() > NEARLY_EXACT as usize {
            let mut left = NEARLY_EXACT;
            fleet.with_room(demand, turn, |node| {
                found += usize::from(self.look(scene, node, most, decision));
                left -= 1;
                left > 0 && found < FITTING.max(most)
            });
        }
        if found > 0 {
            return;
        }
        // What is counted is to be each node once.
        decision.refused.clear();
        decision.evaluated = 0;
        for node in pool.every(turn) {
            found += usize::from(self.look(scene, node, most, decision));
            if found >= FITTING.max(most) {
                return;
            }
        }
    }
}

impl<C: Score, F: Filter, S: Sampler> Policy for Scf<C, F, S> {
    fn name(&self) -> &'static str {
        "scf"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let scene = Scene::new(fleet, request);
        let mut random = Random::new(request.seed);
        let tasks = request.tasks.max(1) as usize;
        let most = if tasks > 1 { self.choices + tasks } else { self.choices };
        let size = self.size.max((2 * tasks).min(self.sample.inline_size()));
        self.sample.clear();
        self.sampler.sample(&scene, size, &mut random, &mut self.sample);
        // All records are read before the first is considered, so that the memory is waited for once and not node by
        // node.
        for part in self.sample.chunks(READ) {
            let mut read = [None; READ];
            for (node, hot) in part.iter().zip(&mut read) {
                *hot = fleet.look(*node);
            }
            for (node, hot) in part.iter().zip(read) {
                if let Some(hot) = hot {
                    self.judge.consider(&scene, *node, hot, most, decision);
                }
            }
        }
        decision.messages = decision.evaluated;
        if decision.choices.is_empty() {
            self.judge.exact(&scene, most.max(FITTING), decision);
        }
        let is_scarce = decision.evaluated as usize > self.sample.len() || decision.choices.len() < most;
        shuffle_ties(decision, most, &mut random);
        decision.choices.truncate(most);
        if is_scarce && self.sample.len() >= READ && tasks == 1 {
            self.judge.others(&scene, random.next() as usize, most, decision);
        }
    }

    fn rank(&mut self, fleet: &Fleet, request: &Request<'_>, most: usize, decision: &mut Decision) {
        let scene = Scene::new(fleet, request);
        for node in fleet.pool(request.demand).every(request.seed as usize) {
            self.judge.look(&scene, node, most, decision);
        }
    }
}

/// Puts those of the choices that cost nearly as little as the first in random order, as far as they are used: nodes that
/// are found in turn are the same for every scheduler that begins near.
#[inline]
fn shuffle_ties(decision: &mut Decision, most: usize, random: &mut Random) {
    let Some(lowest) = decision.choices.first().map(|choice| choice.cost) else { return };
    let equal = decision.choices.iter().take_while(|choice| choice.cost <= lowest * (1.0 + TIE)).count();
    for at in 0..equal.saturating_sub(1).min(most) {
        decision.choices.swap(at, at + random.below(equal - at));
    }
}
