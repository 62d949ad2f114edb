//! CPU time of what runs on an executor that others run on too.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// A poll shorter than this was not interrupted by another thread, whose turn would last longer: the time
/// that passed is the CPU time. In nanoseconds.
const SHORT: u64 = 100_000;
/// Age up to which a reading of the thread's CPU time is used again, in nanoseconds.
const FRESH: u64 = 1_000_000;

/// Adds up the CPU time that one future takes, poll by poll.
///
/// Reading a thread's CPU time is a system call of 0.1 to 0.5 µs, and a call of a function can take less. So
/// a short poll is metered by the time that passed, which costs 20 ns to read, and a longer one by the
/// smaller of that and the thread's CPU time since its last reading, at most 1 ms before the poll began. What
/// is counted is therefore never less than the CPU time used, and more only by up to 1 ms, where the thread
/// was interrupted in the poll and had done something else just before.
///
/// Atomic only to be shared with what runs inside the future; one thread at a time writes.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that ended.
    used: AtomicU64,
    /// When the poll that runs now began.
    began: AtomicU64,
    /// The last reading of the thread's CPU time before that.
    base: AtomicU64,
}

/// When the thread's CPU time was last read, and what it was.
#[derive(Clone, Copy)]
struct Reading {
    at: u64,
    cpu: u64,
}

thread_local! {
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

fn nanos(time: Timespec) -> u64 {
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn now() -> u64 {
    nanos(clock_gettime(ClockId::Monotonic))
}

/// Reads the CPU time of the calling thread.
fn read(at: u64) -> Reading {
    let reading = Reading { at, cpu: nanos(clock_gettime(ClockId::ThreadCPUTime)) };
    LAST.set(Some(reading));
    reading
}

impl CpuMeter {
    /// Runs `future` and meters it.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let began = now();
            let last = LAST.get().filter(|last| began.saturating_sub(last.at) < FRESH).unwrap_or_else(|| read(began));
            self.began.store(began, Ordering::Relaxed);
            self.base.store(last.cpu, Ordering::Relaxed);
            let polled = future.as_mut().poll(cx);
            self.used.store(self.running().as_nanos() as u64, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// Adds CPU time that another thread used on the future's behalf.
    #[cfg(feature = "wasi-nn")]
    pub(crate) fn charge(&self, cpu: Duration) {
        self.used.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// CPU time up to the end of the last poll.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// CPU time up to now, asked from inside the future.
    pub(crate) fn running(&self) -> Duration {
        let now = now();
        let passed = now.saturating_sub(self.began.load(Ordering::Relaxed));
        let cpu = if passed < SHORT {
            passed
        } else {
            passed.min(read(now).cpu.saturating_sub(self.base.load(Ordering::Relaxed)))
        };
        self.used() + Duration::from_nanos(cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(cpu: Duration) {
        let start = read(now()).cpu;
        while read(now()).cpu - start < cpu.as_nanos() as u64 {
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
}
