//! CPU time of what runs on an executor that others run on too.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, Timespec, clock_gettime};
use scf_core::Meter;

use crate::counter::monotonic;

/// A stretch shorter than this was not interrupted by another thread, whose turn would last longer: the time
/// that passed is the CPU time. In nanoseconds.
const SHORT: u64 = 100_000;
/// Age up to which a reading of the thread's CPU time is used again, in nanoseconds.
const FRESH: u64 = 1_000_000;

/// Adds up the CPU time that one future takes, poll by poll, without what other meters inside it add up: the
/// meter of a guest does not count the calls that it makes, the meter of a call's host part not the guest.
///
/// Reading a thread's CPU time is a system call of 0.1 to 0.5 µs, and a call of a function can take less. So
/// time is counted in stretches, from one beginning or end of a metered poll to the next on the same thread. A
/// short stretch counts with the time that passed, which costs 20 ns to read; a longer one with the smaller of that
/// and what the thread used since its last reading and no meter has counted yet. A reading is at most 1 ms old
/// when a poll begins, so what is counted too much, where a thread was interrupted, is at most what it did in that
/// millisecond outside of all meters.
///
/// Atomic only to be shared with what runs inside the future; one thread at a time writes.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that ended, in nanoseconds.
    used: AtomicU64,
}

/// What a thread knows about its metered polls.
struct Thread {
    /// When the stretch that runs now began.
    mark: Cell<u64>,
    /// Whom the meter told that ended then; nobody where one began.
    ended: Cell<*const Meter>,
    /// What the innermost meter counted in the poll that runs now.
    own: Cell<u64>,
    /// When the thread's CPU time was last read, what it was, and what was counted since.
    read_at: Cell<u64>,
    read: Cell<u64>,
    counted: Cell<u64>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            mark: Cell::new(0),
            ended: Cell::new(ptr::null()),
            own: Cell::new(0),
            read_at: Cell::new(0),
            read: Cell::new(0),
            counted: Cell::new(0),
        }
    };
}

fn nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn of_thread() -> u64 {
    nanos(clock_gettime(ClockId::ThreadCPUTime))
}

/// When a meter last began or ended on this thread, in nanoseconds of the system's monotonic clock.
pub(crate) fn marked() -> u64 {
    THREAD.with(|thread| thread.mark.get())
}

/// Whether a meter that tells `told` is what ended last in the poll that runs now, and none has begun since.
pub(crate) fn has_just_ended(told: &Meter) -> bool {
    THREAD.with(|thread| ptr::eq(thread.ended.get(), told))
}

impl Thread {
    /// Ends the stretch and begins the next; gives the CPU time of the one that ended.
    fn step(&self) -> u64 {
        let now = monotonic();
        let passed = now.saturating_sub(self.mark.replace(now));
        let known = self.read.get() + self.counted.get();
        if passed >= SHORT {
            return passed.min(self.look(now).saturating_sub(known));
        }
        self.counted.set(self.counted.get() + passed);
        passed
    }

    /// Counts for another meter from here on; gives what the one before has counted in its poll.
    fn begin(&self) -> u64 {
        self.ended.set(ptr::null());
        let ended = self.step();
        if self.mark.get().saturating_sub(self.read_at.get()) >= FRESH {
            self.look(self.mark.get());
        }
        // Outside of all meters this is a sum that nobody looks at.
        self.own.replace(0).wrapping_add(ended)
    }

    /// Reads the CPU time of this thread.
    fn look(&self, now: u64) -> u64 {
        let cpu = of_thread();
        self.read_at.set(now);
        self.read.set(cpu);
        self.counted.set(0);
        cpu
    }
}

