//! Commits that are stored together.
//!
//! Each shard has one task that takes what is queued, a group, and stores the heads that come of it: one message where
//! it is one scope's, an atomic batch where it is several. Requests of one scope follow each other within the group.
//! Each head is stored only if it takes the place of the one that the group rests on; otherwise another node was there
//! first, and the group is worked out anew.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::join_all;
use scf_core::{
    Batch, Commit, Delta, Durability, Entry, Fence, Guard, InvocationId, NodeId, Op, Scope, Snapshot, StateError,
    Timestamp, Version,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{
    lease::Leases,
    link::{Link, NewHead, Stored},
    record::{CHANGE, Record},
    subject::Place,
};
use crate::{
    change::{changes, guard},
    queue::calls_of,
    quota::size_of,
    wall::Wall,
};

/// Requests that wait for a shard; callers of more wait with them.
const WAITING: usize = 1024;
/// Scopes of a group. Batches of 128 are the best that was measured.
const SCOPES: usize = 128;
/// How often a group is worked out anew because others were first.
const TRIES: usize = 64;
/// Heads that a shard remembers; what it does not it reads.
const REMEMBERED: usize = 512;

/// What is asked of a scope.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Commit(Batch),
    Acquire { owner: NodeId, lease: Duration, now: Timestamp },
    Renew { fence: Fence, lease: Duration, now: Timestamp },
    Release { fence: Fence },
    Replace { fence: Fence, snapshot: Snapshot, generation: u64 },
    Stage { fence: Fence, generation: u64 },
    Switch { fence: Fence, generation: u64, version: Version, results: Vec<InvocationId> },
    Follow { fence: Fence, delta: Delta },
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Committed(Commit),
    Acquired(Fence),
    /// These generations are the scope's no longer.
    Left(Vec<u64>),
    Nothing,
}

#[derive(Debug)]
struct Asked {
    place: Place,
    ask: Ask,
    answer: oneshot::Sender<Result<Done, StateError>>,
}

/// What every writer has.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) link: Link,
    pub(super) leases: Leases,
    pub(super) wall: Wall,
    pub(super) durability: Durability,
    /// Results that are kept of each scope.
    pub(super) kept: usize,
    /// The most that the changes of one head may be.
    pub(super) room: usize,
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
        let (requests, waiting) = mpsc::channel(WAITING);
        let shard = Shard { shared, heads: HashMap::new(), later: VecDeque::new() };
        Self { requests, task: tokio::spawn(shard.run(waiting)).abort_handle() }
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
    heads: HashMap<Scope, (u64, Arc<Record>)>,
    /// Requests that had no room in a group.
    later: VecDeque<Asked>,
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

