//! Calls and timers of a call, until it commits.

use std::sync::{Mutex, PoisonError};

use scf_core::{Batch, Op, QueuedCall, Scope};

/// What a call enqueues and calls off, in order.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Vec<Op>>);

impl Calls {
    pub(super) fn enqueue(&self, call: QueuedCall) {
        self.add(Op::Enqueue { call: Box::new(call) });
    }

    pub(super) fn cancel_timer(&self, scope: &Scope, name: &str) {
        self.add(Op::CancelTimer { scope: scope.clone(), name: name.to_owned() });
    }

    fn add(&self, op: Op) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(op);
    }

    /// Adds them to what the call commits.
    pub(super) fn join(self, mut batch: Batch) -> Batch {
        batch.ops.extend(self.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        batch
    }
}
