//! Cores for guests that run long, shared between tenants by their weight.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use tokio::{runtime::Handle, sync::oneshot, task};

use super::account::Account;

/// As many seats as there are cores.
///
/// A guest that runs for longer than a tick needs a seat to go on. At every tick it books the CPU time that it
/// had, and steps back while the tenant of a guest that waits for a seat had less for its weight. Guests that run
/// shortly need none: they run between the ticks, since a guest with a seat lets the executor go on to others at
/// each of them.
#[derive(Debug)]
pub(super) struct Share {
    cores: usize,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: usize,
    /// At most one per instance.
    waiting: Vec<Waiting>,
    /// The virtual time of the tenant that last was given a seat: a tenant that comes back from a pause starts
    /// there, so that it cannot save up time.
    now: u64,
}

#[derive(Debug)]
struct Waiting {
    account: Arc<Account>,
    seat: oneshot::Sender<Seat>,
}

/// The right to run on a core. Given to the next guest when it is dropped.
#[derive(Debug)]
struct Seat(Arc<Share>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Share {
    pub(super) fn new() -> Arc<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self { cores, seats: Mutex::default() })
    }

    /// A seat now, or a place in the queue for one.
    fn enter(self: &Arc<Self>, account: &Arc<Account>) -> Result<Seat, oneshot::Receiver<Seat>> {
        // More guests than the executor has threads cannot run at the same time.
        let threads = Handle::try_current().map_or(1, |executor| executor.metrics().num_workers());
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        account.virtual_time.fetch_max(seats.now, Relaxed);
        if seats.taken < self.cores.min(threads) {
            seats.taken += 1;
            return Ok(Seat(Arc::clone(self)));
        }
        Err(seats.wait(account))
    }

    /// Keeps `seat`, or gives it to a guest whose tenant had less time and queues for another.
    fn exchange(&self, seat: Seat, account: &Arc<Account>) -> Result<Seat, oneshot::Receiver<Seat>> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = account.virtual_time.load(Relaxed);
        let Some(next) = seats.next(|time| time < mine) else { return Ok(seat) };
        let place = seats.wait(account);
        drop(seats);
        // If the other guest is gone, the seat goes to whoever waits next.
        drop(next.seat.send(seat));
        Err(place)
    }

    fn leave(self: &Arc<Self>) {
        let next = {
            let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
            let next = seats.next(|_| true);
            if next.is_none() {
                seats.taken -= 1;
            }
            next
        };
        if let Some(next) = next
            && let Err(seat) = next.seat.send(Seat(Arc::clone(self)))
        {
            drop(seat);
        }
    }
}

impl Seats {
    fn wait(&mut self, account: &Arc<Account>) -> oneshot::Receiver<Seat> {
        let (seat, place) = oneshot::channel();
        self.waiting.push(Waiting { account: Arc::clone(account), seat });
        place
    }

    /// Who is next: the longest waiting of those whose tenant had the least time, if that is little enough.
    fn next(&mut self, is_little: impl Fn(u64) -> bool) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.seat.is_closed());
        let time = |waiting: &Waiting| waiting.account.virtual_time.load(Relaxed);
        let (position, least) = self.waiting.iter().map(time).enumerate().min_by_key(|(_, time)| *time)?;
        is_little(least).then(|| {
            self.now = self.now.max(least);
            self.waiting.remove(position)
        })
    }
}

/// The part of one call in the sharing of cores.
#[derive(Debug)]
pub(super) struct Turn {
    share: Arc<Share>,
    account: Arc<Account>,
    seat: Mutex<Option<Seat>>,
    /// Whether there is one, to be asked without the lock.
    is_seated: AtomicBool,
    /// It gave its thread up for others, not because it waits for something.
    is_yielding: AtomicBool,
}

impl Turn {
    pub(super) fn new(share: &Arc<Share>, account: &Arc<Account>) -> Self {
        Self {
            share: Arc::clone(share),
            account: Arc::clone(account),
            seat: Mutex::new(None),
            is_seated: AtomicBool::new(false),
            is_yielding: AtomicBool::new(false),
        }
    }

