//! The calls of other nodes that are due.

use std::{collections::BTreeMap, time::Duration};

use scf_core::{ByteSize, InvocationId, NodeId};

use super::{
    board::Board,
    pending::{Pending, Place},
};

/// The calls of one destination, by the number under which they became due, which they keep until the destination has
/// them.
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

impl Board {
    /// The destinations with calls that are offered or may be, and how many.
    pub(super) fn outbox(&self) -> Vec<(NodeId, u64)> {
        let goes = |id: InvocationId| self.calls.get(&id).is_some_and(|pending| !self.is_held(pending));
        let due = |outbox: &Outbox| {
            let waiting = outbox.waiting();
            // Nothing is looked at one by one unless something is held back.
            let waiting =
                if self.held.is_empty() { waiting.len() } else { waiting.filter(|(_, id)| goes(*id)).count() };
            (waiting + outbox.offered().len()) as u64
        };
        let outboxes = self.outboxes.iter().map(|(to, outbox)| (to.clone(), due(outbox)));
        outboxes.filter(|(_, calls)| *calls > 0).collect()
    }

    fn is_held(&self, pending: &Pending) -> bool {
        pending.line.as_ref().is_some_and(|line| self.held.contains(&**line))
    }

    /// What a node was offered and may have.
    pub(super) fn offered(&self, to: &NodeId) -> Vec<InvocationId> {
        self.outboxes.get(to).map_or_else(Vec::new, |outbox| outbox.offered().collect())
    }

    /// Offers a node the first of its calls: at most so many, of at most so many bytes beyond the first.
    pub(super) fn offer(&mut self, to: &NodeId, calls: usize, bytes: ByteSize) -> Vec<InvocationId> {
        let Some(outbox) = self.outboxes.get(to) else { return Vec::new() };
        let (mut picked, mut room) = (Vec::new(), bytes.bytes());
        for (number, id) in outbox.waiting() {
            let Some(pending) = self.calls.get(&id).filter(|pending| !self.is_held(pending)) else { continue };
            if picked.len() >= calls || (!picked.is_empty() && pending.bytes > room) {
                break;
            }
            room = room.saturating_sub(pending.bytes);
            picked.push((number, id));
        }
        self.note_offered(to, &picked);
        picked.into_iter().map(|(_, id)| id).collect()
    }

    fn note_offered(&mut self, to: &NodeId, calls: &[(u64, InvocationId)]) {
        if let Some(outbox) = self.outboxes.get_mut(to) {
            outbox.offer(calls);
        }
        for (number, id) in calls {
            if let Some(pending) = self.calls.get_mut(id) {
                pending.place = Place::Offered(*number);
            }
        }
    }

    /// Goes on with what a node was offered before a restart, in the order in which it was.
    pub(super) fn offer_again(&mut self, to: &NodeId, ids: &[InvocationId], now: Duration) {
        let is_for = |pending: &Pending| pending.destination.as_ref() == Some(to);
        let ids: Vec<_> = ids.iter().copied().filter(|id| self.calls.get(id).is_some_and(is_for)).collect();
        let mut numbers = Vec::with_capacity(ids.len());
        for &id in &ids {
            if !matches!(self.calls.get(&id).map(|pending| pending.place), Some(Place::Outbox(_))) {
                // It was due; that the clock was set back since does not make it another's to decide about.
                self.leave(id);
                self.arrive(id, now);
            }
            if let Some(Place::Outbox(number)) = self.calls.get(&id).map(|pending| pending.place) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let calls: Vec<_> = numbers.into_iter().zip(ids).collect();
        self.note_offered(to, &calls);
    }

    /// A node has none of what it was offered.
    pub(super) fn take_back(&mut self, to: &NodeId) {
        let Some(outbox) = self.outboxes.get_mut(to) else { return };
        for (number, id) in outbox.take_back() {
            if let Some(pending) = self.calls.get_mut(&id) {
                pending.place = Place::Outbox(number);
            }
        }
    }
}
