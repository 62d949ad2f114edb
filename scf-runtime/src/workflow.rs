//! Runs the steps of a workflow.

use scf_core::{FunctionName, Invocation, InvocationId, InvokeError, Name, NodeId, Outcome, Payload, Workflow};
use thiserror::Error;

use crate::{Fabric, promised_run::PromisedRun};

/// What the steps of a workflow came to, in their order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkflowOutcome {
    /// One outcome per step.
    pub steps: Vec<Outcome>,
}

impl WorkflowOutcome {
    /// What the last step gave.
    #[must_use]
    pub fn payload(&self) -> Option<&Payload> {
        self.steps.last().map(|outcome| &outcome.payload)
    }
}

/// Why a run of a workflow ended early.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum WorkflowFailure {
    /// No workflow of that name is deployed.
    #[error("workflow {workflow} is not deployed")]
    NotDeployed {
        /// The workflow.
        workflow: Name,
    },
    /// A step failed; the steps after it did not run.
    #[error("workflow {workflow}, step {step} ({function}) failed")]
    Step {
        /// The workflow.
        workflow: Name,
        /// The step's position.
        step: usize,
        /// Its function.
        function: FunctionName,
        /// What the steps before it came to.
        done: Vec<Outcome>,
        /// Why.
        #[source]
        source: InvokeError,
    },
}

pub(crate) async fn run(
    fabric: &Fabric,
    workflow: &Workflow,
    node: &NodeId,
    id: InvocationId,
    key: Option<&str>,
    input: Payload,
) -> Result<WorkflowOutcome, WorkflowFailure> {
    let mut promised = PromisedRun::begin(fabric.inner(), workflow, node);
    let mut done: Vec<Outcome> = Vec::with_capacity(workflow.steps.len());
    for (step, part) in workflow.steps.iter().enumerate() {
        let payload = part.after.map_or_else(|| input.clone(), |after| done[after].payload.clone());
        let mut invocation = Invocation::new(id.child(step as u64), part.function.clone(), payload);
        invocation.key = key.map(str::to_owned);
        let result = match &mut promised {
            Some(run) => Box::pin(run.step(step, invocation)).await,
            None => fabric.invoke_from(node, invocation).await,
        };
        match result {
            Ok(outcome) => done.push(outcome),
            Err(source) => {
                promised.iter().for_each(|run| run.end(Some(&source)));
                let (workflow, function) = (workflow.name.clone(), part.function.clone());
                return Err(WorkflowFailure::Step { workflow, step, function, done, source });
            }
        }
    }
    promised.iter().for_each(|run| run.end(None));
    Ok(WorkflowOutcome { steps: done })
}
