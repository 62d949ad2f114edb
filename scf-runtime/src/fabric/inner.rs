//! What the members of a fabric share.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
    },
};

use scf_core::{
    ClusterView, FunctionName, Health, InvocationId, Name, Node, NodeId, NodeStatus, ObjectStore, Path, Scheduler,
    SloPolicy, Transport, Workflow,
};
use tokio::sync::{Notify, watch};

use crate::{
    claim::Guests,
    deployment::Deployment,
    hedge::HedgePolicy,
    member::Member,
    peer::{self, Peers, with_paths},
    pull::Puller,
    queue::Dispatcher,
    route::Route,
    spread::{Apart, PARTS, Shared, Spread, here},
    stream::Lent,
    tenant::Accounts,
    time::Time,
};

/// What the members of a fabric share.
pub(crate) struct Inner {
    pub(crate) clock: Time,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) scheduler: Arc<dyn Scheduler>,
    /// Who keeps what is promised of functions, and who is told when something is.
    pub(crate) slo: Option<Arc<dyn SloPolicy>>,
    pub(super) promised: Arc<Notify>,
    pub(crate) members: Vec<Member>,
    pub(crate) positions: HashMap<NodeId, usize>,
    /// Nodes of other processes.
    pub(crate) peers: Peers,
    /// Who was heard of.
    #[cfg(feature = "nats")]
    pub(super) roster: std::sync::Mutex<crate::transport::fleet::Roster>,
    /// Functions of other processes.
    pub(crate) guests: Guests,
    /// Where their code comes from, and that of functions from here is left for them.
    pub(crate) puller: Option<Arc<Puller>>,
    /// Counts the changes of the network that placements rest on.
    pub(crate) epoch: AtomicU32,
    /// Members that have probed the ways to the others at least once.
    pub(super) probed: watch::Sender<usize>,
    pub(crate) accounts: Accounts,
    /// Where code is read from, and what functions reach that are granted it.
    pub(crate) objects: Option<Arc<dyn ObjectStore>>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<crate::Metrics>,
    /// Revisions that are kept of a function.
    pub(super) revisions: usize,
    pub(crate) functions: RwLock<HashMap<FunctionName, Arc<Deployment>>>,
    /// The same, for calls to read.
    pub(super) near: Spread<FunctionName, Deployment>,
    pub(super) workflows: RwLock<HashMap<Name, Arc<Workflow>>>,
    /// When calls that take long are sent to a second node.
    pub(crate) hedging: HedgePolicy,
    /// Streams of calls that run on other nodes.
    pub(crate) lent: Lent,
    /// Drains the invocation queue, if there is one.
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(super) seed: AtomicU64,
    pub(super) ids: InvocationId,
    /// Ids that were made so far on each part of the cores.
    pub(super) made: [Apart<AtomicU64>; PARTS],
}

impl Inner {
    /// What `ask` finds out about a deployed function; must not take long.
    pub(crate) fn deployed<T>(&self, function: &FunctionName, ask: impl FnOnce(&Deployment) -> T) -> Option<T> {
        self.near(here(), function).map(|deployment| ask(&deployment))
    }

    /// A deployed function, counted for `part` of the cores.
    pub(crate) fn near(&self, part: usize, function: &FunctionName) -> Option<Shared<Deployment>> {
        self.near.get(part, function).or_else(|| {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            functions.get(function).map(|deployment| self.near.fill(part, function, deployment))
        })
    }

    /// What `pick` makes of the deployed functions; must not take long.
    pub(crate) fn functions<T>(&self, mut pick: impl FnMut(&FunctionName, &Deployment) -> Option<T>) -> Vec<T> {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        functions.iter().filter_map(|(name, deployment)| pick(name, deployment)).collect()
    }

    /// Where a node stands, of this process or another.
    pub(crate) fn position(&self, node: &NodeId) -> Option<usize> {
        self.positions.get(node).copied().or_else(|| self.peers.position(node))
    }

    /// Whether the node at a position is one of this process. Told from the build where that knows no others, which
    /// leaves out what is for them.
    pub(crate) fn is_member(&self, position: usize) -> bool {
        !peer::CAN_JOIN || position < self.members.len()
    }

