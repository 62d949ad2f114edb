//! Where a function runs.

use std::{collections::HashMap, fmt::Debug, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ByteSize, Function, Node, NodeId, Path, Resources, Timestamp, Verdict};

/// Decides where a function runs.
///
/// The router asks once per placement, not per call: a placement is sticky until load, link or node
/// state invalidates it. A decision is synchronous and pure: same request, same view, same answer. It does
/// no I/O and reads no clock; `view.now` is the time and `request.seed` the randomness.
///
/// The answer is a proposal. The router claims the node by compare-and-set on [`NodeStatus::version`];
/// when that conflicts it takes a fresh view and asks again.
pub trait Scheduler: Debug + Send + Sync + 'static {
    /// Chooses a node for `request` among those of `view`.
    ///
    /// # Errors
    /// [`ScheduleError::Unplaceable`] when no node satisfies every need. A need is never bent.
    fn schedule(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Result<Placement, ScheduleError>;

    /// Says of every node of `view`, in its order, why it is or is not chosen for `request`. Asked by people, not on
    /// the path of calls.
    ///
    /// Provided: what every scheduler is bound to ([`Verdict::by_needs`]), and whom [`Scheduler::schedule`] chooses. A
    /// scheduler that has filters or costs of its own names them.
    fn explain(&self, request: &PlacementRequest<'_>, view: &ClusterView) -> Vec<Verdict> {
        let chosen = self.schedule(request, view).ok().and_then(|placement| view.position(&placement.node));
        let verdict = |at| Verdict { is_chosen: chosen == Some(at), ..Verdict::by_needs(request, view, at) };
        (0..view.nodes().len()).map(verdict).collect()
    }
}

const _: fn(&dyn Scheduler) = |_| {};

/// What is to be placed.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct PlacementRequest<'a> {
    /// The function and its needs.
    pub function: &'a Function,
    /// Where the call comes from.
    pub from: &'a NodeId,
    /// Size of the call's payload, which travels from there.
    pub payload: ByteSize,
    /// Where other data lies that the function will read, and how much of it.
    pub data: &'a [DataInput],
    /// What the call is expected to compute, as CPU time on a node without slowdown; zero when unknown.
    pub work: Duration,
    /// Randomness of this decision.
    pub seed: u64,
}

/// Data that a function reads from where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct DataInput {
    /// Where it lies.
    pub node: NodeId,
    /// How much is read per call.
    pub size: ByteSize,
}

/// Where to run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "schedulers of integrators write it as a literal")]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// The version of its status that the decision rests on; the claim compares it.
    pub version: u64,
}

/// A node as the scheduler sees it.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct NodeStatus {
    /// The node.
    pub node: Arc<Node>,
    /// What nobody has claimed.
    pub free: Resources,
    /// Calls running or waiting there.
    pub load: u32,
    /// Whether it takes calls.
    pub health: Health,
    /// Counts the changes of `free` and `health`.
    pub version: u64,
}

/// Whether a node takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Health {
    /// It answers and takes calls.
    Ready,
    /// It answers and takes no new calls.
    Draining,
    /// It does not answer.
    Unreachable,
}

/// An immutable picture of the cluster at one time.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClusterView {
    /// When it was taken.
    pub now: Timestamp,
    nodes: Vec<NodeStatus>,
    index: HashMap<NodeId, usize>,
    paths: HashMap<(usize, usize), Path>,
}

impl ClusterView {
    /// A picture of `nodes` at `now` without any way between them.
    #[must_use]
    pub fn new(now: Timestamp, nodes: Vec<NodeStatus>) -> Self {
        let index = nodes.iter().enumerate().map(|(i, status)| (status.node.id.clone(), i)).collect();
        Self { now, nodes, index, paths: HashMap::new() }
    }

    /// Adds the way between two nodes, in one direction; ignored when one of them is not in the picture.
    #[must_use]
    pub fn with_path(mut self, from: &NodeId, to: &NodeId, path: Path) -> Self {
        if let (Some(from), Some(to)) = (self.position(from), self.position(to)) {
            self.paths.insert((from, to), path);
        }
        self
    }

    /// The nodes, in a stable order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeStatus] {
        &self.nodes
    }

    /// Where in [`ClusterView::nodes`] a node stands.
    #[must_use]
    pub fn position(&self, node: &NodeId) -> Option<usize> {
        self.index.get(node).copied()
    }

    /// The way between two nodes by position; [`Path::HERE`] from a node to itself, `None` where none is known.
    #[must_use]
    pub fn path(&self, from: usize, to: usize) -> Option<Path> {
        if from == to { Some(Path::HERE) } else { self.paths.get(&(from, to)).copied() }
    }
}

/// Why a function was not placed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ScheduleError {
    /// No node satisfies every need.
    #[error("none of {considered} nodes will do: {}", reasons(.refused))]
    Unplaceable {
        /// How many nodes were looked at.
        considered: u32,
        /// Which filter refused how many.
        refused: Vec<Refusal>,
    },
    /// The caller is not a node of the view.
    #[error("the caller {from} is not a node of the cluster")]
    UnknownCaller {
        /// The caller.
        from: NodeId,
    },
    /// Every proposal was claimed by somebody else first.
    #[error("{attempts} proposals were claimed by others first")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// The node of another process that would do does not make the function ready: it does not accept it, or it did not
    /// get its code.
    #[error("node {node} does not run it: {why}")]
    Refused {
        /// The node.
        node: NodeId,
        /// What it says, its causes included.
        why: String,
    },
}

/// What a filter refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "schedulers of integrators write it as a literal")]
pub struct Refusal {
    /// The filter.
    pub filter: String,
    /// How many nodes it was the first to refuse.
    pub nodes: u32,
}

fn reasons(refused: &[Refusal]) -> String {
    refused.iter().map(|r| format!("{} refused {}", r.filter, r.nodes)).collect::<Vec<_>>().join(", ")
}
