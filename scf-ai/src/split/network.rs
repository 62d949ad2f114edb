//! Minimum cuts as splits of calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use scf_core::{
    EdgeCost, FormCost, NetworkPlan, NetworkProblem, PlanError, Segment, SplitPlan, SplitPlanner, SplitProblem,
    WireForm,
};
use smallvec::SmallVec;

use super::{DagBlock, DagProblem, Hop, LatencyOptimal, MinCut, Sending, check, duration, meter::Meter, nanos};

/// Most multipliers that are tried for one node and form.
const MAX_MULTIPLIERS: usize = 24;

/// Splits networks that are no chain between this node and the one with which that is fastest, by a [`MinCut`] for each
/// node and form; chains like [`LatencyOptimal`].
///
/// Of the blocks that are left any that can run first may run here, not only the first ones: in a network with branches
/// a branch each. What went to the other node is planned anew there, and may go on to a third.
#[derive(Debug, Default)]
pub struct MinCutSplit {
    /// For its memory.
    cut: Mutex<MinCut>,
}

impl MinCutSplit {
    /// The planner; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl SplitPlanner for MinCutSplit {
    fn name(&self) -> &'static str {
        "min-cut"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        LatencyOptimal.plan(problem)
    }

    fn plan_network(&self, problem: &NetworkProblem<'_>) -> Result<NetworkPlan, PlanError> {
        let chain = &problem.chain;
        check(chain)?;
        let tensors = chain.blocks.checked_add(problem.alive());
        if problem.inputs.len() != chain.blocks || tensors != Some(problem.tensors.len()) {
            return Err(PlanError::Malformed { table: "tensors" });
        }
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best = alone(problem);
        let mut failure = PlanError::Impossible { block: chain.first };
        for pair in pairs(problem) {
            match pair.cut(&mut cut, None, |took, _| took).map(|there| pair.plan(&there)) {
                Ok(plan) if best.as_ref().is_none_or(|best| plan.plan.predicted < best.plan.predicted) => {
                    best = Some(plan);
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        best.ok_or(failure)
    }
}

/// Everything here, if that can be.
fn alone(problem: &NetworkProblem<'_>) -> Option<NetworkPlan> {
    let chain = &problem.chain;
    let total = nanos(chain.waits[0]) + chain.times[..chain.blocks].iter().map(|&time| nanos(time)).sum::<f64>();
    let here = Segment { node: 0, from: chain.first, to: chain.first + chain.blocks, form: WireForm::Exact };
    let plan = SplitPlan { segments: std::iter::once(here).collect(), predicted: duration(total) };
    total.is_finite().then(|| NetworkPlan { order: (0..chain.blocks).collect(), plan })
}

/// The forms that a tensor offers.
fn forms(problem: &NetworkProblem<'_>) -> SmallVec<[WireForm; 4]> {
    let mut forms = SmallVec::new();
    for FormCost { form, .. } in problem.tensors.iter().flat_map(|tensor| tensor.forms) {
        if !forms.contains(form) {
            forms.push(*form);
        }
    }
    forms
}

/// Splits between this node and another, to which everything travels in one form that offers it.
#[derive(Clone, Copy, Debug)]
struct Pair<'a> {
    problem: &'a NetworkProblem<'a>,
    node: usize,
    hop: Hop,
    form: WireForm,
}

impl<'a> Pair<'a> {
    /// What sending a tensor comes to, if it can be sent.
    fn sending(&self, tensor: usize) -> Option<Sending> {
        in_form(&self.problem.tensors[tensor], self.form)
    }

    fn times(&self, node: usize) -> &'a [Duration] {
        let chain = &self.problem.chain;
        &chain.times[node * chain.blocks..][..chain.blocks]
    }

    /// Of each block left whether it runs there, so that the sum of what `weigh` makes of every time in nanoseconds, and
    /// of what `meter` counts beside it, is the least.
    fn cut(
        &self,
        cut: &mut MinCut,
        meter: Option<&Meter>,
        weigh: impl Fn(f64, f64) -> f64,
    ) -> Result<Vec<bool>, PlanError> {
        let (chain, alive) = (&self.problem.chain, self.problem.alive());
        let upload = |tensor: usize| {
            let Some(what) = self.sending(tensor) else { return Duration::MAX };
            let spent = meter.map_or(0.0, |meter| meter.sending(chain, 0, self.node, what));
            time(weigh(self.hop.time(what) - self.hop.fixed, spent))
        };
        let runs = |node: usize, block: usize| {
            let took = nanos(self.times(node)[block]);
            if took.is_finite() {
                time(weigh(took, meter.map_or(0.0, |meter| meter.computing(node, took))))
            } else {
                Duration::MAX
            }
        };
        // What is there already is made by blocks that take no time here.
        let given = (0..alive).map(|tensor| DagBlock {
            inputs: &[],
            here: Duration::ZERO,
            there: Duration::MAX,
            upload: upload(tensor),
        });
        let left = self.problem.inputs.iter().enumerate().map(|(block, inputs)| DagBlock {
            inputs,
            here: runs(0, block),
            there: runs(self.node, block),
            upload: upload(alive + block),
        });
        let blocks: Vec<DagBlock<'_>> = given.chain(left).collect();
        let problem = DagProblem { blocks: &blocks, upload: Duration::MAX, download: Duration::ZERO };
        let found = cut.cut(&problem).map_err(|error| match error {
            PlanError::Impossible { block } => {
                PlanError::Impossible { block: chain.first + block.saturating_sub(alive) }
            }
            other => other,
        })?;
        Ok(found.there[alive..].to_vec())
    }

    /// The plan in which the blocks that `there` says run there.
    fn plan(&self, there: &[bool]) -> NetworkPlan {
        let (chain, alive) = (&self.problem.chain, self.problem.alive());
        let (far, near): (SmallVec<[usize; 32]>, SmallVec<[usize; 32]>) = (0..chain.blocks).partition(|&b| there[b]);
        let is_here = |tensor: usize| tensor < alive || !there[tensor - alive];
        let mut sent: SmallVec<[usize; 8]> =
            far.iter().flat_map(|&block| &self.problem.inputs[block]).copied().filter(|&t| is_here(t)).collect();
        sent.sort_unstable();
        sent.dedup();
        let upload = |&tensor: &usize| self.sending(tensor).map_or(0.0, |what| self.hop.time(what) - self.hop.fixed);
        let mut predicted = near.iter().map(|&block| nanos(self.times(0)[block])).sum::<f64>()
            + far.iter().map(|&block| nanos(self.times(self.node)[block])).sum::<f64>()
            + sent.iter().map(upload).sum::<f64>();
        let (from, handed, end) = (chain.first, chain.first + near.len(), chain.first + chain.blocks);
        let mut segments = SmallVec::new();
        if !near.is_empty() {
            predicted += nanos(chain.waits[0]);
            segments.push(Segment { node: 0, from, to: handed, form: WireForm::Exact });
        }
        if !far.is_empty() {
            predicted += self.hop.fixed + nanos(chain.waits[self.node]);
            segments.push(Segment { node: self.node, from: handed, to: end, form: self.form });
        }
        let order = near.into_iter().chain(far).collect();
        NetworkPlan { order, plan: SplitPlan { segments, predicted: duration(predicted) } }
    }

    /// The fastest plan on the convex hull of those within the budget of `meter`, or the cheapest where none is, and what
    /// it spends.
    fn within(&self, cut: &mut MinCut, meter: &Meter) -> Result<(NetworkPlan, f64), PlanError> {
        // The cut counts in whole units up to a bound: all that there is to weigh comes to a hundredth of it.
        let chain = &self.problem.chain;
        let finite = |sum: f64, time: &Duration| if *time == Duration::MAX { sum } else { sum + nanos(*time) };
        let sent = (0..self.problem.tensors.len()).filter_map(|tensor| self.sending(tensor));
        let sent: SmallVec<[Sending; 32]> = sent.filter(|what| self.hop.time(*what).is_finite()).collect();
        let times = sent.iter().map(|what| self.hop.time(*what)).sum::<f64>() + chain.times.iter().fold(1.0, finite);
        let spent = [0, self.node].map(|node| meter.computing(node, self.times(node).iter().fold(0.0, finite)));
        let spent =
            sent.iter().map(|what| meter.sending(chain, 0, self.node, *what)).sum::<f64>() + spent[0] + spent[1];
        let mut best = |multiplier: Option<f64>| -> Result<(NetworkPlan, f64), PlanError> {
            let (time, spending) = multiplier.map_or((0.0, 1.0), |multiplier| (1.0, multiplier));
            let scale = 1e12 / (time * times + spending * spent).max(1.0);
            let there = self.cut(cut, Some(meter), |took, spent| scale * (time * took + spending * spent))?;
            let plan = self.plan(&there);
            let spent = meter.of_network(self.problem, &plan);
            Ok((plan, spent))
        };
        let mut fast = best(Some(0.0))?;
        if meter.allows(fast.1) {
            return Ok(fast);
        }
        let mut frugal = best(None)?;
        if !meter.allows(frugal.1) {
            return Ok(frugal);
        }
        for _ in 0..MAX_MULTIPLIERS {
            let gains = nanos(frugal.0.plan.predicted) - nanos(fast.0.plan.predicted);
            let multiplier = gains / (fast.1 - frugal.1);
            if multiplier.is_nan() || multiplier <= 0.0 {
                break;
            }
            let next = best(Some(multiplier))?;
            let weighed = |of: &(NetworkPlan, f64)| nanos(of.0.plan.predicted) + multiplier * of.1;
            if weighed(&next) >= weighed(&frugal) * (1.0 - 1e-9) {
                break;
            }
            if meter.allows(next.1) { frugal = next } else { fast = next }
        }
        Ok(frugal)
    }
}

