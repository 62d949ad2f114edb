//! A scheduler that takes the best of several bids.

use smallvec::SmallVec;

use super::{Bid, Offer};
use crate::{
    Random,
    fleet::{Fleet, Hold},
};

/// Bids that are kept.
const MOST: usize = 64;
/// Bids that differ by less than this share count as equal, and the seed decides.
const TIE: f32 = 0.02;
/// Bids that are tried: Vela's m.
const TRIED: usize = 3;

/// Collects the bids for one offer and holds the best that still stands.
///
/// By what a call costs in all: `seconds + price * seconds per unit of price`. Equal bids are drawn by seed, so that
/// schedulers that asked the same nodes at the same time do not all go to the same one.
#[derive(Clone, Debug)]
pub struct Auctioneer {
    bids: SmallVec<[Bid; MOST]>,
    /// Seconds that one unit of price is worth.
    worth: f32,
    cursor: u32,
}

impl Auctioneer {
    /// `worth` is what one unit of price is worth in seconds; `number` tells the schedulers of a fleet apart.
    #[must_use]
    pub fn new(worth: f32, number: u32) -> Self {
        Self { bids: SmallVec::new(), worth, cursor: number.wrapping_mul(2_654_435_769) }
    }

    /// Begins an auction.
    pub fn open(&mut self) {
        self.bids.clear();
    }

    /// Takes a bid; of more than 64 the worst is let go.
    pub fn hear(&mut self, bid: Bid) {
        let worth = self.worth;
        let cost = |bid: &Bid| bid.seconds + bid.price * worth;
        let at = self.bids.iter().position(|other| cost(&bid) < cost(other)).unwrap_or(self.bids.len());
        if self.bids.len() == MOST {
            if at == MOST {
                return;
            }
            self.bids.pop();
        }
        self.bids.insert(at, bid);
    }

    /// The bids, the best first.
    #[must_use]
    pub fn bids(&self) -> &[Bid] {
        &self.bids
    }

    /// Holds the node of the best bid, or of one of the next two when the first was taken meanwhile; `None` when
    /// nobody bid or all three are gone, and the offer is to be made to others.
    ///
    /// A bid of an epoch that is over is passed by.
    pub fn close(&mut self, fleet: &Fleet, offer: &Offer, seed: u64) -> Option<(Hold, Bid)> {
        let best = self.bids.first().map(|bid| self.cost(bid))?;
        let equal = self.bids.iter().take_while(|bid| self.cost(bid) <= best * (1.0 + TIE)).count();
        let first = Random::new(seed).below(equal);
        self.bids.swap(0, first);
        for bid in self.bids.iter().filter(|bid| fleet.epoch(bid.node) == Some(bid.epoch)).take(TRIED) {
            if let Ok(hold) = fleet.hold(bid.node, offer.need, bid.until, &mut self.cursor) {
                return Some((hold, *bid));
            }
        }
        None
    }

    /// What a bid comes to in seconds.
    #[must_use]
    pub fn cost(&self, bid: &Bid) -> f32 {
        bid.seconds + bid.price * self.worth
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use scf_core::{ByteSize, MilliCpu, Node, NodeId, Resources, Slowdown, Tier, Timestamp};

    use super::*;
    use crate::{
        bidding::{Agent, Shelf, Terms},
        fleet::{FunctionIx, Need, NodeIx},
    };

    fn resources(cores: u32) -> Resources {
        Resources { cpu: MilliCpu::from_cores(cores), memory: ByteSize::from_mib(1024) }
    }

    fn fleet(slowdowns: &[f32]) -> Fleet {
        let fleet = Fleet::new();
        for (at, slowdown) in slowdowns.iter().enumerate() {
            let node = Node::new(NodeId::new(&format!("n{at}")).unwrap(), Tier::Edge);
            fleet.join(Arc::new(node.resources(resources(4)).slowdown(Slowdown::new(*slowdown)))).unwrap();
        }
        fleet
    }

    fn offer(most: f32) -> Offer {
        let need = Need::new(Resources { memory: ByteSize::ZERO, ..resources(1) }, 1).unwrap();
        let until = Timestamp::from_nanos(1_000);
        Offer { function: FunctionIx(0), need, work: 1.0, executable: 10_000_000, most, until }
    }

    fn agents(fleet: &Fleet) -> Vec<Agent> {
        let shelf = || Shelf::new(1 << 30, 0.1);
        (0..fleet.len())
            .map(|at| Agent::new(fleet, NodeIx::new(at as u32), Terms::default(), shelf()).unwrap())
            .collect()
    }

    #[test]
    fn the_best_by_time_and_price_is_held_and_the_next_best_when_it_is_gone() {
        let fleet = fleet(&[4.0, 1.0, 2.0]);
        let (offer, mut auctioneer) = (offer(100.0), Auctioneer::new(0.1, 0));
        auctioneer.open();
        agents(&fleet).iter().filter_map(|agent| agent.bid(&fleet, &offer)).for_each(|bid| auctioneer.hear(bid));
        let order: Vec<_> = auctioneer.bids().iter().map(|bid| bid.node.index()).collect();
        assert_eq!(order, [1, 2, 0]);
        // Somebody else takes all of the best between the bids and the claim.
        let all = Need::new(resources(4), 1).unwrap();
        let _taken = fleet.claim(NodeIx::new(1), all).unwrap();
        let (held, bid) = auctioneer.close(&fleet, &offer, 7).unwrap();
        assert_eq!((held.node().index(), bid.node.index()), (2, 2));
    }

    #[test]
    fn a_bid_of_a_node_that_came_back_since_is_void() {
        let fleet = fleet(&[1.0]);
        let (offer, mut auctioneer) = (offer(100.0), Auctioneer::new(0.1, 0));
        auctioneer.hear(agents(&fleet)[0].bid(&fleet, &offer).unwrap());
        let node = fleet.node(NodeIx::new(0)).unwrap();
        fleet.rejoin(node, &[]).unwrap();
        assert!(auctioneer.close(&fleet, &offer, 1).is_none());
    }

    #[test]
    fn what_waits_what_is_kept_and_how_full_it_is_make_the_bid() {
        let fleet = fleet(&[1.0]);
        let mut agent = agents(&fleet).remove(0);
        let bid = |agent: &Agent| agent.bid(&fleet, &offer(100.0)).map(|bid| (bid.seconds, bid.price)).unwrap();
        assert_eq!(bid(&agent), (2.0, 1.0), "a second to fetch 10 MB, a second to run");
        agent.shelf().take(FunctionIx(0), 10_000_000, 1.0).unwrap();
        agent.won(4.0);
        assert_eq!(bid(&agent), (2.0, 1.0), "4 s of work wait for 4 cores");
        agent.done(4.0);
        let _taken = fleet.claim(NodeIx::new(0), Need::new(resources(2), 1).unwrap());
        assert_eq!(bid(&agent), (1.0, 1.5), "half of it is taken");
        assert_eq!(agent.bid(&fleet, &offer(1.4)), None, "it wants 1.5");
        fleet.set_charge(NodeIx::new(0), Some(19));
        assert_eq!(agent.bid(&fleet, &offer(100.0)), None, "the rest of the charge is its own");
    }
}
