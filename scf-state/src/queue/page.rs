//! One operation of a queue, on its board and on its records.

use std::time::Duration;

use scf_core::{
    Acceptance, CallState, CallStatus, Cause, Delivery, Durability, Hold, InvocationId, Lease, LeaseAsk, Payload,
    QueueError, QueuedCall, Scope, Settle,
};

use super::{
    book::{DRIFT, State, pending},
    config::QueueConfig,
    pending::Pending,
    record::{CALL, DEAD, DONE, Dead, Done, Records, Stored, TRY, Tries, clock_key, held_key, key, load, save},
    time::{DueAt, Moment, Passing},
};

/// Step of the child id that a reminder has the next time. Not one that a call's own calls count up to.
const COME_AGAIN: u64 = u64::MAX - 1;

/// One operation under way.
pub(super) struct Page<'a, R> {
    pub(super) state: &'a mut State,
    pub(super) records: &'a mut R,
    pub(super) config: &'a QueueConfig,
    pub(super) now: Moment,
    /// Whether calls became ready by time.
    pub(super) is_news: bool,
}

impl<R: Records> Page<'_, R> {
    pub(super) fn accept(&mut self, call: &QueuedCall, durability: Durability) -> Result<Acceptance, R::Error> {
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
            return Ok(match done? {
                Some(done) => status(done.attempts, done.into_state()),
                None => status(0, CallState::Completed(None)),
            });
        }
        if self.state.settled.is_dead(id) {
            let dead = load::<Dead, R>(self.records, &key(DEAD, id))?;
            return Ok(dead?.and_then(|dead| status(dead.attempts, CallState::Dead(dead.cause))));
        }
        Ok(None)
    }

    /// Keeps a call that is new.
    pub(super) fn enter(&mut self, stored: &Stored) -> Result<(), R::Error> {
        save(self.records, &key(CALL, stored.call.id), stored)?;
        self.state.seq = self.state.seq.max(stored.seq) + 1;
        let pending = pending(stored, self.config);
        self.state.bytes += pending.bytes;
        self.state.board.insert(stored.call.id, pending, stored.due, self.now);
        Ok(())
    }

    /// Does what is due by time: ends leases, lets calls become due, gives up and forgets what is too old.
    pub(super) fn pass_time(&mut self) -> Result<(), R::Error> {
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
        self.forget()
    }

    pub(super) fn lease(&mut self, ask: &LeaseAsk) -> Result<Vec<Delivery>, R::Error> {
        self.pass_time()?;
        let mut deliveries = Vec::new();
        for id in self.state.board.pick(ask, self.now.passed) {
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

    pub(super) fn settle(&mut self, lease: Lease, settle: &Settle) -> Result<Result<(), QueueError>, R::Error> {
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
        let done = Done { at: self.now, attempts, result: kept, forwarded: None };
        save(self.records, &key(DONE, id), &done)?;
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
    pub(super) fn bury(&mut self, id: InvocationId, cause: Cause) -> Result<(), R::Error> {
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
    pub(super) fn come_again(&mut self, id: InvocationId) -> Result<(), R::Error> {
        let Some(every) = self.state.board.get(id).and_then(|pending| pending.every) else { return Ok(()) };
        let Some(stored) = load::<Stored, R>(self.records, &key(CALL, id))?? else { return Ok(()) };
        self.state.board.detach(id);
        let mut call = stored.call;
        call.id = id.child(COME_AGAIN);
        let due = self.now.next(stored.due, every);
        self.enter(&Stored { seq: self.state.seq, at: self.now, due, call })
    }

    /// Forgets a pending call that leaves nothing.
    pub(super) fn drop_call(&mut self, id: InvocationId) -> Option<Pending> {
        let pending = self.state.board.remove(id, self.now.passed)?;
        self.state.bytes -= pending.bytes;
        Some(pending)
    }

    pub(super) fn forget(&mut self) -> Result<(), R::Error> {
        while let Some(id) = self.state.settled.forget(self.config, self.now.passed) {
            self.records.remove(&key(DONE, id))?;
        }
        Ok(())
    }

    pub(super) fn redrive(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
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

    pub(super) fn discard(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
        let Some(bytes) = self.state.settled.raise(id) else { return Ok(Err(QueueError::NotFound { id })) };
        self.state.bytes -= bytes;
        self.records.remove(&key(DEAD, id))?;
        self.records.remove(&key(CALL, id))?;
        Ok(Ok(()))
    }

    pub(super) fn cancel(&mut self, id: InvocationId) -> Result<Result<(), QueueError>, R::Error> {
        if self.state.board.get(id).is_none_or(Pending::is_elsewhere) {
            return Ok(Err(QueueError::NotFound { id }));
        }
        self.bury(id, Cause::Cancelled).map(Ok)
    }

    pub(super) fn cancel_timer(&mut self, scope: &Scope, name: &str) -> Result<(), R::Error> {
        let Some(id) = self.state.board.timer(scope, name) else { return Ok(()) };
        if self.state.board.get(id).is_some_and(|pending| !pending.is_elsewhere()) {
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

    pub(super) fn hold(&mut self, scope: &Scope, hold: Hold) -> Result<(), R::Error> {
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

    pub(super) fn release(&mut self, scope: &Scope) -> Result<Option<InvocationId>, R::Error> {
        let Some(id) = self.state.board.runs_in(scope) else { return Ok(None) };
        let lease = self.state.board.get(id).and_then(Pending::run).map_or(Duration::ZERO, |run| run.lease);
        self.retry(id, Cause::NoProgress { lease })?;
        Ok(Some(id))
    }

    pub(super) fn recover(&mut self) -> Result<(), R::Error> {
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