/// The fastest of the plans that [`Pair::within`] finds, and everything here; where none is within the budget and the run
/// has begun, the cheapest.
pub(super) fn within_budget(
    cut: &mut MinCut,
    problem: &NetworkProblem<'_>,
    meter: &Meter,
) -> Result<NetworkPlan, PlanError> {
    let mut best: Option<NetworkPlan> = None;
    let (mut least, mut cheapest, mut failure) = (f64::INFINITY, None, None);
    let here = alone(problem).map(|plan| {
        let spent = meter.of_network(problem, &plan);
        Ok((plan, spent))
    });
    for found in here.into_iter().chain(pairs(problem).map(|pair| pair.within(cut, meter))) {
        match found {
            Ok((plan, spent)) if !meter.allows(spent) => {
                if spent < least {
                    (least, cheapest) = (spent, Some(plan));
                }
            }
            Ok((plan, _)) if best.as_ref().is_none_or(|best| plan.plan.predicted < best.plan.predicted) => {
                best = Some(plan);
            }
            Ok(_) => {}
            Err(error) => failure = Some(error),
        }
    }
    best.or_else(|| cheapest.filter(|_| meter.has_begun())).ok_or_else(|| match failure {
        Some(failure) if least.is_infinite() => failure,
        _ => meter.exceeded(least),
    })
}

