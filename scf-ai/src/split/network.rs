//! Minimum cuts as splits of calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use scf_core::{
    FormCost, NetworkPlan, NetworkProblem, PlanError, Segment, SplitPlan, SplitPlanner, SplitProblem, WireForm,
};
use smallvec::SmallVec;

use super::{DagBlock, DagProblem, Hop, LatencyOptimal, MinCut, Sending, check, duration, nanos};

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
        for node in 1..chain.nodes {
            let hop = Hop::between(chain, 0, node);
            if !hop.fixed.is_finite() {
                continue;
            }
            for form in forms(problem) {
                match between(&mut cut, problem, node, hop, form) {
                    Ok(plan) if best.as_ref().is_none_or(|best| plan.plan.predicted < best.plan.predicted) => {
                        best = Some(plan);
                    }
                    Ok(_) => {}
                    Err(error) => failure = error,
                }
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

/// The best split with `node`, to which everything travels in `form` that offers it.
fn between(
    cut: &mut MinCut,
    problem: &NetworkProblem<'_>,
    node: usize,
    hop: Hop,
    form: WireForm,
) -> Result<NetworkPlan, PlanError> {
    let (chain, alive) = (&problem.chain, problem.alive());
    let upload = |tensor: usize| {
        let forms = problem.tensors[tensor].forms;
        let cost = forms.iter().find(|cost| cost.form == form);
        let cost = cost.or_else(|| forms.iter().find(|cost| cost.form == WireForm::Exact));
        cost.map_or(Duration::MAX, |cost| time(hop.time(Sending::of(cost)) - hop.fixed))
    };
    let times = |node: usize| &chain.times[node * chain.blocks..][..chain.blocks];
    let (here, there) = (times(0), times(node));
    // What is there already is made by blocks that take no time here.
    let given = (0..alive).map(|tensor| DagBlock {
        inputs: &[],
        here: Duration::ZERO,
        there: Duration::MAX,
        upload: upload(tensor),
    });
    let left = problem.inputs.iter().enumerate().map(|(block, inputs)| DagBlock {
        inputs,
        here: here[block],
        there: there[block],
        upload: upload(alive + block),
    });
    let blocks: Vec<DagBlock<'_>> = given.chain(left).collect();
    let problem = DagProblem { blocks: &blocks, upload: Duration::MAX, download: Duration::ZERO };
    let found = cut.cut(&problem).map_err(|error| match error {
        PlanError::Impossible { block } => PlanError::Impossible { block: chain.first + block.saturating_sub(alive) },
        other => other,
    })?;
    let (far, near): (SmallVec<[usize; 32]>, SmallVec<[usize; 32]>) =
        (0..chain.blocks).partition(|&block| found.there[alive + block]);
    let (from, handed, end) = (chain.first, chain.first + near.len(), chain.first + chain.blocks);
    let mut segments = SmallVec::new();
    let mut predicted = nanos(found.predicted);
    if !near.is_empty() {
        predicted += nanos(chain.waits[0]);
        segments.push(Segment { node: 0, from, to: handed, form: WireForm::Exact });
    }
    if !far.is_empty() {
        predicted += hop.fixed + nanos(chain.waits[node]);
        segments.push(Segment { node, from: handed, to: end, form });
    }
    let order = near.into_iter().chain(far).collect();
    Ok(NetworkPlan { order, plan: SplitPlan { segments, predicted: duration(predicted) } })
}

/// So many nanoseconds; [`Duration::MAX`] for infinitely many.
fn time(nanos: f64) -> Duration {
    if nanos.is_finite() { duration(nanos) } else { Duration::MAX }
}

#[cfg(test)]
mod tests {
    use scf_core::{Bandwidth, ByteSize, EdgeCost, NodeId, Path, Slowdown, Timestamp};

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
