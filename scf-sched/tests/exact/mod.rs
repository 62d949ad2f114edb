//! An exact solver for Polaris' service graph, which knows nothing of policies: the oracle for placements of gangs.

use std::collections::HashMap;

use scf_sched::{Neighbour, NodeIx, Request, sim::TrafficMonitoring};

/// Placements that are tried before it gives up.
const MOST_TRIES: u32 = 2_000_000;

/// Whether there are nodes for all replicas on which every link is as asked; `None` when that could not be found out.
///
/// Depth first over all nodes in order, with what is left of each (branch and bound without a cost): a replica is placed
/// as soon as all those that it is linked to from before are, the far ends of the graph first, and equal replicas in the
/// order of their nodes where they are linked to the same ones.
pub(crate) fn is_placeable(of: &TrafficMonitoring) -> Option<bool> {
    let replicas: Vec<Replica<'_>> = replicas(of);
    let mut exact = Exact { of, replicas, nodes: Vec::new(), left: HashMap::new(), tries: 0 };
    let is_found = exact.place();
    if exact.tries > MOST_TRIES { None } else { Some(is_found) }
}

struct Replica<'a> {
    request: Request<'a>,
    /// Positions in the order of placing of those that are placed before.
    links: Vec<(usize, Neighbour)>,
    /// The one before it that it could change places with.
    twin: Option<usize>,
}

struct Exact<'a> {
    of: &'a TrafficMonitoring,
    replicas: Vec<Replica<'a>>,
    nodes: Vec<NodeIx>,
    left: HashMap<NodeIx, (u32, u32)>,
    tries: u32,
}

/// The replicas, each behind one that it is linked to, and with all links to those before it.
fn replicas(of: &TrafficMonitoring) -> Vec<Replica<'_>> {
    let requests: Vec<Request<'_>> = of.requests(0).collect();
    let links = of.links();
    let joined = |a: usize, b: usize| {
        let found = links[a].iter().find(|(other, _)| *other == b);
        found.or_else(|| links[b].iter().find(|(other, _)| *other == a)).map(|(_, neighbour)| *neighbour)
    };
    // Those that are linked to most others begin; then whoever has the fewest links that are still open.
    let mut order: Vec<usize> = Vec::new();
    while order.len() < requests.len() {
        let degree = |at: usize| (0..requests.len()).filter(|other| joined(at, *other).is_some()).count();
        let placed = |at: usize| order.iter().filter(|other| joined(at, **other).is_some()).count();
        let rest = (0..requests.len()).filter(|at| !order.contains(at));
        let next = rest.max_by_key(|at| {
            let recent = order.iter().rposition(|other| joined(*at, *other).is_some());
            (placed(*at) > 0, recent, placed(*at), degree(*at), usize::MAX - at)
        });
        order.push(next.unwrap());
    }
    let position = |at: usize| order.iter().position(|other| *other == at).unwrap();
    let build = |(here, at): (usize, &usize)| {
        let before = order[..here].iter().filter_map(|other| Some((position(*other), joined(*at, *other)?)));
        let links: Vec<_> = before.collect();
        let others = |at: usize| (0..requests.len()).filter(move |other| joined(at, *other).is_some());
        let is_equal =
            |other: usize| std::ptr::eq(requests[*at].demand, requests[other].demand) && others(*at).eq(others(other));
        let twin = order[..here].iter().rposition(|other| is_equal(*other));
        Replica { request: requests[*at], links, twin }
    };
    order.iter().enumerate().map(build).collect()
}

impl Exact<'_> {
    fn place(&mut self) -> bool {
        let Some(replica) = self.replicas.get(self.nodes.len()) else { return true };
        let fleet = self.of.fleet();
        let (demand, need) = (replica.request.demand, replica.request.demand.need.amount);
        let (links, twin) = (replica.links.clone(), replica.twin);
        for node in fleet.pool(demand).every(0) {
            if twin.is_some_and(|twin| node < self.nodes[twin]) {
                continue;
            }
            self.tries += 1;
            if self.tries > MOST_TRIES {
                return false;
            }
            let Some(hot) = fleet.look(node) else { continue };
            let free = *self.left.entry(node).or_insert_with(|| (hot.free().milli(), hot.free().mib()));
            let is_carried = |(other, neighbour): &(usize, Neighbour)| {
                let asked = neighbour.link.unwrap().what;
                let ways = [(node, self.nodes[*other]), (self.nodes[*other], node)];
                let meets = |(from, to)| {
                    fleet.way(from, to).is_some_and(|way| way.rate >= asked.rate && way.delay <= asked.delay)
                };
                ways.into_iter().all(meets)
            };
            if free.0 < need.milli() || free.1 < need.mib() || !links.iter().all(is_carried) {
                continue;
            }
            self.left.insert(node, (free.0 - need.milli(), free.1 - need.mib()));
            self.nodes.push(node);
            if self.place() {
                return true;
            }
            self.nodes.pop();
            self.left.insert(node, free);
        }
        false
    }
}

/// Takes what is free of a share of the nodes, drawn by `seed`, as other tenants would.
pub(crate) fn occupy(of: &TrafficMonitoring, share: f64, seed: u64) {
    let fleet = of.fleet();
    let mut random = scf_sched::Random::new(seed);
    for node in 0..fleet.len() as u32 {
        if (random.next() >> 11) as f64 / (1u64 << 53) as f64 >= share {
            continue;
        }
        let service = &of.services()[[0, 2, 1][random.below(3)]];
        // Where it does not fit, the node stays as it is.
        let _claim = fleet.claim(NodeIx::new(node), service.need);
    }
}