/// Every node that can be reached, in every form that a tensor offers.
fn pairs<'a>(problem: &'a NetworkProblem<'a>) -> impl Iterator<Item = Pair<'a>> {
    let hops = (1..problem.chain.nodes).map(|node| (node, Hop::between(&problem.chain, 0, node)));
    let forms = forms(problem);
    hops.filter(|(_, hop)| hop.fixed.is_finite())
        .flat_map(move |(node, hop)| forms.clone().into_iter().map(move |form| Pair { problem, node, hop, form }))
}

/// What sending a tensor comes to in a form; exactly where it does not offer that.
pub(super) fn in_form(tensor: &EdgeCost<'_>, form: WireForm) -> Option<Sending> {
    let cost = tensor.forms.iter().find(|cost| cost.form == form);
    let cost = cost.or_else(|| tensor.forms.iter().find(|cost| cost.form == WireForm::Exact));
    cost.map(Sending::of)
}

/// So many nanoseconds; [`Duration::MAX`] for infinitely many.
fn time(nanos: f64) -> Duration {
    if nanos.is_finite() { duration(nanos) } else { Duration::MAX }
}

#[cfg(test)]
mod tests {
    use scf_core::{Bandwidth, ByteSize, NodeId, Path, Slowdown, SplitSpent, Timestamp};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn size(form: WireForm, kilobytes: u64) -> FormCost {
        FormCost { form, size: ByteSize::from_bytes(1000 * kilobytes), codec: Duration::ZERO }
    }

