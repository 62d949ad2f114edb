//! The nodes of the scenario.

use std::{sync::Arc, time::Duration};

use scf_core::{Bandwidth, ByteSize, LinkQuality, MilliCpu, Node, NodeId, Resources, Tier};

use super::name;
use crate::fleet::{Fleet, FleetError};

/// The kind that collectors need.
pub(super) const BASE_STATION: &str = "base-station-5g";
/// Nodes of a subcluster: how many of a kind there are, with how many cores and GiB, by their positions in order.
const KINDS: [(&str, usize, u32, u64); 5] = [
    ("cloud-medium", 1, 16, 32),
    ("raspi-4m", 4, 4, 4),
    ("raspi-3b", 2, 4, 1),
    ("raspi-4s", 2, 4, 2),
    (BASE_STATION, 3, 4, 1),
];
/// Positions of the first node of each kind.
const CLOUD: usize = 0;
const PI_4M: usize = 1;
const PI_3B: usize = 5;
const PI_4S: usize = 7;
const BASE: usize = 9;
const NODES: usize = 12;
/// Links of a subcluster, with Mbit/s and milliseconds.
const LINKS: [(usize, usize, u64, u64); 19] = [
    (CLOUD, PI_4M, 20, 20),
    (CLOUD, PI_4M + 1, 10, 50),
    (CLOUD, PI_4M + 2, 10, 80),
    (PI_4M, PI_4M + 1, 10, 80),
    (PI_4M + 1, PI_4M + 2, 10, 80),
    (PI_3B, PI_4M + 1, 20, 5),
    (PI_3B + 1, PI_4M + 1, 10, 10),
    (PI_3B, PI_4M + 2, 10, 10),
    (PI_3B + 1, PI_4M + 2, 10, 10),
    (PI_3B, PI_4M + 3, 20, 20),
    (PI_3B, PI_4S, 20, 40),
    (PI_3B + 1, PI_4S + 1, 10, 5),
    (BASE, PI_4M + 3, 50, 5),
    (BASE, PI_4S, 20, 5),
    (PI_4S, PI_4S + 1, 10, 5),
    (BASE + 1, PI_4S, 10, 5),
    (BASE + 1, PI_4S + 1, 10, 10),
    (BASE + 2, PI_4S, 10, 10),
    (BASE + 2, PI_4S + 1, 2, 10),
];
/// Each cloud node to each other.
const BETWEEN_CLOUDS: (u64, u64) = (1000, 1);

/// The nodes, each a site of its own, and the ways between them.
pub(super) fn cluster(subclusters: usize) -> Result<Fleet, FleetError> {
    let fleet = Fleet::new();
    let mut sites = Vec::with_capacity(subclusters * NODES);
    for subcluster in 0..subclusters {
        for (kind, count, cores, gib) in KINDS {
            for number in 0..count {
                let text = format!("{kind}-{subcluster}-{number}");
                let id = NodeId::new(&text).expect("letters, dashes and digits are an id");
                let tier = if kind == KINDS[0].0 { Tier::Cloud } else { Tier::Edge };
                let resources = Resources { cpu: MilliCpu::from_cores(cores), memory: ByteSize::from_mib(gib * 1024) };
                let node = Node::new(id, tier).resources(resources).site(name(&text)).label(name(kind));
                fleet.join(Arc::new(node))?;
                sites.push(fleet.site(&name(&text))?);
            }
        }
    }
    for (from, row) in ways(subclusters).iter().enumerate() {
        for (to, way) in row.iter().enumerate().filter(|(to, _)| *to != from) {
            let quality =
                way.map(|(ms, mbit)| LinkQuality::steady(Duration::from_millis(ms), Bandwidth::from_mbit_per_s(mbit)));
            fleet.connect(sites[from], sites[to], quality);
        }
    }
    Ok(fleet)
}

/// Milliseconds and Mbit/s of the way of least delay from each node to each, of equal ones that with the highest rate
/// (Floyd, Warshall).
fn ways(subclusters: usize) -> Vec<Vec<Option<(u64, u64)>>> {
    let nodes = subclusters * NODES;
    let mut ways = vec![vec![None; nodes]; nodes];
    let mut join = |a: usize, b: usize, mbit: u64, ms: u64| {
        (ways[a][b], ways[b][a]) = (Some((ms, mbit)), Some((ms, mbit)));
    };
    for subcluster in 0..subclusters {
        let first = subcluster * NODES;
        LINKS.iter().for_each(|(a, b, mbit, ms)| join(first + a, first + b, *mbit, *ms));
        for other in 0..subcluster {
            join(first + CLOUD, other * NODES + CLOUD, BETWEEN_CLOUDS.0, BETWEEN_CLOUDS.1);
        }
    }
    for over in 0..nodes {
        let onwards = ways[over].clone();
        for (from, row) in ways.iter_mut().enumerate() {
            let Some((ms, mbit)) = row[over] else { continue };
            for (to, known) in row.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                let Some((more, other)) = onwards[to] else { continue };
                let way: (u64, u64) = (ms + more, mbit.min(other));
                if known.is_none_or(|known: (u64, u64)| way.0 < known.0 || way.0 == known.0 && way.1 > known.1) {
                    *known = Some(way);
                }
            }
        }
    }
    ways
}
