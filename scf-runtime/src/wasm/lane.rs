//! Threads for guests that run long, beside the executor's.

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use futures::FutureExt;
use scf_core::Meter;
use tokio::{runtime::Handle, sync::oneshot};
use tracing::{Dispatch, Span, dispatcher};

use super::slice;
use crate::{
    cpu::CpuMeter,
    depth::{depth, inside},
};

/// How much less than the others' the priority of these threads is. A thread that wakes takes the core from them at
/// once; while others want all of every core, a tenth of it is left for them.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// Longest that a call which is given up waits for its guest to leave: a turn, or a bulk operation of some megabytes.
const LEAVE: Duration = Duration::from_millis(3);

/// As many threads as there are cores, of low priority, for guests that have run for longer than a tick.
///
/// A guest gives way at every tick, but to be behind one tick of each of many guests is late. So a guest that runs
/// long leaves the executor: what arrives there finds its threads free, and the system gives them the cores. The
/// threads start with the first such guest and end with the lane.
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// Whether there are threads; false where the system gives none, then guests stay where they are.
    started: OnceLock<bool>,
}

struct Shared {
    /// At most one entry per instance of the pool.
    queue: Mutex<VecDeque<Arc<Job>>>,
    queued: Condvar,
    stopped: AtomicBool,
    /// Makes all guests see a tick.
    tick: Box<dyn Fn() + Send + Sync>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A guest on the lane.
struct Job {
    shared: Arc<Shared>,
    /// Told what the turns cost.
    meter: Arc<Meter>,
    /// The executor that its call came from: the host's timers are there.
    executor: Option<Handle>,
    /// Where the call's records go, and the span that they are in.
    records: Dispatch,
    span: Span,
    /// Inside how many calls it is.
    depth: u32,
    state: Mutex<State>,
    /// A turn ended.
    turned: Condvar,
}

struct State {
    /// There unless a thread has it.
    work: Option<Work>,
    turn: Turn,
    is_given_up: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Waits to be woken.
    Waiting,
    Queued,
    Running,
    /// Woken while it ran.
    Again,
}

impl Lane {
    /// `tick` makes all guests of the engine see a tick.
    pub(super) fn new(tick: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            queued: Condvar::new(),
            stopped: AtomicBool::new(false),
            tick: Box::new(tick),
        };
        Self { shared: Arc::new(shared), started: OnceLock::new() }
    }

