//! CPU time of what runs on an executor that others run on too.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of the calling thread, in nanoseconds. A system call: some 0.1 to 0.3 µs.
fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Adds up the CPU time that one future takes: the thread's, from the beginning to the end of each poll.
///
/// Atomic only to be shared with what runs inside the future; one thread at a time writes.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    /// Of the polls that ended.
    used: AtomicU64,
    /// The thread's CPU time when the poll that runs now began.
    since: AtomicU64,
}

impl CpuMeter {
    /// Runs `future` and meters it.
    pub(crate) async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.since.store(thread_nanos(), Ordering::Relaxed);
            let polled = future.as_mut().poll(cx);
            self.used.store(self.running().as_nanos() as u64, Ordering::Relaxed);
            polled
        })
        .await
    }

    /// CPU time up to the end of the last poll.
    pub(crate) fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// CPU time up to now, asked from inside the future.
    pub(crate) fn running(&self) -> Duration {
        self.used() + Duration::from_nanos(thread_nanos().saturating_sub(self.since.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(cpu: Duration) {
        let start = thread_nanos();
        while thread_nanos() - start < cpu.as_nanos() as u64 {
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
}
