//! Commits that are stored together.
//!
//! Each shard has one task that takes what is queued, a group, and stores the heads that come of it: a few each by
//! itself, at the same time, and many as an atomic batch. Requests of one scope follow each other within the group. Each
//! head is stored only if it takes the place of the one that the group rests on; otherwise another node was there first,
//! and what is asked of the scope is worked out anew.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use quick_cache::unsync::Cache;
use scf_core::{Scope, StateError, Timestamp};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    ask::{Ask, Done, size},
    link::{BATCH, NewHead, Stored},
    record::Record,
    shared::{Effect, Shared, TRIES},
    subject::Place,
};

/// Requests that wait for a shard; callers of more wait with them.
const WAITING: usize = 1024;
/// Scopes of a group. Batches of 128 are the best that was measured.
const SCOPES: usize = 128;
/// Heads from which on an atomic batch is the faster way. For each batch the server makes a store of its own, with ten
/// syncs where it encrypts, and then syncs once; it syncs every message outside of one (measured with 2.15.1).
const TOGETHER: usize = 20;
/// Who was answered by a batch has this part of the time that it took to ask again and be in the next one.
const PAUSE: u32 = 8;
/// Heads that a shard remembers; what it does not it reads.
const REMEMBERED: usize = 512;

#[derive(Debug)]
struct Asked {
    place: Place,
    ask: Ask,
    answer: oneshot::Sender<Result<Done, StateError>>,
}

/// The writer of one shard. Dropping it stops its task.
#[derive(Debug)]
pub(super) struct Writer {
    requests: mpsc::Sender<Asked>,
    task: AbortHandle,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// Starts the task, on the runtime that the caller runs on.
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let (sender, requests) = mpsc::channel(WAITING);
        let heads = Cache::new(REMEMBERED);
        let shard = Shard { shared, heads, requests, later: VecDeque::new(), crowd: 0, took: Duration::ZERO };
        Self { requests: sender, task: tokio::spawn(shard.run()).abort_handle() }
    }

    pub(super) async fn ask(&self, place: Place, ask: Ask) -> Result<Done, StateError> {
        let gone = || StateError::Unavailable { reason: "the state store is closed".to_owned() };
        let scope = place.scope.clone();
        let (answer, answered) = oneshot::channel();
        self.requests.send(Asked { place, ask, answer }).await.map_err(|_| gone())?;
        answered.await.unwrap_or(Err(StateError::Unknown { scope }))
    }
}

struct Shard {
    shared: Arc<Shared>,
    /// Heads as they were stored last, with their numbers. Others may have stored newer ones; that is found out when one
    /// is to take its place.
    heads: Cache<Scope, (u64, Record)>,
    requests: mpsc::Receiver<Asked>,
    /// Requests that had no room in a group.
    later: VecDeque<Asked>,
    /// Requests that the last batch answered, with those that waited meanwhile; 0 where it was none.
    crowd: usize,
    /// How long that took.
    took: Duration,
}

/// What a group asks of one scope.
struct Work {
    place: Place,
    asked: Vec<Asked>,
}

/// What comes of a [`Work`].
struct Outcome {
    work: Work,
    after: u64,
    record: Record,
    answers: Vec<Result<Done, StateError>>,
    /// Until when the owner that the record names has the scope, where that changes.
    until: Option<Timestamp>,
    changed: bool,
}

impl Work {
    fn answer(self, answers: Vec<Result<Done, StateError>>) {
        for (asked, answer) in self.asked.into_iter().zip(answers) {
            // Whoever asked may have gone.
            drop(asked.answer.send(answer));
        }
    }

    fn fail(self, error: &StateError) {
        let answers = self.asked.iter().map(|_| Err(error.clone())).collect();
        self.answer(answers);
    }
}

impl Outcome {
    fn head(&self) -> NewHead<'_> {
        NewHead { place: &self.work.place, record: &self.record, after: self.after }
    }
}

