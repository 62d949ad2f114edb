//! What is connected with what.

use std::{collections::VecDeque, fmt};

use smallvec::SmallVec;

/// Whether a host is at the edge or in a data centre.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "what is not one is the other")]
pub enum Locality {
    /// Outside data centres.
    Edge,
    /// In a data centre.
    Cloud,
}

/// What a link is for; figures are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkKind {
    /// A host's own network interface.
    Host,
    /// Within one place, shared by its hosts.
    Local,
    /// Out of a place.
    Uplink,
    /// Into a place.
    Downlink,
}

/// A computer of a simulation.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in topologies")]
pub struct Host {
    /// Unique in the topology.
    pub name: String,
    /// Which device it is: the key into the profiles of execution times.
    pub device: String,
    /// Which images run on it.
    pub arch: &'static str,
    /// Processor in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The place it is at: a cell, premises, a region. Places are numbered from 0.
    pub zone: u16,
    /// At the edge or not.
    pub locality: Locality,
    /// Keeps data and runs no functions.
    pub storage: bool,
    /// Accelerators that functions can be given, counted.
    pub gpus: u16,
}

/// A link, in one direction or shared by both.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in topologies")]
pub struct Link {
    /// Whose it is.
    pub name: String,
    /// Bytes per second for all its flows together; 0 while it is cut.
    pub bandwidth: f64,
    /// What it is for.
    pub kind: LinkKind,
    /// Time one way, in seconds.
    pub latency: f64,
}

/// A place in the graph: a host, a link, or a junction (a switch, the internet) with bandwidth without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vertex(u32);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Host(u32),
    Link(u32),
    Junction,
}

/// What is found out about all ways from one host.
struct Reach {
    /// Per vertex the one before it, or itself where there is none.
    before: Box<[u32]>,
    /// Per host the bandwidth of the narrowest link on the way, in bytes per second; 0 without a way.
    bandwidth: Box<[f32]>,
    /// Per host the time one way in seconds.
    latency: Box<[f32]>,
}

/// A graph of hosts, links and junctions, and the shortest ways (fewest vertices) between hosts.
///
/// Ways are found when they are first asked for and kept: for n sources that is memory of n times the number of vertices.
#[derive(Default)]
pub struct Topology {
    hosts: Vec<Host>,
    links: Vec<Link>,
    vertices: Vec<Kind>,
    host_vertex: Vec<u32>,
    next: Vec<SmallVec<[u32; 4]>>,
    reach: Vec<Option<Reach>>,
    registry: Option<usize>,
    /// Per host its own link and the switch that it is on.
    ports: Vec<Option<(Vertex, Vertex)>>,
    /// Per zone the switch that hosts are attached to, and the links that lead out and in, with their bandwidth.
    zones: Vec<Zone>,
}

#[derive(Default)]
struct Zone {
    switch: Option<Vertex>,
    ways: Vec<(usize, f64)>,
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology").field("hosts", &self.hosts.len()).field("links", &self.links.len()).finish()
    }
}

