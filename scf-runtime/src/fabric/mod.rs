//! The fabric: nodes, the functions deployed to them, and the calls between.

mod builder;
mod tick;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use scf_core::{
    Clock, ClusterView, Function, FunctionName, Health, Invocation, InvocationId, InvokeError, Name, Node, NodeId,
    NodeStatus, Outcome, Path, Payload, Scheduler, StateError, Timestamp, Transport, Workflow, WorkflowError,
};

use tokio::sync::watch;

pub use self::builder::FabricBuilder;
use self::tick::Tick;
pub(crate) use crate::member::Member;
use crate::{
    error::DeployError,
    ledger::Bill,
    router::Route,
    spread::{Apart, Shared, Spread},
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

/// What the members of a fabric share.
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    pub(crate) members: Vec<Member>,
    pub(crate) positions: HashMap<NodeId, usize>,
    /// Counts the changes of the network that placements rest on.
    pub(crate) epoch: AtomicU32,
    /// Members that have probed the ways to the others at least once.
    probed: watch::Sender<usize>,
    routes: RwLock<HashMap<FunctionName, Arc<Route>>>,
    /// The same, for calls to read; changed while `routes` is locked.
    near: Spread<FunctionName, Route>,
    workflows: RwLock<HashMap<Name, Arc<Workflow>>>,
    seed: AtomicU64,
    ids: InvocationId,
    next_id: Apart<AtomicU64>,
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

    /// Makes `function` ready on every node that its needs allow, in place of an earlier one of that name.
    ///
    /// # Errors
    /// [`DeployError`] naming the function and what is wrong; nothing is called until all nodes are ready,
    /// and an earlier function of that name stays.
    pub async fn deploy(&self, function: Function) -> Result<(), DeployError> {
        let inner = &self.inner;
        let function = Arc::new(function);
        let route = Arc::new(Route::new(Arc::clone(&function), inner.members.len()));
        let mut ready = Vec::new();
        for member in inner.members.iter().filter(|member| function.needs.allow(&member.node)) {
            ready.push((member, member.controller.prepare(&function, &route.ledger).await?));
        }
        if ready.is_empty() {
            return Err(DeployError::NoNode { function: function.name.clone() });
        }
        for (member, ready) in ready {
            member.controller.install(ready);
        }
        let mut routes = inner.routes.write().unwrap_or_else(PoisonError::into_inner);
        inner.near.insert(&function.name, &route);
        let before = routes.insert(function.name.clone(), route);
        drop(routes);
        if let Some(before) = before {
            inner.members.iter().for_each(|member| member.unclaim(&before.function));
        }
        tracing::info!(faas.name = %function.name, kind = function.code.kind(), "scf.deploy");
        Ok(())
    }

    /// Takes a function off; calls that run are finished. Answers whether there was one.
    pub fn undeploy(&self, function: &FunctionName) -> bool {
        let gone = {
            let mut routes = self.inner.routes.write().unwrap_or_else(PoisonError::into_inner);
            self.inner.near.remove(function);
            routes.remove(function)
        };
        let Some(route) = gone else { return false };
        for member in &self.inner.members {
            member.controller.undeploy(function);
            member.unclaim(&route.function);
        }
        true
    }

    /// Checks `workflow` against the deployed functions and keeps it, in place of an earlier one of that name.
    ///
    /// # Errors
    /// [`WorkflowError`] naming the step.
    pub fn deploy_workflow(&self, workflow: Workflow) -> Result<(), WorkflowError> {
        let types = {
            let routes = self.inner.routes.read().unwrap_or_else(PoisonError::into_inner);
            let type_of = |route: &Route| (route.function.input.clone(), route.function.output.clone());
            routes.iter().map(|(name, route)| (name.clone(), type_of(route))).collect()
        };
        workflow.check(&types)?;
        let mut workflows = self.inner.workflows.write().unwrap_or_else(PoisonError::into_inner);
        workflows.insert(workflow.name.clone(), Arc::new(workflow));
        Ok(())
    }

    /// Calls `function` with `payload` from the first node, under a new invocation id.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function.
    pub async fn call(&self, function: &FunctionName, payload: impl Into<Payload>) -> Result<Outcome, InvokeError> {
        self.invoke(Invocation::new(self.new_id(), function.clone(), payload)).await
    }

    /// Makes a call from the first node.
    ///
    /// Cancel safe: dropping the future ends the call.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function.
    pub async fn invoke(&self, invocation: Invocation) -> Result<Outcome, InvokeError> {
        self.inner.route(0, invocation).await
    }

    /// Makes a call from `node`.
    ///
    /// # Errors
    /// [`InvokeError`], which names the function; [`InvokeError::Unreachable`] when `node` is none of this fabric.
    pub async fn invoke_from(&self, node: &NodeId, invocation: Invocation) -> Result<Outcome, InvokeError> {
        let Some(&from) = self.inner.positions.get(node) else {
            return Err(InvokeError::Unreachable { function: invocation.function, node: node.clone() });
        };
        self.inner.route(from, invocation).await
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
        let found = self.inner.workflows.read().unwrap_or_else(PoisonError::into_inner).get(workflow).cloned();
        let Some(found) = found else { return Err(WorkflowFailure::NotDeployed { workflow: workflow.clone() }) };
        crate::workflow::run(self, &found, node, id, key, payload.into()).await
    }

    /// A new invocation id, unique across processes.
    #[must_use]
    pub fn new_id(&self) -> InvocationId {
        self.inner.ids.child(self.inner.next_id.fetch_add(1, Relaxed))
    }

    /// What the calls of every deployed function came to so far, by name.
    #[must_use]
    pub fn bills(&self) -> Vec<(FunctionName, Bill)> {
        let routes = self.inner.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut bills: Vec<_> = routes.iter().map(|(name, route)| (name.clone(), route.ledger.bill())).collect();
        bills.sort_by(|a, b| a.0.cmp(&b.0));
        bills
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

    /// The way between two nodes as it was last measured; `None` where none is known.
    #[must_use]
    pub fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        self.inner.transport.as_ref()?.path(from, to)
    }

    /// Publishes state that is local to a node, on every node. Call it before the last clone is dropped.
    ///
    /// # Errors
    /// The first failure; the other nodes publish all the same, and what could not be published stays on the
    /// node's disk.
    pub async fn shutdown(&self) -> Result<(), StateError> {
        let mut result = Ok(());
        for store in self.inner.members.iter().filter_map(|member| member.controller.state()) {
            result = result.and(store.drain().await);
        }
        result
    }
}

