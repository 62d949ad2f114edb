//! Splits that keep to a budget of energy or money.

use std::sync::{Mutex, PoisonError};

use scf_core::{
    NetworkPlan, NetworkProblem, PlanError, Segment, SplitBudget, SplitPlan, SplitPlanner, SplitProblem, WireForm,
};
use smallvec::SmallVec;

use super::{Hop, LatencyOptimal, MinCut, MinCutSplit, Sending, duration, meter::Meter, nanos, network::within_budget};

/// Most labels of a place before a block; of more, those are kept that divide the range evenly, with both ends.
const MAX_LABELS: usize = 256;

/// The plans of another planner, where they keep to a budget.
///
/// For static splits and planners of integrators: nothing is changed about a plan, and what spends too much is
/// [`PlanError::OverBudget`], where a run begins. What has begun is finished.
#[derive(Clone, Copy, Debug)]
pub struct WithinBudget<P> {
    planner: P,
    budget: SplitBudget,
}

impl<P: SplitPlanner> WithinBudget<P> {
    /// What `planner` plans, if it is within `budget`.
    pub const fn new(planner: P, budget: SplitBudget) -> Self {
        Self { planner, budget }
    }

    /// Whether the segments are of the problem's nodes and blocks; an integrator's planner may err.
    fn check(&self, problem: &SplitProblem<'_>, plan: &SplitPlan) -> Result<(), PlanError> {
        let end = problem.first + problem.blocks;
        let of_problem = |segment: &Segment| {
            segment.node < problem.nodes
                && problem.first <= segment.from
                && segment.from < segment.to
                && segment.to <= end
        };
        if plan.segments.iter().all(of_problem) {
            return Ok(());
        }
        Err(PlanError::Unsound { planner: self.planner.name() })
    }
}

impl<P: SplitPlanner> SplitPlanner for WithinBudget<P> {
    fn name(&self) -> &'static str {
        self.planner.name()
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let plan = self.planner.plan(problem)?;
        self.check(problem, &plan)?;
        let meter = Meter::new(problem, self.budget)?;
        let spent = meter.of_chain(problem, &plan.segments);
        if meter.has_begun() || meter.allows(spent) { Ok(plan) } else { Err(meter.exceeded(spent)) }
    }

    fn plan_network(&self, problem: &NetworkProblem<'_>) -> Result<NetworkPlan, PlanError> {
        let plan = self.planner.plan_network(problem)?;
        self.check(&problem.chain, &plan.plan)?;
        if plan.order.len() != problem.chain.blocks || plan.order.iter().any(|&block| block >= problem.chain.blocks) {
            return Err(PlanError::Unsound { planner: self.name() });
        }
        let meter = Meter::new(&problem.chain, self.budget)?;
        let spent = meter.of_network(problem, &plan);
        if meter.has_begun() || meter.allows(spent) { Ok(plan) } else { Err(meter.exceeded(spent)) }
    }
}

/// Finds the split with the least predicted time among those within a budget.
///
/// What is counted: blocks and codecs by the time that they take on a node and that node's [`Rates`](scf_core::Rates),
/// what travels by the radios at both ends, the result's way back included; not what nodes spend while they wait. The
/// budget is of an inference: what its message says that it has spent ([`SplitProblem::spent`]) is not there any more. Too
/// little is an error where a run begins; one that turns out to need more than was known then is finished by the cheapest
/// split.
///
/// Chains: labels of time and spending at each place (Joksch, "The shortest route problem with constraints", J. Math.
/// Anal. Appl. 14, 1966; dominance as in Irnich and Desaulniers, "Shortest Path Problems with Resource Constraints",
/// 2005). Exact up to 256 labels of a place; beyond, it may miss the fastest split, never a split within the
/// budget. Where the fastest split of all is within the budget, no label is made.
///
/// Networks that are no chain: like [`MinCutSplit`] for each node and form, times and spending weighed by a multiplier
/// that is improved as in LARAC (Jüttner et al., "Lagrange Relaxation Based Method for the QoS Routing Problem", INFOCOM
/// 2001). Finds a split within the budget whenever one of two nodes and one form is, and the fastest of
/// those on the convex hull of time and spending.
#[derive(Debug)]
pub struct BudgetOptimal {
    budget: SplitBudget,
    free: MinCutSplit,
    /// For its memory.
    cut: Mutex<MinCut>,
}

impl BudgetOptimal {
    /// The fastest splits within `budget`.
    #[must_use]
    pub fn new(budget: SplitBudget) -> Self {
        Self { budget, free: MinCutSplit::new(), cut: Mutex::default() }
    }
}

