//! Instances that are kept for later calls of the same function.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::{Reuse, Timestamp};

use super::live::Live;

/// The idle instances of one function; the one used last is used next, so that the others grow old.
#[derive(Debug)]
pub(super) struct Warm {
    max_idle: usize,
    max_calls: u32,
    max_age: Duration,
    #[expect(clippy::vec_box, reason = "an instance keeps its box between calls")]
    idle: Mutex<Vec<Box<Live>>>,
    /// How many, to be asked without the lock.
    count: AtomicUsize,
}

impl Warm {
    /// What the function asks for; none where every call has a fresh instance.
    pub(super) fn new(reuse: Reuse) -> Option<Arc<Self>> {
        let Reuse::Warm { max_idle, max_calls, max_age } = reuse else { return None };
        let (idle, count) = (Mutex::default(), AtomicUsize::new(0));
        Some(Arc::new(Self { max_idle: max_idle as usize, max_calls, max_age, idle, count }))
    }

    pub(super) fn idle(&self) -> usize {
        self.count.load(Relaxed)
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
            let live = self.change(Vec::pop)?;
            if live.began.is_none_or(|began| now.since(began) < self.max_age) {
                return Some(live);
            }
        }
    }

    /// Keeps an instance that served its call well, if it may serve another and there is room.
    pub(super) fn give(&self, live: Box<Live>) {
        if live.calls < self.max_calls {
            let surplus = self.change(|idle| {
                if idle.len() < self.max_idle {
                    idle.push(live);
                    return None;
                }
                Some(live)
            });
            drop(surplus);
        }
    }

    /// Drops all but `keep`, those that were used longest ago first.
    pub(super) fn retire(&self, keep: usize) {
        let retired: Vec<_> = self.change(|idle| idle.drain(..idle.len().saturating_sub(keep)).collect());
        drop(retired);
    }

    fn change<R>(&self, change: impl FnOnce(&mut Vec<Box<Live>>) -> R) -> R {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut idle);
        self.count.store(idle.len(), Relaxed);
        result
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
