//! Sensing in a city.

use super::{attach, device, link, registry, zone_uplink};
use crate::sim::network::{LinkKind, Topology};

/// Cells of ten TX2, a NUC, a NUC with data and five boxes of two Raspberry Pis, behind 25 Mbit/s up and 100 down, and a
/// small cloud: with four cells the 91 nodes of the FGCS 2021 evaluation (scenario 1).
#[must_use]
pub fn urban_sensing(cells: u16) -> Topology {
    let mut topology = Topology::new();
    let internet = topology.junction();
    for cell in 0..cells {
        let switch = topology.junction();
        let mut storage = device(format!("cell{cell}-storage"), "nuc", cell);
        storage.storage = true;
        attach(&mut topology, storage, switch, 1000.0);
        attach(&mut topology, device(format!("cell{cell}-nuc"), "nuc", cell), switch, 1000.0);
        for n in 0..10 {
            attach(&mut topology, device(format!("cell{cell}-tegra{n}"), "tegra", cell), switch, 1000.0);
        }
        for n in 0..5 {
            // The two of a box are joined by a cable; one of them is also in the cell's network.
            let inner = topology.host(device(format!("cell{cell}-box{n}-sensors"), "pi", cell));
            let cable = link(&mut topology, "box", LinkKind::Local, 1000.0);
            let outer = attach(&mut topology, device(format!("cell{cell}-box{n}-comm"), "pi", cell), switch, 1000.0);
            topology.join(inner, cable);
            topology.join(outer, cable);
        }
        zone_uplink(&mut topology, &format!("cell{cell}"), cell, switch, internet, 25.0, 100.0);
    }
    let switch = topology.junction();
    for n in 0..(f64::from(cells) * 21.0 * 0.03).ceil() as u32 {
        attach(&mut topology, device(format!("cloud{n}"), "cloud", cells), switch, 10_000.0);
    }
    zone_uplink(&mut topology, "cloud", cells, switch, internet, 1e10, 1e10);
    registry(&mut topology, &[internet]);
    topology
}