    /// A stem, two branches and a join; the branches' times here and there are given, everything else takes 1 ms here and
    /// nothing there. 1 ms of latency each way and 1 ms per kilobyte.
    fn planned(branches: [(u64, u64); 2], sizes: [u64; 5]) -> NetworkPlan {
        let names = ["cam", "cloud"].map(|name| NodeId::new(name).unwrap());
        let way =
            Path { latency: MS, bandwidth: Bandwidth::from_bits_per_s(8_000_000), measured: Timestamp::default() };
        let forms = sizes.map(|size_| [size(WireForm::Exact, 4 * size_), size(WireForm::Int8, size_)]);
        let tensors: Vec<EdgeCost<'_>> = forms.iter().map(|forms| EdgeCost { forms }).collect();
        let [(a, far_a), (b, far_b)] = branches;
        let times = [1, a, b, 1, 0, far_a, far_b, 0].map(|ms| ms * 1_000_000).map(Duration::from_nanos);
        let inputs: [SmallVec<[usize; 2]>; 4] = [[0][..].into(), [1][..].into(), [1][..].into(), [2, 3][..].into()];
        let chain = SplitProblem {
            nodes: 2,
            names: &[&names[0], &names[1]],
            slowdowns: &[Slowdown::NONE; 2],
            blocks: 4,
            first: 3,
            times: &times,
            waits: &[Duration::ZERO; 2],
            paths: &[Some(way); 4],
            edges: &tensors[..4],
            result: ByteSize::ZERO,
            draws: &[],
            spent: SplitSpent::NOTHING,
        };
        MinCutSplit::new().plan_network(&NetworkProblem { chain, inputs: &inputs, tensors: &tensors }).unwrap()
    }

    fn segment(node: usize, from: usize, to: usize, form: WireForm) -> Segment {
        Segment { node, from, to, form }
    }

    #[test]
    fn one_branch_runs_here_and_the_other_there_whichever_comes_first() {
        // The second branch is cheap here; what it gives is small, and the stem's output is not.
        let plan = planned([(100, 1), (1, 1000)], [1000, 2, 1, 1, 1]);
        assert_eq!(plan.order[..], [0, 2, 1, 3]);
        assert_eq!(plan.plan.segments[..], [segment(0, 3, 5, WireForm::Exact), segment(1, 5, 7, WireForm::Int8)]);
        // Stem and branch, 2 + 1 kB and the latency there and back, the far branch.
        assert_eq!(plan.plan.predicted, 2 * MS + 3 * MS + 2 * MS + MS);
    }

    #[test]
    fn everything_stays_where_it_is_when_no_cut_is_worth_its_way() {
        let plan = planned([(2, 1), (2, 1)], [10, 10, 10, 10, 10]);
        assert_eq!(plan.order[..], [0, 1, 2, 3]);
        assert_eq!(plan.plan.segments[..], [segment(0, 3, 7, WireForm::Exact)]);
        assert_eq!(plan.plan.predicted, 6 * MS);
    }
}
