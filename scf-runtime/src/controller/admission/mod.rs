//! Lets calls at the isolates of a node: at once, after a wait, or not at all.

mod door;
mod estimate;
mod queue;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use scf_core::{Clock, InvokeError, LimitKind, NodeId, Timestamp};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use self::{
    door::Door,
    estimate::Ahead,
    queue::{FairQueue, Line, Place, Turn},
};
pub(crate) use self::{door::Entry, estimate::ServiceTime};
use super::{Ready, within::within};
use crate::{
    spread::{Apart, PARTS},
    tenant::{Account, Seat},
};

/// What a call runs under: the node, the function's revision and the tenant each have room for it.
///
/// A call that finds room takes it with three compare-and-sets. Others wait in the [`FairQueue`], under a lock that
/// is held for no wait, and are called by whoever makes room.
#[derive(Debug)]
pub(crate) struct Gate {
    node: NodeId,
    /// Of the node, among the seats of an account.
    position: usize,
    clock: Arc<dyn Clock>,
    /// Calls that run at the same time on this node.
    capacity: u32,
    /// Where the number is bounded in the first place; elsewhere apart for each core.
    running: [Apart<AtomicU32>; PARTS],
    waiting: AtomicU32,
    queue: Mutex<FairQueue<Ticket>>,
    door: Door,
}

/// The slots of a function's revision on one node.
#[derive(Debug)]
pub(crate) struct Slots {
    /// How many there are now.
    pub(crate) limit: AtomicU32,
    pub(crate) waiting: AtomicU32,
    /// How long a call may wait for its turn, in nanoseconds, however patient it is.
    pub(crate) wait: AtomicU64,
    /// In a box of its own: most calls only read the rest, and a whole revision aligned like this would be half empty.
    pub(crate) held: Box<Apart<Held>>,
}

/// What every call changes.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Slots.
    pub(crate) running: AtomicU32,
    pub(crate) service: ServiceTime,
    /// Calls that ended, where an autoscaler wants to know.
    pub(crate) ended: AtomicU32,
    /// When the last call ended, in nanoseconds of the clock.
    pub(crate) used: AtomicU64,
}

impl Slots {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            waiting: AtomicU32::new(0),
            wait: AtomicU64::new(u64::MAX),
            held: Box::default(),
        }
    }

    /// Calls that run or wait.
    pub(crate) fn in_flight(&self) -> u32 {
        self.held.running.load(SeqCst) + self.waiting.load(SeqCst)
    }
}

/// A call that asks for admission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applicant<'a> {
    pub(crate) ready: &'a Arc<Ready>,
    pub(crate) account: &'a Arc<Account>,
    /// The cores that the call was made on.
    pub(crate) part: usize,
    /// When it was accepted, and how long it can wait.
    pub(crate) accepted: Timestamp,
    pub(crate) patience: Duration,
    /// Made by a call that runs on this node: it takes no room of node and tenant, which its caller already has.
    /// Two that wait for each other's room would wait for ever.
    pub(crate) is_nested: bool,
}

/// Who waits, for whom the place is meant.
#[derive(Debug)]
struct Ticket {
    ready: Arc<Ready>,
    account: Arc<Account>,
    part: usize,
    is_nested: bool,
    go: oneshot::Sender<Go>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    Run,
    Expired,
}

impl Gate {
    pub(crate) fn new(node: NodeId, position: usize, clock: Arc<dyn Clock>, capacity: u32) -> Self {
        let (running, waiting) = (Default::default(), AtomicU32::new(0));
        let (capacity, queue, door) = (capacity.max(1), Mutex::default(), Door::default());
        Self { node, position, clock, capacity, running, waiting, queue, door }
    }

    /// Calls that run or wait on this node.
    pub(crate) fn load(&self) -> u32 {
        self.running() + self.waiting.load(SeqCst)
    }

    fn running(&self) -> u32 {
        // A call is taken off where it was put on.
        self.running.iter().map(|running| running.load(SeqCst)).sum()
    }

    /// Where a call that was made on `part` of the cores is counted.
    fn counter(&self, part: usize) -> &AtomicU32 {
        let part = if self.capacity == u32::MAX { part % PARTS } else { 0 };
        &self.running[part]
    }

    /// Gives `applicant` room if there is some and nobody waits for it.
    pub(crate) fn admit_now<'a>(&'a self, applicant: &Applicant<'a>) -> Option<Permit<'a>> {
        let &Applicant { ready, account, part, is_nested, .. } = applicant;
        let seat = &account.seats[self.position];
        let nobody_waits = ready.slots.waiting.load(SeqCst) == 0
            && seat.waiting.load(SeqCst) == 0
            && (self.capacity == u32::MAX || self.waiting.load(SeqCst) == 0);
        let has_entered = nobody_waits && self.enter(ready, account, part, is_nested);
        has_entered.then(|| Permit { gate: self, ready, account, part, is_nested, has_waited: false })
    }

