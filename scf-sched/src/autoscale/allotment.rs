//! A budget that nodes share and spend alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use scf_core::{Autoscaler, Load, NodeId, Timestamp};

/// Units that one message asks for or gives, at most.
pub const MOST_AT_ONCE: usize = 16;
/// Peers with whom a node exchanges units; others are refused.
const PEERS: usize = 4096;

/// A node's part of a budget: slots of a function, watts, money per hour.
///
/// The node decides within it without asking anybody, also when it is cut off. Parts move between nodes pair by pair,
/// by gossip: one node [asks](Self::ask) with what more units are worth to it, the other [answers](Self::answer) with
/// as many as are worth less to itself. A unit given is gone before the answer leaves and arrives at most once, however
/// often messages are lost or repeated: all parts together are never more than the budget. What was on its way when a
/// node was cut off arrives when it asks again.
#[derive(Clone, Debug)]
pub struct Allotment {
    node: NodeId,
    units: u64,
    /// What was last given to each peer, until it says that it has it.
    given: HashMap<NodeId, Grant>,
    /// The number of the last grant that was taken of each peer.
    taken: HashMap<NodeId, u64>,
}

/// A node's wish for units.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ask {
    /// Who asks.
    pub from: NodeId,
    /// The number of the last grant that it has of whom it asks.
    pub seen: u64,
    /// What the next units are worth to it, the first one first; at most [`MOST_AT_ONCE`].
    pub worth: Vec<f64>,
}

/// Units that changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// Counts the grants of one node to another.
    pub number: u64,
    /// How many units.
    pub units: u64,
}

impl Allotment {
    /// The part `units` of the node `node`.
    #[must_use]
    pub fn new(node: NodeId, units: u64) -> Self {
        Self { node, units, given: HashMap::new(), taken: HashMap::new() }
    }

    /// What the node may spend.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// Asks `peer` for units. `worth(n)` is what the n-th unit is worth here, which falls with n.
    #[must_use]
    pub fn ask(&self, peer: &NodeId, worth: impl Fn(u64) -> f64) -> Ask {
        let next = (1..=MOST_AT_ONCE as u64).map(|more| worth(self.units + more));
        let worth = next.take_while(|worth| *worth > 0.0).collect();
        Ask { from: self.node.clone(), seen: self.taken.get(peer).copied().unwrap_or(0), worth }
    }

    /// Gives whoever asks what is worth more there than here; none where there is nothing to give.
    pub fn answer(&mut self, ask: &Ask, worth: impl Fn(u64) -> f64) -> Option<Grant> {
        let last = self.given.get(&ask.from).copied();
        if let Some(lost) = last.filter(|grant| grant.number > ask.seen) {
            return Some(lost);
        }
        if last.is_none() && self.given.len() >= PEERS {
            return None;
        }
        let mut units = 0;
        for theirs in ask.worth.iter().take(MOST_AT_ONCE) {
            if self.units == 0 || *theirs <= worth(self.units) {
                break;
            }
            self.units -= 1;
            units += 1;
        }
        if units == 0 {
            return None;
        }
        let grant = Grant { number: ask.seen + 1, units };
        self.given.insert(ask.from.clone(), grant);
        Some(grant)
    }

    /// Takes what `peer` gave; what was taken before is not taken again.
    pub fn take(&mut self, peer: &NodeId, grant: Grant) {
        let taken = self.taken.entry(peer.clone()).or_insert(0);
        if grant.number == *taken + 1 {
            *taken = grant.number;
            self.units += grant.units;
        }
    }
}

/// Divides `units` among bidders in one auction: `bids` has of each what its first, second, … unit is worth to it. The
/// highest bids win; of equal ones those of the earlier bidder. Gives the units of each, and the highest losing bid,
/// which is what a unit costs.
#[must_use]
pub fn auction(units: u64, bids: &[Vec<f64>]) -> (Vec<u64>, f64) {
    let each = |(bidder, bids): (usize, &Vec<f64>)| bids.iter().map(move |bid| (*bid, bidder)).collect::<Vec<_>>();
    let mut all: Vec<_> = bids.iter().enumerate().flat_map(each).filter(|(bid, _)| *bid > 0.0).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let won = usize::try_from(units).unwrap_or(usize::MAX).min(all.len());
    let mut parts = vec![0; bids.len()];
    all[..won].iter().for_each(|(_, bidder)| parts[*bidder] += 1);
    (parts, all.get(won).map_or(0.0, |(bid, _)| *bid))
}

/// Holds another autoscaler within a node's part of a budget of slots.
#[derive(Debug)]
pub struct WithinBudget {
    wanted: Box<dyn Autoscaler>,
    part: Arc<Mutex<Allotment>>,
}

