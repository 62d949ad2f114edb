//! The split problem of this moment.

use std::{sync::Arc, time::Duration};

use scf_core::{
    BlockSet, Draw, EdgeCost, FunctionName, Host, NetworkPlan, NetworkProblem, Node, NodeId, Path, PlanError,
    SplitPlan, SplitProblem, SplitSpent, Timestamp,
};
use smallvec::SmallVec;

use super::{
    members::Members,
    model::{Costs, Model, together},
};

/// Nodes that enter a decision, this one included. Of more, those on which all that is left would be done first.
const MAX_NODES: usize = 16;

/// Blocks in an order in which they can run.
pub(super) type Order = SmallVec<[usize; 32]>;

/// Where a run stands when it is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) function: &'a FunctionName,
    /// The blocks that have run.
    pub(super) done: &'a BlockSet,
    pub(super) now: Timestamp,
    /// Whether the first block that is left has to run here.
    pub(super) pinned: bool,
    /// What the run has spent before.
    pub(super) spent: SplitSpent,
    /// Nodes that did not answer.
    pub(super) excluded: &'a [NodeId],
}

/// A plan and what its nodes are.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: SplitPlan,
    /// The blocks that are left, in the order of which the plan has the segments.
    pub(super) order: Order,
    /// By index in the problem; this node is the first.
    pub(super) nodes: Arc<[Arc<Node>]>,
    /// Time of everything that is left on this node.
    pub(super) here: Duration,
}

