//! Nodes that bid for calls.

use std::collections::VecDeque;

use super::{Event, Policy, draw::Draw};
use crate::{
    Choice, Decision, MOST_CHOICES, Reason, Request,
    bidding::{Agent, Auctioneer, Offer, Shelf, Terms},
    fleet::{Fleet, FunctionIx, NodeIx},
};

/// Nodes that are asked per decision: the best of 16 is among the best quarter with 99 %.
const ASKED: usize = 16;
/// Nodes that a decision names beside one for each task.
const SPARE: usize = 2;
/// What a call of unknown work is taken for, in seconds, so that load and slowdown count.
const UNKNOWN_WORK: f32 = 0.001;
/// Bytes that a node keeps of executables.
const ROOM: u64 = 32 << 30;
/// By what share a newcomer must bid more for room than what it drives out.
const MARGIN: f32 = 0.1;

const NO_BID: Reason = Reason::new("no bid");

/// Nodes drawn at random bid for the call by what waits there, whether the executable is there and how full they are, and
/// the best by time and price takes it (Bermbach et al.: AuctionWhisk, Software: Practice and Experience 52(5), 2022,
/// section 3.2, with nodes that say a price where those of the paper take the highest bidder). Where a node wants more than
/// [`Request::bid`] it does not bid; a request that bids nothing pays what is asked.
///
/// The [`Agent`]s are kept here: for simulators and for fleets within one process. Nodes of their own are asked over a
/// transport, with an [`Auctioneer`] for what they answer. Does not know of data.
#[derive(Debug)]
pub struct Auction {
    draw: Draw,
    bidders: Vec<Option<Bidder>>,
    auctioneer: Auctioneer,
    terms: Terms,
    asked: usize,
    /// What was decided last: the function, its executable in bytes, what it bids and its work.
    last: Option<(FunctionIx, u64, f32, f32)>,
}

#[derive(Debug)]
struct Bidder {
    agent: Agent,
    /// CPU seconds of the calls that it won, in their order.
    won: VecDeque<f32>,
}

impl Auction {
    /// Asks 16 nodes; `worth` is what one unit of price is worth in seconds.
    #[must_use]
    pub fn new(worth: f32) -> Self {
        let auctioneer = Auctioneer::new(worth, 0);
        Self {
            draw: Draw::default(),
            bidders: Vec::new(),
            auctioneer,
            terms: Terms::default(),
            asked: ASKED,
            last: None,
        }
    }

    /// How many nodes are asked, from 1 to the 64 bids that are kept; default 16.
    #[must_use]
    pub fn asked(mut self, nodes: usize) -> Self {
        self.asked = nodes.clamp(1, 64);
        self
    }

    /// On which terms nodes bid; default [`Terms::default`].
    #[must_use]
    pub const fn terms(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    fn bidder(&mut self, fleet: &Fleet, node: NodeIx) -> Option<&mut Bidder> {
        if self.bidders.len() <= node.index() {
            self.bidders.resize_with(fleet.len().max(node.index() + 1), || None);
        }
        let place = &mut self.bidders[node.index()];
        if place.is_none() {
            let agent = Agent::new(fleet, node, self.terms, Shelf::new(ROOM, MARGIN))?;
            *place = Some(Bidder { agent, won: VecDeque::new() });
        }
        place.as_mut()
    }
}

impl Default for Auction {
    /// A unit of price is worth a second.
    fn default() -> Self {
        Self::new(1.0)
    }
}

impl Policy for Auction {
    fn name(&self) -> &'static str {
        "auction"
    }

    fn decide(&mut self, fleet: &Fleet, request: &Request<'_>, decision: &mut Decision) {
        let demand = request.demand;
        let offer = Offer {
            function: demand.function,
            need: demand.need,
            work: if request.work > 0.0 { request.work } else { UNKNOWN_WORK },
            executable: demand.artefact.map_or(0, |artefact| fleet.data_bytes(artefact)),
            most: if request.bid > 0.0 { request.bid } else { f32::INFINITY },
            until: request.now,
        };
        self.last = Some((offer.function, offer.executable, request.bid, offer.work));
        let tasks = request.tasks.max(1) as usize;
        self.draw.draw(fleet, request, self.asked.max(tasks), decision);
        self.auctioneer.open();
        for at in 0..self.draw.nodes.len() {
            let node = self.draw.nodes[at].0;
            // A question to the node, and its answer.
            decision.messages += 2;
            let bid = self.bidder(fleet, node).and_then(|bidder| bidder.agent.bid(fleet, &offer));
            match bid {
                Some(bid) => self.auctioneer.hear(bid),
                None => decision.refuse(NO_BID),
            }
        }
        let bids = self.auctioneer.bids().iter().take((tasks + SPARE).min(MOST_CHOICES.max(tasks)));
        decision.choices.extend(bids.map(|bid| Choice { node: bid.node, cost: self.auctioneer.cost(bid) }));
    }

    fn note(&mut self, fleet: &Fleet, event: &Event) {
        match *event {
            Event::Claimed { node, .. } => {
                let Some((function, executable, bid, work)) = self.last else { return };
                let Some(bidder) = self.bidder(fleet, node) else { return };
                bidder.agent.won(work);
                bidder.won.push_back(work);
                // What is outbid for room runs all the same, and is fetched again next time.
                let _kept = bidder.agent.shelf().take(function, executable, bid);
            }
            Event::Finished { node, queued, .. } => {
                let Some(Some(bidder)) = self.bidders.get_mut(node.index()) else { return };
                while bidder.won.len() > queued as usize {
                    let Some(work) = bidder.won.pop_front() else { break };
                    bidder.agent.done(work);
                }
            }
            Event::Conflicted { .. } | Event::Idle { .. } => {}
        }
    }
}