    /// Runs `work` where it is polled until `is_long`, which is asked before the first turn and after each, says so;
    /// and on the lane from then on.
    ///
    /// Cancel safe: dropping the future ends `work` at its next tick.
    /// `meter` is told what the turns cost beside what the work itself meters.
    pub(super) async fn run<F>(
        &self,
        mut work: Pin<Box<F>>,
        is_long: impl Fn() -> bool,
        meter: &Arc<Meter>,
    ) -> F::Output
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let mut goes = is_long() && self.is_started();
        let here = poll_fn(|cx| {
            if !goes {
                if let Poll::Ready(output) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                goes = is_long() && self.is_started();
            }
            if goes { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Some(output) = here.await {
            return output;
        }
        let (give, output) = oneshot::channel();
        let work = async move {
            let output = AssertUnwindSafe(work).catch_unwind().await;
            // Nobody waits for it if the call was given up.
            drop(give.send(output));
        };
        let mut job = GivenUp(Some(Job::start(&self.shared, Box::pin(work), meter)));
        let output: Result<F::Output, Box<dyn Any + Send>> =
            output.await.expect("a job sends its output before it ends, and only this drops it before that");
        job.0 = None;
        output.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    fn is_started(&self) -> bool {
        *self.started.get_or_init(|| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            let start = |_: &usize| {
                let shared = Arc::clone(&self.shared);
                let thread = thread::Builder::new().name("scf-lane".into()).spawn(move || shared.run());
                thread.inspect_err(|error| tracing::warn!(%error, "no thread for guests that run long")).is_ok()
            };
            (0..cores).filter(start).count() > 0
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Taken so that no thread is between its look at the flag and its sleep.
        let queue = mem::take(&mut *self.shared.lock());
        self.shared.queued.notify_all();
        drop(queue);
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Arc<Job>) {
        self.lock().push_back(job);
        self.queued.notify_one();
    }

    fn run(&self) {
        lower_priority();
        // The job that has just had a turn and wants another one. It queues up behind the others and wakes no thread
        // for that: this one is awake, and where nobody else waits the job goes on where it was.
        let mut again = None;
        loop {
            // What this thread does for a job, woken and put to sleep included, without what the job itself meters.
            let cost = CpuMeter::default();
            let Some(meter) = cost.count(|| {
                let job = self.next(again.take())?;
                let meter = Arc::clone(&job.meter);
                again = job.turn();
                Some(meter)
            }) else {
                return;
            };
            meter.add_host(cost.used());
        }
    }

    /// Waits for the job whose turn is next, after `again` has queued up; `None` when there will be no more.
    fn next(&self, again: Option<Arc<Job>>) -> Option<Arc<Job>> {
        let mut queue = self.lock();
        queue.extend(again);
        while !self.stopped.load(SeqCst) {
            match queue.pop_front() {
                Some(job) => return Some(job),
                None => queue = self.queued.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
        None
    }
}

/// Makes this thread one that others are preferred to.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::{process, thread};
        // Linux has priorities of threads; what POSIX says of processes it does for the one thread that is named.
        let this = thread::gettid();
        let now = process::getpriority_process(Some(this)).unwrap_or(0);
        if let Err(error) = process::setpriority_process(Some(this), (now + NICE).min(19)) {
            tracing::warn!(%error, "guests that run long have the priority of all others");
        }
    }
    slice::ask(slice::LONG);
}

impl Job {
    fn start(shared: &Arc<Shared>, work: Work, meter: &Arc<Meter>) -> Arc<Self> {
        let job = Arc::new(Self {
            shared: Arc::clone(shared),
            meter: Arc::clone(meter),
            executor: Handle::try_current().ok(),
            records: dispatcher::get_default(Dispatch::clone),
            span: Span::current(),
            depth: depth(),
            state: Mutex::new(State { work: Some(work), turn: Turn::Queued, is_given_up: false }),
            turned: Condvar::new(),
        });
        shared.push(Arc::clone(&job));
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Polls the work once. Gives it back where it is to be polled again.
    fn turn(self: Arc<Self>) -> Option<Arc<Self>> {
        let mut state = self.lock();
        let mut work = state.work.take()?;
        state.turn = Turn::Running;
        drop(state);
        let waker = Waker::from(Arc::clone(&self));
        let polled = {
            let _executor = self.executor.as_ref().map(Handle::enter);
            let _records = dispatcher::set_default(&self.records);
            let _span = self.span.enter();
            inside(self.depth, || work.as_mut().poll(&mut Context::from_waker(&waker)))
        };
        let mut state = self.lock();
        if polled.is_ready() || state.is_given_up {
            drop(state);
            // The guest is gone before whoever waits for that goes on.
            drop(work);
            self.lock().turn = Turn::Waiting;
            self.turned.notify_all();
            return None;
        }
        state.work = Some(work);
        let is_woken = state.turn == Turn::Again;
        state.turn = if is_woken { Turn::Queued } else { Turn::Waiting };
        drop(state);
        is_woken.then_some(self)
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        let mut state = self.lock();
        match state.turn {
            Turn::Waiting if state.work.is_some() => {
                state.turn = Turn::Queued;
                drop(state);
                let shared = Arc::clone(&self.shared);
                shared.push(self);
            }
            Turn::Running => state.turn = Turn::Again,
            _ => {}
        }
    }
}

/// A job whose call may be given up: then it ends.
struct GivenUp(Option<Arc<Job>>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        let Some(job) = self.0.take() else { return };
        let mut state = job.lock();
        state.is_given_up = true;
        if let Some(work) = state.work.take() {
            drop(state);
            drop(work);
            return;
        }
        if matches!(state.turn, Turn::Running | Turn::Again) {
            // It gives way at the next tick: now. Its slot is free when this returns, except in the middle of a
            // long bulk operation: then a little later.
            (job.shared.tick)();
            let runs = |state: &mut State| matches!(state.turn, Turn::Running | Turn::Again);
            drop(job.turned.wait_timeout_while(state, LEAVE, runs));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::atomic::AtomicUsize};

    use futures::poll;
    use tokio::task::yield_now;

    use super::*;
    use crate::depth::within_stack;

    fn lane() -> (Lane, Arc<AtomicUsize>) {
        let ticks = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ticks);
        let tick = move || {
            counter.fetch_add(1, SeqCst);
        };
        (Lane::new(tick), ticks)
    }

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn what_is_short_stays_where_it_is_and_starts_no_thread() {
        let (lane, _) = lane();
        let here = name();
        let work = Box::pin(async {
            yield_now().await;
            name()
        });
        assert_eq!(lane.run(work, || false, &Arc::default()).await, here);
        assert_eq!(lane.started.get(), None);
    }

    #[tokio::test]
    async fn what_is_long_goes_on_elsewhere_and_gives_its_output_here() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let work = Box::pin(async {
            for _ in 0..1000 {
                yield_now().await;
            }
            // The timers of the executor that it came from.
            tokio::time::sleep(Duration::from_millis(1)).await;
            name()
        });
        assert_eq!(lane.run(work, || true, &meter).await, "scf-lane");
    }

    #[tokio::test]
    async fn what_goes_on_elsewhere_is_inside_as_many_calls_as_before() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let deep = lane.run(Box::pin(within_stack(async { (name(), depth()) })), || true, &meter);
        let (thread, deep) = within_stack(within_stack(deep)).await.flatten().flatten().unwrap();
        assert_eq!((&*thread, deep), ("scf-lane", 3));
        // The thread itself is inside of none.
        assert_eq!(lane.run(Box::pin(async { depth() }), || true, &meter).await, 0);
    }

    #[tokio::test]
    async fn what_is_given_up_is_gone_at_once_wherever_it_is() {
        let (lane, ticks) = lane();
        let meter = Arc::default();
        let alive = Arc::new(());
        for turns in 0..50 {
            let held = Arc::clone(&alive);
            let work = Box::pin(async move {
                let _held = held;
                loop {
                    yield_now().await;
                }
            });
            let mut run = Box::pin(lane.run(work, || true, &meter));
            for _ in 0..turns {
                assert!(poll!(&mut run).is_pending());
            }
            drop(run);
            assert_eq!(Arc::strong_count(&alive), 1);
        }
        // It asked for a tick only where it met one in its turn.
        assert!(ticks.load(SeqCst) <= 50);
    }

    #[tokio::test]
    async fn what_waits_is_given_up_too() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let (begun, has_begun) = oneshot::channel();
        let work = Box::pin(async move {
            yield_now().await;
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        let mut run = Box::pin(lane.run(work, || true, &meter));
        assert!(poll!(&mut run).is_pending());
        has_begun.await.unwrap();
        drop(run);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[tokio::test]
    #[should_panic(expected = "on purpose")]
    async fn a_panic_there_is_a_panic_here() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let work = Box::pin(async {
            yield_now().await;
            panic!("on purpose");
        });
        lane.run(work, || true, &meter).await
    }

    #[tokio::test]
    async fn the_threads_end_with_the_lane() {
        let (lane, _) = lane();
        lane.run(Box::pin(yield_now()), || true, &Arc::default()).await;
        let shared = Arc::downgrade(&lane.shared);
        assert!(shared.strong_count() > 1);
        drop(lane);
        // Each thread holds it until it ends.
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[tokio::test]
    async fn records_of_what_goes_on_elsewhere_go_where_those_of_here_go() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let here = Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let guard = dispatcher::set_default(&here);
        let work = Box::pin(async {
            yield_now().await;
            dispatcher::get_default(|there| there.is::<tracing::subscriber::NoSubscriber>() && name() == "scf-lane")
        });
        assert!(lane.run(work, || true, &meter).await);
        drop(guard);
    }

    #[tokio::test]
    async fn many_take_turns() {
        let (lane, _) = lane();
        let meter = Arc::default();
        let count = |rounds| {
            Box::pin(async move {
                for _ in 0..rounds {
                    yield_now().await;
                }
                rounds
            })
        };
        let endless = pin!(lane.run(count(usize::MAX), || true, &meter));
        let all = futures::future::join_all((0..100).map(|rounds| lane.run(count(rounds), || true, &meter)));
        let futures::future::Either::Left((counts, _)) = futures::future::select(pin!(all), endless).await else {
            panic!("the endless one ended");
        };
        assert_eq!(counts, (0..100).collect::<Vec<_>>());
    }
}
