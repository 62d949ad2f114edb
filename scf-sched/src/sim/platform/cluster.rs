//! What a policy sees of the simulated nodes.

use smallvec::SmallVec;

use super::FunctionSpec;
use crate::sim::{Locality, Profiles, Rng, Topology};

/// A node's changing state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeState {
    /// Processor that no replica has reserved, in thousandths of a core.
    pub cpu_milli: i64,
    /// Memory that no replica has reserved, in bytes.
    pub memory: i64,
    /// Replicas on it.
    pub replicas: u32,
    /// Requests executing on it.
    pub running: u32,
    /// Images on it.
    pub images: SmallVec<[u32; 8]>,
    /// Whether it answers.
    pub up: bool,
    /// Its device's position in the profiles; `None` for a device that they do not know.
    pub device: Option<u16>,
}

/// The nodes, the network and where images are.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) profiles: Profiles,
    pub(crate) nodes: Vec<NodeState>,
    /// The order in which nodes are listed to policies.
    pub(crate) order: Vec<usize>,
    /// By profile, on how many nodes one of its images is.
    pub(crate) spread: Vec<u32>,
}

/// What a replica is to be placed for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// The function's position.
    pub function: usize,
    /// The function.
    pub spec: &'a FunctionSpec,
    /// Counts decisions.
    pub decision: u64,
}

impl Cluster {
    pub(crate) fn new(topology: Topology, profiles: Profiles, seed: u64) -> Self {
        let registry = topology.registry();
        let nodes = topology.hosts().iter().map(|host| NodeState {
            cpu_milli: i64::from(host.cpu_milli),
            memory: host.memory as i64,
            replicas: 0,
            running: 0,
            images: SmallVec::new(),
            up: true,
            device: profiles.device(&host.device),
        });
        let nodes: Vec<NodeState> = nodes.collect();
        let mut order: Vec<usize> = (0..nodes.len()).filter(|node| Some(*node) != registry).collect();
        Rng::of(seed, super::events::stream::ORDER, 0).shuffle(&mut order);
        let spread = vec![0; profiles.functions().len()];
        Self { topology, profiles, nodes, order, spread }
    }

    /// All nodes in the order in which a policy is to look at them: one that is drawn once per run, so that nobody profits
    /// from where a topology begins.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// A node's changing state.
    #[must_use]
    pub fn node(&self, node: usize) -> &NodeState {
        &self.nodes[node]
    }

    /// Hosts and ways.
    #[must_use]
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What is known about functions on devices.
    #[must_use]
    pub const fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Whether a replica can be put on a node: it answers, is not one that keeps data, and has the room.
    #[must_use]
    pub fn fits(&self, node: usize, spec: &FunctionSpec) -> bool {
        let (state, host) = (&self.nodes[node], &self.topology.hosts()[node]);
        state.up && !host.storage && state.cpu_milli >= i64::from(spec.cpu_milli) && state.memory >= spec.memory as i64
    }

    /// Whether the function's image is on a node.
    #[must_use]
    pub fn has_image(&self, node: usize, spec: &FunctionSpec) -> bool {
        self.nodes[node].images.contains(&spec.image)
    }

    /// Bytes of a function's image for a node's architecture.
    #[must_use]
    pub fn image_bytes(&self, node: usize, spec: &FunctionSpec) -> f64 {
        self.profiles.image(spec.profile, self.topology.hosts()[node].arch)
    }

    /// On how many nodes some image of the function's profile is.
    #[must_use]
    pub fn spread(&self, spec: &FunctionSpec) -> u32 {
        self.spread[usize::from(spec.profile)]
    }

    /// Bytes per second between two hosts when nobody else sends; what a disk gives within one.
    pub fn bandwidth(&mut self, from: usize, to: usize) -> f64 {
        if from == to { DISK } else { self.topology.bandwidth(from, to) }
    }

    /// Whether a node is at the edge.
    #[must_use]
    pub fn at_edge(&self, node: usize) -> bool {
        self.topology.hosts()[node].locality == Locality::Edge
    }
}

/// Bytes per second that a host reads and writes what is on itself with (1 Gbit/s, as in the evaluation of 2021).
pub(crate) const DISK: f64 = 1.25e8;
