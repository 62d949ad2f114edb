//! Claiming nodes and giving them back.

use std::sync::atomic::Ordering::SeqCst;

use scf_core::Timestamp;
use smallvec::SmallVec;

use super::{
    Fleet,
    amount::{Amount, Need},
    claim::{self, Conflict, Moved},
    hold::{Claim, Hold, HoldError},
    hot::Hot,
    names::NodeIx,
};

impl Fleet {
    /// Takes `need` of a node for good.
    ///
    /// # Errors
    /// [`Conflict`] when the node takes no calls, or it does not fit.
    pub fn claim(&self, node: NodeIx, need: Need) -> Result<Claim, Conflict> {
        let hot = self.hot.get(node.index()).filter(|_| node.index() < self.len()).ok_or(Conflict::NoSuchNode)?;
        if !hot.read().is_ready() {
            return Err(Conflict::Unavailable);
        }
        let before = self.cold(node).ok_or(Conflict::NoSuchNode)?.epoch.load(SeqCst);
        let (low, moved) = claim::take(&hot.free, &hot.units, need)?;
        self.note(node, hot, moved);
        // The word has the low bits of the epoch: the whole is the one before or one of the next few.
        let epoch = before.wrapping_add(u32::from(low.wrapping_sub(before as u8)));
        Ok(Claim { node, epoch, need, token: self.tokens.fetch_add(1, SeqCst) })
    }

    /// Takes `need` of a node until `until`, when it lapses unless it was [committed](Self::commit).
    ///
    /// `cursor` is where the caller last found room for a hold; any number to begin with, the caller's own.
    ///
    /// # Errors
    /// [`Conflict`] when the node takes no calls, it does not fit, or too many holds are open.
    pub fn hold(&self, node: NodeIx, need: Need, until: Timestamp, cursor: &mut u32) -> Result<Hold, Conflict> {
        let claim = self.claim(node, need)?;
        self.holds.open(claim, until, cursor).map_err(|claim| {
            self.release(claim);
            Conflict::TooManyHolds { most: self.holds.most() }
        })
    }

    /// Takes of several nodes, or of none: a gang. A node may come more than once.
    ///
    /// # Errors
    /// The position of the first that could not be taken, and why; what was taken before is given back.
    pub fn hold_all(
        &self,
        gang: &[(NodeIx, Need)],
        until: Timestamp,
        cursor: &mut u32,
    ) -> Result<SmallVec<[Hold; 8]>, (usize, Conflict)> {
        let mut holds = SmallVec::new();
        for (position, (node, need)) in gang.iter().enumerate() {
            match self.hold(*node, *need, until, cursor) {
                Ok(hold) => holds.push(hold),
                Err(conflict) => {
                    holds.into_iter().for_each(|hold| self.abort(hold));
                    return Err((position, conflict));
                }
            }
        }
        Ok(holds)
    }

    /// Makes a hold a claim.
    ///
    /// # Errors
    /// [`HoldError::Lapsed`] when its time was over, by `now` or because somebody found so; [`HoldError::Rejoined`]
    /// when the node came back meanwhile. Nothing of it is taken any more then.
    pub fn commit(&self, hold: Hold, now: Timestamp) -> Result<Claim, HoldError> {
        if !self.holds.close(&hold) {
            return Err(HoldError::Lapsed);
        }
        if self.epoch(hold.claim.node) != Some(hold.claim.epoch) {
            return Err(HoldError::Rejoined);
        }
        if hold.until <= now {
            self.release(hold.claim);
            return Err(HoldError::Lapsed);
        }
        Ok(hold.claim)
    }

    /// Gives back what a hold took, unless it lapsed.
    pub fn abort(&self, hold: Hold) {
        if self.holds.close(&hold) {
            self.release(hold.claim);
        }
    }

    /// Gives back what a claim took; `false` when the node came back or left meanwhile and counts without it.
    #[expect(clippy::needless_pass_by_value, reason = "a claim is given back once")]
    pub fn release(&self, claim: Claim) -> bool {
        self.give(claim.node, claim.epoch, claim.need)
    }

    /// Gives back what holds took whose time is over, and says how many they were. Looks at every entry for holds:
    /// called now and then, not on the way of a decision.
    pub fn lapse(&self, now: Timestamp) -> usize {
        self.holds.lapse(now, |node, epoch, need| {
            self.give(node, epoch, need);
        })
    }

    /// Holds that are open. Looks at every entry for them.
    #[must_use]
    pub fn open_holds(&self) -> usize {
        self.holds.len()
    }

    /// Counts how often a node left or came back.
    #[must_use]
    pub fn epoch(&self, node: NodeIx) -> Option<u32> {
        self.cold(node).map(|cold| cold.epoch.load(SeqCst))
    }

    fn give(&self, node: NodeIx, epoch: u32, need: Need) -> bool {
        let Some(hot) = self.hot.get(node.index()) else { return false };
        if self.epoch(node) != Some(epoch) {
            return false;
        }
        let given = claim::give(&hot.free, &hot.units, epoch as u8, need);
        if let Some(moved) = given {
            self.note(node, hot, moved);
        }
        given.is_some()
    }

    pub(crate) fn note(&self, node: NodeIx, hot: &Hot, (before, after): Moved) {
        self.index.buckets.moved(node, before, after, || Amount::of_word(hot.free.load(SeqCst)));
        self.feeds().note(node);
    }
}
