//! Keeps what is promised of functions.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use scf_core::{
    ByteSize, DueStep, Energy, Expectation, Function, FunctionName, Money, Name, NodeId, Objectives, ObservedCall,
    ObservedRun, Progress, Reaction, Share, Site, SloPolicy, Spent, StepShare, Timestamp, Workflow,
};

use super::{
    burn::{BurnRate, at_least},
    learner::{CallFeatures, Learner, Prediction},
    runs::{RunKeeper, RunReport},
};

/// Functions, and nodes of one, that are remembered; of more, nothing is known and everything is expected.
const FUNCTIONS: usize = 4096;
const NODES: usize = 1024;
/// Calls of a node that are judged together, and the fewest, and the fewest bad ones, that say anything.
const JUDGED: u32 = 32;
const FEWEST: u32 = 4;
const FEWEST_BAD: u32 = 3;
/// Certainty with which a node must miss an objective before it is avoided: 99.5 %.
const CERTAIN: f64 = 2.576;
/// How long a node is avoided, the first time and at most; it doubles from time to time. Long, since all calls go to a
/// node that is tried again, and where no other keeps the promise it is not avoided anyway.
const AVOIDED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(900));
/// Good calls in a row after which a node counts as if it had never been bad.
const FORGIVEN: u32 = 64;
/// For how long what was learned of a node is believed without a call there, and how many calls it must rest on.
const BELIEVED: Duration = Duration::from_secs(30);
const LEARNED: u32 = 30;
/// For how long what calls came to on a node is believed without a call there. Longer, since prices change seldom.
const PRICED: Duration = Duration::from_secs(900);

/// Keeps latency, availability, cost and energy objectives of functions by what it sees of their calls.
///
/// A node on which a function misses an objective, with a certainty of 99.5 % by its last 32 calls there, is avoided
/// for half a minute, then twice as long each time; so is one of which the learned execution time, the way and the calls
/// that are there say that it will. The function moves where there is a better one, and how fast it uses up its error
/// budget decides what else is done: see [`BurnRate::reaction`].
///
/// The time of a run of a workflow is divided between its steps by [`split`](crate::budget::split), anew whenever one begins: each
/// runs on the cheapest node with which all are expected to be in time.
#[derive(Debug)]
pub struct SloKeeper {
    period: Duration,
    functions: RwLock<HashMap<FunctionName, Arc<Mutex<Kept>>>>,
    runs: RunKeeper,
}

#[derive(Debug)]
struct Kept {
    share: Share,
    burn: BurnRate,
    learner: Learner,
    nodes: HashMap<NodeId, Record>,
}

/// How a function fares on a node.
#[derive(Debug, Default)]
pub(super) struct Record {
    class: Option<Name>,
    /// The last calls, the newest as the lowest bit; 1 for a bad one.
    calls: u32,
    counted: u32,
    good_in_a_row: u32,
    avoided: Option<(Timestamp, Duration)>,
    learned: Option<Timestamp>,
    /// Smoothed cost and energy of a call, how many they rest on, and when the last one was.
    spent: (f64, f64, u32),
    spent_at: Option<Timestamp>,
}

impl Default for SloKeeper {
    /// Error budgets over 30 days.
    fn default() -> Self {
        Self::new(Duration::from_secs(30 * 24 * 3600))
    }
}

impl SloKeeper {
    /// Error budgets over `period`; a shorter one reacts to what is shorter.
    #[must_use]
    pub fn new(period: Duration) -> Self {
        Self { period, functions: RwLock::default(), runs: RunKeeper::default() }
    }

    fn find(&self, function: &FunctionName) -> Option<Arc<Mutex<Kept>>> {
        self.functions.read().unwrap_or_else(PoisonError::into_inner).get(function).cloned()
    }

    fn find_or_add(&self, function: &Function) -> Option<Arc<Mutex<Kept>>> {
        let share = promised(function);
        if let Some(kept) = self.find(&function.name) {
            // A new revision may promise something else.
            let is_same = kept.lock().unwrap_or_else(PoisonError::into_inner).share == share;
            if is_same {
                return Some(kept);
            }
        }
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        if functions.len() >= FUNCTIONS && !functions.contains_key(&function.name) {
            return None;
        }
        let learner = Learner::new(share.fraction(), 0);
        let burn = BurnRate::over(share, self.period);
        let kept = Arc::new(Mutex::new(Kept { share, burn, learner, nodes: HashMap::new() }));
        functions.insert(function.name.clone(), Arc::clone(&kept));
        Some(kept)
    }

