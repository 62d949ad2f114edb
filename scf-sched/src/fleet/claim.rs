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

#[cfg(test)]
mod tests {
    use loom::{
        sync::{Arc, atomic::AtomicU64},
        thread,
    };
    use scf_core::{Accelerator, ByteSize, MilliCpu, Resources};

    use super::*;
    use crate::fleet::hold;

    impl Word for AtomicU64 {
        fn load(&self) -> u64 {
            Self::load(self, SeqCst)
        }

        fn swap_if(&self, old: u64, new: u64) -> Result<(), u64> {
            self.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
        }
    }

    /// A node's two words.
    struct Node {
        free: AtomicU64,
        units: AtomicU64,
    }

    fn need(cores: u32, gpus: u16) -> Need {
        let resources = Resources { cpu: MilliCpu::from_cores(cores), memory: ByteSize::ZERO };
        Need::new(resources, 1).unwrap().with(Accelerator::Cuda, gpus)
    }

    fn node(has: Need) -> Arc<Node> {
        Arc::new(Node { free: AtomicU64::new(has.amount.word(0)), units: AtomicU64::new(has.units.word(0)) })
    }

    fn left(node: &Node) -> Need {
        let (free, units) = (node.free.load(SeqCst), node.units.load(SeqCst));
        Need { amount: Amount::of_word(free), units: Units::of_word(units) }
    }

    /// Runs every interleaving with up to three switches that no thread asked for.
    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    #[test]
    fn two_schedulers_never_both_get_what_is_there_once() {
        check(|| {
            let node = node(need(2, 1).plus(need(0, 0)));
            let take_one = {
                let node = Arc::clone(&node);
                move || take(&node.free, &node.units, need(1, 1)).ok().map(|(epoch, _)| epoch)
            };
            let other = thread::spawn(take_one.clone());
            let (mine, theirs) = (take_one(), other.join().unwrap());
            assert_eq!(mine.iter().chain(&theirs).count(), 1, "one unit, one of two claims: {mine:?} {theirs:?}");
            let taken = need(1, 1);
            assert_eq!(left(&node).plus(taken), need(2, 1).plus(need(0, 0)), "the loser gave everything back");
        });
    }

    #[test]
    fn what_a_node_that_came_back_counts_is_what_it_has_less_what_was_taken_since() {
        check(|| {
            let all = need(2, 2);
            let node = node(all);
            // Taken before the node went away, and given back around the time at which it comes back with nothing.
            let (old, _) = take(&node.free, &node.units, need(1, 1)).unwrap();
            let giving = thread::spawn({
                let node = Arc::clone(&node);
                move || give(&node.free, &node.units, old, need(1, 1)).is_some()
            });
            let taking = thread::spawn({
                let node = Arc::clone(&node);
                move || take(&node.free, &node.units, need(0, 1)).ok().map(|(epoch, _)| epoch)
            });
            begin(&node.free, &node.units, 1, all);
            giving.join().unwrap();
            let taken = taking.join().unwrap();
            // A claim of the epoch before is void; one of the new epoch counts.
            let counted = if taken == Some(1) { left(&node).plus(need(0, 1)) } else { left(&node) };
            assert_eq!(counted, all, "taken in epoch {taken:?}");
        });
    }

    #[test]
    fn a_hold_is_either_committed_or_given_back_and_never_both() {
        check(|| {
            let node = node(need(1, 0));
            let entry = Arc::new(AtomicU64::new(6));
            let (epoch, _) = take(&node.free, &node.units, need(1, 0)).unwrap();
            let lapsing = thread::spawn({
                let (node, entry) = (Arc::clone(&node), Arc::clone(&entry));
                move || hold::end(&*entry, 6) && give(&node.free, &node.units, epoch, need(1, 0)).is_some()
            });
            let taking = thread::spawn({
                let node = Arc::clone(&node);
                move || take(&node.free, &node.units, need(1, 0)).is_ok()
            });
            let is_committed = hold::end(&*entry, 6);
            let (has_lapsed, is_taken) = (lapsing.join().unwrap(), taking.join().unwrap());
            assert_ne!(is_committed, has_lapsed, "one of both");
            assert!(!(is_committed && is_taken), "one place, two claims");
        });
    }
}
