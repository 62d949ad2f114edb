//! Requests that are being answered.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts requests from their head to the end of their response, and lets none in once it is closed.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    requests: u32,
    is_closed: bool,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// Too many are being answered.
    Full,
    /// The ingress shuts down.
    Closed,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Passage(Traffic);

/// Every request that had been let in was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Those that were still being answered when the ingress was closed.
    pub requests: u32,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State { requests: 0, is_closed: false })))
    }

    /// Lets a request in, unless there are `most` already.
    pub(super) fn enter(&self, most: u32) -> Result<Passage, Turned> {
        let mut turned = None;
        self.0.send_if_modified(|state| {
            if state.is_closed {
                turned = Some(Turned::Closed);
            } else if state.requests >= most {
                turned = Some(Turned::Full);
            } else {
                state.requests += 1;
            }
            // Only the end is waited for.
            false
        });
        turned.map_or_else(|| Ok(Passage(self.clone())), Err)
    }

    /// Lets nobody in any more and waits until all are answered.
    pub(super) async fn drain(&self) -> Drained {
        let mut requests = 0;
        self.0.send_modify(|state| {
            state.is_closed = true;
            requests = state.requests;
        });
        // The sender is this very handle.
        let _ = self.0.subscribe().wait_for(|state| state.requests == 0).await;
        Drained { requests }
    }

    /// Requests that are being answered.
    pub(super) fn requests(&self) -> u32 {
        self.0.borrow().requests
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|state| {
            state.requests -= 1;
            state.is_closed && state.requests == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn whoever_is_in_is_waited_for_and_nobody_else_is_let_in() {
        let traffic = Traffic::new();
        let passage = traffic.enter(1).unwrap();
        assert_eq!(traffic.enter(1).unwrap_err(), Turned::Full);
        let mut drain = Box::pin(traffic.drain());
        assert!(poll!(&mut drain).is_pending());
        assert_eq!(traffic.enter(9).unwrap_err(), Turned::Closed);
        drop(passage);
        assert_eq!(drain.await, Drained { requests: 1 });
        assert_eq!(traffic.requests(), 0);
    }
}