impl Shard {
    async fn run(mut self) {
        while self.gather().await {
            let group = self.group();
            let scopes: Vec<Place> = group.iter().map(|work| work.place.clone()).collect();
            self.crowd = 0;
            let mut left = self.attempt(group, TOGETHER).await;
            for _ in 1..TRIES {
                if left.is_empty() {
                    break;
                }
                // Each by itself, so that one scope in dispute does not hold up others.
                left = self.attempt(left, usize::MAX).await;
            }
            for work in left {
                work.fail(&StateError::Unavailable { reason: "others kept writing to the scope".to_owned() });
            }
            self.tidy(scopes).await;
        }
    }

    /// Takes what is queued, and waits until there is something; `false` at the end.
    ///
    /// A batch costs much, however little is in it. So after one it waits a moment for those that were answered: if they
    /// ask again and others waited meanwhile, they would go on in two batches that take turns.
    async fn gather(&mut self) -> bool {
        if self.later.is_empty() {
            let Some(first) = self.requests.recv().await else { return false };
            self.later.push_back(first);
        }
        let until = Instant::now() + self.took / PAUSE;
        while self.later.len() < WAITING {
            let next = if self.later.len() < self.crowd {
                timeout_at(until, self.requests.recv()).await.ok().flatten()
            } else {
                self.requests.try_recv().ok()
            };
            let Some(next) = next else { break };
            self.later.push_back(next);
        }
        true
    }

    /// Takes the next requests, those of one scope together and in their order.
    fn group(&mut self) -> Vec<Work> {
        let (mut works, mut sizes): (Vec<Work>, Vec<usize>) = (Vec::new(), Vec::new());
        let mut left = VecDeque::new();
        let mut full = HashSet::new();
        while let Some(asked) = self.later.pop_front() {
            let size = size(&asked.ask);
            match works.iter().position(|work| work.place.scope == asked.place.scope) {
                Some(at) if !full.contains(&at) && sizes[at] + size <= self.shared.room => {
                    sizes[at] += size;
                    works[at].asked.push(asked);
                }
                None if works.len() < SCOPES => {
                    works.push(Work { place: asked.place.clone(), asked: vec![asked] });
                    sizes.push(size);
                }
                // What follows it of its scope waits too.
                at => {
                    full.extend(at);
                    left.push_back(asked);
                }
            }
        }
        self.later = left;
        works
    }

    /// Works a group out, stores what comes of it, as a batch from `together` heads on, and answers. Gives back what
    /// others were faster with.
    async fn attempt(&mut self, group: Vec<Work>, together: usize) -> Vec<Work> {
        let outcomes = join_all(group.into_iter().map(|work| self.work_out(work))).await;
        let mut changed = Vec::new();
        for outcome in outcomes.into_iter().flatten() {
            if outcome.changed {
                changed.push(outcome);
            } else {
                self.remember(outcome.after, outcome.record);
                outcome.work.answer(outcome.answers);
            }
        }
        if changed.len() >= together { self.store_together(changed).await } else { self.store_each(changed).await }
    }

    async fn store_together(&mut self, changed: Vec<Outcome>) -> Vec<Work> {
        let began = Instant::now();
        let heads: Vec<_> = changed.iter().map(Outcome::head).collect();
        let stored = self.shared.link.store(Vec::new(), &heads).await.of_each(heads.len());
        let answered: usize = changed.iter().map(|outcome| outcome.work.asked.len()).sum();
        (self.crowd, self.took) = (answered + self.later.len() + self.requests.len(), began.elapsed());
        changed.into_iter().zip(stored).filter_map(|(outcome, stored)| self.settle(outcome, stored)).collect()
    }

    /// Answers each as soon as it is stored, so that who asks again does so while the others are.
    async fn store_each(&mut self, changed: Vec<Outcome>) -> Vec<Work> {
        let shared = Arc::clone(&self.shared);
        let store = async |outcome: Outcome| {
            let stored = shared.link.store(Vec::new(), &[outcome.head()]).await;
            (outcome, stored)
        };
        let mut storing: FuturesUnordered<_> = changed.into_iter().map(store).collect();
        let mut left = Vec::new();
        while let Some((outcome, stored)) = storing.next().await {
            left.extend(self.settle(outcome, stored));
        }
        left
    }