    /// What a call of `function` is expected to take on nodes of `class`; none before one was seen.
    #[must_use]
    pub fn predict(&self, function: &FunctionName, class: &Name, input: ByteSize) -> Option<Prediction> {
        let kept = self.find(function)?;
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        Some(kept.learner.predict(class, &CallFeatures::of(input)))
            .filter(|prediction| prediction.bound < Duration::MAX)
    }

    /// What was learned of a function, to be sent along with it.
    #[must_use]
    pub fn learned(&self, function: &FunctionName) -> Option<Learner> {
        let kept = self.find(function)?;
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        Some(kept.learner.clone())
    }

    /// How runs of a workflow of which something is promised fare; none before one of their steps began.
    #[must_use]
    pub fn runs(&self, workflow: &Name, now: Timestamp) -> Option<RunReport> {
        self.runs.report(workflow, now)
    }

    /// Starts from what was learned of a function elsewhere.
    pub fn teach(&self, function: &Function, learned: Learner) {
        if let Some(kept) = self.find_or_add(function) {
            kept.lock().unwrap_or_else(PoisonError::into_inner).learner = learned;
        }
    }
}

/// The share of calls that has to be good: of the strictest promise.
fn promised(function: &Function) -> Share {
    let objectives = &function.objectives;
    let latency = objectives.latency.iter().filter(|slo| Some(slo.within) == objectives.tightest().map(|t| t.within));
    latency.map(|slo| slo.share).chain(objectives.availability).max().unwrap_or_else(|| Share::from_percent(99.0))
}

/// Nodes that compute alike: those of a class, or else of a tier and a slowdown.
fn class_of(node: &scf_core::Node) -> Option<Name> {
    if node.class.is_some() {
        return node.class.clone();
    }
    Name::new(&format!("{:?}-{:.0}", node.tier, node.slowdown.factor() * 100.0).to_lowercase()).ok()
}

impl Record {
    pub(super) fn judge(&mut self, now: Timestamp, is_good: bool, allowed: f64) {
        self.calls = (self.calls << 1) | u32::from(!is_good);
        self.counted = (self.counted + 1).min(JUDGED);
        self.good_in_a_row = if is_good { self.good_in_a_row.saturating_add(1) } else { 0 };
        if self.good_in_a_row >= FORGIVEN {
            self.avoided = None;
        }
        let bad = (self.calls & u32::MAX.checked_shr(JUDGED - self.counted).unwrap_or(0)).count_ones();
        if self.counted >= FEWEST && bad >= FEWEST_BAD && at_least(bad, self.counted, CERTAIN) > allowed {
            let (first, most) = AVOIDED;
            // What was still under way when it was avoided says nothing new.
            let time = match self.avoided {
                Some((until, time)) if now < until => time,
                Some((_, time)) => (time * 2).min(most),
                None => first,
            };
            self.avoided = Some((now + time, time));
            (self.calls, self.counted) = (0, 0);
        }
    }

    pub(super) fn spend(&mut self, now: Timestamp, spent: Spent) {
        if !self.is_priced(now) {
            self.spent = (0.0, 0.0, 0);
        }
        self.spent_at = Some(now);
        let (cost, energy, count) = &mut self.spent;
        *count = count.saturating_add(1);
        let weight = (1.0 / f64::from(*count)).max(0.05);
        *cost += weight * (spent.money.units() - *cost);
        *energy += weight * (spent.energy.joules() - *energy);
    }

    /// Whether it was called so lately that what calls came to there still says something.
    fn is_priced(&self, now: Timestamp) -> bool {
        self.spent_at.is_some_and(|at| now.since(at) < PRICED)
    }

    /// What a call costs there; where only energy is promised, what it uses of that, in millionths of a joule.
    pub(super) fn cost(&self, objectives: &Objectives) -> Money {
        let (cost, energy, _) = self.spent;
        match (objectives.cost, objectives.energy) {
            (None, Some(_)) => Money::from_nanos(Energy::from_joules(energy).microjoules()),
            _ => Money::from_units(cost),
        }
    }

    /// Whether calls there cost or use more than is promised.
    pub(super) fn is_dear(&self, objectives: &Objectives, now: Timestamp) -> bool {
        let (cost, energy, count) = self.spent;
        let is_over = objectives.cost.is_some_and(|most| cost > most.units())
            || objectives.energy.is_some_and(|most| energy > most.joules());
        is_over && count >= FEWEST && self.is_priced(now)
    }