    /// Gives `applicant`, for whom there was no room, some when it is its turn.
    ///
    /// Refuses it where the queues are full or where, by what calls took so far, it would not be done in time.
    pub(crate) async fn admit<'a>(&'a self, applicant: Applicant<'a>) -> Result<Permit<'a>, InvokeError> {
        let waiter = self.line_up(applicant)?;
        // Boxed: the future of a call that need not wait has no room for it.
        Box::pin(self.wait(waiter, applicant)).await
    }

    async fn wait<'a>(&'a self, mut waiter: Waiter<'a>, applicant: Applicant<'a>) -> Result<Permit<'a>, InvokeError> {
        let Applicant { ready, account, part, patience, is_nested, .. } = applicant;
        match within(&*self.clock, patience, &mut waiter.go).await {
            Some(Ok(Go::Run)) => {
                waiter.is_over = true;
                Ok(Permit { gate: self, ready, account, part, is_nested, has_waited: true })
            }
            _ => Err(InvokeError::Limit { function: ready.function.name.clone(), limit: LimitKind::Wall }),
        }
    }

    /// Takes room in all three places, or in none.
    fn enter(&self, ready: &Ready, account: &Account, part: usize, is_nested: bool) -> bool {
        let take = |counter: &AtomicU32, limit: u32| {
            counter.fetch_update(SeqCst, SeqCst, |running| (running < limit).then(|| running + 1)).is_ok()
        };
        if !take(&ready.slots.held.running, ready.slots.limit.load(SeqCst)) {
            return false;
        }
        if is_nested {
            return true;
        }
        let seat = &account.seats[self.position];
        if !take(&seat.running, account.tenant.concurrency) {
            ready.slots.held.running.fetch_sub(1, SeqCst);
            return false;
        }
        if !take(self.counter(part), self.capacity) {
            seat.running.fetch_sub(1, SeqCst);
            ready.slots.held.running.fetch_sub(1, SeqCst);
            return false;
        }
        true
    }

    /// Whether node and tenant have more room than the last.
    pub(crate) fn can_spare(&self, account: &Account) -> bool {
        let tenant = account.seats[self.position].running.load(SeqCst);
        self.running() < self.capacity && tenant < account.tenant.concurrency
    }

    /// The room that [`Permit::retain`] kept is free.
    pub(crate) fn give_back(&self, ready: &Ready, account: &Account, part: usize) {
        self.leave(ready, account, part, false);
        self.call_next();
    }

    fn leave(&self, ready: &Ready, account: &Account, part: usize, is_nested: bool) {
        if !is_nested {
            self.counter(part).fetch_sub(1, SeqCst);
            account.seats[self.position].running.fetch_sub(1, SeqCst);
        }
        ready.slots.held.running.fetch_sub(1, SeqCst);
        self.tell_if_empty();
    }

    /// Queues a call and calls whoever is next, which may be this one.
    fn line_up<'a>(&'a self, applicant: Applicant<'a>) -> Result<Waiter<'a>, InvokeError> {
        let Applicant { ready, account, part, accepted, patience, is_nested } = applicant;
        let line = Line { tenant: account.number, weight: account.tenant.weight, function: ready.key };
        let seat = &account.seats[self.position];
        let mut queue = self.lock();
        if self.turns_away(&applicant) {
            return Err(self.elsewhere(ready));
        }
        let waiting = ready.slots.waiting.load(SeqCst);
        let is_full = waiting >= ready.function.limits.queue || seat.waiting.load(SeqCst) >= account.tenant.queue;
        let has_room = ready.slots.held.running.load(SeqCst) < ready.slots.limit.load(SeqCst);
        let ahead = Ahead {
            service: ready.slots.held.service.mean(),
            waiting: if has_room { 0 } else { waiting },
            slots: ready.slots.limit.load(SeqCst),
            share: (self.capacity < u32::MAX && !is_nested).then(|| {
                let weight = account.tenant.weight.max(1);
                let share = f64::from(weight) / queue.weights_with(line.tenant, weight) as f64;
                (queue.cost_of(line.tenant), f64::from(self.capacity) * share)
            }),
        };
        let is_free =
            is_nested || self.running() < self.capacity && seat.running.load(SeqCst) < account.tenant.concurrency;
        let retry_after = match (is_full, has_room && is_free) {
            (true, _) => Some(ahead.one_is_served()),
            // Who can run at once is not refused: what calls take would never be measured anew.
            (false, true) => None,
            (false, false) => {
                let bound = Duration::from_nanos(ready.slots.wait.load(SeqCst));
                ahead.too_late(patience.min(bound))
            }
        };
        if let Some(retry_after) = retry_after {
            let (function, node) = (ready.function.name.clone(), self.node.clone());
            return Err(InvokeError::Overloaded { function, node, retry_after });
        }
        let (go, called) = oneshot::channel();
        let ticket = Ticket { ready: Arc::clone(ready), account: Arc::clone(account), part, is_nested, go };
        let cost = ready.slots.held.service.mean().unwrap_or_default();
        let place = queue.push(line, cost, accepted + patience, ticket);
        for counter in [&self.waiting, &ready.slots.waiting, &seat.waiting] {
            counter.fetch_add(1, SeqCst);
        }
        drop(queue);
        let waiter = Waiter { gate: self, ready, account, part, is_nested, place, go: called, is_over: false };
        // Room that was made before the call was counted as waiting has not been offered to it.
        self.call_next();
        Ok(waiter)
    }

    /// Lets everybody go whose turn it is and who has room.
    pub(crate) fn call_next(&self) {
        while self.waiting.load(SeqCst) > 0 {
            let now = self.clock.now();
            let mut called: SmallVec<[(Ticket, Go); 4]> = SmallVec::new();
            let mut queue = self.lock();
            let has_room = |ticket: &Ticket| self.enter(&ticket.ready, &ticket.account, ticket.part, ticket.is_nested);
            while let Some(turn) = queue.next(now, has_room) {
                let (ticket, go) = match turn {
                    Turn::Run(ticket) => (ticket, Go::Run),
                    Turn::Expired(ticket) => (ticket, Go::Expired),
                };
                self.uncount(&ticket.ready, &ticket.account.seats[self.position]);
                called.push((ticket, go));
            }
            drop(queue);
            // Outside of the lock: a waker may run whatever it likes.
            self.tell_if_empty();
            let mut has_gone = false;
            for (ticket, go) in called {
                let Ticket { ready, account, part, is_nested, go: call } = ticket;
                if call.send(go).is_err() && go == Go::Run {
                    // It gave up meanwhile; its room is the next one's.
                    self.leave(&ready, &account, part, is_nested);
                    has_gone = true;
                }
            }
            if !has_gone {
                return;
            }
        }
    }

    fn uncount(&self, ready: &Ready, seat: &Seat) {
        for counter in [&self.waiting, &ready.slots.waiting, &seat.waiting] {
            counter.fetch_sub(1, SeqCst);
        }
    }

    fn lock(&self) -> MutexGuard<'_, FairQueue<Ticket>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one call, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    gate: &'a Gate,
    ready: &'a Ready,
    account: &'a Account,
    part: usize,
    is_nested: bool,
    has_waited: bool,
}

