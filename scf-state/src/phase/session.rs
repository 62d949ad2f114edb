//! The state of one scope during one call.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::poll;
use scf_core::{
    Batch, Commit, Entry, InvocationId, OutputGate, Phase, QueuedCall, StateError, StateSession, Timestamp, Version,
    WallTime,
};

use super::{
    calls::Calls,
    naming::local_key,
    parts::Parts,
    pipe::{Pipe, UnderWay},
    slot::{Alone, Beside, Slot},
    writes::Writes,
};

/// What both kinds of session have; `gate` is passed as long as it lives.
#[derive(Debug)]
pub(super) struct Visit<G> {
    pub(super) parts: Arc<Parts>,
    pub(super) slot: Arc<Slot>,
    pub(super) gate: G,
    pub(super) invocation: InvocationId,
    pub(super) began: Timestamp,
}

/// A call in the local phase: reads memory or the local store, commits there.
#[derive(Debug)]
pub(super) struct LocalSession {
    visit: Visit<Alone>,
    writes: Mutex<Writes>,
    calls: Calls,
}

impl LocalSession {
    pub(super) fn new(visit: Visit<Alone>) -> Self {
        Self { visit, writes: Mutex::default(), calls: Calls::default() }
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at hand: the call's own change, or the resident value.
    fn at_hand(&self, key: &str) -> Option<Option<Bytes>> {
        let clock = &*self.visit.parts.clock;
        if let Some(written) = self.writes().read(key, clock) {
            return Some(written);
        }
        let resident = self.visit.gate.hold.as_ref()?.resident.as_ref()?;
        Some(resident.get(key, clock))
    }
}

#[async_trait]
impl StateSession for LocalSession {
    fn try_get(&self, key: &str) -> Option<Result<Option<Bytes>, StateError>> {
        if let Some(value) = self.at_hand(key) {
            return Some(Ok(value));
        }
        let Visit { parts, slot, .. } = &self.visit;
        let read = parts.local.try_get(&slot.local, &local_key(key))?;
        Some(read.map(|entry| entry.map(|entry| entry.value)))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some(read) = self.try_get(key) {
            return read;
        }
        let Visit { parts, slot, .. } = &self.visit;
        Ok(parts.local.get(&slot.local, &local_key(key)).await?.map(|entry| entry.value))
    }

    fn put(&self, key: &str, value: Bytes) {
        self.writes().put(key, value, None);
    }

    fn put_until(&self, key: &str, value: Bytes, expires: WallTime) -> Result<(), StateError> {
        self.visit.parts.may_expire()?;
        self.writes().put(key, value, Some(expires));
        Ok(())
    }

    fn delete(&self, key: &str) {
        self.writes().delete(key);
    }

    fn enqueue(&self, call: QueuedCall) -> Result<(), StateError> {
        self.calls.enqueue(call);
        Ok(())
    }

    fn cancel_timer(&self, name: &str) -> Result<(), StateError> {
        self.calls.cancel_timer(&self.visit.slot.scope, name);
        Ok(())
    }

    fn phase(&self) -> Phase {
        self.visit.gate.hold.as_ref().map_or(Phase::Remote, |hold| Phase::Local(hold.home))
    }

    fn turn(&self) -> u64 {
        self.visit.gate.hold.as_ref().map_or(0, |hold| hold.turn)
    }

