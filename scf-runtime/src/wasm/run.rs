//! What the executor and the guest of an instance both know of the call that it serves.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use scf_core::Meter;

use super::{
    account::Account,
    share::{Share, Turn},
    ticker::Ticker,
};
use crate::cpu::CpuMeter;

/// The call that an instance serves, as far as its guest and who polls it both have to do with it. An instance has one,
/// for all of its calls.
#[derive(Debug, Default)]
pub(super) struct Run {
    meter: CpuMeter,
    /// CPU time of other threads that the call's meter was not told of yet, in nanoseconds: for the guest, and of the
    /// host for it.
    beside: AtomicU64,
    host: AtomicU64,
    is_cold: AtomicBool,
    /// Whether the call runs long, to be asked without the lock.
    is_long: AtomicBool,
    /// There once it does.
    turn: Mutex<Option<Arc<Turn>>>,
}

impl Run {
    /// Begins to count for another call.
    pub(super) fn begin(&self, is_cold: bool) {
        self.meter.reset();
        self.is_cold.store(is_cold, Relaxed);
        if self.is_long.load(Relaxed) {
            self.is_long.store(false, Relaxed);
            *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether the instance was made for the call.
    #[cfg(feature = "services")]
    pub(super) fn is_cold(&self) -> bool {
        self.is_cold.load(Relaxed)
    }

    /// CPU time that the call used so far, up to the end of the last poll.
    pub(super) fn used(&self) -> Duration {
        self.meter.used()
    }

    /// CPU time up to now, asked by the guest.
    pub(super) fn running(&self) -> Duration {
        self.meter.running()
    }

    /// Counts CPU time that another thread used on the guest's behalf.
    pub(super) fn charge(&self, cpu: Duration) {
        let cpu = nanos(cpu);
        self.meter.charge(cpu);
        self.beside.fetch_add(cpu, Relaxed);
    }

    /// Counts CPU time that a thread of the host used for the call, which is not the guest's.
    pub(super) fn charge_host(&self, cpu: Duration) {
        self.host.fetch_add(nanos(cpu), Relaxed);
    }

    /// The call's part in the sharing of cores, which it has from now on.
    pub(super) fn turn(&self, share: &Arc<Share>, account: &Arc<Account>) -> Arc<Turn> {
        self.is_long.store(true, Relaxed);
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turn.get_or_insert_with(|| Arc::new(Turn::new(share, account))))
    }

    /// Polls `work` with the ticks going, and meters it: `told` hears of it.
    pub(super) fn poll<F: Future>(
        &self,
        told: &Meter,
        ticker: &Ticker,
        part: usize,
        work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        let polled = self.meter.count_telling(told, || {
            let polled = ticker.during(part, || work.poll(cx));
            // Also when it is done: who waits for the seat does not wait for the next call.
            if self.is_long.load(Relaxed) {
                self.pause();
            }
            polled
        });
        for (counter, tell) in [(&self.beside, Meter::add_cpu as fn(&Meter, Duration)), (&self.host, Meter::add_host)] {
            if counter.load(Relaxed) > 0 {
                tell(told, Duration::from_nanos(counter.swap(0, Relaxed)));
            }
        }
        polled
    }

    fn pause(&self) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = &*turn {
            turn.pause();
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
