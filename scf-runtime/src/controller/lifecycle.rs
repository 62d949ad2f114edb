//! From dormant to draining: what a function's revision does on a node while nobody, somebody or nobody any more
//! calls it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use scf_core::Timestamp;
use tokio::sync::Notify;

use super::{Controller, Ready, admission::Entry};

/// What a revision does on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifecycle {
    /// Nothing of it runs or is kept; the next call wakes it.
    Dormant,
    /// It was called, or is made ready ahead of calls, and its first isolate is being made.
    Starting,
    /// It serves calls.
    Ready,
    /// It gets no new calls and finishes those that it has.
    Draining,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dormant => "dormant",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        })
    }
}

const DORMANT: u8 = 0;
const STARTING: u8 = 1;
const READY: u8 = 2;

/// Where a revision is in its life on one node.
#[derive(Debug, Default)]
pub(super) struct Life {
    phase: AtomicU8,
    is_draining: AtomicBool,
    /// Whether it is among those that are looked after by time.
    is_listed: AtomicBool,
    /// When its autoscaler was last asked, in nanoseconds of the clock.
    asked: AtomicU64,
}

impl Life {
    pub(super) fn now(&self) -> Lifecycle {
        match self.phase.load(SeqCst) {
            _ if self.is_draining.load(SeqCst) => Lifecycle::Draining,
            DORMANT => Lifecycle::Dormant,
            STARTING => Lifecycle::Starting,
            _ => Lifecycle::Ready,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.phase.load(Relaxed) == READY
    }

    /// Whether it was called since this was asked last; `used` is when it was last called.
    pub(super) fn was_used_since_asked(&self, now: Timestamp, used: u64) -> bool {
        let asked = self.asked.swap(now.nanos(), Relaxed);
        used > 0 && used >= asked
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }
}

/// The revisions on a node that are not dormant. Only these cost anything by time.
#[derive(Debug)]
pub(super) struct Awake {
    idle: Duration,
    list: Mutex<Vec<Arc<Ready>>>,
    /// Those that are dormant and are to be started ahead of calls, and when.
    asleep: Mutex<Vec<(Timestamp, Arc<Ready>)>>,
    changed: Arc<Notify>,
}

impl Awake {
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, list: Mutex::default(), asleep: Mutex::default(), changed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Ready>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleepers(&self) -> MutexGuard<'_, Vec<(Timestamp, Arc<Ready>)>> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those whose time has come; they are not asleep any more.
    fn due(&self, now: Timestamp) -> Vec<Arc<Ready>> {
        let mut sleepers = self.sleepers();
        let (due, later) = std::mem::take(&mut *sleepers).into_iter().partition(|(at, _)| *at <= now);
        *sleepers = later;
        let due: Vec<(Timestamp, Arc<Ready>)> = due;
        due.into_iter().map(|(_, ready)| ready).collect()
    }

    fn add(&self, ready: &Arc<Ready>) {
        if !ready.life.is_listed.swap(true, SeqCst) {
            self.lock().push(Arc::clone(ready));
            self.changed.notify_one();
        }
    }
}

impl Controller {
    /// Notified when there is a revision to look after by time where there was none.
    pub(crate) fn woken(&self) -> Arc<Notify> {
        Arc::clone(&self.awake.changed)
    }

    /// Whether there is anything to look after by time.
    pub(crate) fn is_awake(&self) -> bool {
        !self.awake.lock().is_empty() || !self.awake.sleepers().is_empty()
    }

    /// Calls that `ready` has, and what it does.
    pub(crate) fn lifecycle(ready: &Ready) -> (Lifecycle, u32, u32, u32) {
        let read = |counter: &std::sync::atomic::AtomicU32| counter.load(SeqCst);
        (ready.life.now(), read(&ready.slots.held.running), read(&ready.slots.waiting), read(&ready.slots.limit))
    }

    /// The revisions of all functions that still have calls and get no new ones.
    pub(crate) fn draining(&self) -> Vec<Arc<Ready>> {
        let is_draining = |ready: &&Arc<Ready>| ready.life.now() == Lifecycle::Draining && ready.slots.in_flight() > 0;
        self.awake.lock().iter().filter(is_draining).cloned().collect()
    }

    /// Before a call waits for its slot: a dormant function wakes.
    pub(super) fn wake(&self, ready: &Arc<Ready>, now: Timestamp) {
        if ready.life.turn(DORMANT, STARTING) {
            ready.scale(now);
            ready.touch(now);
            self.awake.add(ready);
        }
    }

    /// Its first isolate since it was dormant is there.
    pub(super) fn started(&self, ready: &Arc<Ready>) {
        ready.life.phase.store(READY, SeqCst);
        self.awake.add(ready);
    }

