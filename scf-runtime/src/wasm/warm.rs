//! Instances that are kept for later calls of the same function.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use crossbeam_utils::atomic::AtomicCell;
use scf_core::{Reuse, Timestamp};

use super::live::Live;

/// An instance keeps its box between calls.
type Others = Vec<Box<Live>>;

/// The idle instances of one function; the one used last is used next, so that the others grow old.
pub(super) struct Warm {
    max_idle: usize,
    max_calls: u32,
    max_age: Duration,
    /// The one used last, which a caller that makes one call after the other finds without the lock.
    last: AtomicCell<Option<Box<Live>>>,
    others: Mutex<Others>,
}

impl Warm {
    /// What the function asks for; none where every call has a fresh instance.
    pub(super) fn new(reuse: Reuse) -> Option<Arc<Self>> {
        let Reuse::Warm { max_idle, max_calls, max_age } = reuse else { return None };
        let (last, others) = (AtomicCell::new(None), Mutex::default());
        Some(Arc::new(Self { max_idle: max_idle as usize, max_calls, max_age, last, others }))
    }

    /// Instances that it has, but those that calls have.
    pub(super) fn idle(&self) -> usize {
        self.change(|idle| idle.len())
    }

    /// Whether instances grow too old.
    pub(super) fn ages(&self) -> bool {
        self.max_age < Duration::MAX
    }

    /// Instances that it keeps at most.
    pub(super) const fn max_idle(&self) -> usize {
        self.max_idle
    }

    /// An instance that may serve another call at `now`. Older ones are dropped.
    pub(super) fn take(&self, now: Timestamp) -> Option<Box<Live>> {
        loop {
            // Dropped after the lock is let go.
            let live = self.last.take().or_else(|| self.lock().pop())?;
            if live.began.is_none_or(|began| now.since(began) < self.max_age) {
                return Some(live);
            }
        }
    }

    /// Keeps an instance that served its call well, if it may serve another and there is room.
    pub(super) fn give(&self, live: Box<Live>) {
        if live.calls < self.max_calls && self.max_idle > 0 {
            // The one before, if nobody took it: two were used at a time.
            drop(self.last.swap(Some(live)).and_then(|live| self.put_by(live)));
        }
    }

    /// Drops all but `keep`, those that were used longest ago first.
    pub(super) fn retire(&self, keep: usize) {
        let retired: Vec<_> = self.change(|idle| idle.drain(..idle.len().saturating_sub(keep)).collect());
        drop(retired);
    }

    /// Puts an instance by that is not the one used last; gives it back where there is no room.
    fn put_by(&self, live: Box<Live>) -> Option<Box<Live>> {
        let mut others = self.lock();
        if others.len() + 1 < self.max_idle {
            others.push(live);
            return None;
        }
        Some(live)
    }

    /// Does something to all of them; a call that comes meanwhile may begin with a fresh one.
    fn change<R>(&self, change: impl FnOnce(&mut Others) -> R) -> R {
        let (result, last) = {
            let mut idle = self.lock();
            idle.extend(self.last.take());
            (change(&mut idle), idle.pop())
        };
        drop(last.and_then(|last| self.last.swap(Some(last))).and_then(|live| self.put_by(live)));
        result
    }

    fn lock(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm").field("max_idle", &self.max_idle).finish_non_exhaustive()
    }
}

/// The idle instances of all functions of a factory: they hold places of the pool that a call may need.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Weak<Warm>>>);

impl Idle {
    pub(super) fn add(&self, warm: &Arc<Warm>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|warm| warm.strong_count() > 0);
        all.push(Arc::downgrade(warm));
    }

    /// Drops an idle instance of the function that has most of them. Answers whether there was one.
    pub(super) fn evict(&self) -> bool {
        let most = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).max_by_key(|warm| warm.idle())
        };
        let Some(warm) = most else { return false };
        let idle = warm.idle();
        warm.retire(idle.saturating_sub(1));
        idle > 0
    }
}
