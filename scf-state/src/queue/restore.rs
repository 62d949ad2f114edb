//! What is found in a store when its queue is opened.

use std::{collections::HashMap, sync::Arc};

use scf_core::{Clock, Durability, InvocationId, NodeId, Scope};

use super::{
    book::{Book, State, pending},
    config::QueueConfig,
    record::{CALL, DEAD, DONE, Dead, Done, Key, Stored, TRY, TakenOf, Tries, read_key},
    time::{DueAt, Moment, Passing},
};

/// Collects a store's records, in any order, and makes a queue's memory of them.
#[derive(Debug, Default)]
pub(crate) struct Found {
    calls: Vec<Stored>,
    tries: HashMap<InvocationId, Tries>,
    done: Vec<(InvocationId, Moment, u64)>,
    dead: HashMap<InvocationId, u64>,
    held: Vec<Scope>,
    offered: Vec<(NodeId, Vec<InvocationId>)>,
    taken: Vec<(NodeId, TakenOf)>,
    last: Moment,
}

impl Found {
    /// Takes a record in; one that cannot be decoded is an error.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        let at = match read_key(key) {
            Some(Key::Held(scope)) => {
                self.held.push(scope);
                return Ok(());
            }
            Some(Key::Offered(node)) => {
                self.offered.push((node, postcard::from_bytes(value)?));
                return Ok(());
            }
            Some(Key::Taken(node)) => {
                let taken: TakenOf = postcard::from_bytes(value)?;
                let at = taken.at;
                self.taken.push((node, taken));
                at
            }
            Some(Key::Clock) => postcard::from_bytes(value)?,
            Some(Key::Call(CALL, _)) => {
                let stored: Stored = postcard::from_bytes(value)?;
                let at = stored.at;
                self.calls.push(stored);
                at
            }
            Some(Key::Call(TRY, id)) => {
                let tries: Tries = postcard::from_bytes(value)?;
                let at = tries.at;
                self.tries.insert(id, tries);
                at
            }
            Some(Key::Call(DONE, id)) => {
                let done: Done = postcard::from_bytes(value)?;
                self.done.push((id, done.at, done.result.map_or(0, |result| result.size().bytes())));
                done.at
            }
            Some(Key::Call(DEAD, id)) => {
                let dead: Dead = postcard::from_bytes(value)?;
                self.dead.insert(id, dead.seq);
                dead.at
            }
            _ => return Err(postcard::Error::DeserializeBadEncoding),
        };
        if at.passed > self.last.passed {
            self.last = at;
        }
        Ok(())
    }

    /// The queue that was found.
    pub(crate) fn open(self, clock: Arc<dyn Clock>, config: QueueConfig, durability: Durability) -> Book {
        let passing = Passing::from(clock, self.last);
        let now = passing.now();
        let mut state = self.into_state(&config, now, true);
        state.kept = Some(now);
        Book::new(state, passing, config, durability)
    }

    /// The queue that was found, in the process that had `before` of it in memory.
    pub(super) fn into_state_after(self, before: &State, config: &QueueConfig, now: Moment) -> State {
        let ran: Vec<_> = self.tries.iter().filter(|(_, tries)| tries.is_running).map(|(id, _)| *id).collect();
        let mut state = self.into_state(config, now, false);
        state.kept = Some(now);
        state.board.resume_runs(&before.board, &ran, now.passed);
        state
    }

    /// The queue as it was at `now`; `is_ended`: the process that it was in.
    fn into_state(mut self, config: &QueueConfig, now: Moment, is_ended: bool) -> State {
        let mut state = State::default();
        self.held.into_iter().for_each(|scope| state.board.pause(scope));
        self.done.sort_by_key(|(_, at, _)| at.passed);
        for (id, at, bytes) in self.done {
            state.settled.complete(id, at.passed, bytes);
        }
        for (node, taken) in self.taken {
            state.origins.note(&node, taken.at.passed, taken.ids.into_iter().collect());
        }
        // Calls of a line come into it as they became due before: the first may have been tried, the others not.
        let due = |stored: &Stored| match stored.due {
            DueAt::Passed(at) if at <= now.passed => Some(at),
            _ => None,
        };
        let tried = |stored: &Stored| self.tries.get(&stored.call.id).map(|tries| tries.due_since);
        self.calls.sort_by_cached_key(|stored| {
            let (tried, due) = (tried(stored), due(stored));
            (tried.is_none(), tried, due.is_none(), due, stored.seq)
        });
        for stored in &self.calls {
            let id = stored.call.id;
            let mut pending = pending(stored, config);
            state.seq = state.seq.max(stored.seq + 1);
            state.bytes += pending.bytes;
            if let Some(seq) = self.dead.get(&id) {
                state.settled.bury(id, *seq, pending.bytes);
                continue;
            }
            pending.due_since = due(stored);
            let mut due = stored.due;
            if let Some(tries) = self.tries.get(&id) {
                (pending.attempts, pending.crashes) = (tries.attempts, tries.crashes);
                pending.due_since = Some(tries.due_since);
                due = DueAt::Passed(tries.due.unwrap_or(now.passed));
                if tries.is_running && is_ended {
                    pending.crashes += 1;
                    state.interrupted.push(id);
                }
            }
            state.board.insert(id, pending, due, now);
        }
        for (node, ids) in self.offered {
            state.board.offer_again(&node, &ids, now.passed);
        }
        state
    }
}
