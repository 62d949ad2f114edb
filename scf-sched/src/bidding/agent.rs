//! A node that bids.

use scf_core::Timestamp;

use super::Shelf;
use crate::fleet::{Amount, Fleet, FunctionIx, Need, NodeIx};

/// What a scheduler asks the agents of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "transports and simulators write it as a literal")]
pub struct Offer {
    /// The function.
    pub function: FunctionIx,
    /// What a call takes.
    pub need: Need,
    /// CPU seconds on a node without slowdown.
    pub work: f32,
    /// Size of the executable in bytes, where the node would have to fetch it.
    pub executable: u64,
    /// What the caller pays at most for the call.
    pub most: f32,
    /// Until when the bid must stand.
    pub until: Timestamp,
}

/// What a node says.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "transports and simulators write it as a literal")]
pub struct Bid {
    /// The node.
    pub node: NodeIx,
    /// Seconds until the call has run there: waiting, starting and running, by what is true on the node.
    pub seconds: f32,
    /// What the node wants for it.
    pub price: f32,
    /// The epoch of the node; a bid of one that came back since is void.
    pub epoch: u32,
    /// Until when it stands.
    pub until: Timestamp,
}

/// On what terms a node works.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "operators write it as a literal")]
pub struct Terms {
    /// Price of a busy core for a second while the node is idle.
    pub core_second: f32,
    /// By how many times that rises until the node is full; linear in what is taken.
    pub scarcity: f32,
    /// Seconds that fetching a byte of an executable takes.
    pub fetch: f32,
    /// Least charge in per cent at which it takes calls.
    pub charge: u8,
}

impl Default for Terms {
    /// A price of 1 per core and second that doubles until the node is full, executables at 10 MB/s, a fifth of the
    /// charge kept.
    fn default() -> Self {
        Self { core_second: 1.0, scarcity: 1.0, fetch: 1e-7, charge: 20 }
    }
}

/// Speaks for one node: knows what runs and waits there, what is kept and what is left of the battery, and bids for
/// calls. One thread at a time; it asks nobody.
#[derive(Debug)]
pub struct Agent {
    node: NodeIx,
    terms: Terms,
    shelf: Shelf,
    /// CPU seconds of the calls that run or wait.
    backlog: f32,
    cores: f32,
    slowdown: f32,
}

impl Agent {
    /// Speaks for a node of `fleet`; `None` when no such node joined.
    #[must_use]
    pub fn new(fleet: &Fleet, node: NodeIx, terms: Terms, shelf: Shelf) -> Option<Self> {
        let hot = fleet.look(node)?;
        let cores = (hot.total().milli() as f32 / 1000.0).max(0.001);
        let slowdown = fleet.class(hot.class()).slowdown;
        Some(Self { node, terms, shelf, backlog: 0.0, cores, slowdown })
    }

    /// What it keeps.
    pub const fn shelf(&mut self) -> &mut Shelf {
        &mut self.shelf
    }

    /// What the node would do the call for; `None` when it cannot or would have to be paid more than is offered.
    #[must_use]
    pub fn bid(&self, fleet: &Fleet, offer: &Offer) -> Option<Bid> {
        let hot = fleet.look(self.node)?;
        let fits = hot.is_ready() && hot.free().fits(offer.need.amount) && hot.units().fits(offer.need.units);
        if !fits || hot.charge().is_some_and(|charge| charge < self.terms.charge) {
            return None;
        }
        let runs = offer.work * self.slowdown;
        let fetch = if self.shelf.has(offer.function) { 0.0 } else { offer.executable as f32 * self.terms.fetch };
        let price = runs * self.core_second(hot.free(), hot.total());
        let seconds = self.backlog / self.cores + fetch + runs;
        let epoch = fleet.epoch(self.node)?;
        (price <= offer.most).then_some(Bid { node: self.node, seconds, price, epoch, until: offer.until })
    }

    /// A call was won: it is in the backlog from now on.
    pub fn won(&mut self, work: f32) {
        self.backlog += work * self.slowdown;
    }

    /// A call is done.
    pub fn done(&mut self, work: f32) {
        self.backlog = (self.backlog - work * self.slowdown).max(0.0);
    }

    /// The price of a core for a second: the fuller, the dearer, so that calls which can run elsewhere do.
    fn core_second(&self, free: Amount, total: Amount) -> f32 {
        let taken = 1.0 - free.milli() as f32 / (total.milli() as f32).max(1.0);
        self.terms.core_second * (1.0 + self.terms.scarcity * taken)
    }
}