    /// Books `cpu` nanoseconds, lets others run, and returns when it is this call's turn again.
    pub(super) async fn next(&self, cpu: u64) {
        self.account.book(cpu);
        self.is_yielding.store(true, Relaxed);
        let seat = match self.take() {
            Some(seat) => self.share.exchange(seat, &self.account),
            None => self.share.enter(&self.account),
        };
        let seat = match seat {
            Ok(seat) => {
                // wasmtime's own yield wakes itself at once and so starves tasks that are only scheduled.
                task::yield_now().await;
                Some(seat)
            }
            Err(place) => place.await.ok(),
        };
        self.is_yielding.store(false, Relaxed);
        self.is_seated.store(seat.is_some(), Relaxed);
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = seat;
    }

    /// The call waits for something other than a core, or is over: its seat is for others.
    pub(super) fn pause(&self) {
        if self.is_seated.load(Relaxed) && !self.is_yielding.load(Relaxed) {
            drop(self.take());
        }
    }

    fn take(&self) -> Option<Seat> {
        if !self.is_seated.swap(false, Relaxed) {
            return None;
        }
        mem::take(&mut *self.seat.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use scf_core::{Tenant, TenantName};

    use super::*;

    const TICK: u64 = 1_000_000;

    fn account(name: &str, weight: u32) -> Arc<Account> {
        Arc::new(Account::new(&Tenant::new(TenantName::new(name).unwrap()).weight(weight)))
    }

    fn one_core() -> Arc<Share> {
        Arc::new(Share { cores: 1, seats: Mutex::default() })
    }

    /// Runs a guest of each account on one core for `ticks` and counts the ticks that each had.
    async fn ticks(accounts: &[Arc<Account>], ticks: usize) -> Vec<usize> {
        let share = one_core();
        let turns: Vec<_> = accounts.iter().map(|account| Turn::new(&share, account)).collect();
        let mut counts = vec![0; turns.len()];
        let mut yields: Vec<_> = turns.iter().map(|turn| Box::pin(turn.next(0))).collect();
        while counts.iter().sum::<usize>() < ticks {
            // A task that never yields has channels that are never ready.
            task::yield_now().await;
            let mut cx = Context::from_waker(Waker::noop());
            for (guest, turn) in turns.iter().enumerate() {
                if yields[guest].as_mut().poll(&mut cx).is_ready() {
                    counts[guest] += 1;
                    yields[guest] = Box::pin(turn.next(TICK));
                }
            }
        }
        counts
    }

    #[tokio::test]
    async fn tenants_have_cores_by_their_weight_and_not_by_their_guests() {
        let (heavy, light) = (account("heavy", 3), account("light", 1));
        let counts = ticks(&[Arc::clone(&heavy), Arc::clone(&light), Arc::clone(&light), light], 400).await;
        let share = counts[0] as f64 / 400.0;
        assert!((0.74..0.76).contains(&share), "{counts:?}");
        assert!(counts[1..].iter().all(|&count| count > 20), "{counts:?}");
    }

    #[tokio::test]
    async fn a_tenant_that_comes_late_has_not_saved_up_time() {
        let (early, late) = (account("early", 1), account("late", 1));
        early.book(1000 * TICK);
        let share = one_core();
        let first = share.enter(&early).unwrap();
        let waits = share.enter(&early).unwrap_err();
        drop((first, waits));
        let first = share.enter(&early).unwrap();
        let mut place = share.enter(&early).unwrap_err();
        drop(first);
        let seat = place.try_recv().unwrap();
        assert!(share.enter(&late).is_err());
        assert_eq!(late.virtual_time.load(Relaxed), 1000 * TICK);
        drop(seat);
    }

    #[tokio::test]
    async fn the_seat_of_a_guest_that_is_gone_or_waits_for_something_else_is_free() {
        let share = one_core();
        let tenant = account("a", 1);
        let (first, second) = (Turn::new(&share, &tenant), Turn::new(&share, &tenant));
        first.next(TICK).await;
        let mut cx = Context::from_waker(Waker::noop());
        let mut waits = Box::pin(second.next(0));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        first.pause();
        assert_eq!(waits.as_mut().poll(&mut cx), Poll::Ready(()));
        assert_eq!(share.seats.lock().unwrap().taken, 1);
        drop(waits);
        drop(second);
        assert_eq!(share.seats.lock().unwrap().taken, 0);
    }
}
