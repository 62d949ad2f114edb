//! The split problem of this moment.

use std::{sync::Arc, time::Duration};

use scf_core::{EdgeCost, FunctionName, Host, Node, NodeId, Path, PlanError, SplitPlan, SplitProblem};
use smallvec::SmallVec;

use super::Model;

/// Nodes that enter a decision, this one included. Of more, those on which all that is left would be done first.
const MAX_NODES: usize = 16;

/// Where a run stands when it is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    pub(super) function: &'a FunctionName,
    /// The first block that is left.
    pub(super) at: usize,
    /// Whether that block has to run here.
    pub(super) pinned: bool,
    /// Nodes that did not answer.
    pub(super) excluded: &'a [NodeId],
}

/// A plan and what its nodes are.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: SplitPlan,
    /// By index in the problem; this node is the first.
    pub(super) nodes: SmallVec<[Arc<Node>; 8]>,
    /// Time of everything that is left on this node.
    pub(super) here: Duration,
}

impl Model {
    /// Puts the problem together from what `host` and the profiler know, and has it planned.
    pub(super) fn plan(&self, host: &dyn Host, standing: Standing<'_>) -> Result<Planned, PlanError> {
        let blocks = standing.at..self.graph.blocks().len();
        let now = host.now();
        let nodes = self.nodes(host, standing);
        let n = nodes.len();

        let mut times: SmallVec<[Duration; 128]> = SmallVec::new();
        for node in &nodes {
            self.profiler.estimates(node, blocks.clone(), Some(now), &mut times);
        }
        if standing.pinned {
            for node in 1..n {
                times[node * blocks.len()] = Duration::MAX;
            }
        }
        let here = times[..blocks.len()].iter().sum();
        // This call has started, so nothing waits here.
        let waits: SmallVec<[Duration; 8]> = nodes
            .iter()
            .enumerate()
            .map(|(i, node)| if i == 0 { Duration::ZERO } else { self.profiler.wait(&node.id, now) })
            .collect();
        let mut paths: SmallVec<[Option<Path>; 64]> = SmallVec::with_capacity(n * n);
        for from in &nodes {
            paths.extend(
                nodes.iter().map(|to| if from.id == to.id { Some(Path::HERE) } else { host.path(&from.id, &to.id) }),
            );
        }
        let names: SmallVec<[&NodeId; 8]> = nodes.iter().map(|node| &node.id).collect();
        let slowdowns: SmallVec<[_; 8]> = nodes.iter().map(|node| node.slowdown).collect();
        let edges: SmallVec<[EdgeCost<'_>; 32]> =
            self.edges[blocks.clone()].iter().map(|forms| EdgeCost { forms }).collect();
        let plan = self.planner.plan(&SplitProblem {
            nodes: n,
            names: &names,
            slowdowns: &slowdowns,
            blocks: blocks.len(),
            first: standing.at,
            times: &times,
            waits: &waits,
            paths: &paths,
            edges: &edges,
            result: self.result,
        })?;
        drop(names);
        if !self.is_sound(&plan, n, standing) {
            return Err(PlanError::Unsound { planner: self.planner.name() });
        }
        Ok(Planned { plan, nodes, here })
    }

    /// Whether the segments cover what is left in order; an integrator's planner may err.
    fn is_sound(&self, plan: &SplitPlan, nodes: usize, standing: Standing<'_>) -> bool {
        let mut next = standing.at;
        let ordered = plan.segments.iter().all(|segment| {
            let follows = segment.node < nodes && segment.from == next && segment.to > segment.from;
            next = segment.to;
            follows
        });
        let starts_here = plan.segments.first().is_some_and(|first| first.node == 0);
        ordered && next == self.graph.blocks().len() && (starts_here || !standing.pinned)
    }

    /// This node and those that may take part.
    fn nodes(&self, host: &dyn Host, standing: Standing<'_>) -> SmallVec<[Arc<Node>; 8]> {
        let here = host.node();
        let mut others = host.hosts_of(standing.function);
        others.retain(|node| node.id != here.id && !standing.excluded.contains(&node.id));
        if others.len() >= MAX_NODES {
            others.sort_by_cached_key(|node| self.alone(host, standing.at, node));
            others.truncate(MAX_NODES - 1);
        }
        std::iter::once(here.clone()).chain(others).collect()
    }

    /// Time of everything that is left on `node` alone.
    fn alone(&self, host: &dyn Host, at: usize, node: &Node) -> Duration {
        let mut times: SmallVec<[Duration; 128]> = SmallVec::new();
        self.profiler.estimates(node, at..self.graph.blocks().len(), Some(host.now()), &mut times);
        let there = host.path(&host.node().id, &node.id).map_or(Duration::MAX, |path| {
            let smallest = self.edges[at].iter().map(|form| form.size).min().unwrap_or_default();
            path.time_for(smallest).saturating_add(path.latency)
        });
        times.iter().fold(there, |sum, &time| sum.saturating_add(time))
    }
}
