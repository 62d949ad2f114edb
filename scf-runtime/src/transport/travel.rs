//! A message on its way over links.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::{ByteSize, Clock, Timestamp};
use tokio::sync::watch;

use super::network::{Hop, Network};

/// A message was on a link when the link was cut, or was to be put on one that is.
#[derive(Debug)]
pub(super) struct Lost;

/// Links that change under the messages on them.
#[derive(Debug)]
pub(super) struct Roads {
    network: Mutex<Network>,
    /// Counts the changes: of links, and of who answers.
    changes: watch::Sender<u64>,
}

impl Roads {
    pub(super) fn new(network: Network) -> Self {
        Self { network: Mutex::new(network), changes: watch::Sender::new(0) }
    }

    pub(super) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every message on its way to look again.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Carries a message of `size` over `hops`, each of which has it whole before the next one begins
    /// (store and forward). Returns how long that took from the moment the first link began to send it:
    /// what it waited for there says nothing about the way. Tells `began` of that moment, also while it lies ahead.
    pub(super) async fn travel(
        &self,
        hops: impl Iterator<Item = Hop>,
        size: ByteSize,
        clock: &dyn Clock,
        changes: &mut watch::Receiver<u64>,
        began: &Began,
    ) -> Result<Duration, Lost> {
        for (number, hop) in hops.enumerate() {
            let (place, mut passage) = self.network().put(hop, size, clock.now()).ok_or(Lost)?;
            loop {
                if number == 0 {
                    began.at(passage.starts);
                }
                let now = clock.now();
                if now >= passage.arrives {
                    break;
                }
                tokio::select! {
                    biased;
                    // The sender lives as long as `self`.
                    _ = changes.changed() => {}
                    () = clock.sleep(passage.arrives.since(now)) => continue,
                }
                let now = clock.now();
                let changed = self.network().passage(hop, place).ok_or(Lost)?;
                if passage.starts > now {
                    passage.starts = changed.starts;
                }
                if passage.sent > now {
                    passage.sent = changed.sent;
                    passage.arrives = changed.arrives;
                }
            }
        }
        Ok(began.elapsed(clock.now()))
    }
}

/// When the first link began, or begins, to send a message; shared with who is told if it is given up.
#[derive(Debug)]
pub(super) struct Began(AtomicU64);

impl Began {
    /// Not known yet.
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    fn at(&self, at: Timestamp) {
        self.0.store(at.nanos(), Relaxed);
    }

    /// How long the links have been at it; nothing before they begin, and for a message within a node.
    pub(super) fn elapsed(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_nanos(self.0.load(Relaxed)))
    }
}