    /// Answers what became of a head, and remembers it. Gives back what others were faster with.
    fn settle(&mut self, outcome: Outcome, stored: Stored) -> Option<Work> {
        match stored {
            Stored::Until(number) => {
                if let Some(until) = outcome.until {
                    self.shared.leases.note(&outcome.record, until);
                }
                self.remember(number, outcome.record);
                outcome.work.answer(outcome.answers);
                None
            }
            Stored::Stale => {
                self.heads.remove(&outcome.work.place.scope);
                Some(outcome.work)
            }
            Stored::Refused(error) => {
                outcome.work.fail(&error);
                None
            }
            Stored::Unknown => {
                let scope = outcome.work.place.scope.clone();
                self.heads.remove(&scope);
                outcome.work.fail(&StateError::Unknown { scope });
                None
            }
        }
    }

    fn remember(&mut self, number: u64, record: Record) {
        self.heads.insert(record.scope.clone(), (number, record));
    }

    /// Works out what the head of a scope becomes; answers by itself when the broker cannot be read.
    async fn work_out(&self, work: Work) -> Option<Outcome> {
        // A lease that begins when it is first seen must not begin with one that is over.
        let acquires = work.asked.iter().any(|asked| matches!(asked.ask, Ask::Acquire { .. }));
        let (mut from, mut is_fresh) = match self.heads.get(&work.place.scope).filter(|_| !acquires) {
            Some(head) => (Ok(head.clone()), false),
            None => (self.shared.head(&work.place).await, true),
        };
        loop {
            let (after, mut record) = match from {
                Ok(from) => from,
                Err(error) => {
                    work.fail(&error);
                    return None;
                }
            };
            let (mut answers, mut until, mut changed) = (Vec::new(), None, false);
            for asked in &work.asked {
                let mut then = record.clone();
                let answer = self.shared.apply(&work.place, &mut then, &asked.ask).await;
                if let Ok((_, Effect::Stored(ends))) = &answer {
                    (record, changed, until) = (then, true, ends.or(until));
                }
                answers.push(answer.map(|(done, _)| done));
            }
            // What rests on a head that is stored anew rests on one that was the last. What does not is asked again of
            // the head as it is now.
            if changed || is_fresh {
                return Some(Outcome { work, after, record, answers, until, changed });
            }
            (from, is_fresh) = (self.shared.head(&work.place).await, true);
        }
    }

    /// Moves what has gathered in the heads of `scopes`, of as many at once as a batch takes. Where that fails, the head
    /// is forgotten, and the next commit finds it undone.
    async fn tidy(&mut self, scopes: Vec<Place>) {
        let mut full = VecDeque::from(scopes);
        while !full.is_empty() {
            let (mut messages, mut moved) = (Vec::new(), Vec::new());
            while let Some(place) = full.pop_front() {
                let head = self.heads.peek(&place.scope).filter(|(_, record)| record.is_full());
                let Some((number, record)) = head else { continue };
                if messages.len() + moved.len() + record.movable() >= BATCH && !moved.is_empty() {
                    full.push_front(place);
                    break;
                }
                let (number, mut record) = (*number, record.clone());
                self.heads.remove(&place.scope);
                messages.extend(record.take(&place, self.shared.kept, self.shared.wall.now()));
                moved.push((place, number, record));
            }
            if moved.is_empty() {
                return;
            }
            let heads: Vec<_> =
                moved.iter().map(|(place, number, record)| NewHead { place, record, after: *number }).collect();
            let stored = self.shared.link.store(messages, &heads).await.of_each(heads.len());
            for ((place, _, record), stored) in moved.into_iter().zip(stored) {
                match stored {
                    Stored::Until(number) => {
                        self.remember(number, record);
                        // More may have gathered than one batch takes.
                        full.push_back(place);
                    }
                    other => tracing::debug!(scope = %place.scope, ?other, "a head keeps what has gathered in it"),
                }
            }
        }
    }
}
