//! Timers that a call sets for its key.

use scf_core::{Call, Due, Phase, QueuedCall, Scope, StateSession};

/// A timer of the key that `call` is made with, in the name of the owner of its state, which `session` is of. It belongs
/// to the trace of the call, like what else that has done later.
pub(crate) fn timer(call: &Call, session: &dyn StateSession, name: &str, due: Due) -> QueuedCall {
    let epoch = match session.phase() {
        Phase::Local(fence) | Phase::Draining(fence) => fence.epoch,
        _ => 0,
    };
    let scope = Scope { function: call.function.clone(), key: call.key.clone().unwrap_or_default() };
    let mut timer = QueuedCall::timer(call.id, scope, name, epoch, due);
    timer.trace.clone_from(&call.trace);
    timer
}
