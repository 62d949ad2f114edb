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
    CallState, CallStatus, DeadLetter, Durability, InvocationId, Lease, NodeId, QueueError, QueueLoad, QueuedCall, Room,
};
use tokio::sync::Notify;

use super::{
    ask::{Answer, Ask},
    board::Board,
    config::QueueConfig,
    origins::Origins,
    page::Page,
    pending::Pending,
    record::{CALL, DEAD, DONE, Dead, Done, Records, Stored, key, load},
    restore::Found,
    settled::Settled,
    time::{Moment, Passing},
};

/// How often civil time is looked at while something waits for it: it may be set.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is looked at while only time is waited for: a restart must know that it was set before.
const LOOK_SELDOM: Duration = Duration::from_secs(10);
/// By how much civil time may go another way than time does before that is kept.
pub(super) const DRIFT: Duration = Duration::from_secs(1);

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
    /// What other nodes may offer again.
    pub(super) origins: Origins,
    /// Counts what was accepted.
    pub(super) seq: u64,
    /// Bytes of the payloads of pending calls and dead letters.
    pub(super) bytes: u64,
    /// The latest moment that was kept, as far as civil time went with it since.
    pub(super) kept: Option<Moment>,
    /// Calls that ran when the process ended.
    pub(super) interrupted: Vec<InvocationId>,
}

impl State {
    /// Whether a call was accepted before and is not forgotten.
    pub(super) fn knows(&self, id: InvocationId) -> bool {
        self.board.get(id).is_some() || self.settled.is_done(id) || self.settled.is_dead(id)
    }
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
        refusal(&self.state(), &self.config, calls)
    }

    /// Does what `ask` says; the outer error ends the transaction, the inner one is the answer.
    pub(crate) fn apply<R: Records>(&self, records: &mut R, ask: &Ask) -> Result<Result<Answer, QueueError>, R::Error> {
        if let Ask::Accept(call) = ask
            && let Some(refused) = self.refuses([&**call])
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
            Ask::Offer(ask) => page.offer(ask).map(Answer::Offered).map(Ok),
            Ask::Take(from, calls) => page.take(from, calls).map(|taken| taken.map(Answer::Taken)),
            Ask::Recover => page.recover().map(|()| Ok(Answer::Done)),
        };
        let is_news = page.is_news;
        drop(state);
        // What a lease found to be due, others may have waited for.
        if !matches!(ask, Ask::Lease(_) | Ask::Offer(_)) || is_news {
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
        let (ready, outbox) = (state.board.ready(), state.board.outbox());
        QueueLoad { pending, running, dead: state.settled.dead(), bytes: state.bytes, ready, outbox }
    }

    /// See `InvocationQueue::destinations`.
    pub(crate) fn destinations(&self) -> Vec<NodeId> {
        self.state().board.outbox().into_iter().map(|(to, _)| to).collect()
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
            Ok(Some(done)) => return Ok(status(done.attempts, done.into_state())),
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

/// Why one of `calls` would not be accepted into a queue in this state, together with those before it, if so.
pub(super) fn refusal<'c>(
    state: &State,
    limits: &QueueConfig,
    calls: impl IntoIterator<Item = &'c QueuedCall>,
) -> Option<QueueError> {
    let (mut held, mut bytes) = (state.board.len() + state.settled.dead(), state.bytes);
    for call in calls.into_iter().filter(|call| !state.knows(call.id)) {
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
        return Some(QueueError::Full { id: call.id, room });
    }
    None
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
    pending.destination.clone_from(&call.destination);
    pending.timer = call.timer.as_ref().map(|timer| timer.name.clone());
    pending
}
