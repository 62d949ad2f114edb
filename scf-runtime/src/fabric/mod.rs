//! The fabric: nodes, the functions deployed to them, and the calls between.

mod builder;
mod code;
mod deploy;
mod explain;
mod inner;
#[cfg(feature = "nats")]
mod join;
mod migrate;
mod operate;
mod status;
mod tick;
mod traffic;
mod values;

use std::sync::{Arc, PoisonError};

use scf_core::{
    FunctionName, Invocation, InvocationId, InvokeError, Name, Node, NodeId, Outcome, Path, Payload, StateError,
    TenantName, Timestamp, TraceContext,
};

pub(crate) use self::inner::Inner;
#[cfg(feature = "nats")]
pub use self::join::PeerStatus;
use self::tick::Tick;
pub use self::{builder::FabricBuilder, status::RevisionStatus};
pub(crate) use crate::member::Member;
use crate::{
    bill::Bill,
    deployment::Deployment,
    workflow::{WorkflowFailure, WorkflowOutcome},
};

/// An assembled serverless runtime: one process, one or more nodes.
///
/// Cheap to clone; all clones are one fabric. It owns nothing global: two fabrics in one process do not see
/// each other, and when the last clone is dropped everything that it started stops.
#[derive(Clone, Debug)]
pub struct Fabric {
    inner: Arc<Inner>,
    _tick: Arc<Tick>,
}

impl Fabric {
    /// Starts to assemble a fabric.
    pub fn builder() -> FabricBuilder {
        FabricBuilder::default()
    }

    /// Returns once every node has measured the ways to the others; until then a node counts as unreachable
    /// for the others. At once with a single node.
    pub async fn ready(&self) {
        if self.inner.transport.is_some() {
            let nodes = self.inner.members.len();
            // The sender lives as long as this fabric.
            let _ = self.inner.probed.subscribe().wait_for(|probed| *probed >= nodes).await;
        }
    }

    /// Calls `function` with `payload` from the first node, under a new invocation id.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function.
    pub fn call<P: Into<Payload>>(
        &self,
        function: &FunctionName,
        payload: P,
    ) -> impl Future<Output = Result<Outcome, InvokeError>> + Send + use<'_, P> {
        self.invoke(Invocation::new(self.new_id(), function.clone(), payload))
    }

    /// Makes a call from the first node.
    ///
    /// Cancel safe: dropping the future ends the call.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function.
    pub fn invoke(
        &self,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Outcome, InvokeError>> + Send + use<'_> {
        // Not one future inside another: each would have a place for the invocation, and move the outcome there.
        self.inner.route(0, invocation, false)
    }

    /// Makes a call from `node`.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function; [`InvokeError::Unreachable`] when `node` is none of this fabric.
    pub async fn invoke_from(&self, node: &NodeId, invocation: Invocation) -> Result<Outcome, InvokeError> {
        let Some(&from) = self.inner.positions.get(node) else {
            return Err(InvokeError::Unreachable { function: invocation.function, node: node.clone() });
        };
        self.inner.route(from, invocation, false).await
    }

    /// Runs a workflow from `node`: every step is called from there, with an id made from `id` and its position.
    ///
    /// `key` is the key of the stateful steps. After a failure the same `id` may be run again: the effects of
    /// steps that were done are not repeated.
    ///
    /// # Errors
    /// [`WorkflowFailure`] naming the step, with the outcomes of the steps before it.
    pub async fn run(
        &self,
        workflow: &Name,
        node: &NodeId,
        id: InvocationId,
        key: Option<&str>,
        payload: impl Into<Payload>,
    ) -> Result<WorkflowOutcome, WorkflowFailure> {
        self.run_in(workflow, node, id, key, payload.into(), None).await
    }

    /// As [`Fabric::run`], as a part of `trace`: the run has a span behind that of `trace`, and each step one behind
    /// the run's.
    ///
    /// # Errors
    /// As [`Fabric::run`].
    pub async fn run_traced(
        &self,
        workflow: &Name,
        node: &NodeId,
        id: InvocationId,
        key: Option<&str>,
        payload: impl Into<Payload>,
        trace: TraceContext,
    ) -> Result<WorkflowOutcome, WorkflowFailure> {
        self.run_in(workflow, node, id, key, payload.into(), Some(trace)).await
    }

    async fn run_in(
        &self,
        workflow: &Name,
        node: &NodeId,
        id: InvocationId,
        key: Option<&str>,
        payload: Payload,
        trace: Option<TraceContext>,
    ) -> Result<WorkflowOutcome, WorkflowFailure> {
        let found = self.inner.workflows.read().unwrap_or_else(PoisonError::into_inner).get(workflow).cloned();
        let Some(found) = found else { return Err(WorkflowFailure::NotDeployed { workflow: workflow.clone() }) };
        crate::workflow::run(self, &found, node, id, key, payload, trace).await
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// A new invocation id, unique across processes.
    #[must_use]
    pub fn new_id(&self) -> InvocationId {
        self.inner.new_id()
    }

    /// What the calls of every deployed function came to so far, by name, over all of its revisions.
    #[must_use]
    pub fn bills(&self) -> Vec<(FunctionName, Bill)> {
        let functions = self.inner.functions.read().unwrap_or_else(PoisonError::into_inner);
        let bill = |(name, deployment): (&FunctionName, &Arc<Deployment>)| (name.clone(), deployment.ledger.bill());
        let is_deployed = |(_, deployment): &(&FunctionName, &Arc<Deployment>)| !deployment.revisions().is_empty();
        let mut bills: Vec<_> = functions.iter().filter(is_deployed).map(bill).collect();
        bills.sort_by(|a, b| a.0.cmp(&b.0));
        bills
    }

    /// What the calls of every tenant came to so far, by name, whatever functions they called.
    #[must_use]
    pub fn tenant_bills(&self) -> Vec<(TenantName, Bill)> {
        self.inner.accounts.bills()
    }

    /// What counts its calls, if [`FabricBuilder::metrics`] was given something that does.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn metrics(&self) -> Option<&crate::Metrics> {
        self.inner.metrics.as_ref()
    }

    /// The time on the fabric's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// The nodes, in the order in which they were added.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.inner.members.iter().map(|member| Arc::clone(&member.node)).collect()
    }

    /// The way between two nodes as it was last measured, by a node of another process where that told of it; `None`
    /// where none is known.
    #[must_use]
    pub fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        self.inner.path(from, to)
    }

    /// Starts no more queued calls, waits for those that run, and publishes state that is local to a node, on every
    /// node. Call it before the last clone is dropped.
    ///
    /// # Errors
    /// The first failure; the other nodes publish all the same, and what could not be published stays on the
    /// node's disk.
    pub async fn shutdown(&self) -> Result<(), StateError> {
        if let Some(dispatcher) = &self.inner.dispatcher {
            dispatcher.stop().await;
        }
        let mut result = Ok(());
        for store in self.inner.members.iter().filter_map(|member| member.controller.state()) {
            result = result.and(store.drain().await);
        }
        result
    }
}
