//! Keeps what is promised of runs of workflows.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use scf_core::{
    DueStep, Function, Money, Name, NodeId, Objectives, ObservedCall, ObservedRun, Progress, Reaction, Share, Site,
    StepShare, Timestamp, Workflow,
};

use super::{burn::BurnRate, keeper::Record};
use crate::budget::{BudgetStep, split};

/// Workflows, and nodes of a step, that are remembered; nothing is promised of more workflows, and no step is sent to
/// more nodes.
const WORKFLOWS: usize = 1024;
const SITES: usize = 64;
/// A node where a step did not run for so long is tried again, by one run at a time.
const TRIED: Duration = Duration::from_secs(60);
/// Runs that a node must have seen before it is no longer tried.
const KNOWN: usize = 3;
/// The last times that are planned with.
const RECENT: usize = 32;

/// Divides what runs have promised, by what their steps took.
#[derive(Debug, Default)]
pub(super) struct RunKeeper {
    workflows: RwLock<HashMap<Name, Arc<Mutex<Kept>>>>,
}

/// How runs of a workflow fare.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunReport {
    /// Runs that were over.
    pub runs: u64,
    /// What the rate at which they miss latency and availability asks for.
    pub reaction: Reaction,
    /// What a run costs, smoothed over the last ones.
    pub cost: Money,
    /// Whether that, or the energy that a run uses, is more than is promised.
    pub is_dear: bool,
}

#[derive(Debug)]
struct Kept {
    workflow: Workflow,
    burn: BurnRate,
    runs: u64,
    spent: Record,
    steps: Vec<Step>,
}

/// What is known of a step: how it fares on nodes, and in how many of the runs it may take longer than is planned with.
#[derive(Debug, Default)]
struct Step {
    allowed: f64,
    sites: HashMap<NodeId, Known>,
}

/// What is known of a step on a node.
#[derive(Debug, Default)]
struct Known {
    record: Record,
    /// What it took lately, the way there and the wait in it.
    took: VecDeque<Duration>,
    seen: Option<Timestamp>,
    tried: Option<Timestamp>,
}

/// A way to run a step.
struct Way<'a> {
    node: &'a NodeId,
    /// As likely more as less, and what the promised share of the runs does not exceed.
    median: Duration,
    bound: Duration,
    cost: Money,
    is_trial: bool,
}

impl RunKeeper {
    pub(super) fn report(&self, workflow: &Name, now: Timestamp) -> Option<RunReport> {
        let kept = self.workflows.read().unwrap_or_else(PoisonError::into_inner).get(workflow).cloned()?;
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_dear = kept.spent.is_dear(&kept.workflow.objectives, now);
        let cost = kept.spent.cost(&Objectives::none());
        Some(RunReport { runs: kept.runs, reaction: kept.burn.reaction(now), cost, is_dear })
    }

    fn find_or_add(&self, workflow: &Workflow, period: Duration) -> Option<Arc<Mutex<Kept>>> {
        let found = self.workflows.read().unwrap_or_else(PoisonError::into_inner).get(&workflow.name).cloned();
        // One that was deployed anew may have other steps or promise something else.
        let is_same =
            |kept: &Arc<Mutex<Kept>>| kept.lock().unwrap_or_else(PoisonError::into_inner).workflow == *workflow;
        if let Some(kept) = found.filter(is_same) {
            return Some(kept);
        }
        let mut workflows = self.workflows.write().unwrap_or_else(PoisonError::into_inner);
        if workflows.len() >= WORKFLOWS && !workflows.contains_key(&workflow.name) {
            return None;
        }
        let kept = Arc::new(Mutex::new(Kept::new(workflow, period)));
        workflows.insert(workflow.name.clone(), Arc::clone(&kept));
        Some(kept)
    }