    fn output(&self) -> Option<Arc<dyn OutputGate>> {
        let hold = self.visit.gate.hold.as_ref().filter(|hold| !hold.pipe.is_empty())?;
        let (slot, pipe) = (Arc::clone(&self.visit.slot), Arc::clone(&hold.pipe));
        let (version, base, after) = (hold.version, hold.base, pipe.last());
        Some(Arc::new(Behind { slot, pipe, after, version, base }))
    }

    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError> {
        let writes = self.writes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Visit { parts, slot, mut gate, invocation, began } = self.visit;
        let Some(hold) = &mut gate.hold else {
            return Err(StateError::Unavailable { reason: format!("{} is no longer local", slot.scope) });
        };
        let expected = hold.version;
        let batch = Batch::new(slot.local.clone())
            .durability(parts.config.durability)
            .fence(hold.local)
            .expect(expected)
            .invocation(invocation, result);
        let batch = self.calls.join(writes.join(batch, local_key));
        let under_way = hold.pipe.begin(invocation);
        hold.version = expected.next();
        hold.turn += 1;
        let mut size = None;
        if let Some(resident) = &mut hold.resident {
            for (key, value) in writes.iter() {
                resident.set(key, value);
            }
            if !resident.fits(parts.config.resident) {
                resident.expire(parts.clock.wall());
            }
            size = Some(resident.size());
            if !resident.fits(parts.config.resident) {
                hold.resident = None;
            }
        }
        let is_resident = hold.resident.is_some();
        let now = parts.clock.now();
        parts.served(&slot, now, now.since(began), None, !writes.is_empty(), size);
        let mut commit = Box::pin(apply(&parts, &slot, batch, expected, under_way));
        // The commit is on its way, before the next call's can be; whoever replies or calls others waits for it.
        if is_resident {
            if let std::task::Poll::Ready(answer) = poll!(commit.as_mut()) {
                return answer;
            }
            drop(gate);
            return commit.await;
        }
        // What is read from the local store must be there: the next call waits.
        let answer = commit.await;
        drop(gate);
        answer
    }
}

/// Opens behind the commits that were under way when a call began.
#[derive(Debug)]
struct Behind {
    slot: Arc<Slot>,
    pipe: Arc<Pipe>,
    after: u64,
    version: Version,
    base: Version,
}

#[async_trait]
impl OutputGate for Behind {
    async fn open(&self) -> Result<(), StateError> {
        if self.pipe.settled(self.after).await {
            return Ok(());
        }
        Err(StateError::Conflict { scope: self.slot.scope.clone(), expected: self.version, actual: self.base })
    }
}

/// Commits on the version that the commits before it lead to.
async fn apply(
    parts: &Parts,
    slot: &Slot,
    batch: Batch,
    expected: Version,
    under_way: UnderWay,
) -> Result<Commit, StateError> {
    let mut answer = parts.local.commit(batch.clone()).await;
    if let Err(StateError::Conflict { actual, .. }) = &answer
        && *actual < expected
        && under_way.is_next().await
    {
        // It overtook those before it, which have been applied by now.
        answer = parts.local.commit(batch).await;
    }
    match &answer {
        Ok(Commit::Applied { .. }) => under_way.succeed(),
        // Of a call that was done before, nothing that it wrote now counts.
        Ok(_) | Err(StateError::Conflict { .. }) => {}
        Err(_) => slot.must_leave.store(true, Ordering::Relaxed),
    }
    answer
}

/// A call in the remote phase: reads and commits at home, on what it found there.
#[derive(Debug)]
pub(super) struct RemoteSession {
    visit: Visit<Beside>,
    version: Version,
    progress: Mutex<Progress>,
    calls: Calls,
}

#[derive(Debug, Default)]
struct Progress {
    writes: Writes,
    /// What was read at home, so that it is read once.
    read: BTreeMap<String, Option<Entry>>,
    spent: Duration,
}

impl RemoteSession {
    /// `spent` is what opening it took at home.
    pub(super) fn new(visit: Visit<Beside>, version: Version, spent: Duration) -> Self {
        Self {
            visit,
            version,
            progress: Mutex::new(Progress { spent, ..Progress::default() }),
            calls: Calls::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateSession for RemoteSession {
    fn try_get(&self, key: &str) -> Option<Result<Option<Bytes>, StateError>> {
        let (progress, clock) = (self.progress(), &self.visit.parts.clock);
        if let Some(written) = progress.writes.read(key, &**clock) {
            return Some(Ok(written));
        }
        let lives = |entry: &&Entry| entry.expires.is_none() || entry.lives(clock.wall());
        progress.read.get(key).map(|entry| Ok(entry.as_ref().filter(lives).map(|entry| entry.value.clone())))
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some(read) = self.try_get(key) {
            return read;
        }
        let Visit { parts, slot, .. } = &self.visit;
        let started = parts.clock.now();
        let entry = parts.home.get(&slot.scope, key).await;
        self.progress().spent += parts.clock.now().since(started);
        let entry = entry?;
        if let Some(entry) = entry.as_ref().filter(|entry| entry.version > self.version) {
            // Written since the call began: it could not commit any more.
            let (scope, expected, actual) = (slot.scope.clone(), self.version, entry.version);
            return Err(StateError::Conflict { scope, expected, actual });
        }
        let value = entry.as_ref().map(|entry| entry.value.clone());
        self.progress().read.insert(key.to_owned(), entry);
        Ok(value)
    }

    fn put(&self, key: &str, value: Bytes) {
        self.progress().writes.put(key, value, None);
    }

    fn put_until(&self, key: &str, value: Bytes, expires: WallTime) -> Result<(), StateError> {
        self.visit.parts.may_expire()?;
        self.progress().writes.put(key, value, Some(expires));
        Ok(())
    }

    fn delete(&self, key: &str) {
        self.progress().writes.delete(key);
    }

    fn enqueue(&self, call: QueuedCall) -> Result<(), StateError> {
        self.calls.enqueue(call);
        Ok(())
    }

    fn cancel_timer(&self, name: &str) -> Result<(), StateError> {
        self.calls.cancel_timer(&self.visit.slot.scope, name);
        Ok(())
    }

    fn phase(&self) -> Phase {
        Phase::Remote
    }

    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError> {
        let Progress { writes, read, spent } = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Visit { parts, slot, gate, invocation, began } = self.visit;
        let mut batch =
            Batch::new(slot.scope.clone()).durability(parts.config.durability).invocation(invocation, result);
        let runs_alone = parts.config.beside == 1;
        if runs_alone {
            batch = batch.expect(self.version);
        }
        // Calls that run beside each other get in each other's way only where one read what another wrote. What a home
        // whose reads lag gave may be older than the version at which the call began.
        if !runs_alone || !parts.home.caps().linearizable_reads {
            for (key, entry) in read {
                batch = batch.guard(key, entry.map(|entry| entry.version));
            }
        }
        let wrote = !writes.is_empty();
        let batch = self.calls.join(writes.join(batch, |key| Cow::Borrowed(key)));
        let started = parts.clock.now();
        let answer = parts.home.commit(batch).await;
        let now = parts.clock.now();
        let took = now.since(started);
        slot.mind().meter.requested(took);
        parts.served(&slot, now, now.since(began), Some(spent + took), wrote, None);
        drop(gate);
        match answer {
            // Somebody acquired the scope during the call: to the caller that is as if it had come later.
            Err(StateError::Fenced { scope, .. }) => {
                let head = parts.home_head(&scope).await?;
                Err(StateError::Conflict { scope, expected: self.version, actual: head.version })
            }
            Err(StateError::Guard { scope, actual, .. }) => {
                Err(StateError::Conflict { scope: *scope, expected: self.version, actual: actual.unwrap_or_default() })
            }
            answer => answer,
        }
    }
}
