//! Runs the steps of a workflow.

use scf_core::{
    FunctionName, Invocation, InvocationId, InvokeError, Name, NodeId, Outcome, Payload, TraceContext, Workflow,
};
use thiserror::Error;
use tracing::{Instrument, field};

use crate::{Fabric, promised_run::PromisedRun};

/// Names the run itself, beside the positions of its steps.
const RUN: u64 = u64::MAX;

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

/// Runs the steps behind a span of the run's, which is behind that of `trace`.
pub(crate) async fn run(
    fabric: &Fabric,
    workflow: &Workflow,
    node: &NodeId,
    id: InvocationId,
    key: Option<&str>,
    input: Payload,
    trace: Option<TraceContext>,
) -> Result<WorkflowOutcome, WorkflowFailure> {
    let own = trace.as_ref().map(|trace| trace.clone().at(id.child(RUN).bits() as u64));
    let span = tracing::debug_span!(
        "scf.workflow",
        workflow = %workflow.name,
        trace_id = own.as_ref().map(|own| field::display(format!("{:032x}", own.trace_id()))),
        span_id = own.as_ref().map(|own| field::display(format!("{:016x}", own.span_id()))),
        parent_span_id = trace.map(|trace| field::display(format!("{:016x}", trace.span_id()))),
    );
    let steps = async {
        let mut promised = PromisedRun::begin(fabric.inner(), workflow, node);
        let mut done: Vec<Outcome> = Vec::with_capacity(workflow.steps.len());
        for (step, part) in workflow.steps.iter().enumerate() {
            let payload = part.after.map_or_else(|| input.clone(), |after| done[after].payload.clone());
            let mut invocation = Invocation::new(id.child(step as u64), part.function.clone(), payload);
            invocation.key = key.map(str::to_owned);
            invocation.trace.clone_from(&own);
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
    };
    steps.instrument(span).await
}