impl Model {
    /// Puts the problem together from what `host` and the profiler know, and has it planned.
    pub(super) fn plan(
        &self,
        host: &dyn Host,
        members: &Members,
        standing: Standing<'_>,
    ) -> Result<Planned, PlanError> {
        let nodes = self.nodes(host, members, standing);
        let left = self.left(standing.done);
        let (n, blocks) = (nodes.len(), left.len());

        let mut times: SmallVec<[Duration; 128]> = SmallVec::with_capacity(n * blocks);
        let mut waits: SmallVec<[Duration; 8]> = SmallVec::new();
        self.profiler.expected(nodes.iter().map(|node| &**node), &left, standing.now, &mut times, &mut waits);
        // This call has started, so nothing waits here.
        waits[0] = Duration::ZERO;
        if self.is_bound() {
            self.bind(&nodes, &left, standing.done, &mut times);
        }
        if standing.pinned {
            (1..n).for_each(|node| times[node * blocks] = Duration::MAX);
        }
        let here = times[..blocks].iter().fold(Duration::ZERO, |sum, &time| sum.saturating_add(time));
        let mut paths: SmallVec<[Option<Path>; 64]> = SmallVec::with_capacity(n * n);
        for from in &*nodes {
            paths.extend(
                nodes.iter().map(|to| if from.id == to.id { Some(Path::HERE) } else { host.path(&from.id, &to.id) }),
            );
        }
        let names: SmallVec<[&NodeId; 8]> = nodes.iter().map(|node| &node.id).collect();
        let slowdowns: SmallVec<[_; 8]> = nodes.iter().map(|node| node.slowdown).collect();
        let draws: SmallVec<[Draw; 8]> = nodes.iter().map(|node| Draw::of(node)).collect();
        let first = standing.done.len();
        let jumped = self.jumped(standing.done, &left);
        let edges = jumped.as_ref().map_or(&self.edges[first..], |edges| &edges[..]);
        let edges: SmallVec<[EdgeCost<'_>; 32]> = edges.iter().map(|forms| EdgeCost { forms }).collect();
        let problem = SplitProblem {
            nodes: n,
            names: &names,
            slowdowns: &slowdowns,
            blocks,
            first,
            times: &times,
            waits: &waits,
            paths: &paths,
            edges: &edges,
            result: self.result,
            draws: &draws,
            spent: standing.spent,
        };
        let NetworkPlan { order, plan } = if self.graph.is_chain() {
            NetworkPlan { order: (0..blocks).collect(), plan: self.planner.plan(&problem)? }
        } else {
            self.plan_network(problem, standing.done, &left)?
        };
        if !self.can_run(&order, standing.done, &left) || !is_sound(&plan, &problem, &order) {
            return Err(PlanError::Unsound { planner: self.planner.name() });
        }
        let order = order.iter().map(|&at| left[at]).collect();
        drop(names);
        Ok(Planned { plan, order, nodes, here })
    }

    fn left(&self, done: &BlockSet) -> Order {
        let blocks = self.graph.blocks().len();
        if self.graph.is_chain() {
            return (done.len()..blocks).collect();
        }
        (0..blocks).filter(|&block| !done.contains(block)).collect()
    }

    /// What sending costs before each block that is left, where those done are not the first ones.
    fn jumped(&self, done: &BlockSet, left: &[usize]) -> Option<Vec<Costs>> {
        if left.first().is_none_or(|&block| block == done.len()) {
            return None;
        }
        let mut done = done.clone();
        let before = |&block: &usize| {
            let costs = together(&self.tensors, &self.graph.alive(&done));
            done.insert(block);
            costs
        };
        Some(left.iter().map(before).collect())
    }

    fn plan_network(&self, chain: SplitProblem<'_>, done: &BlockSet, left: &[usize]) -> Result<NetworkPlan, PlanError> {
        let alive = self.graph.alive(done);
        // A tensor's index in the problem: its place among those alive, or behind them that of its block.
        let index = |&tensor: &usize| {
            alive
                .iter()
                .position(|&known| known == tensor)
                .unwrap_or_else(|| alive.len() + left.partition_point(|&block| block + 1 < tensor))
        };
        let inputs: Vec<SmallVec<[usize; 2]>> =
            left.iter().map(|&block| self.graph.inputs(block).iter().map(index).collect()).collect();
        let made = left.iter().map(|block| block + 1);
        let tensors: Vec<EdgeCost<'_>> =
            alive.iter().copied().chain(made).map(|tensor| EdgeCost { forms: &self.tensors[tensor] }).collect();
        self.planner.plan_network(&NetworkProblem { chain, inputs: &inputs, tensors: &tensors })
    }

    /// Takes away the blocks that a node does not have, and what it must not be sent.
    fn bind(&self, nodes: &[Arc<Node>], left: &[usize], done: &BlockSet, times: &mut [Duration]) {
        let mut before = done.clone();
        for (at, &block) in left.iter().enumerate() {
            for (number, node) in nodes.iter().enumerate() {
                // What is to be sent is here already.
                let refused = number > 0 && !self.may_reach(node, &before);
                if refused || !self.hosts(&node.id, block) {
                    times[number * left.len() + at] = Duration::MAX;
                }
            }
            before.insert(block);
        }
    }

    /// Whether `order` has each of the blocks `left` once, behind those that it takes something from.
    fn can_run(&self, order: &[usize], done: &BlockSet, left: &[usize]) -> bool {
        if self.graph.is_chain() {
            return order.iter().copied().eq(0..left.len());
        }
        let mut done = done.clone();
        let in_turn = order.iter().all(|&at| {
            let made = |&tensor: &usize| tensor == 0 || done.contains(tensor - 1);
            let fits =
                left.get(at).filter(|&&block| !done.contains(block) && self.graph.inputs(block).iter().all(made));
            fits.is_some_and(|&block| {
                done.insert(block);
                true
            })
        });
        in_turn && order.len() == left.len()
    }

    /// This node and those that may take part.
    fn nodes(&self, host: &dyn Host, members: &Members, standing: Standing<'_>) -> Arc<[Arc<Node>]> {
        let all = members.of(host, standing.function);
        if standing.excluded.is_empty() && all.len() <= MAX_NODES {
            return all;
        }
        let (here, others) = all.split_at(1);
        let mut others = others.to_vec();
        others.retain(|node| !standing.excluded.contains(&node.id));
        if others.len() >= MAX_NODES {
            others.sort_by_cached_key(|node| self.alone(host, standing.done, node, standing.now));
            others.truncate(MAX_NODES - 1);
        }
        here.iter().cloned().chain(others).collect()
    }

    /// Time of everything that is left on `node` alone.
    fn alone(&self, host: &dyn Host, done: &BlockSet, node: &Node, now: Timestamp) -> Duration {
        let (mut times, mut waits): (SmallVec<[Duration; 128]>, SmallVec<[Duration; 1]>) = Default::default();
        self.profiler.expected(std::iter::once(node), &self.left(done), now, &mut times, &mut waits);
        let there = host.path(&host.node().id, &node.id).map_or(Duration::MAX, |path| {
            let costs = together(&self.tensors, &self.graph.alive(done));
            let smallest = costs.iter().map(|form| form.size).min().unwrap_or_default();
            path.time_for(smallest).saturating_add(path.latency)
        });
        times.iter().fold(there, |sum, &time| sum.saturating_add(time))
    }
}

/// Whether the segments cover what is left in order, each where it can run; an integrator's planner may err.
fn is_sound(plan: &SplitPlan, problem: &SplitProblem<'_>, order: &[usize]) -> bool {
    let mut next = problem.first;
    let end = problem.first + problem.blocks;
    let ordered = plan.segments.iter().all(|segment| {
        let follows = segment.node < problem.nodes && segment.from == next && (next + 1..=end).contains(&segment.to);
        let part = next - problem.first..segment.to.max(next).min(end) - problem.first;
        next = segment.to;
        follows && order[part].iter().all(|&at| problem.times[segment.node * problem.blocks + at] != Duration::MAX)
    });
    ordered && next == end
}
