//! Regions of a cloud.

use super::{attach, device, registry, zone_uplink};
use crate::sim::network::{Topology, Vertex};

/// Three regions with a half, a quarter and a quarter of the machines, of which a tenth and twice a twentieth keep data,
/// behind 1 Gbit/s both ways; images are mirrored in every region. 450 machines give the 449 nodes of the FGCS 2021
/// evaluation (scenario 3).
#[must_use]
pub fn cloud_regions(machines: u32) -> Topology {
    let mut topology = Topology::new();
    let internet = topology.junction();
    let mut switches: Vec<Vertex> = Vec::new();
    for (region, (share, keep_data)) in [(0.5, 0.1), (0.25, 0.05), (0.25, 0.05)].into_iter().enumerate() {
        let switch = topology.junction();
        switches.push(switch);
        // Halves go to the even number, as in the original.
        let n = (f64::from(machines) * share).round_ties_even();
        let storage = (n * keep_data).ceil() as u32;
        for machine in 0..n as u32 {
            let mut host = device(format!("region{region}-{machine}"), "cloud", region as u16);
            host.storage = machine < storage;
            attach(&mut topology, host, switch, 10_000.0);
        }
        zone_uplink(&mut topology, &format!("region{region}"), region as u16, switch, internet, 1000.0, 1000.0);
    }
    registry(&mut topology, &switches);
    topology
}

#[cfg(test)]
mod tests {
    use crate::sim::{
        network::{Locality, Topology},
        topology::{industrial_iot, mbit, urban_sensing},
    };

    use super::*;

    /// Nodes that could run functions or keep data: all but the registry.
    fn nodes(topology: &Topology) -> usize {
        topology.hosts().len() - 1
    }

    #[test]
    fn the_evaluations_of_2021_had_so_many_nodes() {
        assert_eq!([nodes(&urban_sensing(4)), nodes(&industrial_iot(10)), nodes(&cloud_regions(450))], [91, 120, 449]);
    }

    #[test]
    fn what_leaves_a_cell_is_held_back_by_its_uplink_and_what_stays_is_not() {
        let mut city = urban_sensing(2);
        let at = |city: &Topology, name: &str| city.hosts().iter().position(|host| host.name == name).unwrap();
        let [nuc, pi, other, cloud] =
            ["cell0-nuc", "cell0-box0-sensors", "cell1-tegra3", "cloud0"].map(|name| at(&city, name));
        assert_eq!(city.bandwidth(nuc, pi), mbit(1000.0));
        assert_eq!(city.bandwidth(pi, other), mbit(25.0));
        assert_eq!(city.bandwidth(cloud, nuc), mbit(100.0));
        let registry = city.registry().unwrap();
        assert_eq!(city.bandwidth(registry, nuc), mbit(100.0));
        assert_eq!(city.hosts()[cloud].locality, Locality::Cloud);
    }

    #[test]
    fn the_cloud_of_a_factory_is_reached_without_leaving_the_premises() {
        let mut factory = industrial_iot(2);
        let at = |name: &str| factory.hosts().iter().position(|host| host.name == name).unwrap();
        let [pi, cloud, far] = [at("site0-pi0"), at("site0-cloud1"), at("site1-cloud1")];
        assert_eq!(factory.bandwidth(pi, cloud), mbit(300.0));
        assert_eq!(factory.bandwidth(cloud, far), mbit(250.0));
    }
}
