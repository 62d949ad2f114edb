//! Turns away calls that come to a node while it is drained, and tells when the last one has left.

use std::{
    pin::pin,
    sync::atomic::{AtomicU8, Ordering::SeqCst},
};

use scf_core::{InvokeError, Statefulness};
use tokio::sync::Notify;

use super::{Applicant, Gate};
use crate::controller::Ready;

/// Which calls come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Entry {
    /// All.
    Open,
    /// Those that can run nowhere else: they work on state that may be local here, or a call that runs here made them.
    Bound,
    /// None but those that a call that runs here made.
    Closed,
}

/// Says which calls come in.
#[derive(Debug, Default)]
pub(super) struct Door {
    entry: AtomicU8,
    changed: Notify,
}

impl Gate {
    /// Lets other calls in than before. Whoever is in, or waits, stays.
    pub(crate) fn set_entry(&self, entry: Entry) {
        // Under the lock: a call is queued before this, and counted, or sees it.
        let queue = self.lock();
        self.door.entry.store(entry as u8, SeqCst);
        drop(queue);
        self.door.changed.notify_waiters();
    }

    pub(crate) fn is_open(&self) -> bool {
        self.door.entry.load(SeqCst) == Entry::Open as u8
    }

    /// Whether `applicant` is to be placed elsewhere. Asked after it was counted: either it sees what was ordered, or
    /// who ordered it sees the call.
    pub(crate) fn turns_away(&self, applicant: &Applicant<'_>) -> bool {
        let entry = self.door.entry.load(SeqCst);
        let is_bound = applicant.ready.function.state == Statefulness::PerKey;
        entry != Entry::Open as u8 && !applicant.is_nested && (entry == Entry::Closed as u8 || !is_bound)
    }

    /// What a call that is turned away is told.
    pub(crate) fn elsewhere(&self, ready: &Ready) -> InvokeError {
        InvokeError::Unreachable { function: ready.function.name.clone(), node: self.node.clone() }
    }

    /// Returns once no call runs or waits; `false` when all were let in again meanwhile.
    pub(crate) async fn emptied(&self) -> bool {
        loop {
            let mut changed = pin!(self.door.changed.notified());
            changed.as_mut().enable();
            if self.is_open() {
                return false;
            }
            if self.is_empty() {
                return true;
            }
            changed.await;
        }
    }

    fn is_empty(&self) -> bool {
        // In the order in which a call goes through: one that stops waiting runs already.
        self.waiting.load(SeqCst) == 0 && self.running() == 0
    }

    /// After a call has left.
    pub(super) fn tell_if_empty(&self) {
        if !self.is_open() && self.is_empty() {
            self.door.changed.notify_waiters();
        }
    }
}
