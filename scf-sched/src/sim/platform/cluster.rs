//! Simulated hosts as the nodes of a fleet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use scf_core::{
    Accelerator, Bandwidth, ByteSize, Code, Function, FunctionName, Health, InvalidName, LinkQuality, MilliCpu, Name,
    Node, NodeId, Resources, Tier,
};
use smallvec::SmallVec;
use thiserror::Error;

use super::FunctionSpec;
use crate::{
    Demand, Estimate, Estimator, ProfileKey,
    fleet::{Caps, Claim, ClassIx, DataIx, Fleet, FleetError, FunctionIx, Need, NodeIx, SiteIx},
    policy::{Skippy, Weights},
    sim::{Locality, Profiles, Rng, Topology},
};

/// Why hosts could not be made nodes.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// A name that is none.
    #[error("host, device or function name")]
    Name(#[from] InvalidName),
    /// The fleet does not take it.
    #[error("the fleet does not take it")]
    Fleet(#[from] FleetError),
}

/// A node's state that no policy reads from here.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeState {
    /// Its position in the fleet.
    pub ix: NodeIx,
    /// Requests executing on it.
    pub running: u32,
    /// Images on it.
    pub images: SmallVec<[u32; 8]>,
    /// Whether it answers.
    pub up: bool,
    /// Its device's position in the profiles; `None` for a device that they do not know.
    pub device: Option<u16>,
    /// Mean seconds of the last executions.
    pub(crate) mean: f32,
}

/// Hosts, the network between them, and the [`Fleet`] that policies see of them.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) topology: Topology,
    pub(crate) profiles: Profiles,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) fleet: Fleet,
    /// Host by position in the fleet.
    pub(crate) hosts: Vec<usize>,
    functions: Vec<FunctionIx>,
    images: HashMap<u32, DataIx>,
}

impl Cluster {
    /// The hosts join a fleet in an order that is drawn once per seed, so that no policy profits from where a topology
    /// begins.
    ///
    /// # Errors
    /// [`ClusterError`] when a name is not one, or there are more places than a fleet tells apart.
    pub fn new(mut topology: Topology, profiles: Profiles, seed: u64) -> Result<Self, ClusterError> {
        let fleet = Fleet::new();
        let sites = topology.sites();
        let mut hosts: Vec<usize> = (0..topology.hosts().len()).collect();
        Rng::of(seed, super::stream::ORDER, 0).shuffle(&mut hosts);
        let mut nodes: Vec<Option<NodeState>> = vec![None; hosts.len()];
        for &at in &hosts {
            let ix = fleet.join(Arc::new(describe(&topology, at, sites[at])?))?;
            let device = profiles.device(&topology.hosts()[at].device);
            nodes[at] = Some(NodeState { ix, running: 0, images: SmallVec::new(), up: true, device, mean: 0.0 });
        }
        let nodes: Vec<NodeState> = nodes.into_iter().flatten().collect();
        measure(&mut topology, &fleet, &nodes, &sites)?;
        let functions = profiles.functions().iter().map(|name| Ok(fleet.function(&function(name)?)));
        let functions = functions.collect::<Result<_, ClusterError>>()?;
        Ok(Self { topology, profiles, nodes, fleet, hosts, functions, images: HashMap::new() })
    }

