//! The nodes and links of an in-process transport and the ways over them.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use scf_core::{ByteSize, NodeId, Timestamp};

use super::link::{Direction, LinkError, LinkState, Place, Traffic};

/// Nodes by number, links and the ways over them.
#[derive(Debug)]
pub(super) struct Network {
    /// Never changes after the build.
    nodes: Arc<[NodeId]>,
    links: Vec<Cable>,
    /// Numbers of the links at each node.
    links_at: Vec<Vec<usize>>,
    /// Ways that were asked for since the last change of a link: at most one per pair of nodes.
    routes: HashMap<(usize, usize), Option<Route>>,
}

#[derive(Debug)]
struct Cable {
    ends: [usize; 2],
    state: LinkState,
    /// How often it was cut.
    cuts: u64,
    /// From the first end to the second, and back.
    directions: [Direction; 2],
}

/// The links from one node to another, as they were when it was found.
pub(super) type Route = Arc<[Hop]>;

/// One link of a [`Route`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    link: usize,
    direction: usize,
    cuts: u64,
}

impl Hop {
    /// The same link the other way.
    pub(super) const fn back(self) -> Self {
        Self { direction: 1 - self.direction, ..self }
    }
}

/// When a message is sent over one link, and when it arrives at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) starts: Timestamp,
    pub(super) sent: Timestamp,
    pub(super) arrives: Timestamp,
}

impl Network {
    /// Nodes without links.
    pub(super) fn new(nodes: Arc<[NodeId]>) -> Self {
        let links_at = vec![Vec::new(); nodes.len()];
        Self { nodes, links: Vec::new(), links_at, routes: HashMap::new() }
    }

    /// Makes the link between two nodes be as `state` says, adding it if there is none.
    pub(super) fn set(&mut self, a: usize, b: usize, state: LinkState, now: Timestamp) -> Result<(), LinkError> {
        let state = state.check(&self.nodes[a], &self.nodes[b])?;
        self.routes.clear();
        let known = self.links_at[a].iter().copied().find(|&link| self.links[link].ends.contains(&b));
        let Some(link) = known else {
            self.links_at[a].push(self.links.len());
            self.links_at[b].push(self.links.len());
            self.links.push(Cable { ends: [a, b], state, cuts: 0, directions: Default::default() });
            return Ok(());
        };
        let cable = &mut self.links[link];
        match (cable.state, state) {
            (LinkState::Shaped(before), LinkState::Shaped(_)) => {
                cable.directions.iter_mut().for_each(|d| d.change_rate(now, before.bandwidth.bits_per_s()));
            }
            (LinkState::Shaped(_), LinkState::Cut) => {
                cable.cuts += 1;
                cable.directions.iter_mut().for_each(|d| d.lose(now));
            }
            (LinkState::Cut, _) => {}
        }
        cable.state = state;
        Ok(())
    }

    /// The way of least latency, and of these the one over fewest links (Dijkstra).
    pub(super) fn route(&mut self, from: usize, to: usize) -> Option<Route> {
        if let Some(known) = self.routes.get(&(from, to)) {
            return known.clone();
        }
        let found = self.search(from, to);
        self.routes.insert((from, to), found.clone());
        found
    }

    fn search(&self, from: usize, to: usize) -> Option<Route> {
        let mut best: Vec<Option<(Duration, usize)>> = vec![None; self.nodes.len()];
        let mut came_by: Vec<Option<Hop>> = vec![None; self.nodes.len()];
        let mut next = BinaryHeap::from([Reverse((Duration::ZERO, 0, from))]);
        best[from] = Some((Duration::ZERO, 0));
        while let Some(Reverse((latency, hops, node))) = next.pop() {
            if node == to {
                break;
            }
            if best[node] != Some((latency, hops)) {
                continue;
            }
            for &link in &self.links_at[node] {
                let cable = &self.links[link];
                let LinkState::Shaped(shape) = cable.state else { continue };
                let direction = usize::from(cable.ends[1] == node);
                let neighbour = cable.ends[1 - direction];
                let cost = (latency.saturating_add(shape.latency), hops + 1);
                if best[neighbour].is_none_or(|known| cost < known) {
                    best[neighbour] = Some(cost);
                    came_by[neighbour] = Some(Hop { link, direction, cuts: cable.cuts });
                    next.push(Reverse((cost.0, cost.1, neighbour)));
                }
            }
        }
        best[to]?;
        let mut hops = Vec::new();
        let mut node = to;
        while let Some(hop) = came_by[node] {
            hops.push(hop);
            node = self.links[hop.link].ends[hop.direction];
        }
        hops.reverse();
        Some(hops.into())
    }