impl SplitPlanner for BudgetOptimal {
    fn name(&self) -> &'static str {
        "budget-optimal"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        let fastest = LatencyOptimal.plan(problem)?;
        let meter = Meter::new(problem, self.budget)?;
        if meter.allows(meter.of_chain(problem, &fastest.segments)) {
            return Ok(fastest);
        }
        let labels = Labels::of(problem, &meter, meter.limit());
        if let Some(plan) = labels.plan(problem, 0) {
            return Ok(plan);
        }
        let all = Labels::of(problem, &meter, f64::INFINITY);
        let cheapest = all.0[0].len().saturating_sub(1);
        all.plan(problem, cheapest).filter(|_| meter.has_begun()).ok_or_else(|| meter.exceeded(all.least()))
    }

    fn plan_network(&self, problem: &NetworkProblem<'_>) -> Result<NetworkPlan, PlanError> {
        let fastest = self.free.plan_network(problem)?;
        let meter = Meter::new(&problem.chain, self.budget)?;
        if meter.allows(meter.of_network(problem, &fastest)) {
            return Ok(fastest);
        }
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        within_budget(&mut cut, problem, &meter)
    }
}

/// A way from one place to the end: none of the same place is both faster and cheaper.
#[derive(Clone, Copy, Debug)]
struct Label {
    time: f64,
    spent: f64,
    /// The node on which the block runs, and in which form the activation comes there.
    to: usize,
    form: usize,
    /// The label that goes on behind the block, by its index.
    next: usize,
}

/// The labels before each block on each node, the fastest first.
#[derive(Debug)]
struct Labels(Vec<Vec<Label>>);

impl Labels {
    /// Those that spend at most `limit`.
    fn of(problem: &SplitProblem<'_>, meter: &Meter, limit: f64) -> Self {
        let (n, blocks) = (problem.nodes, problem.blocks);
        let end = Label { time: 0.0, spent: 0.0, to: 0, form: 0, next: 0 };
        let mut all = vec![Vec::new(); n * blocks];
        all.resize(n * (blocks + 1), vec![end]);
        for block in (0..blocks).rev() {
            // Each way that begins with this block on a node.
            let runs: Vec<Vec<Label>> = (0..n)
                .map(|to| {
                    let took = nanos(problem.times[to * blocks + block]);
                    let spent = meter.computing(to, took);
                    let behind = all[(block + 1) * n + to].iter().enumerate();
                    let run = |(next, label): (usize, &Label)| {
                        let (time, spent) = (took + label.time, spent + label.spent);
                        Label { time, spent, to, form: 0, next }
                    };
                    behind.map(run).collect()
                })
                .collect();
            for node in 0..n {
                let mut labels = Vec::new();
                for (to, runs) in runs.iter().enumerate() {
                    if to == node {
                        // Only before the first block does work on this node wait; later it is already running.
                        let begin = if block == 0 && node == 0 { nanos(problem.waits[0]) } else { 0.0 };
                        labels.extend(runs.iter().map(|run| Label { time: begin + run.time, ..*run }));
                        continue;
                    }
                    let hop = Hop::between(problem, node, to);
                    for (form, cost) in problem.edges[block].forms.iter().enumerate() {
                        let sending = Sending::of(cost);
                        let time = hop.time(sending) + nanos(problem.waits[to]);
                        let spent = meter.sending(problem, node, to, sending) + meter.reply(problem, node, to);
                        let sent =
                            |run: &Label| Label { time: time + run.time, spent: spent + run.spent, form, ..*run };
                        labels.extend(runs.iter().map(sent));
                    }
                }
                labels.retain(|label| label.time.is_finite() && label.spent <= limit);
                all[block * n + node] = undominated(labels);
            }
        }
        Self(all)
    }

    /// What the cheapest way from the start spends.
    fn least(&self) -> f64 {
        self.0[0].last().map_or(f64::INFINITY, |label| label.spent)
    }

    /// A way from the start, by its index: the first is the fastest and the last the cheapest.
    fn plan(&self, problem: &SplitProblem<'_>, mut index: usize) -> Option<SplitPlan> {
        let predicted = duration(self.0[0].get(index)?.time);
        let mut segments: SmallVec<[Segment; 4]> = SmallVec::new();
        let mut at = 0;
        for block in 0..problem.blocks {
            let label = self.0[block * problem.nodes + at].get(index)?;
            let from = problem.first + block;
            match segments.last_mut().filter(|_| label.to == at) {
                Some(last) => last.to = from + 1,
                None => {
                    let forms = problem.edges[block].forms;
                    let form = if label.to == at { WireForm::Exact } else { forms[label.form].form };
                    segments.push(Segment { node: label.to, from, to: from + 1, form });
                }
            }
            (at, index) = (label.to, label.next);
        }
        Some(SplitPlan { segments, predicted })
    }
}

/// Those of which none is both faster and cheaper, the fastest first.
fn undominated(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_unstable_by(|a, b| a.time.total_cmp(&b.time).then(a.spent.total_cmp(&b.spent)));
    let mut least = f64::INFINITY;
    labels.retain(|label| {
        let cheaper = label.spent < least;
        least = least.min(label.spent);
        cheaper
    });
    if labels.len() > MAX_LABELS {
        let last = labels.len() - 1;
        labels = (0..MAX_LABELS).map(|i| labels[i * last / (MAX_LABELS - 1)]).collect();
    }
    labels
}

#[cfg(test)]
mod tests;
