//! Nodes that say for themselves what they can do and for how much.
//!
//! A scheduler asks the agents of a sample for bids, takes the best and holds it, the next best when that is gone.
//! Agents answer from what is true on their node, so a scheduler whose picture of the fleet is old loses a round and
//! never places wrongly.

mod agent;
mod auctioneer;
mod shelf;

pub use self::{
    agent::{Agent, Bid, Offer, Terms},
    auctioneer::Auctioneer,
    shelf::{Shelf, ShelfError},
};
