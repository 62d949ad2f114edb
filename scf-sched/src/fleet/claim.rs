//! Taking from a node and giving back, by compare-and-set: the conflict test is whether the need still fits
//! (Schwarzkopf et al.: Omega, EuroSys 2013, section 5.2, "fine-grained conflict detection").
//!
//! Both words carry the low bits of the node's epoch. What was taken in one epoch is given back in the same epoch
//! or not at all, so that a node that came back with its own account of what it runs is never given more than it
//! has.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use thiserror::Error;

use super::amount::{Amount, Need, Units};

/// A word that is changed by compare-and-set. Implemented for the atomics of the standard library, and in tests for
/// those of the model checker.
pub(crate) trait Word {
    fn load(&self) -> u64;
    /// Puts `new` where `old` is, or says what is there.
    fn swap_if(&self, old: u64, new: u64) -> Result<(), u64>;
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        Self::load(self, SeqCst)
    }

    #[inline]
    fn swap_if(&self, old: u64, new: u64) -> Result<(), u64> {
        self.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
    }
}

/// Why a claim was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Conflict {
    /// It does not fit any more.
    #[error("the node no longer has what the claim needs")]
    Full,
    /// The node came back meanwhile and counts anew.
    #[error("the node came back while it was claimed")]
    Rejoined,
    /// It takes no calls.
    #[error("the node takes no calls")]
    Unavailable,
    /// As many holds are open as are kept.
    #[error("{most} holds are open, and no more are kept")]
    TooManyHolds {
        /// How many are kept.
        most: usize,
    },
    /// The position names no node.
    #[error("there is no such node")]
    NoSuchNode,
}

/// What a change did to the free amount: before and after.
pub(crate) type Moved = (Amount, Amount);

/// Takes `need` if it fits; gives the epoch that it was taken in, and what that did.
pub(crate) fn take<W: Word>(free: &W, units: &W, need: Need) -> Result<(u8, Moved), Conflict> {
    let mut seen = free.load();
    let before = loop {
        let amount = Amount::of_word(seen);
        if !amount.fits(need.amount) {
            return Err(Conflict::Full);
        }
        let left = amount.minus(need.amount).word(u32::from(Amount::epoch_of(seen)));
        match free.swap_if(seen, left) {
            Ok(()) => break amount,
            Err(now) => seen = now,
        }
    };
    let epoch = Amount::epoch_of(seen);
    if !need.units.is_none() {
        match take_units(units, need.units) {
            Some(same) if same == epoch => {}
            // The node came back between the two words: each part goes back to the epoch that it is of.
            Some(other) => {
                give_units(units, other, need.units);
                give_amount(free, epoch, need.amount);
                return Err(Conflict::Rejoined);
            }
            None => {
                give_amount(free, epoch, need.amount);
                return Err(Conflict::Full);
            }
        }
    }
    Ok((epoch, (before, before.minus(need.amount))))
}

/// Gives back what was taken in `epoch`; `None` when the node counts in another epoch by now and nothing was given.
pub(crate) fn give<W: Word>(free: &W, units: &W, epoch: u8, need: Need) -> Option<Moved> {
    if !need.units.is_none() {
        give_units(units, epoch, need.units);
    }
    give_amount(free, epoch, need.amount)
}

/// Begins an epoch in which that much is free: the node has come back and said what it still runs.
///
/// The processor's word is changed first: a claim that takes one word in each epoch sees that they differ. Called
/// by one thread at a time for a node.
pub(crate) fn begin<W: Word>(free: &W, units: &W, epoch: u32, left: Need) -> Moved {
    let before = replace(free, left.amount.word(epoch));
    replace(units, left.units.word(epoch));
    (Amount::of_word(before), left.amount)
}

fn replace<W: Word>(word: &W, new: u64) -> u64 {
    let mut seen = word.load();
    while let Err(now) = word.swap_if(seen, new) {
        seen = now;
    }
    seen
}

fn take_units<W: Word>(units: &W, need: Units) -> Option<u8> {
    let mut seen = units.load();
    loop {
        let (has, epoch) = (Units::of_word(seen), Amount::epoch_of(seen));
        if !has.fits(need) {
            return None;
        }
        match units.swap_if(seen, has.minus(need).word(u32::from(epoch))) {
            Ok(()) => return Some(epoch),
            Err(now) => seen = now,
        }
    }
}

fn give_units<W: Word>(units: &W, epoch: u8, need: Units) {
    let mut seen = units.load();
    while Amount::epoch_of(seen) == epoch {
        match units.swap_if(seen, Units::of_word(seen).plus(need).word(u32::from(epoch))) {
            Ok(()) => return,
            Err(now) => seen = now,
        }
    }
}

fn give_amount<W: Word>(free: &W, epoch: u8, need: Amount) -> Option<Moved> {
    let mut seen = free.load();
    while Amount::epoch_of(seen) == epoch {
        let before = Amount::of_word(seen);
        let after = before.plus(need);
        match free.swap_if(seen, after.word(u32::from(epoch))) {
            Ok(()) => return Some((before, after)),
            Err(now) => seen = now,
        }
    }
    None
}