    /// Starts what is to be kept ahead of calls.
    pub(crate) async fn warm(&self, ready: &Arc<Ready>) {
        let isolates = ready.to_keep(ready.function.limits.concurrency);
        if isolates > 0 {
            self.wake(ready, self.clock.now());
            ready.keep(isolates).await;
            self.started(ready);
        }
    }

    /// Lets no new calls at `ready`; what it has is finished.
    pub(crate) fn drain(&self, ready: &Arc<Ready>) {
        ready.life.is_draining.store(true, SeqCst);
        if ready.slots.in_flight() > 0 {
            self.awake.add(ready);
        }
    }

    /// Lets no more calls at any revision but those that can run nowhere else, and returns once none runs or waits;
    /// `false` when [`Controller::reopen`] let them in again meanwhile.
    pub(crate) async fn empty(&self) -> bool {
        self.gate.set_entry(Entry::Bound);
        let awake: Vec<_> = self.awake.lock().clone();
        awake.iter().for_each(|ready| self.unpin_all(ready));
        self.gate.emptied().await
    }

    /// Lets all calls in again.
    pub(crate) fn reopen(&self) {
        self.gate.set_entry(Entry::Open);
    }

    /// Lets no call in any more, and returns once none runs or waits.
    pub(crate) async fn close(&self) {
        self.gate.set_entry(Entry::Closed);
        self.gate.emptied().await;
    }

    /// What is due by time: applies what the autoscalers say, lets rest what nobody calls, forgets what is drained.
    pub(crate) async fn look_after(&self) {
        let awake: Vec<_> = self.awake.lock().clone();
        let now = self.clock.now();
        for ready in self.awake.due(now) {
            self.start_ahead(&ready, now).await;
        }
        for ready in awake {
            let is_draining = ready.life.is_draining.load(SeqCst);
            if is_draining || !self.gate.is_open() {
                self.unpin_all(&ready);
            } else {
                self.unpin_remote(&ready);
            }
            let is_idle = ready.slots.in_flight() == 0;
            if is_draining {
                if is_idle {
                    self.unlist(&ready);
                }
                continue;
            }
            let desired = ready.scale(now);
            let rests = match desired {
                Some(slots) => slots == 0,
                None => now.since(Timestamp::from_nanos(ready.slots.held.used.load(Relaxed))) >= self.awake.idle,
            };
            if is_idle && rests {
                self.rest(&ready).await;
            } else if let Some(slots) = desired {
                ready.keep(ready.to_keep(slots)).await;
                // There may be more room than there was.
                self.gate.call_next();
            }
        }
    }

    /// Starts what is dormant, if its autoscaler still wants that, for a call that is expected.
    async fn start_ahead(&self, ready: &Arc<Ready>, now: Timestamp) {
        if ready.life.now() != Lifecycle::Dormant {
            return;
        }
        if ready.scale(now).is_some_and(|slots| slots > 0) {
            self.warm(ready).await;
        } else {
            self.sleep(ready, now);
        }
    }

    /// Notes when `ready` is to be started ahead of calls, if it is.
    fn sleep(&self, ready: &Arc<Ready>, now: Timestamp) {
        // What is said to be due at once was due before and found no reason.
        let wakes = ready.wakes_at().filter(|at| *at > now);
        let mut sleepers = self.awake.sleepers();
        sleepers.retain(|(_, other)| !Arc::ptr_eq(other, ready));
        if let Some(at) = wakes.filter(|_| !ready.life.is_draining.load(SeqCst)) {
            sleepers.push((at, Arc::clone(ready)));
        }
    }

    /// Makes `ready` dormant, unless it is called meanwhile.
    async fn rest(&self, ready: &Arc<Ready>) {
        if !ready.life.turn(READY, DORMANT) && !ready.life.turn(STARTING, DORMANT) {
            return;
        }
        if ready.slots.in_flight() > 0 {
            // Admitted before it could see that it has to wake the function; later ones do so themselves.
            ready.life.turn(DORMANT, READY);
            return;
        }
        ready.keep_none().await;
        self.sleep(ready, self.clock.now());
        self.unlist(ready);
        tracing::debug!(faas.name = %ready.function.name, node = %self.node.id, "scf.dormant");
    }

    fn unlist(&self, ready: &Arc<Ready>) {
        self.awake.lock().retain(|other| !Arc::ptr_eq(other, ready));
        ready.life.is_listed.store(false, SeqCst);
        // Who woke it while it was listed did not list it again.
        if ready.life.phase.load(SeqCst) != DORMANT && !ready.life.is_draining.load(SeqCst) {
            self.awake.add(ready);
        }
    }
}
