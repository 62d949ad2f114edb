//! Time that passes while this process computes and leaps over every wait.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use rustix::time::{ClockId, clock_gettime};
use scf::core::{Clock, Timestamp};
use tokio::runtime::{Builder, Handle, Runtime};

/// A clock on which computing takes the CPU time that it takes, or what is [charged](LeapingClock::beside) for it, and
/// waiting takes no real time: when nothing runs, it moves to where the next sleeper wakes. Stands still outside of its
/// [turns](Stage::turn).
pub(crate) struct LeapingClock(Mutex<Time>);

#[derive(Default)]
struct Time {
    at: Timestamp,
    /// CPU time of the process when it was `at`, during a turn.
    running: Option<Duration>,
    /// Threads that compute beside it.
    beside: u32,
    /// By time and, at the same time, by arrival.
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    arrivals: u64,
}

impl Time {
    fn now(&mut self) -> Timestamp {
        if let Some(before) = self.running {
            let cpu = process_cpu();
            if self.beside == 0 {
                self.at = self.at + cpu.saturating_sub(before);
            }
            self.running = Some(cpu);
        }
        self.at
    }

    /// Takes out whose time has come.
    fn due(&mut self) -> Vec<Waker> {
        let now = self.now();
        let later = self.sleepers.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.sleepers, later).into_values().collect()
    }
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

impl LeapingClock {
    /// A clock at its start, which stands still.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `f` while time stands still, and then lets `took` pass.
    pub(crate) fn beside<T>(&self, took: Duration, f: impl FnOnce() -> T) -> T {
        {
            let mut time = self.time();
            time.now();
            time.beside += 1;
        }
        let done = f();
        let mut time = self.time();
        time.now();
        time.beside -= 1;
        time.at = time.at + took;
        done
    }

    /// Wakes whose time has come; whether there was anybody.
    fn wake(&self) -> bool {
        let due = self.time().due();
        let any = !due.is_empty();
        due.into_iter().for_each(Waker::wake);
        any
    }

    fn leap(&self) {
        {
            let mut time = self.time();
            let Some((next, _)) = time.sleepers.first_key_value().map(|(at, _)| *at) else { return };
            time.now();
            time.at = time.at.max(next);
        }
        self.wake();
    }
}

impl fmt::Debug for LeapingClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeapingClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Clock for LeapingClock {
    fn now(&self) -> Timestamp {
        self.time().now()
    }

    async fn sleep(&self, wait: Duration) {
        Sleep { clock: self, until: self.now() + wait, ticket: None }.await;
    }
}

struct Sleep<'a> {
    clock: &'a LeapingClock,
    until: Timestamp,
    ticket: Option<(Timestamp, u64)>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = self.clock.time();
        if time.now() >= self.until {
            return Poll::Ready(());
        }
        let ticket = self.ticket.unwrap_or_else(|| {
            time.arrivals += 1;
            (self.until, time.arrivals)
        });
        time.sleepers.insert(ticket, cx.waker().clone());
        drop(time);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // Outside the lock: dropping a waker may drop a task, and with it other sleepers.
            let waker = self.clock.time().sleepers.remove(&ticket);
            drop(waker);
        }
    }
}

/// Whose time passes now.
#[derive(Clone, Default)]
pub(crate) struct Stage(Arc<Mutex<Option<Arc<LeapingClock>>>>);

impl Stage {
    /// Lets the time of `clock` pass until the turn is dropped; there is one turn at a time.
    pub(crate) fn turn(&self, clock: &Arc<LeapingClock>) -> Turn {
        clock.time().running = Some(process_cpu());
        *self.current() = Some(Arc::clone(clock));
        Turn { stage: self.clone(), clock: Arc::clone(clock) }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<LeapingClock>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An executor of one thread, and one more that computes, that lets time leap when neither has anything to do.
    pub(crate) fn runtime(&self) -> std::io::Result<Runtime> {
        let (stage, handle) = (self.clone(), Arc::new(OnceLock::<Handle>::new()));
        let known = Arc::clone(&handle);
        let idle = move || {
            let Some(clock) = stage.current().clone() else { return };
            let Some(handle) = known.get().filter(|_| !clock.wake()) else { return };
            // Behind everything that was given to the only thread that computes; this thread gives it nothing meanwhile.
            let (done, is_done) = mpsc::channel();
            handle.spawn_blocking(move || done.send(()));
            let computed = is_done.recv().is_err() || handle.metrics().global_queue_depth() > 0;
            if !computed {
                clock.leap();
            }
        };
        let runtime =
            Builder::new_current_thread().enable_all().max_blocking_threads(1).on_thread_park(idle).build()?;
        handle.get_or_init(|| runtime.handle().clone());
        Ok(runtime)
    }
}

/// The time of one clock passes.
#[must_use]
pub(crate) struct Turn {
    stage: Stage,
    clock: Arc<LeapingClock>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stage.current().take();
        let mut time = self.clock.time();
        time.now();
        time.running = None;
    }
}