    pub(super) fn is_avoided(&self, now: Timestamp) -> bool {
        self.avoided.is_some_and(|(until, _)| now < until)
    }
}

impl SloPolicy for SloKeeper {
    fn observed(&self, function: &Function, call: &ObservedCall<'_>) {
        let Some(kept) = self.find_or_add(function) else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { share, burn, learner, nodes } = &mut *kept;
        let verdict = match call.progress {
            Progress::Met => Some(true),
            Progress::Late | Progress::Failed => Some(false),
            _ => None,
        };
        if let Some(is_good) = verdict {
            burn.record(call.now, is_good);
        }
        if nodes.len() >= NODES && !nodes.contains_key(&call.node.id) {
            return;
        }
        let record = nodes.entry(call.node.id.clone()).or_default();
        if record.class.is_none() {
            record.class = class_of(call.node);
        }
        // What calls take on a node that is avoided says something of the node, and nothing of its class.
        if let Some(class) = record.class.as_ref().filter(|_| !record.is_avoided(call.now))
            && matches!(call.progress, Progress::Met | Progress::Done)
            && !call.execution.is_zero()
        {
            learner.observe(class, &CallFeatures::of(call.input), call.execution);
            record.learned = Some(call.now);
        }
        if let Some(spent) = call.spent {
            record.spend(call.now, spent);
        }
        if let Some(is_good) = verdict {
            record.judge(call.now, is_good, share.rest().fraction());
        }
    }

    fn expects(&self, function: &Function, site: &Site<'_>) -> Expectation {
        let Some(kept) = self.find(&function.name) else { return Expectation::Kept };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = kept.nodes.get(&site.node.id) else { return Expectation::Kept };
        if record.is_avoided(site.now) {
            return Expectation::Missed;
        }
        let objectives = &function.objectives;
        let in_time = if record.is_dear(objectives, site.now) { Expectation::Dear } else { Expectation::Kept };
        let Some(slo) = objectives.tightest() else { return in_time };
        let is_current = record.learned.is_some_and(|at| site.now.since(at) < BELIEVED);
        let Some(class) = record.class.as_ref().filter(|_| is_current) else { return in_time };
        let prediction = kept.learner.predict(class, &CallFeatures::of(site.input));
        if prediction.seen < LEARNED {
            return in_time;
        }
        let way = site.path.map_or(Duration::ZERO, |path| path.time_for(site.input).saturating_add(path.latency));
        let slots = function.limits.concurrency.max(1);
        let wait = prediction.median.saturating_mul(site.load / slots);
        let latency = prediction.bound.saturating_add(way).saturating_add(wait);
        if latency > slo.within { Expectation::Missed } else { in_time }
    }

    fn react(&self, function: &Function, now: Timestamp) -> Reaction {
        let Some(kept) = self.find(&function.name) else { return Reaction::None };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = |record: &Record| record.is_avoided(now) || record.is_dear(&function.objectives, now);
        let leaves = kept.nodes.values().any(is_left);
        kept.burn.reaction(now).max(if leaves { Reaction::Move } else { Reaction::None })
    }

    fn share(&self, due: &DueStep<'_>) -> Option<StepShare> {
        let is_kept = |function: &Function, site: &Site<'_>| self.expects(function, site) != Expectation::Missed;
        self.runs.share(due, self.period, is_kept)
    }

    fn step_observed(&self, workflow: &Workflow, step: usize, call: &ObservedCall<'_>) {
        self.runs.step_observed(workflow, step, call, self.period);
    }

    fn run_observed(&self, workflow: &Workflow, run: &ObservedRun) {
        self.runs.run_observed(workflow, run, self.period);
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Node, Slo, Tier};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn node(name: &str) -> Node {
        Node::new(NodeId::new(name).unwrap(), Tier::Edge)
    }

    fn function(objectives: Objectives) -> Function {
        Function::native(FunctionName::new("f").unwrap(), Name::new("f").unwrap()).objectives(objectives)
    }

    fn p95() -> Function {
        function(Objectives::none().latency(Slo::percentile(95.0, MS * 50)))
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn call(node: &Node, ms: u64, progress: Progress) -> ObservedCall<'_> {
        let (latency, execution) = (MS * 10, MS * 8);
        ObservedCall { now: at(ms), node, input: ByteSize::from_kib(1), progress, latency, execution, spent: None }
    }

