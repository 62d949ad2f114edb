//! Claims that lapse unless they are confirmed.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, SeqCst},
};

use scf_core::Timestamp;
use thiserror::Error;

use super::{
    amount::{Amount, Need},
    claim::Word,
    names::NodeIx,
};

/// Entries that are looked at for room.
const PROBES: usize = 64;
/// Nobody's entry.
const FREE: u64 = 0;
/// It is being written.
const WRITING: u64 = 1;
/// It stands for a hold.
const HELD: u64 = 2;
const STATUS: u64 = 3;

/// What is taken of a node for good, until it is released or the node comes back without it.
///
/// Given back by [`Fleet::release`](super::Fleet::release); a claim that is only dropped stays taken.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is claimed stays taken until it is released"]
pub struct Claim {
    pub(crate) node: NodeIx,
    pub(crate) epoch: u32,
    pub(crate) need: Need,
    pub(crate) token: u64,
}

impl Claim {
    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeIx {
        self.node
    }

    /// The epoch of the node that it was made in.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What is taken.
    #[must_use]
    pub const fn need(&self) -> Need {
        self.need
    }

    /// By which the node knows it; unique in its fleet.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }
}

/// What is taken of a node for the time being. It lapses at its time unless it is committed.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a hold that is neither committed nor aborted takes room until it lapses"]
pub struct Hold {
    pub(crate) claim: Claim,
    pub(crate) until: Timestamp,
    /// The entry, and what its state is while it stands for this hold.
    pub(crate) entry: u32,
    pub(crate) state: u64,
}

impl Hold {
    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeIx {
        self.claim.node
    }

    /// The epoch of the node that it was made in.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.claim.epoch
    }

    /// What is taken.
    #[must_use]
    pub const fn need(&self) -> Need {
        self.claim.need
    }

    /// By which the node knows it; unique in its fleet.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.claim.token
    }

    /// When it lapses.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }
}

/// Why a hold cannot be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HoldError {
    /// Its time was over, and what it took was given back.
    #[error("the hold had lapsed")]
    Lapsed,
    /// The node came back meanwhile and counts anew.
    #[error("the node came back while it was held")]
    Rejoined,
}

#[derive(Debug, Default)]
struct Entry {
    /// Counts the uses of the entry, above two bits of status.
    state: AtomicU64,
    node: AtomicU32,
    epoch: AtomicU32,
    amount: AtomicU64,
    units: AtomicU64,
    until: AtomicU64,
}

/// The open holds, a bounded number. Whoever moves an entry from held to free owns what it took: the committing
/// scheduler, the aborting one, or whoever finds that it lapsed.
#[derive(Debug)]
pub(crate) struct Holds {
    entries: Box<[Entry]>,
}

impl Holds {
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: (0..most.max(1)).map(|_| Entry::default()).collect() }
    }

    pub(crate) const fn most(&self) -> usize {
        self.entries.len()
    }

    /// An entry for a claim, looked for from `cursor` on, which is left at the entry found; `None` when there is no
    /// room near it.
    pub(crate) fn open(&self, claim: Claim, until: Timestamp, cursor: &mut u32) -> Result<Hold, Claim> {
        let most = self.entries.len();
        for probe in 0..PROBES.min(most) {
            let at = (*cursor as usize + probe) % most;
            let entry = &self.entries[at];
            let seen = entry.state.load(Relaxed);
            if seen & STATUS != FREE {
                continue;
            }
            if entry.state.compare_exchange(seen, seen | WRITING, SeqCst, Relaxed).is_err() {
                continue;
            }
            entry.node.store(claim.node.0, Relaxed);
            entry.epoch.store(claim.epoch, Relaxed);
            entry.amount.store(claim.need.amount.word(0), Relaxed);
            entry.units.store(claim.need.units.word(0), Relaxed);
            entry.until.store(until.nanos(), Relaxed);
            let state = seen | HELD;
            entry.state.store(state, SeqCst);
            *cursor = at as u32;
            return Ok(Hold { claim, until, entry: at as u32, state });
        }
        Err(claim)
    }

    /// Ends a hold; `false` when it had lapsed before.
    pub(crate) fn close(&self, hold: &Hold) -> bool {
        self.end(hold.entry as usize, hold.state)
    }

    fn end(&self, at: usize, state: u64) -> bool {
        end(&self.entries[at].state, state)
    }

    /// Ends the holds whose time is over and gives what each had taken to `back`. Looks at every entry.
    pub(crate) fn lapse(&self, now: Timestamp, mut back: impl FnMut(NodeIx, u32, Need)) -> usize {
        let mut lapsed = 0;
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            let state = entry.state.load(Acquire);
            if state & STATUS != HELD || entry.until.load(Relaxed) > now.nanos() {
                continue;
            }
            let node = NodeIx(entry.node.load(Relaxed));
            let epoch = entry.epoch.load(Relaxed);
            let amount = Amount::of_word(entry.amount.load(Relaxed));
            let units = super::amount::Units::of_word(entry.units.load(Relaxed));
            // What was read is of this use of the entry exactly if the entry is still in it.
            if self.end(at, state) {
                back(node, epoch, Need { amount, units });
                lapsed += 1;
            }
        }
        lapsed
    }

    /// Holds that are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.iter().filter(|entry| entry.state.load(Relaxed) & STATUS == HELD).count()
    }
}

/// Moves an entry from held to free for its next use; `true` for the one who did.
pub(crate) fn end<W: Word>(entry: &W, state: u64) -> bool {
    entry.swap_if(state, ((state >> 2) + 1) << 2).is_ok()
}
