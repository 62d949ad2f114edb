//! What a queue does, on its board and on its records. One set of rules for every queue of this crate.
//!
//! Operations are applied one after the other, each inside a transaction of its store. The board is changed with the
//! records: a transaction that fails is the end of its store, so nothing is ever delivered that was not kept.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, pin_mut, select_biased};
use scf_core::{
    Acceptance, CallState, CallStatus, Cause, DeadLetter, Delivery, Durability, Hold, InvocationId, Lease, LeaseAsk,
    Payload, QueueError, QueueLoad, QueuedCall, Room, Scope, Settle,
};
use tokio::sync::Notify;

use super::{
    board::{Board, Pending},
    config::QueueConfig,
    record::{CALL, DEAD, DONE, Dead, Done, Records, Stored, TRY, Tries, clock_key, held_key, key, load, save},
    restore::Found,
    settled::Settled,
    time::{DueAt, Moment, Passing},
};

/// How often civil time is looked at while something waits for it: it may be set.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked at while only time is waited for: a restart must know that it was set before.
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// By how much civil time may go another way than time does before that is kept.
const DRIFT: Duration = Duration::from_secs(1);

/// Step of the child id that a reminder has the next time. Not one that a call's own calls count up to.
const COME_AGAIN: u64 = u64::MAX - 1;

/// What a queue is asked to change.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Accept(QueuedCall),
    Lease(LeaseAsk),
    Settle(Lease, Settle),
    Redrive(InvocationId),
    Discard(InvocationId),
    Cancel(InvocationId),
    CancelTimer(Scope, String),
    Hold(Scope, Hold),
    Release(Scope),
    /// After a restart: what ran when the process ended is tried again or given up.
    Recover,
}

impl Ask {
    /// What it asks of the disk. A lease that power takes away is none: its worker is gone as well.
    pub(crate) const fn durability(&self) -> Durability {
        if matches!(self, Self::Lease(_)) { Durability::OsBuffered } else { Durability::Durable }
    }

    /// The call that it is about.
    pub(crate) const fn id(&self) -> InvocationId {
        match self {
            Self::Accept(call) => call.id,
            Self::Settle(lease, _) => lease.id,
            Self::Redrive(id) | Self::Discard(id) | Self::Cancel(id) => *id,
            _ => InvocationId::new(0),
        }
    }
}

/// What came of an [`Ask`].
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Accepted(Acceptance),
    Leased(Vec<Delivery>),
    Released(Option<InvocationId>),
    Done,
}

impl Answer {
    pub(crate) fn accepted(self) -> Result<Acceptance, QueueError> {
        if let Self::Accepted(acceptance) = self { Ok(acceptance) } else { Err(self.unexpected()) }
    }

    pub(crate) fn leased(self) -> Result<Vec<Delivery>, QueueError> {
        if let Self::Leased(deliveries) = self { Ok(deliveries) } else { Err(self.unexpected()) }
    }

