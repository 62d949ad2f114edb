//! A split that is always the same: what dynamic splits are held against, and what an operator can order.

use scf_core::{NodeId, PlanError, Segment, SplitPlan, SplitPlanner, SplitProblem, WireForm};
use smallvec::SmallVec;

use super::{check, duration, price};

/// Runs the first blocks where the inference starts and hands over at fixed places to named nodes.
///
/// Never falls back: without a node or a way that it names, there is no plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedSplit {
    hops: Vec<(usize, NodeId, WireForm)>,
}

impl FixedSplit {
    /// Everything where the inference starts.
    #[must_use]
    pub const fn here() -> Self {
        Self { hops: Vec::new() }
    }

    /// Everything on `node`; the input travels as it is.
    #[must_use]
    pub fn all_on(node: NodeId) -> Self {
        Self::here().hand_over(0, node, WireForm::Exact)
    }

    /// Hands the activation before block `block` over to `node`, which runs that block and those after it.
    /// Places have to be given in the order of the blocks; of two at one block the later counts.
    #[must_use]
    pub fn hand_over(mut self, block: usize, node: NodeId, form: WireForm) -> Self {
        self.hops.retain(|(b, ..)| *b < block);
        self.hops.push((block, node, form));
        self
    }
}

impl SplitPlanner for FixedSplit {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError> {
        check(problem)?;
        let end = problem.first + problem.blocks;
        let mut segments: SmallVec<[Segment; 4]> = SmallVec::new();
        let mut current = Segment { node: 0, from: problem.first, to: end, form: WireForm::Exact };
        for (block, name, form) in self.hops.iter().filter(|(block, ..)| *block < end) {
            let found = problem.names.iter().position(|n| *n == name);
            let node = found.ok_or_else(|| PlanError::NoNode { node: name.clone() })?;
            if node == current.node {
                continue;
            }
            if *block > current.from {
                segments.push(Segment { to: *block, ..current });
                current.from = *block;
            }
            current = Segment { node, from: current.from, to: end, form: *form };
        }
        segments.push(current);
        let predicted = duration(price(problem, &segments)?);
        Ok(SplitPlan { segments, predicted })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scf_core::{Bandwidth, ByteSize, EdgeCost, FormCost, Path, Slowdown, SplitSpent, Timestamp};

    use super::*;

    fn planned(split: &FixedSplit, names: &[&str], first: usize) -> Result<SplitPlan, PlanError> {
        let names: Vec<NodeId> = names.iter().map(|n| NodeId::new(n).unwrap()).collect();
        let names: Vec<&NodeId> = names.iter().collect();
        let (nodes, blocks) = (names.len(), 4 - first);
        let path = Path {
            latency: Duration::from_millis(1),
            bandwidth: Bandwidth::from_mbit_per_s(8),
            measured: Timestamp::default(),
        };
        let form = |form, size| FormCost { form, size: ByteSize::from_bytes(size), codec: Duration::ZERO };
        let forms = [form(WireForm::Exact, 4000), form(WireForm::Int8, 1000)];
        split.plan(&SplitProblem {
            nodes,
            names: &names,
            slowdowns: &vec![Slowdown::NONE; nodes],
            blocks,
            first,
            times: &vec![Duration::from_millis(1); nodes * blocks],
            waits: &vec![Duration::ZERO; nodes],
            paths: &vec![Some(path); nodes * nodes],
            edges: &vec![EdgeCost { forms: &forms }; blocks],
            result: ByteSize::from_bytes(1000),
            draws: &[],
            spent: SplitSpent::NOTHING,
        })
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn segments(plan: &SplitPlan) -> Vec<(usize, usize, usize)> {
        plan.segments.iter().map(|s| (s.node, s.from, s.to)).collect()
    }

    #[test]
    fn hands_over_where_it_was_told_and_predicts_the_way_back() {
        let split =
            FixedSplit::here().hand_over(1, node("gw"), WireForm::Int8).hand_over(3, node("cloud"), WireForm::Exact);
        let plan = planned(&split, &["cam", "cloud", "gw"], 0).unwrap();
        assert_eq!(segments(&plan), [(0, 0, 1), (2, 1, 3), (1, 3, 4)]);
        // Four blocks of 1 ms; 1 + 1 ms to gw and 2 ms back; 1 + 4 ms to cloud and 2 ms back.
        assert_eq!(plan.predicted, Duration::from_millis(4 + 4 + 7));
    }

    #[test]
    fn goes_on_from_the_middle_on_the_node_that_it_named() {
        let split =
            FixedSplit::here().hand_over(1, node("gw"), WireForm::Int8).hand_over(3, node("cloud"), WireForm::Exact);
        let plan = planned(&split, &["gw", "cam", "cloud"], 1).unwrap();
        assert_eq!(segments(&plan), [(0, 1, 3), (2, 3, 4)]);
        let plan = planned(&split, &["cloud", "cam", "gw"], 3);
        assert_eq!(segments(&plan.unwrap()), [(0, 3, 4)]);
    }

    #[test]
    fn all_on_one_node_is_one_segment_there() {
        let split = FixedSplit::all_on(node("cloud"));
        assert_eq!(segments(&planned(&split, &["cam", "cloud"], 0).unwrap()), [(1, 0, 4)]);
        assert_eq!(segments(&planned(&split, &["cloud", "cam"], 0).unwrap()), [(0, 0, 4)]);
    }

    #[test]
    fn without_its_node_it_has_no_plan() {
        let error = planned(&FixedSplit::all_on(node("cloud")), &["cam", "gw"], 0).unwrap_err();
        assert_eq!(error, PlanError::NoNode { node: node("cloud") });
    }
}