    /// Whether no link of `route` was cut since it was found.
    pub(super) fn is_intact(&self, route: &[Hop]) -> bool {
        route.iter().all(|hop| self.links[hop.link].cuts == hop.cuts)
    }

    /// Puts a message on a link; `None` when the link was cut.
    pub(super) fn put(&mut self, hop: Hop, size: ByteSize, now: Timestamp) -> Option<(Place, Passage)> {
        let cable = &mut self.links[hop.link];
        let LinkState::Shaped(shape) = cable.state else { return None };
        let place = cable.directions[hop.direction].accept(now, size, shape.bandwidth.bits_per_s());
        self.passage(hop, place).map(|passage| (place, passage))
    }

    /// When a message that was put on a link arrives, as the link is now; `None` when it was cut since.
    pub(super) fn passage(&self, hop: Hop, place: Place) -> Option<Passage> {
        let cable = &self.links[hop.link];
        match cable.state {
            LinkState::Shaped(shape) if cable.cuts == hop.cuts => {
                let (starts, sent) = cable.directions[hop.direction].sending(place, shape.bandwidth.bits_per_s());
                Some(Passage { starts, sent, arrives: sent + shape.latency })
            }
            _ => None,
        }
    }

    /// What every direction of every link carried, in the order in which the links were described.
    pub(super) fn traffic(&self) -> Vec<Traffic> {
        let of = |cable: &Cable| {
            let [a, b] = cable.ends.map(|end| &self.nodes[end]);
            let [there, back] = cable.directions;
            [there.traffic(a, b), back.traffic(b, a)]
        };
        self.links.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Bandwidth, Link};

    use super::*;

    fn shaped(ms: u64) -> LinkState {
        LinkState::Shaped(Link { latency: Duration::from_millis(ms), bandwidth: Bandwidth::from_mbit_per_s(1) })
    }

    fn network(links: &[(usize, usize, u64)]) -> Network {
        let nodes = ["a", "b", "c", "d"].map(|id| NodeId::new(id).unwrap());
        let mut network = Network::new(nodes.into());
        for &(a, b, ms) in links {
            network.set(a, b, shaped(ms), Timestamp::default()).unwrap();
        }
        network
    }

    #[test]
    fn a_way_is_the_one_of_least_latency_over_however_many_links() {
        let mut network = network(&[(0, 1, 5), (1, 2, 5), (0, 2, 20)]);
        assert_eq!(network.route(0, 2).unwrap().len(), 2);
        network.set(1, 2, LinkState::Cut, Timestamp::default()).unwrap();
        assert_eq!(network.route(0, 2).unwrap().len(), 1);
        assert!(network.route(0, 3).is_none());
        assert_eq!(network.route(0, 0).unwrap().len(), 0);
    }

    #[test]
    fn a_way_that_was_cut_and_mended_is_not_the_one_it_was() {
        let mut network = network(&[(0, 1, 5)]);
        let route = network.route(0, 1).unwrap();
        network.set(0, 1, LinkState::Cut, Timestamp::default()).unwrap();
        network.set(0, 1, shaped(5), Timestamp::default()).unwrap();
        assert!(!network.is_intact(&route));
        let route = network.route(0, 1).unwrap();
        assert!(network.is_intact(&route));
    }
}
