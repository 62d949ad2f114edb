//! Factories.

use super::{attach, device, link, registry, uplink, zone_uplink};
use crate::sim::network::{LinkKind, Topology};

/// Premises with four Raspberry Pis on one wireless network, a NUC, a NUC with data, a TX2, and a cloud of their own (four
/// machines and one with data), behind 250 Mbit/s up and 500 down: with ten premises the 120 nodes of the FGCS 2021
/// evaluation (scenario 2).
#[must_use]
pub fn industrial_iot(premises: u16) -> Topology {
    let mut topology = Topology::new();
    let internet = topology.junction();
    for site in 0..premises {
        let switch = topology.junction();
        zone_uplink(&mut topology, &format!("site{site}"), site, switch, internet, 250.0, 500.0);

        let wifi = link(&mut topology, &format!("site{site}-wifi"), LinkKind::Local, 300.0);
        let access_point = link(&mut topology, &format!("site{site}-ap"), LinkKind::Local, 1000.0);
        topology.join(wifi, access_point);
        topology.join(access_point, switch);
        for n in 0..4 {
            let host = topology.host(device(format!("site{site}-pi{n}"), "pi", site));
            topology.join(host, wifi);
        }

        let mut storage = device(format!("site{site}-storage"), "nuc", site);
        storage.storage = true;
        attach(&mut topology, storage, switch, 10_000.0);
        attach(&mut topology, device(format!("site{site}-nuc"), "nuc", site), switch, 10_000.0);
        attach(&mut topology, device(format!("site{site}-tegra"), "tegra", site), switch, 10_000.0);

        let cloud = topology.junction();
        for n in 0..4 {
            attach(&mut topology, device(format!("site{site}-cloud{n}"), "cloud", site), cloud, 10_000.0);
        }
        let mut storage = device(format!("site{site}-cloud-storage"), "cloud", site);
        storage.storage = true;
        attach(&mut topology, storage, cloud, 10_000.0);
        let _ways = uplink(&mut topology, &format!("site{site}-cloud"), cloud, switch, 1000.0, 1000.0);
    }
    registry(&mut topology, &[internet]);
    topology
}
