//! The machine's time.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use scf_core::{Clock, Timestamp, WallTime};

use crate::counter::monotonic;

/// The machine's monotonic clock, at zero when it is made; never ahead of it, and late by up to some 2 µs where a thread
/// asks many times in a millisecond.
///
/// Sleepers are woken by a thread of the clock's own, started by the first of them and stopped when the
/// clock is dropped: links are emulated by sleeping, and an executor's timer that counts in milliseconds
/// would stretch each of their delays by up to one. Its queue is as long as there are sleepers; one that is
/// dropped leaves it at once.
pub struct SystemClock {
    /// In nanoseconds of the system's monotonic clock.
    start: u64,
    timer: Arc<Timer>,
}

impl SystemClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: monotonic(), timer: Arc::default() }
    }

    /// What the system's monotonic clock was when this one was zero, in nanoseconds.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(monotonic().saturating_sub(self.start))
    }

    fn wall(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep(&self, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        match Instant::now().checked_add(wait) {
            Some(until) => Sleep { timer: &self.timer, until, ticket: None }.await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for SystemClock {
    fn drop(&mut self) {
        let thread = {
            let mut queue = self.timer.lock();
            queue.stopped = true;
            queue.thread.take()
        };
        self.timer.changed.notify_one();
        // A waker that the timer thread calls may hold the last reference to the clock.
        if let Some(thread) = thread.filter(|t| t.thread().id() != thread::current().id()) {
            // The thread does nothing but wake; a waker that panicked has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

#[derive(Default)]
struct Timer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// By time and, at the same time, by arrival.
    sleepers: BTreeMap<Ticket, Waker>,
    arrivals: u64,
    thread: Option<JoinHandle<()>>,
    stopped: bool,
}

type Ticket = (Instant, u64);

impl Timer {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `waker`; starts the thread for the first one.
    fn queue(self: &Arc<Self>, until: Instant, waker: Waker) -> Ticket {
        let mut queue = self.lock();
        queue.arrivals += 1;
        let ticket = (until, queue.arrivals);
        queue.sleepers.insert(ticket, waker);
        let is_next = queue.sleepers.first_key_value().is_some_and(|(first, _)| *first == ticket);
        if queue.thread.is_none() && !queue.stopped {
            let timer = Arc::clone(self);
            queue.thread = Some(
                thread::Builder::new()
                    .name("scf-clock".into())
                    .spawn(move || timer.run())
                    .expect("a process that cannot start one thread more cannot emulate a network"),
            );
        }
        drop(queue);
        if is_next {
            self.changed.notify_one();
        }
        ticket
    }

    fn run(&self) {
        // The system adds up to 50 µs to every wait, to spare the processor, unless it is told otherwise.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1000)) {
            tracing::debug!(%error, "waits are less precise");
        }
        let mut due: Vec<Waker> = Vec::new();
        let mut queue = self.lock();
        while !queue.stopped {
            let now = Instant::now();
            while let Some(entry) = queue.sleepers.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                due.push(entry.remove());
            }
            if !due.is_empty() {
                drop(queue);
                due.drain(..).for_each(Waker::wake);
                queue = self.lock();
                continue;
            }
            queue = match queue.sleepers.first_key_value() {
                Some((&(until, _), _)) => {
                    self.changed.wait_timeout(queue, until - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

struct Sleep<'a> {
    timer: &'a Arc<Timer>,
    until: Instant,
    ticket: Option<Ticket>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        if let Some(ticket) = self.ticket
            && let Some(waker) = self.timer.lock().sleepers.get_mut(&ticket)
        {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        self.ticket = Some(self.timer.queue(self.until, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // Outside the lock: dropping a waker may drop a task, and with it other sleepers.
            let waker = self.timer.lock().sleepers.remove(&ticket);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::{join_all, select};

    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_after_its_time_and_not_before() {
        let clock = SystemClock::new();
        let before = clock.now();
        join_all((1..=20).rev().map(|ms| clock.sleep(Duration::from_millis(ms)))).await;
        assert!(clock.now().since(before) >= Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_sleeper_that_is_dropped_leaves_the_queue() {
        let clock = SystemClock::new();
        let never = clock.sleep(Duration::from_secs(3600));
        select(never, clock.sleep(Duration::from_millis(1))).await;
        assert_eq!(clock.timer.lock().sleepers.len(), 0);
    }

    #[tokio::test]
    async fn a_wait_beyond_all_time_is_no_error() {
        let clock = SystemClock::new();
        select(clock.sleep(Duration::MAX), clock.sleep(Duration::from_millis(1))).await;
    }

    #[tokio::test]
    async fn dropping_the_clock_stops_its_thread() {
        let clock = SystemClock::new();
        clock.sleep(Duration::from_millis(1)).await;
        let timer = Arc::downgrade(&clock.timer);
        drop(clock);
        assert_eq!(timer.strong_count(), 0);
    }
}
