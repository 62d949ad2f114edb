//! Where a network is cut, decided per input.

use std::{fmt::Debug, time::Duration};

use smallvec::SmallVec;
use thiserror::Error;

use crate::{ByteSize, Draw, NetworkPlan, NetworkProblem, NodeId, Path, Slowdown, SplitBudget, SplitSpent, WireForm};

/// Decides which node runs which of the blocks that are left.
///
/// The split runtime asks before every hop: at the start of an inference and again on every node that an
/// activation reaches. Synchronous, pure, no allocation per node: a decision has to cost far less than the
/// smallest gain it can bring.
pub trait SplitPlanner: Debug + Send + Sync + 'static {
    /// A short name for tables: `fixed`, `latency-optimal`.
    fn name(&self) -> &'static str;

    /// Assigns every block of `problem` to a node.
    ///
    /// # Errors
    /// [`PlanError`] when no assignment is possible.
    fn plan(&self, problem: &SplitProblem<'_>) -> Result<SplitPlan, PlanError>;

    /// Assigns every block of a network that is no chain. By default cuts it as the chain that its blocks are in the
    /// order in which they are given, everything that is alive at a cut travelling.
    ///
    /// # Errors
    /// [`PlanError`] when no assignment is possible.
    fn plan_network(&self, problem: &NetworkProblem<'_>) -> Result<NetworkPlan, PlanError> {
        let plan = self.plan(&problem.chain)?;
        Ok(NetworkPlan { order: (0..problem.chain.blocks).collect(), plan })
    }
}

const _: fn(&dyn SplitPlanner) = |_| {};

/// The blocks that are left, the nodes that can run them, and what lies between.
///
/// Times and paths are rows of flat tables: `times[node * blocks + block]`, `paths[from * nodes + to]`.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct SplitProblem<'a> {
    /// Number of nodes; node 0 is where the activation is now.
    pub nodes: usize,
    /// The name of each node.
    pub names: &'a [&'a NodeId],
    /// How much slower each node is than the CPU that [`FormCost::codec`] counts on.
    pub slowdowns: &'a [Slowdown],
    /// Number of blocks left.
    pub blocks: usize,
    /// The index in the whole model of the first block that is left.
    pub first: usize,
    /// Time of each block on each node, by node and then block; [`Duration::MAX`] where it cannot run.
    pub times: &'a [Duration],
    /// Time that work waits on each node before it starts.
    pub waits: &'a [Duration],
    /// The way between each two nodes, by origin and then destination; `None` where there is none.
    pub paths: &'a [Option<Path>],
    /// What the activation before each block costs to send, one per block.
    pub edges: &'a [EdgeCost<'a>],
    /// Size of the result, which goes back the way that the activation came.
    pub result: ByteSize,
    /// What each node spends beside time; none where nothing is counted.
    pub draws: &'a [Draw],
    /// What the run has spent before; nothing where it begins.
    pub spent: SplitSpent,
}

/// What an activation costs to send at one split point, per form.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct EdgeCost<'a> {
    /// The forms in which it may travel.
    pub forms: &'a [FormCost],
}

/// What one form costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct FormCost {
    /// The form.
    pub form: WireForm,
    /// Size on the wire.
    pub size: ByteSize,
    /// CPU time, without slowdown, of bringing the activation into this form and back; half of it arises
    /// on each side.
    pub codec: Duration,
}

/// Consecutive blocks on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "planners of integrators write it as a literal")]
pub struct Segment {
    /// The node, by its index in the problem.
    pub node: usize,
    /// The first block, by its index in the whole model.
    pub from: usize,
    /// One past the last block.
    pub to: usize,
    /// The form in which the activation comes to this segment.
    pub form: WireForm,
}

/// An assignment of the blocks that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "planners of integrators write it as a literal")]
pub struct SplitPlan {
    /// The segments in order; together they cover every block that is left, none is empty.
    pub segments: SmallVec<[Segment; 4]>,
    /// The time until the result is back on node 0, as predicted.
    pub predicted: Duration,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The plan needs a node that is not among those of the problem.
    #[error("the split needs node {node}, which is not there")]
    NoNode {
        /// The node.
        node: NodeId,
    },
    /// The plan needs a way that is not known or cut, or a block on a node that cannot run it.
    #[error("the split needs a way from {from} to {to} and block {block} there, which cannot be had")]
    NoWay {
        /// Where the way begins.
        from: NodeId,
        /// Where it ends.
        to: NodeId,
        /// The first block that would run there.
        block: usize,
    },
    /// The plan needs a form in which the activation before this block may not travel.
    #[error("the activation before block {block} does not travel as {}", form.as_str())]
    NoForm {
        /// The block.
        block: usize,
        /// The form.
        form: WireForm,
    },
    /// The blocks that are left cannot all be run, wherever they are put.
    #[error("no node that can be reached runs block {block}")]
    Impossible {
        /// The first block that no assignment gets past.
        block: usize,
    },
    /// What can be run and sent spends more than the budget, wherever the blocks are put.
    #[error("the cheapest split that was found comes to {needed} of a budget of {budget}")]
    OverBudget {
        /// What may be spent.
        budget: SplitBudget,
        /// The same of the cheapest split that was found.
        needed: SplitBudget,
    },
    /// A planner's segments do not cover the blocks that are left in order, name a node that is not there,
    /// or hand on a block that has to run here. Found by the split runtime.
    #[error("planner {planner} gave a plan that does not cover the blocks that are left")]
    Unsound {
        /// [`SplitPlanner::name`].
        planner: &'static str,
    },
    /// The tables of the problem do not have the sizes that it says, or it has no blocks.
    #[error("the problem's {table} do not fit its nodes and blocks")]
    Malformed {
        /// The table.
        table: &'static str,
    },
}