    /// What the step that is due gets. `is_kept` says whether what a function promises itself is
    /// expected to be kept on a site.
    pub(super) fn share(
        &self,
        due: &DueStep<'_>,
        period: Duration,
        is_kept: impl Fn(&Function, &Site<'_>) -> bool,
    ) -> Option<StepShare> {
        let slo = due.workflow.objectives.tightest()?;
        let kept = self.find_or_add(due.workflow, period)?;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = kept.burn.reaction(due.now) == Reaction::None;
        let mut ways = Vec::with_capacity(due.left.len());
        for (step, sites) in kept.steps.get(due.step..)?.iter().zip(due.left) {
            let objectives = &due.workflow.objectives;
            let kept = sites.sites.iter().filter(|site| is_kept(sites.function, site));
            let mut found = step.ways(kept, objectives, due.now, tries);
            if found.is_empty() {
                found = step.ways(sites.sites.iter(), objectives, due.now, tries);
            }
            ways.push(found);
        }
        let left = slo.within.saturating_sub(due.elapsed);
        let (way, within) = divide(&ways, left)?;
        if way.is_trial {
            kept.steps[due.step].sites.entry(way.node.clone()).or_default().tried = Some(due.now);
        }
        Some(StepShare { within, node: way.node.clone() })
    }

    pub(super) fn step_observed(&self, workflow: &Workflow, step: usize, call: &ObservedCall<'_>, period: Duration) {
        let Some(kept) = self.find_or_add(workflow, period) else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = allowed(workflow).fraction();
        let Some(step) = kept.steps.get_mut(step) else { return };
        if step.sites.len() >= SITES && !step.sites.contains_key(&call.node.id) {
            return;
        }
        let known = step.sites.entry(call.node.id.clone()).or_default();
        known.seen = Some(call.now);
        match call.progress {
            // A step that still runs has taken at least so long.
            Progress::Met | Progress::Late | Progress::Done => {
                known.took.truncate(RECENT - 1);
                known.took.push_front(call.latency);
                if call.progress != Progress::Late {
                    known.record.judge(call.now, true, allowed);
                }
            }
            _ => known.record.judge(call.now, false, allowed),
        }
        if let Some(spent) = call.spent {
            known.record.spend(call.now, spent);
        }
    }

    pub(super) fn run_observed(&self, workflow: &Workflow, run: &ObservedRun, period: Duration) {
        let Some(kept) = self.find_or_add(workflow, period) else { return };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_time = workflow.objectives.tightest().is_none_or(|slo| run.latency <= slo.within);
        kept.burn.record(run.now, run.succeeded && is_in_time);
        kept.runs += 1;
        if run.succeeded {
            kept.spent.spend(run.now, run.spent);
        }
    }
}

impl Kept {
    fn new(workflow: &Workflow, period: Duration) -> Self {
        let allowed = allowed(workflow);
        // A run is in time if all steps are: each may be late in its part of the runs.
        let part = allowed.fraction() / workflow.steps.len().max(1) as f64;
        let step = || Step { allowed: part, sites: HashMap::new() };
        Self {
            burn: BurnRate::over(allowed.rest(), period),
            runs: 0,
            spent: Record::default(),
            steps: workflow.steps.iter().map(|_| step()).collect(),
            workflow: workflow.clone(),
        }
    }
}

/// The share of runs that may be bad: by the strictest promise.
fn allowed(workflow: &Workflow) -> Share {
    let objectives = &workflow.objectives;
    let promised = objectives.tightest().map(|slo| slo.share).into_iter().chain(objectives.availability).max();
    promised.unwrap_or_else(|| Share::from_percent(99.0)).rest()
}

impl Known {
    /// What it took lately in all but `allowed` of the runs; nothing before the first.
    fn takes(&self, allowed: f64) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.took.iter().copied().collect();
        sorted.sort_unstable();
        let over = (sorted.len() as f64 * allowed) as usize;
        sorted.len().checked_sub(over + 1).map(|at| sorted[at])
    }
}

