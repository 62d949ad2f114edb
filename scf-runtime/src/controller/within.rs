//! Work with an end.

use std::{future::Future, pin::pin, task::Poll, time::Duration};

use scf_core::Clock;

/// `work`'s output, or `None` once `patience` has passed. Costs no timer when `work` is done at once.
pub(crate) async fn within<F: Future>(clock: &dyn Clock, patience: Duration, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    if let Poll::Ready(output) = futures::poll!(work.as_mut()) {
        return Some(output);
    }
    tokio::select! {
        biased;
        output = work => Some(output),
        () = clock.sleep(patience) => None,
    }
}