    /// The node at a position.
    pub(crate) fn id_at(&self, position: usize) -> Option<NodeId> {
        let member = self.members.get(position).map(|member| member.node.id.clone());
        member.or_else(|| self.peers.at(position).map(|peer| peer.id.clone()))
    }

    /// The way between two nodes as measured here, or else as a node of another process told of it.
    pub(crate) fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        let measured = self.transport.as_ref()?.path(from, to);
        measured.or_else(|| self.peers.path(from, to))
    }

    /// An id that nothing else has.
    pub(crate) fn new_id(&self) -> InvocationId {
        let part = here();
        let made = self.made[part].fetch_add(1, Relaxed);
        self.ids.child(made * PARTS as u64 + part as u64)
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Relaxed)
    }

    /// The nodes that `function` is ready on and that member `from` can reach, itself first.
    pub(crate) fn hosts_of(&self, from: usize, function: &FunctionName) -> Vec<Arc<Node>> {
        let mut hosts = self.members_of(from, function);
        let here = &self.members[from].node;
        let reachable = |node: &Arc<Node>| {
            self.transport.as_ref().is_some_and(|transport| transport.path(&here.id, &node.id).is_some())
        };
        hosts.retain(|node| node.id == here.id || reachable(node));
        hosts
    }

    /// The nodes that `function` is ready on, member `from` first.
    pub(crate) fn members_of(&self, from: usize, function: &FunctionName) -> Vec<Arc<Node>> {
        let main = self.deployed(function, |deployment| deployment.main().cloned()).flatten();
        let Some(route) = main else { return Vec::new() };
        let here = &self.members[from].node;
        let allowed = |node: &Arc<Node>| route.function.needs.allow(node);
        let others = self.members.iter().filter(|member| member.health() == Health::Ready).map(|member| &member.node);
        let others = others.filter(|node| node.id != here.id && allowed(node));
        let peers = self.peers.all().into_iter().map(|peer| peer.status());
        let peers = peers.filter(|status| status.health == Health::Ready).map(|status| status.node);
        let peers = peers.filter(allowed);
        Some(here).filter(|here| allowed(here)).into_iter().chain(others).cloned().chain(peers).collect()
    }

    /// What changes with [`Inner::members_of`]; `None` where nodes of other processes may change it too, or there are no
    /// ways between nodes.
    pub(crate) fn members_version(&self) -> Option<u64> {
        let version = (u64::from(self.epoch.load(Acquire)) << 32) | u64::from(self.near.forgotten());
        (self.transport.is_some() && self.peers.is_empty()).then_some(version)
    }

    /// The cluster now, as member by member, without those of `left_out`.
    pub(crate) fn view(&self, route: &Route, left_out: &[usize]) -> ClusterView {
        let status = |(position, member): (usize, &Member)| {
            let (free, health, version) = member.free_for(&route.function, route.revision);
            let health = if left_out.contains(&position) { Health::Unreachable } else { health };
            NodeStatus { node: Arc::clone(&member.node), free, load: member.controller.load(), health, version }
        };
        let members: Vec<_> = self.members.iter().enumerate().map(status).collect();
        let Some(transport) = &self.transport else { return ClusterView::new(self.clock.now(), members) };
        // Promises are kept with what the nodes of this process are known to do.
        let peers = if self.policy_for(route).is_none() { self.peers.all() } else { Vec::new() };
        let (nodes, told) = match peers.is_empty() {
            true => (members, Vec::new()),
            false => self.peers.join(members, &route.function, |to| route.is_abroad(to), left_out),
        };
        let mut view = with_paths(ClusterView::new(self.clock.now(), nodes), told);
        let ids = || self.members.iter().map(|member| &member.node.id);
        for from in ids() {
            for to in ids().filter(|to| *to != from) {
                if let Some(path) = transport.path(from, to) {
                    view = view.with_path(from, to, path);
                }
            }
        }
        for (from, peer) in self.members.iter().flat_map(|member| peers.iter().map(move |peer| (member, peer))) {
            if let Some(path) = transport.path(&from.node.id, &peer.id) {
                view = view.with_path(&from.node.id, &peer.id, path);
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
