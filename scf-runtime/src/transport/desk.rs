//! Who answers messages on a node.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use scf_core::{Handler, NodeId, Subject};

/// Where a node's messages are answered.
pub(super) struct Desk {
    pub(super) node: NodeId,
    staff: Mutex<Staff>,
    in_flight: AtomicUsize,
}

#[derive(Default)]
struct Staff {
    handlers: Vec<(Subject, Arc<dyn Handler>)>,
    /// How often the node was detached.
    dismissals: u64,
}

impl Desk {
    pub(super) fn new(node: NodeId) -> Self {
        Self { node, staff: Mutex::default(), in_flight: AtomicUsize::new(0) }
    }

    /// Lets `handler` answer `subject`, in place of an earlier one.
    pub(super) fn staff_with(&self, subject: Subject, handler: Arc<dyn Handler>) {
        let mut staff = self.staff();
        staff.handlers.retain(|(other, _)| *other != subject);
        staff.handlers.push((subject, handler));
    }

    /// Takes one of `places` for messages in flight.
    pub(super) fn take_place(&self, places: usize) -> Option<()> {
        let free = |taken: usize| (taken < places).then_some(taken + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(drop)
    }

    /// Gives back what [`Desk::take_place`] took.
    pub(super) fn leave_place(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the node was not detached since `dismissals` was read.
    pub(super) fn is_staffed_since(&self, dismissals: u64) -> bool {
        self.staff().dismissals == dismissals
    }

    fn staff(&self) -> MutexGuard<'_, Staff> {
        self.staff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dismisses everybody.
    pub(super) fn clear(&self) {
        let mut staff = self.staff();
        staff.dismissals += 1;
        // Outside the lock: a handler may own whatever is attached here.
        let handlers = std::mem::take(&mut staff.handlers);
        drop(staff);
        drop(handlers);
    }

    /// Who answers `subject`, or whoever answers anything; and how often the node was detached so far.
    pub(super) fn handler(&self, subject: Option<Subject>) -> Option<(Arc<dyn Handler>, u64)> {
        let staff = self.staff();
        let mut handlers = staff.handlers.iter();
        let (_, handler) = handlers.find(|(of, _)| subject.is_none_or(|subject| *of == subject))?;
        Some((Arc::clone(handler), staff.dismissals))
    }
}
