//! Where simulated fabrics stand.

mod cloud;
mod industrial;
mod place;
mod regions;
mod urban;

pub use cloud::cloud_regions;
pub use industrial::industrial_iot;
pub use place::{Place, device};
pub use regions::{RoundTrips, regions};
pub use urban::urban_sensing;

use super::network::{Host, Link, LinkKind, Topology, Vertex};

/// Bytes per second of a rate in Mbit/s.
#[must_use]
pub const fn mbit(mbit: f64) -> f64 {
    mbit * 125_000.0
}

fn link(topology: &mut Topology, name: &str, kind: LinkKind, mbit_per_s: f64) -> Vertex {
    topology.link(Link { name: name.into(), bandwidth: mbit(mbit_per_s), kind, latency: 0.0 })
}

/// A host on a link of its own to a switch.
fn attach(topology: &mut Topology, host: Host, switch: Vertex, mbit_per_s: f64) -> Vertex {
    topology.attach(host, mbit(mbit_per_s), switch)
}

/// A way out of a switch and one into it.
fn uplink(
    topology: &mut Topology,
    name: &str,
    switch: Vertex,
    to: Vertex,
    up_mbit: f64,
    down_mbit: f64,
) -> [Vertex; 2] {
    let up = link(topology, name, LinkKind::Uplink, up_mbit);
    let down = link(topology, name, LinkKind::Downlink, down_mbit);
    topology.lead(switch, up);
    topology.lead(up, to);
    topology.lead(to, down);
    topology.lead(down, switch);
    [up, down]
}

/// The same for a whole zone, which can be cut off there.
fn zone_uplink(
    topology: &mut Topology,
    name: &str,
    zone: u16,
    switch: Vertex,
    to: Vertex,
    up_mbit: f64,
    down_mbit: f64,
) {
    for way in uplink(topology, name, switch, to, up_mbit, down_mbit) {
        topology.leads_out(zone, way);
    }
}

/// Where images come from: a host at a junction, held back by nothing of its own.
fn registry(topology: &mut Topology, at: &[Vertex]) {
    let position = topology.hosts().len();
    let mut host = device("registry", "registry", 0);
    host.storage = true;
    let registry = topology.host(host);
    for junction in at {
        topology.lead(registry, *junction);
    }
    topology.set_registry(position);
}