    /// The nodes as policies see them.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// A node's state.
    #[must_use]
    pub fn node(&self, host: usize) -> &NodeState {
        &self.nodes[host]
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

    /// The host of a position in the fleet.
    #[must_use]
    pub fn host(&self, node: NodeIx) -> usize {
        self.hosts[node.index()]
    }

    /// Where nodes are in the network, each site once.
    #[must_use]
    pub fn sites(&self) -> Vec<SiteIx> {
        let mut sites: Vec<_> = self.nodes.iter().filter_map(|node| Some(self.fleet.spot(node.ix)?.site)).collect();
        sites.sort_unstable_by_key(|site| site.index());
        sites.dedup();
        sites
    }

    /// Where images come from.
    #[must_use]
    pub fn registry(&self) -> Option<NodeIx> {
        self.topology.registry().map(|host| self.nodes[host].ix)
    }

    /// The number by which times of a profile are learned.
    #[must_use]
    pub fn function(&self, profile: u16) -> FunctionIx {
        self.functions[usize::from(profile)]
    }

    /// What a replica of a function needs; its image is registered at the registry.
    ///
    /// # Errors
    /// [`ClusterError`] when it is more than any node can have.
    pub fn demand(&mut self, spec: &FunctionSpec) -> Result<Demand, ClusterError> {
        let mut of = function(&self.profiles.functions()[usize::from(spec.profile)])?;
        let memory = ByteSize::from_bytes(spec.memory);
        of.needs.resources = Resources { cpu: MilliCpu::new(spec.cpu_milli), memory };
        let demand = self.fleet.demand(&of)?;
        let bytes = ["amd64", "arm64", "arm"].map(|arch| self.profiles.image(spec.profile, arch));
        let most = bytes.into_iter().fold(0.0, f64::max);
        if most == 0.0 {
            return Ok(demand);
        }
        let image = self.fleet.data(&Name::new(&format!("image-{}", spec.image))?, most as u64);
        if let Some(registry) = self.registry() {
            self.fleet.set_holder(image, registry, true);
        }
        self.images.insert(spec.image, image);
        Ok(demand.artefact(image))
    }

    pub(crate) fn image(&self, image: u32) -> Option<DataIx> {
        self.images.get(&image).copied()
    }

    /// Bytes of a function's image for a host's architecture.
    #[must_use]
    pub fn image_bytes(&self, host: usize, spec: &FunctionSpec) -> f64 {
        self.profiles.image(spec.profile, self.topology.hosts()[host].arch)
    }

    /// A node that left is back with nothing on it.
    pub(crate) fn rejoin(&mut self, host: usize) -> Result<(), ClusterError> {
        let sites = self.topology.sites();
        self.fleet.rejoin(Arc::new(describe(&self.topology, host, sites[host])?), &[])?;
        measure(&mut self.topology, &self.fleet, &self.nodes, &sites)
    }

    /// A host is elsewhere and still runs what it says; gives the claims that stand for it there.
    pub(crate) fn moved(&mut self, host: usize, running: &[(u64, Need)]) -> Result<Vec<Claim>, ClusterError> {
        let sites = self.topology.sites();
        let claims = self.fleet.rejoin(Arc::new(describe(&self.topology, host, sites[host])?), running)?;
        measure(&mut self.topology, &self.fleet, &self.nodes, &sites)?;
        Ok(claims)
    }

    /// Says how the ways are after a change of links.
    pub(crate) fn measure(&mut self) -> Result<(), ClusterError> {
        let sites = self.topology.sites();
        measure(&mut self.topology, &self.fleet, &self.nodes, &sites)
    }

    /// The kind of hardware of a host.
    #[must_use]
    pub fn class(&self, host: usize) -> ClassIx {
        self.fleet.look(self.nodes[host].ix).map(|hot| hot.class()).unwrap_or_default()
    }

    /// An estimator that knows the mean of every profile on every device of the cluster.
    #[must_use]
    pub fn known(&self) -> Known {
        let mut times = HashMap::new();
        for host in 0..self.nodes.len() {
            let Some(device) = self.nodes[host].device else { continue };
            let class = self.class(host);
            for (profile, function) in self.functions.iter().enumerate() {
                let mean = || {
                    let known = self.profiles.exec(device, profile as u16);
                    known.map_or(IMPOSSIBLE, |takes| takes.mean() as f32)
                };
                times.entry((*function, class)).or_insert_with(mean);
            }
        }
        Known { times }
    }

    /// Skippy with what it has to know of this cluster: the registry, the sizes of images by architecture, and which functions
    /// would like a GPU.
    #[must_use]
    pub fn skippy(&self, specs: &[FunctionSpec], weights: Weights) -> Skippy {
        let mut skippy = Skippy::default().weights(weights);
        if let Some(registry) = self.registry() {
            skippy = skippy.registry(registry);
        }
        for spec in specs {
            if spec.wants_gpu {
                skippy = skippy.wish(self.function(spec.profile), Caps::accelerator(Accelerator::Cuda));
            }
            let Some(image) = self.image(spec.image) else { continue };
            for host in 0..self.nodes.len() {
                skippy = skippy.image(image, self.class(host), self.image_bytes(host, spec) as f32);
            }
        }
        skippy
    }
}

/// Seconds of a function on a device where it was never seen to run.
const IMPOSSIBLE: f32 = 1e6;

/// Execution times that were measured beforehand.
#[derive(Clone, Debug)]
pub struct Known {
    times: HashMap<(FunctionIx, ClassIx), f32>,
}

impl Estimator for Known {
    fn execution(&self, key: ProfileKey) -> Option<Estimate> {
        let seconds = *self.times.get(&(key.function, key.class))?;
        Some(Estimate { seconds, deviation: 0.0 })
    }