impl Step {
    /// The ways to run it; those where it fails are left out, and those that nobody knows unless they may be tried.
    fn ways<'a>(
        &self,
        sites: impl Iterator<Item = &'a Site<'a>>,
        objectives: &Objectives,
        now: Timestamp,
        tries: bool,
    ) -> Vec<Way<'a>> {
        let way = |site: &'a Site<'a>| {
            let node = &site.node.id;
            let known = self.sites.get(node);
            let is_failing = known.is_some_and(|known| known.record.is_avoided(now));
            if is_failing || (known.is_none() && self.sites.len() >= SITES) {
                return None;
            }
            let long_ago = |at: Option<Timestamp>| at.is_none_or(|at| now.since(at) >= TRIED);
            let is_new = known.is_none_or(|known| known.took.len() < KNOWN);
            let (seen, tried) = known.map_or((None, None), |known| (known.seen, known.tried));
            // One that is new is tried again as soon as the last try is over.
            let is_free = long_ago(tried) || (is_new && tried < seen);
            let is_trial = tries && is_free && (is_new || long_ago(seen));
            if is_trial {
                return Some(Way { node, median: Duration::ZERO, bound: Duration::ZERO, cost: Money::ZERO, is_trial });
            }
            let known = known?;
            let (median, bound) = (known.takes(0.5)?, known.takes(self.allowed)?);
            Some(Way { node, median, bound, cost: known.record.cost(objectives), is_trial })
        };
        sites.filter_map(way).collect()
    }
}