impl Permit<'_> {
    /// Whether the call had to wait for it.
    pub(crate) const fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Whether it is of the room that the call's caller has.
    pub(crate) const fn is_nested(&self) -> bool {
        self.is_nested
    }

    /// On which part of the cores it was taken.
    pub(crate) const fn part(&self) -> usize {
        self.part
    }

    /// Keeps the room beyond the call, until [`Gate::give_back`].
    pub(crate) fn retain(self) {
        // It owns nothing but the room.
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Self { gate, ready, account, .. } = self;
        gate.leave(ready, account, self.part, self.is_nested);
        // A node with room for everybody has none waiting for the node itself.
        let is_missed = ready.slots.waiting.load(SeqCst) > 0
            || account.seats[gate.position].waiting.load(SeqCst) > 0
            || gate.capacity < u32::MAX;
        if is_missed {
            gate.call_next();
        }
    }
}

/// A call in the queue; leaves it when it is dropped.
struct Waiter<'a> {
    gate: &'a Gate,
    ready: &'a Ready,
    account: &'a Account,
    part: usize,
    is_nested: bool,
    place: Place,
    go: oneshot::Receiver<Go>,
    /// The call has its permit.
    is_over: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut queue = self.gate.lock();
        let ticket = queue.remove(self.place);
        if ticket.is_some() {
            self.gate.uncount(self.ready, &self.account.seats[self.gate.position]);
        }
        drop((queue, ticket));
        self.gate.tell_if_empty();
        // Who was called meanwhile has room, and gives it back.
        self.go.close();
        if self.go.try_recv() == Ok(Go::Run) {
            self.gate.leave(self.ready, self.account, self.part, self.is_nested);
            self.gate.call_next();
        }
    }
}