    fn cold_start(&self, _key: ProfileKey) -> f32 {
        0.0
    }

    fn observed(&self, _key: ProfileKey, _seconds: f32) {}
}

fn function(name: &str) -> Result<Function, InvalidName> {
    Ok(Function::new(FunctionName::new(name)?, Code::Native { entry: Name::new(name)? }))
}

fn describe(topology: &Topology, at: usize, site: u32) -> Result<Node, InvalidName> {
    let host = &topology.hosts()[at];
    let tier = if host.locality == Locality::Edge { Tier::Edge } else { Tier::Cloud };
    let node = Node::new(NodeId::new(&host.name)?, tier)
        .resources(Resources { cpu: MilliCpu::new(host.cpu_milli), memory: ByteSize::from_bytes(host.memory) })
        .class(Name::new(&host.device)?)
        .site(Name::new(&format!("site-{site}"))?);
    let node = if host.gpus > 0 { node.accelerators(Accelerator::Cuda, host.gpus) } else { node };
    Ok(if host.storage { node.slots(0) } else { node })
}

/// Tells a fleet the ways between places as they are without traffic: of each pair the widest between hosts there, and of
/// each host as last mile the widest that it has to anywhere.
fn measure(topology: &mut Topology, fleet: &Fleet, nodes: &[NodeState], sites: &[u32]) -> Result<(), ClusterError> {
    let places = sites.iter().max().map_or(0, |most| *most as usize + 1);
    let mut widest = vec![(0.0f64, 0.0f64); places * places];
    let mut last_mile = vec![0.0f64; nodes.len()];
    for from in 0..nodes.len() {
        for to in 0..nodes.len() {
            if from == to {
                continue;
            }
            let rate = topology.bandwidth(from, to);
            last_mile[from] = last_mile[from].max(rate);
            last_mile[to] = last_mile[to].max(rate);
            let pair = &mut widest[sites[from] as usize * places + sites[to] as usize];
            if rate > pair.0 {
                *pair = (rate, topology.latency(from, to));
            }
        }
    }
    let mut numbers = Vec::with_capacity(places);
    for site in 0..places {
        numbers.push(fleet.site(&Name::new(&format!("site-{site}"))?)?);
    }
    let quality = |rate: f64, latency: f64| {
        let bits = (rate * 8.0).min(1e15) as u64;
        LinkQuality {
            latency: Duration::from_secs_f64(latency),
            bandwidth: Bandwidth::from_bits_per_s(bits),
            jitter: Duration::ZERO,
            loss: 0,
        }
    };
    for from in 0..places {
        for to in 0..places {
            let (rate, latency) = widest[from * places + to];
            if from != to {
                fleet.connect(numbers[from], numbers[to], (rate > 0.0).then(|| quality(rate, latency)));
            }
        }
    }
    for (node, rate) in nodes.iter().zip(&last_mile) {
        if *rate > 0.0 {
            fleet.set_last_mile(node.ix, quality(*rate, 0.0));
        }
    }
    Ok(())
}

impl NodeState {
    pub(crate) fn executed(&mut self, seconds: f64) {
        self.mean = if self.mean == 0.0 { seconds as f32 } else { 0.9 * self.mean + 0.1 * seconds as f32 };
    }

    pub(crate) const fn health(&self) -> Health {
        if self.up { Health::Ready } else { Health::Unreachable }
    }
}

/// Bytes per second that a host reads and writes what is on itself with (1 Gbit/s, as in the evaluation of 2021).
pub(crate) const DISK: f64 = 1.25e8;