/// The way to run the first of the steps and the time it gets, so that all are over within `left` at the least cost. With
/// what the promised share of runs does not exceed, or else with what half of them do not, or else as fast as can be.
/// None where no way is known for the first.
fn divide<'a, 'b>(ways: &'b [Vec<Way<'a>>], left: Duration) -> Option<(&'b Way<'a>, Duration)> {
    let first = ways.first().filter(|ways| !ways.is_empty())?;
    let times: [fn(&Way<'_>) -> Duration; 2] = [|way| way.bound, |way| way.median];
    for time in times {
        // What is after a step that nobody knows is planned as if that took no time.
        let known = ways.iter().filter(|ways| !ways.is_empty());
        let step = |(at, ways): (usize, &Vec<Way<'_>>)| BudgetStep {
            after: at.checked_sub(1).into_iter().collect(),
            options: ways.iter().map(|way| (time(way), way.cost)).collect(),
        };
        let steps: Vec<BudgetStep> = known.enumerate().map(step).collect();
        if let Ok(split) = split(&steps, left) {
            let way = &first[split.options[0]];
            let spare = left.saturating_sub(split.takes);
            let within = if way.is_trial { spare } else { time(way) + part(spare, time(way), split.takes) };
            return Some((way, within));
        }
    }
    let fastest = |ways: &'b [Way<'a>]| ways.iter().min_by_key(|way| way.median);
    let all: Duration = ways.iter().filter_map(|ways| fastest(ways)).map(|way| way.median).sum();
    let way = fastest(first)?;
    Some((way, part(left, way.median, all)))
}

/// As much of `whole` as `own` is of `all`.
fn part(whole: Duration, own: Duration, all: Duration) -> Duration {
    if all.is_zero() { whole } else { whole.mul_f64(own.as_secs_f64() / all.as_secs_f64()) }
}

#[cfg(test)]
mod tests {
    use scf_core::{ByteSize, FunctionName, Node, Slo, Spent, StepSites, Tier};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);

    fn workflow() -> Workflow {
        let function = |name: &str| FunctionName::new(name).unwrap();
        let promised = Objectives::none().latency(Slo::percentile(95.0, MS * 100));
        Workflow::new(Name::new("w").unwrap()).then(function("a")).then(function("b")).objectives(promised)
    }

    fn node(name: &str) -> Node {
        Node::new(NodeId::new(name).unwrap(), Tier::Edge)
    }

    fn at(ms: u32) -> Timestamp {
        Timestamp::default() + MS * ms
    }

    /// Runs of which the first step took 60 ms on the cheap node and 20 ms on the dear one, and the second 15 ms.
    struct Runs {
        keeper: RunKeeper,
        nodes: [Node; 2],
        now: u32,
    }

    impl Runs {
        fn new() -> Self {
            let mut runs = Self { keeper: RunKeeper::default(), nodes: ["cheap", "dear"].map(node), now: 0 };
            (0..20).for_each(|_| {
                runs.ran(0, 0, 60, Progress::Met);
                runs.ran(0, 1, 20, Progress::Met);
                runs.ran(1, 1, 15, Progress::Met);
            });
            runs
        }

        fn ran(&mut self, step: usize, on: usize, ms: u32, progress: Progress) {
            self.now += 10;
            let spent = Some(Spent { money: Money::from_nanos([1, 9][on]), ..Spent::NOTHING });
            let (latency, execution, input) = (MS * ms, MS * ms, ByteSize::from_kib(1));
            let (now, node) = (at(self.now), &self.nodes[on]);
            let call = ObservedCall { now, node, input, progress, latency, execution, spent };
            self.keeper.step_observed(&workflow(), step, &call, PERIOD);
        }

        fn share(&self, step: usize, elapsed: u32) -> (&str, Duration) {
            let (now, input) = (at(self.now), ByteSize::from_kib(1));
            let site = |node| Site { now, node, path: None, input, load: 0 };
            let functions =
                ["a", "b"].map(|name| Function::native(FunctionName::new(name).unwrap(), Name::new(name).unwrap()));
            let sites = [vec![site(&self.nodes[0]), site(&self.nodes[1])], vec![site(&self.nodes[1])]];
            let left: Vec<_> =
                functions.iter().zip(sites).map(|(function, sites)| StepSites { function, sites }).skip(step).collect();
            let workflow = workflow();
            let due = DueStep { now, workflow: &workflow, step, elapsed: MS * elapsed, input, left: &left };
            let share = self.keeper.share(&due, PERIOD, |_, _| true).unwrap();
            let on = self.nodes.iter().position(|node| node.id == share.node).unwrap();
            (["cheap", "dear"][on], share.within)
        }
    }

    #[test]
    fn a_step_runs_on_the_cheapest_node_with_which_the_run_is_in_time_and_gets_its_part_of_the_rest() {
        let runs = Runs::new();
        let (on, within) = runs.share(0, 0);
        assert_eq!(on, "cheap");
        assert!(within > MS * 70 && within < MS * 90, "{within:?}");
        let (_, rest) = runs.share(1, 60);
        assert!(rest >= MS * 39 && rest <= MS * 40, "{rest:?}");
    }

    #[test]
    fn what_is_left_of_a_run_is_divided_anew() {
        let runs = Runs::new();
        assert_eq!(runs.share(0, 40).0, "dear", "what was waited for is gone");
        assert!(runs.share(1, 90).1 <= MS * 10, "as fast as can be");
    }

    #[test]
    fn the_first_step_gets_less_when_the_second_takes_longer() {
        let mut runs = Runs::new();
        let (_, before) = runs.share(0, 0);
        (0..30).for_each(|_| runs.ran(1, 1, 60, Progress::Done));
        let (on, within) = runs.share(0, 0);
        assert_eq!(on, "dear");
        assert!(within < before / 2 && within >= MS * 20, "{within:?} instead of {before:?}");
    }

    #[test]
    fn a_node_where_a_step_fails_is_left_and_one_that_nobody_knows_is_tried_by_one_run_at_a_time() {
        let mut runs = Runs::new();
        (0..6).for_each(|_| runs.ran(0, 0, 1, Progress::Failed));
        assert_eq!(runs.share(0, 0).0, "dear");
        runs.nodes[0] = node("other");
        assert_eq!(runs.share(0, 0).0, "cheap", "the other one, in its place");
        assert_eq!(runs.share(0, 0).0, "dear");
    }

    #[test]
    fn runs_are_watched_in_time_success_and_cost() {
        let keeper = RunKeeper::default();
        let mut workflow = workflow();
        workflow.objectives = workflow.objectives.availability(Share::from_percent(90.0)).cost(Money::from_nanos(5));
        for ms in 0..200 {
            let run = ObservedRun { now: at(ms), latency: MS * 50, succeeded: true, spent: Spent::NOTHING };
            keeper.run_observed(&workflow, &run, PERIOD);
        }
        let report = keeper.report(&workflow.name, at(200)).unwrap();
        assert_eq!((report.runs, report.reaction, report.is_dear), (200, Reaction::None, false));
        for ms in 200..500 {
            let spent = Spent { money: Money::from_nanos(9), ..Spent::NOTHING };
            let run = ObservedRun { now: at(ms), latency: MS * 150, succeeded: true, spent };
            keeper.run_observed(&workflow, &run, PERIOD);
        }
        let report = keeper.report(&workflow.name, at(500)).unwrap();
        assert!(report.reaction > Reaction::None && report.is_dear, "{report:?}");
    }
}