    fn site(node: &Node, ms: u64) -> Site<'_> {
        Site { now: at(ms), node, path: None, input: ByteSize::from_kib(1), load: 0 }
    }

    #[test]
    fn a_node_that_becomes_slow_is_avoided_after_a_few_late_calls_and_tried_again_later() {
        let (keeper, function, slow, other) = (SloKeeper::default(), p95(), node("slow"), node("other"));
        (0..200).for_each(|ms| keeper.observed(&function, &call(&slow, ms, Progress::Met)));
        assert_eq!(keeper.expects(&function, &site(&slow, 200)), Expectation::Kept);
        assert_eq!(keeper.react(&function, at(200)), Reaction::None);
        (200..206).for_each(|ms| keeper.observed(&function, &call(&slow, ms, Progress::Late)));
        assert_eq!(keeper.expects(&function, &site(&slow, 206)), Expectation::Missed);
        assert_eq!(keeper.expects(&function, &site(&other, 206)), Expectation::Kept);
        assert!(keeper.react(&function, at(206)) >= Reaction::Move);
        assert_eq!(keeper.expects(&function, &site(&slow, 30_300)), Expectation::Kept);
        (30_300..30_304).for_each(|ms| keeper.observed(&function, &call(&slow, ms, Progress::Late)));
        assert_eq!(keeper.expects(&function, &site(&slow, 62_000)), Expectation::Missed, "twice as long");
        assert_eq!(keeper.expects(&function, &site(&slow, 90_400)), Expectation::Kept);
    }

    #[test]
    fn the_few_late_calls_that_are_allowed_are_no_reason_to_leave() {
        let (keeper, function, here) = (SloKeeper::default(), p95(), node("here"));
        for ms in 0..2000 {
            let progress = if ms % 25 == 0 { Progress::Late } else { Progress::Met };
            keeper.observed(&function, &call(&here, ms, progress));
            assert_eq!(keeper.expects(&function, &site(&here, ms)), Expectation::Kept, "{ms}");
        }
    }

    #[test]
    fn what_was_learned_says_that_a_large_input_will_be_late() {
        let (keeper, function, here) = (SloKeeper::default(), p95(), node("here"));
        for at_ms in 0..300 {
            let kib = 1 + at_ms % 32;
            let execution = MS * kib as u32;
            let input = ByteSize::from_kib(kib);
            keeper.observed(&function, &ObservedCall { input, execution, ..call(&here, at_ms, Progress::Met) });
        }
        let expects = |kib| keeper.expects(&function, &Site { input: ByteSize::from_kib(kib), ..site(&here, 300) });
        assert_eq!((expects(8), expects(200)), (Expectation::Kept, Expectation::Missed));
    }

    #[test]
    fn a_node_that_costs_more_than_promised_is_left_for_another_and_not_for_one_that_is_late() {
        let (keeper, dear, late) = (SloKeeper::default(), node("dear"), node("late"));
        let function = function(p95().objectives.cost(Money::from_units(0.001)));
        for ms in 0..10 {
            let spent = Some(Spent { money: Money::from_units(0.002), ..Spent::NOTHING });
            keeper.observed(&function, &ObservedCall { spent, ..call(&dear, ms, Progress::Met) });
            keeper.observed(&function, &call(&late, ms, Progress::Late));
        }
        let expects = |on, ms| keeper.expects(&function, &site(on, ms));
        assert_eq!((expects(&dear, 10), expects(&late, 10)), (Expectation::Dear, Expectation::Missed));
        assert!(Expectation::Dear < Expectation::Missed);
        assert_eq!(expects(&dear, 900_010), Expectation::Kept, "its price may be another one now");
    }

    #[test]
    fn what_was_learned_can_be_taken_elsewhere() {
        let (keeper, function, here) = (SloKeeper::default(), p95(), node("here"));
        (0..100).for_each(|ms| keeper.observed(&function, &call(&here, ms, Progress::Met)));
        let elsewhere = SloKeeper::default();
        elsewhere.teach(&function, keeper.learned(&function.name).unwrap());
        let class = class_of(&here).unwrap();
        let predict = |keeper: &SloKeeper| keeper.predict(&function.name, &class, ByteSize::from_kib(1));
        assert_eq!(predict(&elsewhere), predict(&keeper));
        assert!(predict(&elsewhere).is_some());
    }
}
