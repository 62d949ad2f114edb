//! Who keeps what is promised.

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ByteSize, DueStep, Function, Node, ObservedRun, Path, Spent, StepShare, Timestamp, Workflow};

/// Learns how calls of functions and runs of workflows with [`Objectives`](crate::Objectives) fare and says what is to be
/// done about it.
///
/// The runtime tells it of every such call and asks it where the function is placed and by time. All of it is
/// synchronous, without I/O and without a clock, and takes microseconds: it is asked on the way of calls.
pub trait SloPolicy: Debug + Send + Sync + 'static {
    /// A call of `function` is over, or its objective's time is and the call is not. Called once or twice per
    /// call, see [`Progress`].
    fn observed(&self, function: &Function, call: &ObservedCall<'_>);

    /// Whether calls of `function` are expected to keep its objectives on a node. Called per node when the function
    /// is placed, not per call. The runtime places it where the answer is the best that any node gives.
    fn expects(&self, function: &Function, site: &Site<'_>) -> Expectation;

    /// What is to be done about `function`. Called every 100 ms while it is called.
    fn react(&self, function: &Function, now: Timestamp) -> Reaction;

    /// How much of what is left of a run's time a step of it gets, and where it is to run. Called as each step of a run
    /// of a workflow with objectives begins, so that the rest is divided anew by what the steps before took. None: it
    /// runs as any other call of its function.
    fn share(&self, due: &DueStep<'_>) -> Option<StepShare>;

    /// Step `step` of a run is over, or its share of the time is and the step is not. Called once or twice per step, see
    /// [`Progress`], which is by that share here; what its own function promises is told apart from it.
    fn step_observed(&self, workflow: &Workflow, step: usize, call: &ObservedCall<'_>);

    /// A run of `workflow` is over. Called once per run that was not given up by its caller.
    fn run_observed(&self, workflow: &Workflow, run: &ObservedRun);
}

const _: fn(&dyn SloPolicy) = |_| {};

/// A call as its caller saw it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct ObservedCall<'a> {
    /// The time.
    pub now: Timestamp,
    /// Where it runs or ran.
    pub node: &'a Node,
    /// Size of its input.
    pub input: ByteSize,
    /// How far it is.
    pub progress: Progress,
    /// Since it was made: the way there and back and the wait are in it.
    pub latency: Duration,
    /// How long its isolate ran; zero where that is not known.
    pub execution: Duration,
    /// What it and the calls that it made came to; none of one that still runs or failed.
    pub spent: Option<Spent>,
}

/// How far an observed call is. What decides whether it kept its objective is told exactly once per call, as early
/// as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Progress {
    /// It succeeded within the objective's time.
    Met,
    /// The objective's time is over and it still runs.
    Late,
    /// It succeeded after it was told to be late: says how long it took and counts as nothing more.
    Done,
    /// It failed.
    Failed,
    /// It failed after it was told to be late: counts as nothing more.
    FailedLate,
}

/// A node that a function may be placed on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Site<'a> {
    /// The time.
    pub now: Timestamp,
    /// The node.
    pub node: &'a Node,
    /// The way there from where the call is made; none where none is known.
    pub path: Option<Path>,
    /// Size of the input.
    pub input: ByteSize,
    /// Calls running or waiting there.
    pub load: u32,
}

/// Whether objectives will be kept somewhere, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Expectation {
    /// By what is known; also where nothing is.
    Kept,
    /// Calls are in time and succeed there, and cost or use more than is promised.
    Dear,
    /// They are not kept there now, or will not be.
    Missed,
}

/// What is to be done about a function, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reaction {
    /// Nothing: there is error budget to try things with.
    #[default]
    None,
    /// Nothing is tried that could cost error budget: no unknown nodes, no cheaper variants.
    Careful,
    /// The function leaves nodes that [`SloPolicy::expects`] says miss its objectives.
    Move,
    /// And calls that would have to wait longer than the objective's time are refused at once, so that those that
    /// are let in keep it.
    Shed,
}
