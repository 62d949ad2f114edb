//! The calls of one destination that are due.

use std::collections::BTreeMap;

use scf_core::InvocationId;

/// Calls by the number under which they became due, which they keep until the destination has them.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<u64, InvocationId>,
    /// Those that the destination may have: nothing is decided about them here.
    offered: BTreeMap<u64, InvocationId>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.offered.is_empty()
    }

    pub(super) fn put(&mut self, number: u64, id: InvocationId) {
        self.waiting.insert(number, id);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.waiting.remove(&number);
        self.offered.remove(&number);
    }

    pub(super) fn waiting(&self) -> impl ExactSizeIterator<Item = (u64, InvocationId)> + '_ {
        self.waiting.iter().map(|(number, id)| (*number, *id))
    }

    pub(super) fn offered(&self) -> impl ExactSizeIterator<Item = InvocationId> + '_ {
        self.offered.values().copied()
    }

    /// The destination may have these from now on.
    pub(super) fn offer(&mut self, calls: &[(u64, InvocationId)]) {
        for (number, id) in calls {
            self.waiting.remove(number);
            self.offered.insert(*number, *id);
        }
    }

    /// The destination has none of those that are still offered: they wait, in the place that they had.
    pub(super) fn take_back(&mut self) -> BTreeMap<u64, InvocationId> {
        let offered = std::mem::take(&mut self.offered);
        self.waiting.extend(&offered);
        offered
    }
}