    pub(crate) fn released(self) -> Result<Option<InvocationId>, QueueError> {
        if let Self::Released(call) = self { Ok(call) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> QueueError {
        QueueError::Unavailable { reason: format!("the queue answered {self:?}") }
    }
}

/// A queue without the place where its records are.
#[derive(Debug)]
pub(crate) struct Book {
    state: Mutex<State>,
    passing: Passing,
    config: QueueConfig,
    durability: Durability,
    changed: Notify,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) board: Board,
    pub(super) settled: Settled,
    /// Counts what was accepted.
    pub(super) seq: u64,
    /// Bytes of the payloads of pending calls and dead letters.
    pub(super) bytes: u64,
    /// The latest moment that was kept, as far as civil time went with it since.
    pub(super) kept: Option<Moment>,
    /// Calls that ran when the process ended.
    pub(super) interrupted: Vec<InvocationId>,
}

impl Book {
    /// A queue with what was found in its store.
    pub(super) fn new(state: State, passing: Passing, config: QueueConfig, durability: Durability) -> Self {
        Self { state: Mutex::new(state), passing, config, durability, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn durability(&self) -> Durability {
        self.durability
    }

    /// Why one of `calls` would not be accepted now, together with those before it, if so.
    pub(crate) fn refuses<'c>(&self, calls: impl IntoIterator<Item = &'c QueuedCall>) -> Option<QueueError> {
        let state = self.state();
        let limits = self.config;
        let (mut held, mut bytes) = (state.board.len() + state.settled.dead(), state.bytes);
        for call in calls {
            let id = call.id;
            if state.board.get(id).is_some() || state.settled.is_done(id) || state.settled.is_dead(id) {
                continue;
            }
            let size = call.payload.size();
            held += 1;
            bytes += size.bytes();
            let room = if size > limits.payload {
                Room::Payload { limit: limits.payload }
            } else if held > limits.calls.max(1) {
                Room::Calls { limit: limits.calls.max(1) }
            } else if bytes > limits.bytes.bytes() {
                Room::Bytes { limit: limits.bytes }
            } else {
                continue;
            };
            return Some(QueueError::Full { id, room });
        }
        None
    }

    /// Does what `ask` says; the outer error ends the transaction, the inner one is the answer.
    pub(crate) fn apply<R: Records>(&self, records: &mut R, ask: &Ask) -> Result<Result<Answer, QueueError>, R::Error> {
        if let Ask::Accept(call) = ask
            && let Some(refused) = self.refuses([call])
        {
            return Ok(Err(refused));
        }
        let mut state = self.state();
        let now = self.passing.now();
        let mut page = Page { state: &mut state, records, config: &self.config, now, is_news: false };
        let answer = match ask {
            Ask::Accept(call) => page.accept(call, self.durability).map(Answer::Accepted).map(Ok),
            Ask::Lease(ask) => page.lease(ask).map(Answer::Leased).map(Ok),
            Ask::Settle(lease, settle) => page.settle(*lease, settle).map(done),
            Ask::Redrive(id) => page.redrive(*id).map(done),
            Ask::Discard(id) => page.discard(*id).map(done),
            Ask::Cancel(id) => page.cancel(*id).map(done),
            Ask::CancelTimer(scope, name) => page.cancel_timer(scope, name).map(|()| Ok(Answer::Done)),
            Ask::Hold(scope, hold) => page.hold(scope, *hold).map(|()| Ok(Answer::Done)),
            Ask::Release(scope) => page.release(scope).map(Answer::Released).map(Ok),
            Ask::Recover => page.recover().map(|()| Ok(Answer::Done)),
        };
        let is_news = page.is_news;
        drop(state);
        // What a lease found to be due, others may have waited for.
        if !matches!(ask, Ask::Lease(_)) || is_news {
            self.changed.notify_one();
        }
        answer
    }

    /// Goes on with what was found in the store, where some of what was applied is not kept after all.
    pub(crate) fn reload(&self, found: Found) {
        let now = self.passing.now();
        let mut state = self.state();
        *state = found.into_state_after(&state, &self.config, now);
        drop(state);
        self.changed.notify_one();
    }

    pub(crate) fn progress(&self, lease: Lease) -> Result<(), QueueError> {
        let now = self.passing.now().passed;
        if self.state().board.extend(lease, now) { Ok(()) } else { Err(QueueError::NotLeased { id: lease.id }) }
    }

    pub(crate) fn load(&self) -> QueueLoad {
        let state = self.state();
        let (pending, running) = (state.board.len(), state.board.running());
        QueueLoad { pending, running, dead: state.settled.dead(), bytes: state.bytes, ready: state.board.ready() }
    }

    /// See `InvocationQueue::changed`.
    pub(crate) async fn changed(&self) {
        loop {
            let (passed, wall) = self.state().board.next();
            let now = self.passing.now();
            if passed.is_some_and(|at| at <= now.passed) || wall.is_some_and(|at| at <= now.wall) {
                return;
            }
            let by_wall = wall.map(|at| at.since(now.wall).min(LOOK));
            let is_set = self.state().kept.is_some_and(|kept| Passing::drift(kept, now) >= DRIFT);
            if is_set && (passed.is_some() || wall.is_some()) {
                return;
            }
            let by_time = passed.map(|at| at.saturating_sub(now.passed).min(LOOK_SELDOM));
            let wait = by_time.into_iter().chain(by_wall).min();
            let waited = async {
                match wait {
                    Some(wait) => self.passing.clock.sleep(wait).await,
                    None => std::future::pending().await,
                }
            }
            .fuse();
            let notified = self.changed.notified().fuse();
            pin_mut!(waited, notified);
            select_biased! {
                () = notified => return,
                () = waited => {}
            }
        }
    }

    /// How `id` stands by what `records` hold.
    pub(crate) fn status<R: Records>(
        &self,
        records: &R,
        id: InvocationId,
    ) -> Result<Result<Option<CallStatus>, QueueError>, R::Error> {
        let corrupt = |error: postcard::Error| QueueError::Corrupt { id, what: error.to_string() };
        let status = |attempts, state| Ok(Some(CallStatus { id, attempts, state }));
        match load::<Done, R>(records, &key(DONE, id))? {
            Ok(Some(done)) => return Ok(status(done.attempts, CallState::Completed(done.result))),
            Ok(None) => {}
            Err(error) => return Ok(Err(corrupt(error))),
        }
        match load::<Dead, R>(records, &key(DEAD, id))? {
            Ok(Some(dead)) => return Ok(status(dead.attempts, CallState::Dead(dead.cause))),
            Ok(None) => {}
            Err(error) => return Ok(Err(corrupt(error))),
        }
        if records.get(&key(CALL, id))?.is_none() {
            return Ok(Ok(None));
        }
        let state = self.state();
        let (attempts, runs) = match state.board.get(id) {
            Some(pending) => (pending.attempts, pending.run().is_some()),
            // It was settled just now, which is not kept yet.
            None => (1, true),
        };
        Ok(status(attempts, if runs { CallState::Running } else { CallState::Waiting }))
    }

    /// The dead letters behind `after`.
    pub(crate) fn dead_letters<R: Records>(
        &self,
        records: &R,
        after: Option<InvocationId>,
        limit: usize,
    ) -> Result<Result<Vec<DeadLetter>, QueueError>, R::Error> {
        let ids = self.state().settled.dead_after(after, limit);
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            let dead = load::<Dead, R>(records, &key(DEAD, id))?;
            let stored = load::<Stored, R>(records, &key(CALL, id))?;
            match (dead, stored) {
                (Ok(Some(dead)), Ok(Some(stored))) => {
                    let Dead { at, attempts, cause, .. } = dead;
                    letters.push(DeadLetter { call: stored.call, cause, attempts, at: at.wall });
                }
                (Err(error), _) | (_, Err(error)) => {
                    return Ok(Err(QueueError::Corrupt { id, what: error.to_string() }));
                }
                // Settled just now, which is not kept yet.
                _ => {}
            }
        }
        Ok(Ok(letters))
    }
}

fn done(result: Result<(), QueueError>) -> Result<Answer, QueueError> {
    result.map(|()| Answer::Done)
}

/// What is known in memory of a call as it is stored.
pub(super) fn pending(stored: &Stored, config: &QueueConfig) -> Pending {
    let call = &stored.call;
    let line = call.key.is_some().then(|| call.scope());
    let max_age = call.max_age.unwrap_or(config.max_age);
    let mut pending = Pending::new(call.function.clone(), line, max_age, call.payload.size().bytes());
    pending.every = call.every;
    pending.timer = call.timer.as_ref().map(|timer| timer.name.clone());
    pending
}

/// One operation under way.
struct Page<'a, R> {
    state: &'a mut State,
    records: &'a mut R,
    config: &'a QueueConfig,
    now: Moment,
    /// Whether calls became ready by time.
    is_news: bool,
}

