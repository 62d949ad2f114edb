//! Devices by their names, and places made of them.

use crate::sim::network::{Host, LinkKind, Locality, Topology, Vertex};

/// A device by the name that it has in the tables of execution times: those of the FGCS 2021 evaluation (`cloud`, `nuc`,
/// `tegra`, `pi`) and of Raith's (`rpi3`, `rpi4`, `rockpi`, `coral`, `nano`, `tx2`, `nx`, `xeoncpu`, `xeongpu`). A name
/// that is in neither is a device with four cores and 8 GiB.
#[must_use]
pub fn device(name: impl Into<String>, device: &str, zone: u16) -> Host {
    const KI: u64 = 1 << 10;
    const GI: u64 = 1 << 30;
    let (arch, cpu_milli, memory, gpus) = match device {
        "cloud" => ("amd64", 4_000, 8_167_784 * KI, 0),
        "nuc" => ("amd64", 4_000, 16 * GI, 0),
        "tegra" | "tx2" => ("arm64", 4_000, 8_047_252 * KI, 1),
        "pi" | "rpi3" => ("arm", 4_000, 999_036 * KI, 0),
        "rpi4" => ("arm", 4_000, GI, 0),
        "rockpi" => ("arm64", 6_000, 4 * GI, 0),
        "coral" => ("arm64", 4_000, GI, 1),
        "nano" => ("arm64", 4_000, 4 * GI, 1),
        "nx" => ("arm64", 6_000, 8 * GI, 1),
        "xeoncpu" => ("amd64", 88_000, 188 * GI, 0),
        "xeongpu" => ("amd64", 88_000, 188 * GI, 1),
        _ => ("amd64", 4_000, 8 * GI, 0),
    };
    let locality = match device {
        "cloud" | "xeoncpu" | "xeongpu" | "registry" => Locality::Cloud,
        _ => Locality::Edge,
    };
    Host { name: name.into(), device: device.into(), arch, cpu_milli, memory, zone, locality, storage: false, gpus }
}

/// Hosts around one switch, which has a way out and one in.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "written by literal in scenarios")]
pub struct Place {
    /// Its name.
    pub name: String,
    /// What is there.
    pub hosts: Vec<Host>,
    /// Of each host to the switch, in Mbit/s.
    pub lan_mbit: f64,
    /// Out of the place, in Mbit/s.
    pub up_mbit: f64,
    /// Into the place, in Mbit/s.
    pub down_mbit: f64,
    /// Seconds one way between the switch and what is outside.
    pub latency: f64,
}

/// Places around an internet that holds nobody back, with a registry in it.
#[must_use]
pub fn places(of: impl IntoIterator<Item = Place>) -> Topology {
    let mut topology = Topology::new();
    let internet = topology.junction();
    for place in of {
        place.build(&mut topology, internet);
    }
    super::registry(&mut topology, &[internet]);
    topology
}

impl Place {
    /// Builds the place into a topology, with its way out to `outside`; gives its switch.
    pub fn build(self, topology: &mut Topology, outside: Vertex) -> Vertex {
        let switch = topology.junction();
        let zone = self.hosts.first().map_or(0, |host| host.zone);
        for host in self.hosts {
            super::attach(topology, host, switch, self.lan_mbit);
        }
        let mut way = |kind, rate| {
            topology.link(crate::sim::Link {
                name: self.name.clone(),
                bandwidth: super::mbit(rate),
                kind,
                latency: self.latency,
            })
        };
        let (up, down) = (way(LinkKind::Uplink, self.up_mbit), way(LinkKind::Downlink, self.down_mbit));
        topology.leads_out(zone, up);
        topology.leads_out(zone, down);
        topology.lead(switch, up);
        topology.lead(up, outside);
        topology.lead(outside, down);
        topology.lead(down, switch);
        switch
    }
}
