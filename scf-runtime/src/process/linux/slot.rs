//! Room for processes.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many processes as may be at once.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    leaving: Arc<AtomicUsize>,
}

/// Room for one process. Given back when it is dropped, which is when its process is gone, or its start has been given
/// up.
#[derive(Debug)]
pub(super) struct Slot {
    permit: Option<OwnedSemaphorePermit>,
    is_leaving: AtomicBool,
    leaving: Arc<AtomicUsize>,
}

impl Slots {
    pub(super) fn new(processes: usize) -> Self {
        let free = Arc::new(Semaphore::new(processes.min(Semaphore::MAX_PERMITS)));
        Self { free, leaving: Arc::default() }
    }

    /// Room for a process, if there is some now.
    pub(super) fn try_take(&self) -> Option<Slot> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| self.slot(permit))
    }

    /// Waits for room.
    pub(super) async fn take(&self) -> Option<Slot> {
        Arc::clone(&self.free).acquire_owned().await.ok().map(|permit| self.slot(permit))
    }

    /// Whether some will be given back without anybody's doing.
    pub(super) fn are_leaving(&self) -> bool {
        self.leaving.load(Relaxed) > 0
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        Slot { permit: Some(permit), is_leaving: AtomicBool::new(false), leaving: Arc::clone(&self.leaving) }
    }
}

impl Slot {
    /// Its process has been ended, or its start given up: it will be given back.
    pub(super) fn leave(&self) {
        if !self.is_leaving.swap(true, Relaxed) {
            self.leaving.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // In this order: whoever finds no room and nothing that leaves gives up.
        drop(mem::take(&mut self.permit));
        if *self.is_leaving.get_mut() {
            self.leaving.fetch_sub(1, Relaxed);
        }
    }
}
