//! The clusters of Vela's evaluation.

use std::sync::Arc;

use scf_core::{ByteSize, MilliCpu, Name, Node, NodeId, Resources, Tier};

use crate::fleet::{Fleet, FleetError, SiteIx};

/// Of 100 nodes of a cluster: how many have so many cores and GiB (polaris-slo-cloud/vela-scheduler, `testbed/`).
const EDGE: [(u32, u32, u64); 4] = [(30, 4, 1), (20, 4, 2), (40, 4, 4), (10, 4, 8)];
const CLOUD: [(u32, u32, u64); 3] = [(50, 2, 4), (30, 4, 8), (20, 8, 16)];
const CLUSTERS: u32 = 10;
/// Those of the clusters that are in a cloud.
const CLOUDS: [u32; 3] = [1, 7, 8];

/// Seven clusters at the edge and three in a cloud, each a site with so many hundreds of nodes: the superclusters on which
/// Pusztai, Rossi, Dustdar (Vela, IC2E 2023, section VI) pack tasks. With 20 hundreds, 20,000 nodes, as many tasks of 4
/// cores and 4 GiB fit as [`SUPERCLUSTER_TASKS`] says.
///
/// # Errors
/// [`FleetError`] when that is more nodes than a fleet can have.
#[expect(clippy::missing_panics_doc, reason = "names of letters, dashes and digits are sound")]
pub fn supercluster(hundreds: u32) -> Result<(Fleet, Vec<SiteIx>), FleetError> {
    let fleet = Fleet::new();
    let mut sites = Vec::new();
    for cluster in 0..CLUSTERS {
        let name = Name::new(&format!("cluster-{cluster}")).expect("letters, a dash and digits are a name");
        let is_cloud = CLOUDS.contains(&cluster);
        let (kinds, tier): (&[_], _) = if is_cloud { (&CLOUD, Tier::Cloud) } else { (&EDGE, Tier::Edge) };
        for (kind, (count, cores, gib)) in kinds.iter().enumerate() {
            let resources = Resources { cpu: MilliCpu::from_cores(*cores), memory: ByteSize::from_mib(gib * 1024) };
            for number in 0..count * hundreds {
                let id = NodeId::new(&format!("n{cluster}-{kind}-{number}")).expect("letters and digits are an id");
                fleet.join(Arc::new(Node::new(id, tier).resources(resources).site(name.clone())))?;
            }
        }
        sites.push(fleet.site(&name)?);
    }
    Ok((fleet, sites))
}

/// Tasks of 4 cores and 4 GiB that fit on every hundred nodes of each cluster together, by the sizes above.
pub const SUPERCLUSTER_TASKS: u32 = 560;
