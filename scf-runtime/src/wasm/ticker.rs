//! What interrupts guests that run long.

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::EngineWeak;

use super::slice;
use crate::{
    counter::monotonic,
    cpu::of_thread,
    spread::{Apart, PARTS},
};

/// Time between two ticks while guests run long.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// Time between two ticks while they do not: every tick interrupts the call that runs on its core, so that
/// one call in four hundred of 10 µs each is late, not one in a hundred.
pub(super) const SLOW: Duration = Duration::from_millis(4);
/// Ticks for which it stays with short ones after a guest ran long.
const LONG: u32 = 50;
/// Least time to a tick that a guest asks for: however many ask, there are no more ticks than that.
const GRAIN: Duration = Duration::from_micros(50);
/// Ticks without any guest after which the thread sleeps: long enough that a stream of calls does not wake
/// it once for each of them, which would take longer than the call.
const LINGER: u32 = 25;

/// Increments the engine's epoch every 4 ms while guests run, earlier where a guest comes to the end of its budget
/// before that, and every millisecond once one of them runs long.
///
/// A thread of its own, since guests that never return may hold every thread of the executor; parked while
/// nothing runs, stopped when the ticker is dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    /// Taken only by the drop.
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests being polled, counted apart for each core.
    running: [Apart<AtomicUsize>; PARTS],
    /// A guest ran long since the last tick.
    is_long: AtomicBool,
    /// When the next tick is, in nanoseconds of the monotonic clock. Guests bring it forward.
    next: AtomicU64,
    parked: AtomicBool,
    stopped: AtomicBool,
    /// CPU time of the last tick that no guest was charged for yet, in nanoseconds. A tick that no guest sees is
    /// forgotten with the next one: the calls that it may have been for are over.
    cost: AtomicU64,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: EngineWeak) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new().name("scf-ticker".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Polls a guest of a call that was made on `part` of the cores, with the ticks going meanwhile.
    pub(super) fn during<T>(&self, part: usize, poll: impl FnOnce() -> T) -> T {
        let _running = self.enter(part);
        poll()
    }

    /// What a guest that saw the last tick is charged for it: its share beside the others that run now.
    pub(super) fn share_of_cost(&self) -> Duration {
        let running: usize = self.shared.running.iter().map(|running| running.load(Relaxed)).sum();
        let running = running.max(1) as u64;
        let before = self.shared.cost.fetch_update(Relaxed, Relaxed, |cost| Some(cost - cost / running));
        Duration::from_nanos(before.unwrap_or(0) / running)
    }

    /// A guest saw a tick after it had run for one.
    pub(super) fn runs_long(&self) {
        self.shared.is_long.store(true, Relaxed);
    }

    /// A guest begins that is to be interrupted from its first millisecond on.
    pub(super) fn hurry(&self) {
        self.shared.is_long.store(true, SeqCst);
        self.tick_within(TICK);
    }

    /// A guest that runs is to see a tick when `time` has passed, or with the next one where that is less than [`TICK`]
    /// away.
    pub(super) fn tick_within(&self, time: Duration) {
        if self.shared.bring_forward(time.max(GRAIN)) {
            self.wake();
        }
    }

    fn enter(&self, part: usize) -> Running<'_> {
        let running = &self.shared.running[part % PARTS];
        running.fetch_add(1, SeqCst);
        // Either this sees that the thread is about to park, or the thread sees that a guest runs.
        if self.shared.parked.load(SeqCst) {
            self.wake();
        }
        Running(running)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    fn is_running(&self) -> bool {
        self.running.iter().any(|running| running.load(SeqCst) > 0)
    }

    /// Whether the next tick was later than in `time`, and than in [`TICK`]; it is in `time` now.
    ///
    /// Short ticks are left as they are. Whoever wakes the thread soon after it ran may wait for it: the system sees
    /// that it has had its part, and looks again at its own next tick, which is up to 4 ms away.
    fn bring_forward(&self, time: Duration) -> bool {
        let (at, soon) = (after(time), after(TICK));
        let put = |next| (next > at && next > soon).then_some(at);
        self.next.fetch_update(SeqCst, SeqCst, put).is_ok()
    }

    /// Waits for the next tick.
    fn rest(&self) {
        while !self.stopped.load(SeqCst) {
            let left = self.next.load(SeqCst).saturating_sub(monotonic());
            if left == 0 {
                break;
            }
            thread::park_timeout(Duration::from_nanos(left));
        }
    }

    fn run(&self, engine: &EngineWeak) {
        slice::ask(slice::SHORT);
        let (mut idle, mut long) = (0, 0);
        let mut used = of_thread();
        while !self.stopped.load(SeqCst) {
            if self.is_running() {
                idle = 0;
            } else {
                idle += 1;
            }
            if idle <= LINGER {
                self.rest();
            } else {
                self.parked.store(true, SeqCst);
                if !self.is_running() && !self.stopped.load(SeqCst) {
                    thread::park();
                }
                self.parked.store(false, SeqCst);
                idle = 0;
            }
            // In this order, and before the tick: who asks for the next one meanwhile is heard, or sees this one and asks again.
            self.next.store(after(SLOW), SeqCst);
            long = if self.is_long.swap(false, SeqCst) { LONG } else { long.saturating_sub(1) };
            if long > 0 {
                self.bring_forward(TICK);
            }
            let Some(engine) = engine.upgrade() else { return };
            let before = mem::replace(&mut used, of_thread());
            self.cost.store(used - before, Relaxed);
            engine.increment_epoch();
        }
    }
}

/// When `time` has passed, in nanoseconds of the monotonic clock.
fn after(time: Duration) -> u64 {
    monotonic().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It ends within the tick it is in; a panic in it has been reported by the panic hook.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn resting(time: Duration) -> Arc<Shared> {
        Arc::new(Shared { next: AtomicU64::new(after(time)), ..Shared::default() })
    }

    #[test]
    fn a_tick_is_brought_forward_and_never_put_off() {
        let shared = resting(HOUR);
        assert!(shared.bring_forward(TICK));
        let next = shared.next.load(SeqCst);
        assert!(!shared.bring_forward(HOUR));
        assert_eq!(shared.next.load(SeqCst), next);
    }

    #[test]
    fn a_tick_that_is_near_is_left_where_it_is() {
        let shared = resting(TICK);
        let next = shared.next.load(SeqCst);
        assert!(!shared.bring_forward(GRAIN));
        assert_eq!(shared.next.load(SeqCst), next);
    }

    #[test]
    fn who_rests_until_a_late_tick_is_woken_for_an_earlier_one() {
        let shared = resting(HOUR);
        let rests = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.rest()
        });
        assert!(shared.bring_forward(GRAIN));
        rests.thread().unpark();
        // It would take the hour.
        rests.join().unwrap();
    }
}