impl<R: Records> Page<'_, R> {
    fn accept(&mut self, call: &QueuedCall, durability: Durability) -> Result<Acceptance, R::Error> {
        let id = call.id;
        if let Some(known) = self.known(id)? {
            return Ok(Acceptance::Known(known));
        }
        if let Some(timer) = &call.timer {
            self.cancel_timer(&timer.scope, &timer.name)?;
        }
        let stored = Stored { seq: self.state.seq, at: self.now, due: self.now.due(call.due), call: call.clone() };
        self.enter(&stored)?;
        Ok(Acceptance::New(durability))
    }

    fn known(&mut self, id: InvocationId) -> Result<Option<CallStatus>, R::Error> {
        let status = |attempts, state| Some(CallStatus { id, attempts, state });
        if let Some(pending) = self.state.board.get(id) {
            let state = if pending.run().is_some() { CallState::Running } else { CallState::Waiting };
            return Ok(status(pending.attempts, state));
        }
        if self.state.settled.is_done(id) {
            let done = load::<Done, R>(self.records, &key(DONE, id))?;
            let Done { attempts, result, .. } = done?.unwrap_or(Done { at: self.now, attempts: 0, result: None });
            return Ok(status(attempts, CallState::Completed(result)));
        }
        if self.state.settled.is_dead(id) {
            let dead = load::<Dead, R>(self.records, &key(DEAD, id))?;
            return Ok(dead?.and_then(|dead| status(dead.attempts, CallState::Dead(dead.cause))));
        }
        Ok(None)
    }

    /// Keeps a call that is new.
    fn enter(&mut self, stored: &Stored) -> Result<(), R::Error> {
        save(self.records, &key(CALL, stored.call.id), stored)?;
        self.state.seq = self.state.seq.max(stored.seq) + 1;
        let pending = pending(stored, self.config);
        self.state.bytes += pending.bytes;
        self.state.board.insert(stored.call.id, pending, stored.due, self.now);
        Ok(())
    }

    fn lease(&mut self, ask: &LeaseAsk) -> Result<Vec<Delivery>, R::Error> {
        let now = self.now.passed;
        self.note_clock()?;
        for id in self.state.board.lost(now) {
            let lease = self.state.board.get(id).and_then(Pending::run).map_or(Duration::ZERO, |run| run.lease);
            self.retry(id, Cause::NoProgress { lease })?;
        }
        self.is_news |= self.state.board.advance(self.now);
        for id in self.state.board.expired(now) {
            let age = self.state.board.get(id).map_or(Duration::ZERO, |pending| pending.max_age);
            self.bury(id, Cause::Expired { age })?;
            self.is_news = true;
        }
        self.forget()?;
        let mut deliveries = Vec::new();
        for id in self.state.board.pick(ask, now) {
            match load::<Stored, R>(self.records, &key(CALL, id))? {
                Ok(Some(stored)) => deliveries.extend(self.deliver(stored.call)?),
                Ok(None) => drop(self.drop_call(id)),
                Err(error) => {
                    tracing::error!(%id, %error, "a stored call cannot be decoded");
                    self.bury(id, Cause::failed(&format!("the stored call cannot be decoded: {error}")))?;
                }
            }
        }
        Ok(deliveries)
    }

    /// Keeps how both times stand when civil time was set, so that it passes no time in a restart either.
    fn note_clock(&mut self) -> Result<(), R::Error> {
        match self.state.kept {
            Some(kept) if Passing::drift(kept, self.now) >= DRIFT => {
                save(self.records, &clock_key(), &self.now)?;
                self.state.kept = Some(self.now);
            }
            None => self.state.kept = Some(self.now),
            Some(_) => {}
        }
        Ok(())
    }

    /// Notes that a call that was picked runs.
    fn deliver(&mut self, call: QueuedCall) -> Result<Option<Delivery>, R::Error> {
        let Some(pending) = self.state.board.get(call.id) else { return Ok(None) };
        let Some(run) = pending.run() else { return Ok(None) };
        let (attempt, function) = (pending.attempts, pending.function.clone());
        self.note_tries(call.id, None)?;
        if attempt == 1 {
            self.state.board.lane(&function).budget.earn(&self.config.retry);
        }
        let lease = Lease { id: call.id, token: run.token };
        Ok(Some(Delivery { call, attempt, lease }))
    }

    fn note_tries(&mut self, id: InvocationId, due: Option<Duration>) -> Result<(), R::Error> {
        let Some(pending) = self.state.board.get(id) else { return Ok(()) };
        let tries = Tries {
            attempts: pending.attempts,
            crashes: pending.crashes,
            is_running: pending.run().is_some(),
            due,
            due_since: pending.due_since.unwrap_or(self.now.passed),
            at: self.now,
        };
        save(self.records, &key(TRY, id), &tries)
    }

    fn settle(&mut self, lease: Lease, settle: &Settle) -> Result<Result<(), QueueError>, R::Error> {
        let id = lease.id;
        let Some(pending) = self.state.board.leased(lease) else { return Ok(Err(QueueError::NotLeased { id })) };
        let attempts = pending.attempts;
        match settle {
            Settle::Completed(result) => self.complete(id, attempts, result)?,
            Settle::Retry(cause) => self.retry(id, cause.clone())?,
            Settle::Dead(cause) => self.bury(id, cause.clone())?,
            Settle::Postpone(wait) => {
                if let Some(pending) = self.state.board.get_mut(id) {
                    pending.attempts -= 1;
                }
                self.wait(id, self.now.passed.saturating_add(*wait))?;
            }
            other => tracing::warn!(%id, ?other, "an attempt was settled in a way that this queue does not know"),
        }
        Ok(Ok(()))
    }

    fn complete(&mut self, id: InvocationId, attempts: u32, result: &Payload) -> Result<(), R::Error> {
        self.come_again(id)?;
        let kept = (result.size() <= self.config.payload).then(|| result.clone());
        let bytes = kept.as_ref().map_or(0, |kept| kept.size().bytes());
        self.records.remove(&key(CALL, id))?;
        self.records.remove(&key(TRY, id))?;
        save(self.records, &key(DONE, id), &Done { at: self.now, attempts, result: kept })?;
        self.drop_call(id);
        self.state.settled.complete(id, self.now.passed, bytes);
        self.forget()
    }

    /// Another attempt later, or none any more.
    fn retry(&mut self, id: InvocationId, cause: Cause) -> Result<(), R::Error> {
        let policy = &self.config.retry;
        let Some(pending) = self.state.board.get(id) else { return Ok(()) };
        if pending.attempts >= policy.attempts.max(1) {
            return self.bury(id, cause);
        }
        if pending.is_expired(self.now.passed) {
            let age = pending.max_age;
            return self.bury(id, Cause::Expired { age });
        }
        let (failures, function) = (pending.attempts, pending.function.clone());
        let at = self.now.passed.saturating_add(policy.delay(id, failures, self.config.seed));
        let at = self.state.board.lane(&function).budget.spend(policy, at);
        self.wait(id, at)
    }

    fn wait(&mut self, id: InvocationId, at: Duration) -> Result<(), R::Error> {
        self.state.board.schedule(id, DueAt::Passed(at), self.now);
        self.note_tries(id, Some(at))
    }

    /// Makes a call a dead letter. What it needs is written into the place it was accepted into.
    fn bury(&mut self, id: InvocationId, cause: Cause) -> Result<(), R::Error> {
        if !matches!(cause, Cause::Cancelled) {
            self.come_again(id)?;
        }
        let Some(pending) = self.state.board.remove(id, self.now.passed) else { return Ok(()) };
        tracing::warn!(%id, function = %pending.function, %cause, attempts = pending.attempts, "a call is a dead letter");
        let dead = Dead { seq: self.state.settled.next_dead(), at: self.now, attempts: pending.attempts, cause };
        self.records.remove(&key(TRY, id))?;
        save(self.records, &key(DEAD, id), &dead)?;
        self.state.settled.bury(id, dead.seq, pending.bytes);
        Ok(())
    }

    /// Of a reminder that is over, keeps the next one.
    fn come_again(&mut self, id: InvocationId) -> Result<(), R::Error> {
        let Some(every) = self.state.board.get(id).and_then(|pending| pending.every) else { return Ok(()) };
        let Some(stored) = load::<Stored, R>(self.records, &key(CALL, id))?? else { return Ok(()) };
        self.state.board.detach(id);
        let mut call = stored.call;
        call.id = id.child(COME_AGAIN);
        let due = self.now.next(stored.due, every);
        self.enter(&Stored { seq: self.state.seq, at: self.now, due, call })
    }

    /// Forgets a pending call that leaves nothing.
    fn drop_call(&mut self, id: InvocationId) -> Option<Pending> {
        let pending = self.state.board.remove(id, self.now.passed)?;
        self.state.bytes -= pending.bytes;
        Some(pending)
    }

    fn forget(&mut self) -> Result<(), R::Error> {
        while let Some(id) = self.state.settled.forget(self.config, self.now.passed) {
            self.records.remove(&key(DONE, id))?;
        }
        Ok(())
    }

    fn redrive(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
        if !self.state.settled.is_dead(id) {
            return Ok(Err(QueueError::NotFound { id }));
        }
        let stored = match load::<Stored, R>(self.records, &key(CALL, id))? {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Err(QueueError::NotFound { id })),
            Err(error) => return Ok(Err(QueueError::Corrupt { id, what: error.to_string() })),
        };
        self.records.remove(&key(DEAD, id))?;
        self.state.settled.raise(id);
        let mut pending = pending(&stored, self.config);
        // It is one call now, whatever came again after it.
        (pending.every, pending.timer) = (None, None);
        self.state.board.insert(id, pending, DueAt::Passed(self.now.passed), self.now);
        self.note_tries(id, Some(self.now.passed))?;
        Ok(Ok(()))
    }

    fn discard(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
        let Some(bytes) = self.state.settled.raise(id) else { return Ok(Err(QueueError::NotFound { id })) };
        self.state.bytes -= bytes;
        self.records.remove(&key(DEAD, id))?;
        self.records.remove(&key(CALL, id))?;
        Ok(Ok(()))
    }

    fn cancel(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
        if self.state.board.get(id).is_none_or(|pending| pending.run().is_some()) {
            return Ok(Err(QueueError::NotFound { id }));
        }
        self.bury(id, Cause::Cancelled).map(Ok)
    }

    fn cancel_timer(&mut self, scope: &Scope, name: &str) -> Result<(), R::Error> {
        let Some(id) = self.state.board.timer(scope, name) else { return Ok(()) };
        if self.state.board.get(id).is_some_and(|pending| pending.run().is_none()) {
            self.records.remove(&key(CALL, id))?;
            self.records.remove(&key(TRY, id))?;
            self.drop_call(id);
            return Ok(());
        }
        // It runs; it will not come again, after a restart neither.
        if let Some(mut stored) = load::<Stored, R>(self.records, &key(CALL, id))?? {
            (stored.call.every, stored.call.timer) = (None, None);
            save(self.records, &key(CALL, id), &stored)?;
        }
        self.state.board.detach(id);
        Ok(())
    }

    fn hold(&mut self, scope: &Scope, hold: Hold) -> Result<(), R::Error> {
        let key = held_key(scope)?;
        match hold {
            Hold::Pause => {
                self.records.put(&key, &[])?;
                self.state.board.pause(scope.clone());
            }
            _ => {
                self.records.remove(&key)?;
                self.state.board.resume(scope, self.now.passed);
            }
        }
        Ok(())
    }

    fn release(&mut self, scope: &Scope) -> Result<Option<InvocationId>, R::Error> {
        let Some(id) = self.state.board.runs_in(scope) else { return Ok(None) };
        let lease = self.state.board.get(id).and_then(Pending::run).map_or(Duration::ZERO, |run| run.lease);
        self.retry(id, Cause::NoProgress { lease })?;
        Ok(Some(id))
    }

    fn recover(&mut self) -> Result<(), R::Error> {
        for id in std::mem::take(&mut self.state.interrupted) {
            let Some(pending) = self.state.board.get(id) else { continue };
            let (attempts, times) = (pending.attempts, pending.crashes);
            if times >= self.config.crashes.max(1) || attempts >= self.config.retry.attempts.max(1) {
                self.bury(id, Cause::Crashed { times })?;
            } else {
                self.note_tries(id, Some(self.now.passed))?;
            }
        }
        Ok(())
    }
}
