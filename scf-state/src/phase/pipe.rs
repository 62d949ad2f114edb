//! The commits of a local scope that are under way.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use scf_core::InvocationId;
use tokio::sync::Notify;

/// Commits in the order in which their calls ended. A call begins while those before it are still being made durable,
/// and sees what they wrote; if one of them fails, so do those after it, since their versions do not come about.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    under_way: BTreeMap<u64, InvocationId>,
    failed: bool,
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The commit of `invocation` begins.
    pub(super) fn begin(self: &Arc<Self>, invocation: InvocationId) -> UnderWay {
        let mut state = self.state();
        state.begun += 1;
        let ticket = state.begun;
        state.under_way.insert(ticket, invocation);
        drop(state);
        UnderWay { pipe: Arc::clone(self), ticket, has_ended: false }
    }

    /// Whether what was seen of the scope may not be what is stored.
    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    pub(super) fn has(&self, invocation: InvocationId) -> bool {
        self.state().under_way.values().any(|under_way| *under_way == invocation)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().under_way.is_empty()
    }

    /// The last commit that began.
    pub(super) fn last(&self) -> u64 {
        self.state().begun
    }

    /// Waits until no commit up to `ticket` is under way; says whether none of them failed.
    pub(super) async fn settled(&self, ticket: u64) -> bool {
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state();
                if state.under_way.keys().next().is_none_or(|first| *first > ticket) {
                    return !state.failed;
                }
            }
            changed.await;
        }
    }

    /// Waits until no commit is under way.
    pub(super) async fn empty(&self) {
        self.settled(u64::MAX).await;
    }
}

/// One commit. Dropped before it has ended, nobody knows what came of it.
#[derive(Debug)]
pub(super) struct UnderWay {
    pipe: Arc<Pipe>,
    ticket: u64,
    has_ended: bool,
}

impl UnderWay {
    /// Waits until no earlier commit is under way; says whether none of them failed.
    pub(super) async fn is_next(&self) -> bool {
        self.pipe.settled(self.ticket - 1).await
    }

    /// It was applied.
    pub(super) fn succeed(mut self) {
        self.has_ended = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.under_way.remove(&self.ticket);
        state.failed |= !self.has_ended;
        drop(state);
        self.pipe.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn a_commit_is_next_when_those_before_it_have_ended() {
        let pipe = Arc::new(Pipe::default());
        let id = InvocationId::new;
        let (first, second) = (pipe.begin(id(1)), pipe.begin(id(2)));
        let third = pipe.begin(id(3));
        let mut next = Box::pin(third.is_next());
        assert!(poll!(next.as_mut()).is_pending());
        second.succeed();
        assert!(poll!(next.as_mut()).is_pending());
        assert!(pipe.has(id(1)) && !pipe.has(id(2)));
        first.succeed();
        assert!(next.await && !pipe.has_failed());
        drop(third);
        assert!(pipe.has_failed(), "nobody knows what came of it");
        pipe.empty().await;
    }
}