impl CpuMeter {
    /// Runs `future` and meters it.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.count(|| future.as_mut().poll(cx))).await
    }

    /// As [`CpuMeter::run`], and tells `told` what is used, poll by poll, so that it is known of a call that is given up
    /// too.
    pub(crate) async fn run_telling<F: Future>(&self, told: &Meter, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.count_telling(told, || future.as_mut().poll(cx))).await
    }

    /// Meters `work`, one poll of the future. For a future that is too large to be moved into [`CpuMeter::run`].
    pub(crate) fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        self.add_up(ptr::null(), work).0
    }

    /// As [`CpuMeter::count`], and tells `told` what was used.
    pub(crate) fn count_telling<T>(&self, told: &Meter, work: impl FnOnce() -> T) -> T {
        let (done, own) = self.add_up(told, work);
        told.add_cpu(Duration::from_nanos(own));
        done
    }

    /// Adds up what `work` takes, and notes who is told of it.
    fn add_up<T>(&self, told: *const Meter, work: impl FnOnce() -> T) -> (T, u64) {
        let outside = THREAD.with(Thread::begin);
        let done = work();
        let own = THREAD.with(|thread| {
            let ended = thread.step();
            thread.ended.set(told);
            thread.own.replace(outside).wrapping_add(ended)
        });
        self.used.store(self.used.load(Ordering::Relaxed) + own, Ordering::Relaxed);
        (done, own)
    }

    /// Begins anew, for another future.
    #[cfg(feature = "wasm-runtime-only")]
    pub(crate) fn reset(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    /// Adds CPU time that another thread used on the future's behalf.
    #[cfg(feature = "wasm-runtime-only")]
    pub(crate) fn charge(&self, cpu: u64) {
        self.used.fetch_add(cpu, Ordering::Relaxed);
    }

    /// CPU time up to the end of the last poll.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// CPU time up to now, asked from inside the future and outside of any meter inside it.
    pub(crate) fn running(&self) -> Duration {
        let own = THREAD.with(|thread| {
            let ended = thread.step();
            let own = thread.own.get().wrapping_add(ended);
            thread.own.set(own);
            own
        });
        self.used() + Duration::from_nanos(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(cpu: Duration) {
        let start = of_thread();
        while of_thread() - start < cpu.as_nanos() as u64 {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn counts_what_runs_inside_and_not_what_runs_between_polls() {
        let meter = CpuMeter::default();
        let metered = meter.run(async {
            burn(Duration::from_millis(3));
            let first = meter.running();
            tokio::task::yield_now().await;
            burn(Duration::from_millis(2));
            first
        });
        let outside = async {
            burn(Duration::from_millis(40));
        };
        let (first, ()) = futures::join!(metered, outside);
        assert!(first >= Duration::from_millis(3));
        assert!(meter.used() >= Duration::from_millis(5));
        assert!(meter.used() < Duration::from_millis(40), "{:?}", meter.used());
    }

    #[tokio::test]
    async fn a_thread_that_waits_uses_no_cpu_time() {
        let meter = CpuMeter::default();
        meter.run(async { std::thread::park_timeout(Duration::from_millis(50)) }).await;
        // Parking may end early, but what was used is not what passed.
        assert!(meter.used() < Duration::from_millis(10), "{:?}", meter.used());
    }

    #[tokio::test]
    async fn many_short_polls_add_up() {
        let meter = CpuMeter::default();
        meter
            .run(async {
                for _ in 0..100 {
                    burn(Duration::from_micros(20));
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert!(meter.used() >= Duration::from_millis(2), "{:?}", meter.used());
    }

    #[tokio::test]
    async fn a_meter_does_not_count_what_a_meter_inside_it_counts() {
        let (outer, inner) = (CpuMeter::default(), CpuMeter::default());
        let before = of_thread();
        outer
            .run(async {
                burn(Duration::from_millis(2));
                inner
                    .run(async {
                        burn(Duration::from_millis(10));
                        tokio::task::yield_now().await;
                        burn(Duration::from_millis(10));
                    })
                    .await;
                burn(Duration::from_millis(2));
            })
            .await;
        let spent = Duration::from_nanos(of_thread() - before);
        assert!(inner.used() >= Duration::from_millis(20), "{:?}", inner.used());
        assert!(outer.used() >= Duration::from_millis(4) && outer.used() < Duration::from_millis(15), "{outer:?}");
        assert!(outer.used() + inner.used() <= spent + Duration::from_millis(1), "{outer:?} {inner:?} {spent:?}");
    }

    #[tokio::test]
    async fn what_was_used_is_told_before_the_future_is_done() {
        let (told, meter) = (Meter::default(), CpuMeter::default());
        let given_up = meter.run_telling(&told, async {
            burn(Duration::from_millis(2));
            std::future::pending::<()>().await;
        });
        assert!(futures::FutureExt::now_or_never(given_up).is_none());
        assert!(told.usage().cpu >= Duration::from_millis(2));
    }
}