impl Inner {
    pub(crate) fn find(&self, function: &FunctionName) -> Option<Shared<Route>> {
        self.near.get(function)
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Relaxed)
    }

    /// The nodes that `function` is ready on and that member `from` can reach, itself first.
    pub(crate) fn hosts_of(&self, from: usize, function: &FunctionName) -> Vec<Arc<Node>> {
        let Some(route) = self.find(function) else { return Vec::new() };
        let here = &self.members[from].node;
        let allowed = |node: &Arc<Node>| route.function.needs.allow(node);
        let reachable = |node: &Arc<Node>| {
            self.transport.as_ref().is_some_and(|transport| transport.path(&here.id, &node.id).is_some())
        };
        let others = self.members.iter().map(|member| &member.node).filter(|node| node.id != here.id);
        let others = others.filter(|node| allowed(node) && reachable(node));
        Some(here).filter(|here| allowed(here)).into_iter().chain(others).cloned().collect()
    }

    /// The cluster now, as member by member, without those of `left_out`.
    pub(crate) fn view(&self, function: &FunctionName, left_out: &[usize]) -> ClusterView {
        let needs = self.find(function).map(|route| route.function.needs.resources).unwrap_or_default();
        let status = |(position, member): (usize, &Member)| {
            let (free, version) = member.free_for(function, &needs);
            let health = if left_out.contains(&position) { Health::Unreachable } else { Health::Ready };
            NodeStatus { node: Arc::clone(&member.node), free, load: member.controller.load(), health, version }
        };
        let mut view = ClusterView::new(self.clock.now(), self.members.iter().enumerate().map(status).collect());
        let Some(transport) = &self.transport else { return view };
        let ids = || self.members.iter().map(|member| &member.node.id);
        for from in ids() {
            for to in ids().filter(|to| *to != from) {
                if let Some(path) = transport.path(from, to) {
                    view = view.with_path(from, to, path);
                }
            }
        }
        view
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.members.iter().map(|member| member.node.id.as_str()).collect();
        f.debug_struct("Fabric").field("nodes", &nodes).field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}
