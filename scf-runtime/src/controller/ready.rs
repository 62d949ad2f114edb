//! A revision of a function that is ready on one node.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use scf_core::{Function, Load, Prepared, Reuse, Revision, Timestamp};

use super::{Controller, Fitted, admission::Slots, lifecycle::Life, pins::Pins, scaler::Scaler};
use crate::{device::Claim, ledger::Books};

/// A revision of a function that is ready to be called on this node.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) function: Arc<Function>,
    pub(crate) revision: Revision,
    /// Its number in the queues.
    pub(super) key: u64,
    pub(super) prepared: Arc<dyn Prepared>,
    pub(super) books: Books,
    /// What counts its calls, where somebody wants to know.
    #[cfg(feature = "metrics")]
    pub(crate) seen: Option<crate::observe::Seen>,
    pub(super) devices: Claim,
    pub(super) slots: Slots,
    /// Keys that have an isolate of their own.
    pub(super) pins: Pins,
    pub(super) life: Life,
    pub(super) scaler: Option<Mutex<Scaler>>,
    /// Isolates that it was last told to keep.
    kept: AtomicU32,
}

impl Ready {
    /// Calls that run, that wait and that may run.
    #[cfg(feature = "metrics")]
    pub(crate) fn slots_now(&self) -> [u32; 3] {
        [&self.slots.held.running, &self.slots.waiting, &self.slots.limit].map(|count| count.load(Relaxed))
    }

    /// Refuses calls at once that would not be done within `bound`, whatever their callers' patience; none: only by that.
    pub(crate) fn bound_waits(&self, bound: Option<Duration>) {
        let nanos = bound.map_or(u64::MAX, |bound| u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX));
        self.slots.wait.store(nanos, SeqCst);
    }

    /// It was called.
    pub(super) fn touch(&self, now: Timestamp) {
        self.slots.held.used.store(now.nanos(), Relaxed);
    }

    /// Isolates that are kept while it has `slots`: those of a function that reuses them.
    pub(super) fn to_keep(&self, slots: u32) -> u32 {
        match self.function.reuse {
            Reuse::Warm { max_idle, .. } => max_idle.min(slots),
            _ => 0,
        }
    }

    /// Has `isolates` isolates kept, started before they are called.
    pub(super) async fn keep(&self, isolates: u32) {
        if self.kept.swap(isolates, Relaxed) == isolates {
            return;
        }
        if let Err(error) = self.prepared.keep(isolates).await {
            // Calls start their own.
            self.kept.store(0, Relaxed);
            tracing::warn!(faas.name = %self.function.name, isolates, %error, "isolates were not started ahead of calls");
        }
    }

    /// Retires all isolates, those that have served calls too.
    pub(super) async fn keep_none(&self) {
        self.kept.store(u32::MAX, Relaxed);
        self.keep(0).await;
    }

    /// When it should be started again although nobody calls it, as its autoscaler says.
    pub(super) fn wakes_at(&self) -> Option<Timestamp> {
        self.scaler.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).wakes_at()
    }

    /// Asks the autoscaler and makes the number of slots what it says, at least one; gives what it says.
    pub(super) fn scale(&self, now: Timestamp) -> Option<u32> {
        let mut scaler = self.scaler.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let (running, waiting) = (self.slots.held.running.load(SeqCst), self.slots.waiting.load(SeqCst));
        // Short calls are mostly over when the autoscaler is asked, and it must not take that for idleness.
        let running = running.max(u32::from(self.life.was_used_since_asked(now, self.slots.held.used.load(Relaxed))));
        let load = Load {
            now,
            running,
            waiting,
            current: 0,
            ended: self.slots.held.ended.swap(0, Relaxed),
            service: self.slots.held.service.mean().unwrap_or_default(),
        };
        let desired = scaler.desired(load, self.function.limits.concurrency);
        // The call that wakes a dormant function needs a slot itself.
        self.slots.limit.store(desired.max(1), SeqCst);
        Some(desired)
    }
}

impl Controller {
    /// Makes `fitted` the `revision` of `function` on this node.
    pub(crate) fn ready(
        &self,
        function: &Arc<Function>,
        revision: Revision,
        fitted: Fitted,
        books: &Books,
    ) -> Arc<Ready> {
        let Fitted { prepared, devices } = fitted;
        let slots = function.limits.concurrency.max(1);
        let scaler = self.scaler_for.as_ref().map(|make| Mutex::new(Scaler::new(make(function), slots)));
        let ready = Arc::new(Ready {
            function: Arc::clone(function),
            revision,
            key: self.keys.fetch_add(1, Relaxed),
            prepared,
            books: books.clone(),
            #[cfg(feature = "metrics")]
            seen: self.observer.metrics.as_ref().map(|metrics| metrics.seen(function, revision, &self.node.id)),
            devices,
            slots: Slots::new(slots),
            pins: Pins::default(),
            life: Life::default(),
            scaler,
            kept: AtomicU32::new(0),
        });
        #[cfg(feature = "metrics")]
        if let (Some(metrics), Some(seen)) = (&self.observer.metrics, &ready.seen) {
            metrics.watch(seen, &ready);
        }
        ready
    }
}