impl WithinBudget {
    /// Gives at most the units of `part`, which may change meanwhile.
    #[must_use]
    pub fn new(wanted: Box<dyn Autoscaler>, part: Arc<Mutex<Allotment>>) -> Self {
        Self { wanted, part }
    }
}

impl Autoscaler for WithinBudget {
    fn desired(&mut self, load: &Load) -> u32 {
        let units = self.part.lock().unwrap_or_else(PoisonError::into_inner).units();
        self.wanted.desired(load).min(u32::try_from(units).unwrap_or(u32::MAX))
    }

    fn wakes_at(&self) -> Option<Timestamp> {
        self.wanted.wakes_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FixedConcurrency, random::Random};

    fn node(at: usize) -> NodeId {
        NodeId::new(&format!("node-{at}")).unwrap()
    }

    /// What the n-th unit is worth to a node whose first one is worth `first`.
    fn worth(first: f64, n: u64) -> f64 {
        first / n as f64
    }

    fn all(parts: &[Allotment]) -> u64 {
        parts.iter().map(Allotment::units).sum()
    }

    /// Gossips for `rounds` with random partners, losing a share of the messages; gives the parts.
    fn gossip(firsts: &[f64], total: u64, rounds: usize, lost: f64, seed: u64) -> Vec<Allotment> {
        let mut random = Random::new(seed);
        let mut parts: Vec<_> = (0..firsts.len()).map(|at| Allotment::new(node(at), 0)).collect();
        parts[0].units = total;
        let mut is_lost = {
            let mut random = Random::new(seed + 1);
            move || (random.next() >> 11) as f64 / (1u64 << 53) as f64 <= lost - f64::EPSILON
        };
        for _ in 0..rounds {
            for from in 0..parts.len() {
                let to = random.below(parts.len());
                if to == from {
                    continue;
                }
                let ask = parts[from].ask(&node(to), |n| worth(firsts[from], n));
                if is_lost() {
                    continue;
                }
                let grant = parts[to].answer(&ask, |n| worth(firsts[to], n));
                assert!(all(&parts) <= total, "more than there is");
                if let Some(grant) = grant.filter(|_| !is_lost()) {
                    let peer = node(to);
                    parts[from].take(&peer, grant);
                    parts[from].take(&peer, grant);
                }
                assert!(all(&parts) <= total, "more than there is");
            }
        }
        parts
    }

    #[test]
    fn gossip_agrees_on_what_an_auction_would_give() {
        let firsts = [1.0, 8.0, 2.0, 4.0, 1.0, 16.0, 8.0, 3.0];
        let parts = gossip(&firsts, 200, 60, 0.0, 1);
        let bids: Vec<Vec<f64>> = firsts.iter().map(|first| (1..=200).map(|n| worth(*first, n)).collect()).collect();
        let (best, price) = auction(200, &bids);
        assert_eq!(all(&parts), 200);
        for (part, best) in parts.iter().zip(&best) {
            assert!(part.units().abs_diff(*best) <= 1, "{} for {best} at {price}", part.units());
        }
    }

    #[test]
    fn lost_and_repeated_messages_never_make_more_and_nothing_is_lost_in_the_end() {
        let firsts = [1.0, 8.0, 2.0, 4.0, 1.0, 16.0, 8.0, 3.0];
        for seed in 0..20 {
            let mut parts = gossip(&firsts, 200, 80, 0.3, seed);
            // Everybody asks everybody once more, and every message arrives.
            for (from, to) in (0..8).flat_map(|from| (0..8).map(move |to| (from, to))).filter(|(from, to)| from != to) {
                let ask = parts[from].ask(&node(to), |_| 0.0);
                if let Some(grant) = parts[to].answer(&ask, |n| worth(firsts[to], n)) {
                    parts[from].take(&node(to), grant);
                }
            }
            assert_eq!(all(&parts), 200, "seed {seed}");
        }
    }

    #[test]
    fn the_highest_bids_win_and_the_highest_loser_is_the_price() {
        let (parts, price) = auction(3, &[vec![5.0, 1.0], vec![4.0, 3.0, 2.0], vec![]]);
        assert_eq!((parts, price), (vec![1, 2, 0], 2.0));
    }

    #[test]
    fn an_autoscaler_stays_within_its_nodes_part() {
        let part = Arc::new(Mutex::new(Allotment::new(node(0), 3)));
        let mut scaler = WithinBudget::new(Box::new(FixedConcurrency::new(8)), Arc::clone(&part));
        assert_eq!(scaler.desired(&Load::default()), 3);
        part.lock().unwrap().take(&node(1), Grant { number: 1, units: 2 });
        assert_eq!(scaler.desired(&Load::default()), 5);
    }
}
