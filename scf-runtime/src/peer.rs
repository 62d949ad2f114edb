//! Nodes that other processes run, as the router knows them.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use scf_core::{ClusterView, Function, Health, MilliCpu, NodeId, NodeStatus, Path, Resources};

/// Whether other processes can join in this build. Where they cannot, what is there for them is compiled and left out
/// of the binary.
pub(crate) const CAN_JOIN: bool = cfg!(feature = "nats");

/// The nodes of other processes. One that is known keeps its position, which is behind those of the members.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    first: usize,
    known: RwLock<Vec<Arc<Peer>>>,
    count: AtomicUsize,
}

/// A node of another process.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    told: RwLock<Told>,
}

/// What a node told last.
#[derive(Clone, Debug)]
struct Told {
    status: NodeStatus,
    paths: Vec<(NodeId, Path)>,
}

impl Peers {
    /// None yet, behind so many members.
    pub(crate) fn after(members: usize) -> Self {
        Self { first: members, ..Self::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !CAN_JOIN || self.count.load(Relaxed) == 0
    }

    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        if self.is_empty() {
            return Vec::new();
        }
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn at(&self, position: usize) -> Option<Arc<Peer>> {
        if self.is_empty() {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(position.checked_sub(self.first)?).cloned()
    }

    pub(crate) fn position(&self, node: &NodeId) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().position(|peer| peer.id == *node).map(|position| self.first + position)
    }

    /// Notes what a node told, or is to be taken for. Gives its position, and whether it takes calls other than before.
    #[cfg(feature = "nats")]
    pub(crate) fn set(&self, status: NodeStatus, paths: Vec<(NodeId, Path)>) -> (usize, bool) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let told = Told { status, paths };
        match known.iter().position(|peer| peer.id == told.status.node.id) {
            Some(position) => {
                let mut before = known[position].told.write().unwrap_or_else(PoisonError::into_inner);
                let differs = before.status.health != told.status.health;
                *before = told;
                (self.first + position, differs)
            }
            None => {
                known.push(Arc::new(Peer { id: told.status.node.id.clone(), told: RwLock::new(told) }));
                self.count.store(known.len(), Relaxed);
                (self.first + known.len() - 1, true)
            }
        }
    }

    /// Whether one of them that takes calls may run `function`.
    pub(crate) fn can_run(&self, function: &Function) -> bool {
        let is_fit = |status: &NodeStatus| status.health == Health::Ready && function.needs.allow(&status.node);
        self.all().iter().any(|peer| is_fit(&peer.status()))
    }

    /// The way from a node of another process, as it told of it.
    pub(crate) fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        let peer = self.all().into_iter().find(|peer| peer.id == *from)?;
        let told = peer.told.read().unwrap_or_else(PoisonError::into_inner);
        told.paths.iter().find(|(other, _)| other == to).map(|(_, path)| *path)
    }

    /// Adds the peers to a view, and the ways that they told of. `claimed` says at which positions `function` has
    /// claimed what it needs.
    pub(crate) fn join(
        &self,
        members: Vec<NodeStatus>,
        function: &Function,
        claimed: impl Fn(usize) -> bool,
        left_out: &[usize],
    ) -> (Vec<NodeStatus>, Vec<(NodeId, NodeId, Path)>) {
        let (mut nodes, mut paths) = (members, Vec::new());
        for (index, peer) in self.all().iter().enumerate() {
            let position = self.first + index;
            let Told { mut status, paths: told } = peer.told();
            if claimed(position) {
                status.free = with(status.free, &function.needs.resources);
            }
            if left_out.contains(&position) {
                status.health = Health::Unreachable;
            }
            nodes.push(status);
            paths.extend(told.into_iter().map(|(to, path)| (peer.id.clone(), to, path)));
        }
        (nodes, paths)
    }
}

impl Peer {
    pub(crate) fn status(&self) -> NodeStatus {
        self.told().status
    }

    fn told(&self) -> Told {
        self.told.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what the node said of itself when it refused a claim.
    pub(crate) fn correct(&self, free: Resources, health: Health, version: u64) {
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        (told.status.free, told.status.health, told.status.version) = (free, health, version);
    }
}

fn with(free: Resources, claimed: &Resources) -> Resources {
    Resources {
        cpu: MilliCpu::new(free.cpu.milli().saturating_add(claimed.cpu.milli())),
        memory: free.memory + claimed.memory,
    }
}

/// Adds ways between nodes to a view.
pub(crate) fn with_paths(view: ClusterView, paths: Vec<(NodeId, NodeId, Path)>) -> ClusterView {
    paths.into_iter().fold(view, |view, (from, to, path)| view.with_path(&from, &to, path))
}