impl Topology {
    /// Without hosts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn vertex(&mut self, kind: Kind) -> Vertex {
        self.vertices.push(kind);
        self.next.push(SmallVec::new());
        Vertex(self.vertices.len() as u32 - 1)
    }

    /// Adds a host; its position is the number of hosts before it.
    pub fn host(&mut self, host: Host) -> Vertex {
        let vertex = self.vertex(Kind::Host(self.hosts.len() as u32));
        self.hosts.push(host);
        self.host_vertex.push(vertex.0);
        self.reach.push(None);
        self.ports.push(None);
        vertex
    }

    fn zone(&mut self, zone: u16) -> &mut Zone {
        let at = usize::from(zone);
        if self.zones.len() <= at {
            self.zones.resize_with(at + 1, Zone::default);
        }
        &mut self.zones[at]
    }

    /// Adds a host on a link of its own to a switch, which becomes the switch of the host's zone if that has none.
    pub fn attach(&mut self, host: Host, bandwidth: f64, switch: Vertex) -> Vertex {
        let (zone, position) = (host.zone, self.hosts.len());
        let port = self.link(Link { name: host.name.clone(), bandwidth, kind: LinkKind::Host, latency: 0.0 });
        let host = self.host(host);
        self.join(host, port);
        self.join(port, switch);
        self.ports[position] = Some((port, switch));
        self.zone(zone).switch.get_or_insert(switch);
        host
    }

    /// Says that a link leads out of a zone or into it: when the zone is cut off, it carries nothing.
    pub fn leads_out(&mut self, zone: u16, link: Vertex) {
        if let Kind::Link(link) = self.vertices[link.0 as usize] {
            let full = self.links[link as usize].bandwidth;
            self.zone(zone).ways.push((link as usize, full));
        }
    }

    /// The links out of a zone and into it, with the bandwidth that they were made with.
    #[must_use]
    pub fn zone_links(&self, zone: u16) -> Vec<(usize, f64)> {
        self.zones.get(usize::from(zone)).map(|zone| zone.ways.clone()).unwrap_or_default()
    }

    /// Numbers the places of the network: hosts with equal numbers have the same switch. Hosts behind something else are at
    /// the switch of their zone, and a host without one is a place of its own.
    #[must_use]
    pub fn sites(&self) -> Vec<u32> {
        let mut switches: Vec<u32> = Vec::new();
        let mut sites = Vec::with_capacity(self.hosts.len());
        for (at, host) in self.hosts.iter().enumerate() {
            let of_zone = || self.zones.get(usize::from(host.zone)).and_then(|zone| zone.switch);
            let switch = match self.ports[at] {
                Some((_, switch)) => Some(switch),
                None if self.registry == Some(at) => None,
                None => of_zone(),
            };
            let switch = switch.map_or(self.host_vertex[at], |switch| switch.0);
            let site = switches.iter().position(|other| *other == switch).unwrap_or_else(|| {
                switches.push(switch);
                switches.len() - 1
            });
            sites.push(site as u32);
        }
        sites
    }

    /// Takes an attached host from its switch and attaches it to that of another zone. Nothing happens to a host that is not
    /// attached by [`attach`](Self::attach), or when the zone has no switch.
    pub fn move_host(&mut self, host: usize, zone: u16) {
        let to = self.zones.get(usize::from(zone)).and_then(|zone| zone.switch);
        let (Some((port, switch)), Some(to)) = (self.ports[host], to) else { return };
        self.part(port, switch);
        self.join(port, to);
        self.ports[host] = Some((port, to));
        self.hosts[host].zone = zone;
    }

    /// Adds a link; its position is the number of links before it.
    pub fn link(&mut self, link: Link) -> Vertex {
        self.links.push(link);
        self.vertex(Kind::Link(self.links.len() as u32 - 1))
    }

    /// Adds a junction.
    pub fn junction(&mut self) -> Vertex {
        self.vertex(Kind::Junction)
    }

    /// Leads from `a` to `b` only.
    pub fn lead(&mut self, a: Vertex, b: Vertex) {
        self.next[a.0 as usize].push(b.0);
        self.forget();
    }

    /// Joins `a` and `b` in both directions.
    pub fn join(&mut self, a: Vertex, b: Vertex) {
        self.lead(a, b);
        self.lead(b, a);
    }

    /// Takes what joins `a` and `b` away, as when a moving host leaves a cell.
    pub fn part(&mut self, a: Vertex, b: Vertex) {
        self.next[a.0 as usize].retain(|to| *to != b.0);
        self.next[b.0 as usize].retain(|to| *to != a.0);
        self.forget();
    }

    fn forget(&mut self) {
        self.reach.iter_mut().for_each(|reach| *reach = None);
    }

    /// Says that images come from this host, which is none of those that functions run on.
    pub fn set_registry(&mut self, host: usize) {
        self.registry = Some(host);
    }

    /// Where images come from.
    #[must_use]
    pub const fn registry(&self) -> Option<usize> {
        self.registry
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// All links.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Changes a link's bandwidth for the ways that are asked for from now on; 0 cuts it.
    pub fn set_bandwidth(&mut self, link: usize, bytes_per_s: f64) {
        self.links[link].bandwidth = bytes_per_s;
        self.forget();
    }

    /// Bytes per second from one host to another when nobody else sends, 0 when there is no way. A host reads from itself
    /// at infinite speed here; what a disk takes is the model's.
    pub fn bandwidth(&mut self, from: usize, to: usize) -> f64 {
        if from == to {
            return f64::INFINITY;
        }
        f64::from(self.reach(from).bandwidth[to])
    }

    /// Seconds one way.
    pub fn latency(&mut self, from: usize, to: usize) -> f64 {
        if from == to {
            return 0.0;
        }
        f64::from(self.reach(from).latency[to])
    }

    /// The links from one host to another in their order; `None` when there is no way.
    pub fn route(&mut self, from: usize, to: usize) -> Option<SmallVec<[u32; 8]>> {
        let target = self.host_vertex[to];
        let before = &self.reach(from).before;
        let mut at = target;
        let mut back: SmallVec<[u32; 24]> = SmallVec::new();
        while before[at as usize] != at {
            at = before[at as usize];
            back.push(at);
        }
        if at != self.host_vertex[from] {
            return None;
        }
        let links = back.iter().rev().filter_map(|&vertex| match self.vertices[vertex as usize] {
            Kind::Link(link) => Some(link),
            Kind::Host(_) | Kind::Junction => None,
        });
        Some(links.collect())
    }

    /// Breadth first over everything that can be reached from a host.
    fn reach(&mut self, from: usize) -> &Reach {
        if self.reach[from].is_none() {
            let n = self.vertices.len();
            let mut before: Box<[u32]> = (0..n as u32).collect();
            let mut bandwidth = vec![0f32; self.hosts.len()].into_boxed_slice();
            let mut latency = bandwidth.clone();
            let mut narrowest = vec![f64::INFINITY; n];
            let mut took = vec![0f64; n];
            let mut seen = vec![false; n];
            let start = self.host_vertex[from];
            seen[start as usize] = true;
            let mut queue = VecDeque::from([start]);
            while let Some(at) = queue.pop_front() {
                for &to in &self.next[at as usize] {
                    if seen[to as usize] {
                        continue;
                    }
                    seen[to as usize] = true;
                    before[to as usize] = at;
                    let (mut width, mut time) = (narrowest[at as usize], took[at as usize]);
                    match self.vertices[to as usize] {
                        Kind::Link(link) => {
                            let link = &self.links[link as usize];
                            width = width.min(link.bandwidth);
                            time += link.latency;
                        }
                        Kind::Host(host) => {
                            bandwidth[host as usize] = width as f32;
                            latency[host as usize] = time as f32;
                        }
                        Kind::Junction => {}
                    }
                    narrowest[to as usize] = width;
                    took[to as usize] = time;
                    queue.push_back(to);
                }
            }
            self.reach[from] = Some(Reach { before, bandwidth, latency });
        }
        self.reach[from].as_ref().expect("it was filled above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn host(name: &str) -> Host {
        Host {
            name: name.into(),
            device: "nuc".into(),
            arch: "amd64",
            cpu_milli: 4000,
            memory: 1 << 30,
            zone: 0,
            locality: Locality::Edge,
            storage: false,
            gpus: 0,
        }
    }

    fn link(bandwidth: f64, kind: LinkKind) -> Link {
        Link { name: String::new(), bandwidth, kind, latency: 0.001 }
    }

    /// Two hosts behind a switch with an uplink of 10 and a downlink of 40, a third beyond.
    fn cell() -> Topology {
        let mut topology = Topology::new();
        let switch = topology.junction();
        for name in ["a", "b"] {
            let host = topology.host(host(name));
            let port = topology.link(link(100.0, LinkKind::Host));
            topology.join(host, port);
            topology.join(port, switch);
        }
        let (up, down) = (topology.link(link(10.0, LinkKind::Uplink)), topology.link(link(40.0, LinkKind::Downlink)));
        let far = topology.host(host("far"));
        topology.lead(switch, up);
        topology.lead(up, far);
        topology.lead(far, down);
        topology.lead(down, switch);
        topology
    }

    #[test]
    fn a_way_is_as_wide_as_its_narrowest_link_and_differs_by_direction() {
        let mut cell = cell();
        assert_eq!(cell.bandwidth(0, 1), 100.0);
        assert_eq!(cell.bandwidth(0, 2), 10.0);
        assert_eq!(cell.bandwidth(2, 0), 40.0);
        assert_eq!(cell.route(0, 2).unwrap().as_slice(), [0, 2]);
        assert_eq!(cell.route(2, 1).unwrap().as_slice(), [3, 1]);
        assert!((cell.latency(0, 2) - 0.002).abs() < 1e-6);
    }

    #[test]
    fn a_host_that_moved_away_is_reached_no_more() {
        let mut cell = cell();
        assert!(cell.route(0, 1).is_some());
        let (host, port) = (Vertex(1), Vertex(2));
        cell.part(host, port);
        assert_eq!(cell.route(2, 0), None);
        assert_eq!(cell.bandwidth(2, 0), 0.0);
    }
}