impl Shard {
    async fn run(mut self, mut requests: mpsc::Receiver<Asked>) {
        loop {
            if self.later.is_empty() {
                let Some(first) = requests.recv().await else { return };
                self.later.push_back(first);
            }
            while self.later.len() < WAITING
                && let Ok(next) = requests.try_recv()
            {
                self.later.push_back(next);
            }
            let group = self.group();
            let scopes: Vec<Place> = group.iter().map(|work| work.place.clone()).collect();
            let mut left = self.attempt(group).await;
            for _ in 1..TRIES {
                if left.is_empty() {
                    break;
                }
                // Alone, so that one scope in dispute does not hold up others.
                left = self.apart(left).await;
            }
            for work in left {
                work.fail(&StateError::Unavailable { reason: "others kept writing to the scope".to_owned() });
            }
            self.tidy(scopes).await;
        }
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

    async fn apart(&mut self, group: Vec<Work>) -> Vec<Work> {
        let mut left = Vec::new();
        for work in group {
            left.extend(self.attempt(vec![work]).await);
        }
        left
    }

    /// Works a group out, stores what comes of it and answers. Gives back what others were faster with.
    async fn attempt(&mut self, group: Vec<Work>) -> Vec<Work> {
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
        if changed.is_empty() {
            return Vec::new();
        }
        let heads: Vec<_> = changed
            .iter()
            .map(|outcome| NewHead { place: &outcome.work.place, record: &outcome.record, after: outcome.after })
            .collect();
        match self.shared.link.store(Vec::new(), &heads).await {
            Stored::Until(last) => {
                let first = last + 1 - changed.len() as u64;
                for (number, outcome) in (first..).zip(changed) {
                    if let Some(until) = outcome.until {
                        self.shared.leases.note(&outcome.record, until);
                    }
                    self.remember(number, outcome.record);
                    outcome.work.answer(outcome.answers);
                }
                Vec::new()
            }
            Stored::Stale => {
                let forget = |outcome: Outcome| {
                    self.heads.remove(&outcome.work.place.scope);
                    outcome.work
                };
                changed.into_iter().map(forget).collect()
            }
            Stored::Refused(error) => {
                changed.into_iter().for_each(|outcome| outcome.work.fail(&error));
                Vec::new()
            }
            Stored::Unknown => {
                for outcome in changed {
                    let scope = outcome.work.place.scope.clone();
                    self.heads.remove(&scope);
                    outcome.work.fail(&StateError::Unknown { scope });
                }
                Vec::new()
            }
        }
    }

    fn remember(&mut self, number: u64, record: Record) {
        if self.heads.len() >= REMEMBERED {
            self.heads.clear();
        }
        self.heads.insert(record.scope.clone(), (number, Arc::new(record)));
    }

    /// Works out what the head of a scope becomes; answers by itself when the broker cannot be read.
    async fn work_out(&self, work: Work) -> Option<Outcome> {
        // A lease that begins when it is first seen must not begin with one that is over.
        let acquires = work.asked.iter().any(|asked| matches!(asked.ask, Ask::Acquire { .. }));
        let (mut from, mut is_fresh) = match self.heads.get(&work.place.scope).filter(|_| !acquires) {
            Some((number, record)) => (Ok((*number, (**record).clone())), false),
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

    /// Moves what has gathered in the heads of `scopes`. Where that fails, the next commit finds it undone.
    async fn tidy(&mut self, scopes: Vec<Place>) {
        for place in scopes {
            let Some((number, record)) = self.heads.remove(&place.scope) else { continue };
            match self.shared.empty(&place, number, (*record).clone()).await {
                Ok((number, record)) => self.remember(number, record),
                Err(error) => tracing::debug!(scope = %place.scope, %error, "a head keeps what has gathered in it"),
            }
        }
    }
}

/// Whether a head is to be stored.
enum Effect {
    None,
    /// It is; the owner has the scope until then, where that changes.
    Stored(Option<Timestamp>),
}

impl Shared {
    /// The head of a scope as it is now, with room for changes.
    async fn head(&self, place: &Place) -> Result<(u64, Record), StateError> {
        let (number, record) = self.link.head(place).await?;
        self.empty(place, number, record).await
    }

    /// Moves what has gathered in a head into messages of its own, if that is enough.
    async fn empty(&self, place: &Place, mut number: u64, mut record: Record) -> Result<(u64, Record), StateError> {
        for _ in 0..TRIES {
            if !record.is_full() {
                return Ok((number, record));
            }
            let messages = record.take(place, self.kept, self.wall.now());
            match self.link.store(messages, &[NewHead { place, record: &record, after: number }]).await {
                Stored::Until(last) => number = last,
                Stored::Stale => (number, record) = self.link.head(place).await?,
                Stored::Refused(error) => return Err(error),
                Stored::Unknown => {
                    let reason = "the broker does not answer".to_owned();
                    return Err(StateError::Unavailable { reason });
                }
            }
        }
        Err(StateError::Unavailable { reason: "others kept writing to the scope".to_owned() })
    }

    /// The result of `invocation`, if it is kept.
    pub(super) async fn result_of(
        &self,
        place: &Place,
        record: &Record,
        invocation: InvocationId,
    ) -> Result<Option<Bytes>, StateError> {
        if let Some(result) = record.result(invocation) {
            return Ok(Some(result.clone()));
        }
        for at in record.candidates(invocation) {
            let found = self.link.result(place, record.generation, at % self.kept as u64).await?;
            if let Some(found) = found.filter(|found| found.place == at && found.invocation == invocation) {
                return Ok(Some(found.result));
            }
        }
        Ok(None)
    }

    /// The entry under `key`, if it is there now, where `record` is the head.
    pub(super) async fn entry(&self, place: &Place, record: &Record, key: &str) -> Result<Option<Entry>, StateError> {
        let there = match record.find(key) {
            Some(change) => change.entry(),
            None => self.link.entry(place, record, key).await?.and_then(|change| change.entry()),
        };
        Ok(there.filter(|entry| self.wall.lives(entry)))
    }

    async fn apply(&self, place: &Place, record: &mut Record, ask: &Ask) -> Result<(Done, Effect), StateError> {
        let scope = &place.scope;
        let stored = |done| Ok((done, Effect::Stored(None)));
        match ask {
            Ask::Commit(batch) => self.commit(place, record, batch).await,
            Ask::Acquire { owner, lease, now } => {
                let remaining = self.leases.remaining(record, *now);
                let fence = record.head.acquire(scope, owner, *lease, remaining)?;
                Ok((Done::Acquired(fence), Effect::Stored(Some(*now + *lease))))
            }
            Ask::Renew { fence, lease, now } => {
                record.head.admit_owner(scope, *fence)?;
                record.renewals += 1;
                if let Some(owner) = &mut record.head.owner {
                    owner.lease = *lease;
                }
                Ok((Done::Nothing, Effect::Stored(Some(*now + *lease))))
            }
            Ask::Release { fence } if !record.head.is_owned_under(*fence) => Ok((Done::Nothing, Effect::None)),
            Ask::Release { .. } => {
                record.head.owner = None;
                stored(Done::Nothing)
            }
            Ask::Replace { fence, snapshot, generation } => {
                record.head.admit_owner(scope, *fence)?;
                let left = [record.stored(), record.staged].into_iter().flatten().collect();
                record.replace(snapshot.clone(), *generation, self.kept);
                stored(Done::Left(left))
            }
            Ask::Stage { fence, generation } => {
                record.head.admit_owner(scope, *fence)?;
                let left = record.staged.replace(*generation).into_iter().collect();
                stored(Done::Left(left))
            }
            Ask::Switch { fence, generation, version, results } => {
                record.head.admit_owner(scope, *fence)?;
                if record.staged != Some(*generation) {
                    let reason = "another import of the scope has begun".to_owned();
                    return Err(StateError::Unavailable { reason });
                }
                let left = record.stored().into_iter().collect();
                record.switch(*version, *generation, results);
                stored(Done::Left(left))
            }
            Ask::Follow { fence, delta } => {
                record.head.admit_owner(scope, *fence)?;
                let (expected, actual) = (delta.since, record.head.version);
                if expected != actual {
                    return Err(StateError::Conflict { scope: scope.clone(), expected, actual });
                }
                record.follow(delta.clone(), self.kept);
                stored(Done::Nothing)
            }
        }
    }

    async fn commit(&self, place: &Place, record: &mut Record, batch: &Batch) -> Result<(Done, Effect), StateError> {
        if let Some((id, _)) = &batch.invocation
            && let Some(result) = self.result_of(place, record, *id).await?
        {
            return Ok((Done::Committed(Commit::Duplicate { result }), Effect::None));
        }
        record.head.admit(&batch.scope, batch.fence, batch.expect)?;
        let mut versions = HashMap::new();
        for Guard { key, .. } in &batch.guards {
            versions.insert(key.as_str(), self.entry(place, record, key).await?.map(|entry| entry.version));
        }
        let Ok(guarded) = guard(batch, |key| Ok::<_, Infallible>(versions.get(key).copied().flatten()));
        guarded?;
        calls_of(batch, None)?;
        record.commit(&changes(&batch.ops)?, batch.invocation.clone(), self.kept);
        let commit = Commit::Applied { version: record.head.version, durability: self.durability };
        Ok((Done::Committed(commit), Effect::Stored(None)))
    }
}

/// What a request adds to a head, about.
fn size(ask: &Ask) -> usize {
    match ask {
        Ask::Commit(batch) => {
            let op = |op: &Op| op.key().map_or(0, str::len) + op.value().map_or(0, Bytes::len) + CHANGE;
            let result = batch.invocation.as_ref().map_or(0, |(_, result)| result.len());
            CHANGE + result + batch.ops.iter().map(op).sum::<usize>()
        }
        Ask::Replace { snapshot, .. } => snapshot_size(snapshot),
        Ask::Follow { delta, .. } => delta_size(delta),
        _ => CHANGE,
    }
}

/// What a head that holds `snapshot` has beside its other parts.
pub(super) fn snapshot_size(snapshot: &Snapshot) -> usize {
    let count = snapshot.entries.len() + snapshot.results.len();
    usize::try_from(size_of(snapshot)).unwrap_or(usize::MAX).saturating_add(CHANGE * count)
}

/// The same of a delta.
pub(super) fn delta_size(delta: &Delta) -> usize {
    let value = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.value.len());
    let entries = delta.entries.iter().map(|(key, entry)| key.len() + value(entry) + CHANGE);
    entries.chain(delta.results.iter().map(|(_, result)| result.len() + CHANGE)).sum()
}
