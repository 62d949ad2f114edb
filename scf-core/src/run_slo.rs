//! What a run of a workflow is told of its promise, and tells.

use std::time::Duration;

use crate::{ByteSize, Function, NodeId, Site, Spent, Timestamp, Workflow};

/// A step of a run that is about to begin, and those after it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct DueStep<'a> {
    /// The time.
    pub now: Timestamp,
    /// The workflow.
    pub workflow: &'a Workflow,
    /// The step's position.
    pub step: usize,
    /// Since the run began.
    pub elapsed: Duration,
    /// Size of the step's input.
    pub input: ByteSize,
    /// What is left of the run: this step, and those after it in the order in which they run.
    pub left: &'a [StepSites<'a>],
}

/// Where a step can run.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct StepSites<'a> {
    /// Its function.
    pub function: &'a Function,
    /// Nodes that are ready for it and within reach. The size of the input in them is that of the step that is due, also
    /// for the steps after it, of which nobody knows it yet.
    pub sites: Vec<Site<'a>>,
}

/// What a step has of a run's promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct StepShare {
    /// The time it has; what is expected of it is in it, and its part of what nobody needs.
    pub within: Duration,
    /// Where it is to run; it runs elsewhere when it cannot there.
    pub node: NodeId,
}

/// A run of a workflow as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct ObservedRun {
    /// The time.
    pub now: Timestamp,
    /// How long it took until its end, or until a step failed.
    pub latency: Duration,
    /// Whether all its steps succeeded.
    pub succeeded: bool,
    /// What the steps that succeeded came to.
    pub spent: Spent,
}
