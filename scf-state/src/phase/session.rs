//! The state of one scope during one call.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{Batch, Commit, InvocationId, Phase, StateError, StateSession, Version};
use tokio::sync::OwnedMutexGuard;

use super::{
    naming::local_key,
    slot::{Cell, Slot},
    store::Parts,
};

type Writes = BTreeMap<String, Option<Bytes>>;

/// What both kinds of session have: the gate is closed as long as it lives.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) parts: Arc<Parts>,
    pub(super) slot: Arc<Slot>,
    pub(super) cell: OwnedMutexGuard<Cell>,
    pub(super) invocation: InvocationId,
}

/// A call in the local phase: reads memory or the local store, commits there.
#[derive(Debug)]
pub(super) struct LocalSession {
    visit: Visit,
    writes: Mutex<Writes>,
}

impl LocalSession {
    pub(super) fn new(visit: Visit) -> Self {
        Self { visit, writes: Mutex::default() }
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is at hand: the call's own change, or the resident value.
    fn at_hand(&self, key: &str) -> Option<Option<Bytes>> {
        if let Some(written) = self.writes().get(key) {
            return Some(written.clone());
        }
        let resident = self.visit.cell.hold.as_ref()?.resident.as_ref()?;
        Some(resident.get(key).cloned())
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
        self.writes().insert(key.to_owned(), Some(value));
    }

    fn delete(&self, key: &str) {
        self.writes().insert(key.to_owned(), None);
    }

    fn phase(&self) -> Phase {
        self.visit.cell.hold.as_ref().map_or(Phase::Remote, |hold| Phase::Local(hold.home))
    }

    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError> {
        let writes = self.writes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Visit { parts, slot, mut cell, invocation } = self.visit;
        let cell = &mut *cell;
        let Some(hold) = &mut cell.hold else {
            return Err(StateError::Unavailable { reason: format!("{} is no longer local", slot.scope) });
        };
        let mut batch = Batch::new(slot.local.clone())
            .durability(parts.config.durability)
            .fence(hold.local)
            .expect(hold.version)
            .invocation(invocation, result);
        for (key, value) in &writes {
            let key = local_key(key);
            batch = match value {
                Some(value) => batch.put(key, value.clone()),
                None => batch.delete(key),
            };
        }
        hold.stale = true;
        let answer = parts.local.commit(batch).await;
        match &answer {
            Ok(Commit::Applied { version, .. }) => {
                hold.version = *version;
                if let Some(resident) = &mut hold.resident {
                    for (key, value) in &writes {
                        resident.set(key, value.as_ref());
                    }
                    cell.meter.size = resident.size();
                    if !resident.fits(parts.config.resident) {
                        hold.resident = None;
                    }
                }
                hold.stale = false;
            }
            Ok(_) => hold.stale = false,
            Err(StateError::Conflict { .. }) => {}
            Err(_) => cell.must_leave = true,
        }
        cell.meter.call(parts.clock.now(), None, parts.policy.patience());
        answer
    }
}

/// A call in the remote phase: reads and commits at home, on the version that it found there.
#[derive(Debug)]
pub(super) struct RemoteSession {
    visit: Visit,
    version: Version,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    writes: Writes,
    /// What was read at home, so that it is read once.
    read: BTreeMap<String, Option<Bytes>>,
    spent: Duration,
}

impl RemoteSession {
    /// `spent` is what opening it took at home.
    pub(super) fn new(visit: Visit, version: Version, spent: Duration) -> Self {
        Self { visit, version, progress: Mutex::new(Progress { spent, ..Progress::default() }) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateSession for RemoteSession {
    fn try_get(&self, key: &str) -> Option<Result<Option<Bytes>, StateError>> {
        let progress = self.progress();
        progress.writes.get(key).or_else(|| progress.read.get(key)).cloned().map(Ok)
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some(read) = self.try_get(key) {
            return read;
        }
        let Visit { parts, slot, .. } = &self.visit;
        let started = parts.clock.now();
        let entry = parts.home.get(&slot.scope, key).await;
        self.progress().spent += parts.clock.now().since(started);
        let value = match entry? {
            Some(entry) if entry.version > self.version => {
                // Written since the call began: it could not commit any more.
                let (scope, expected, actual) = (slot.scope.clone(), self.version, entry.version);
                return Err(StateError::Conflict { scope, expected, actual });
            }
            entry => entry.map(|entry| entry.value),
        };
        self.progress().read.insert(key.to_owned(), value.clone());
        Ok(value)
    }

    fn put(&self, key: &str, value: Bytes) {
        self.progress().writes.insert(key.to_owned(), Some(value));
    }

    fn delete(&self, key: &str) {
        self.progress().writes.insert(key.to_owned(), None);
    }

    fn phase(&self) -> Phase {
        Phase::Remote
    }

    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError> {
        let Progress { writes, spent, .. } = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Visit { parts, slot, mut cell, invocation } = self.visit;
        let mut batch = Batch::new(slot.scope.clone())
            .durability(parts.config.durability)
            .expect(self.version)
            .invocation(invocation, result);
        for (key, value) in writes {
            batch = match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            };
        }
        let started = parts.clock.now();
        let answer = parts.home.commit(batch).await;
        let now = parts.clock.now();
        let took = now.since(started);
        cell.meter.committed(took);
        cell.meter.call(now, Some(spent + took), parts.policy.patience());
        cell.wants_local = parts.policy.go_local(&cell.stats(now, parts.local_scopes()));
        match answer {
            // Somebody acquired the scope during the call: to the caller that is as if it had come later.
            Err(StateError::Fenced { scope, .. }) => {
                let head = parts.home_head(&scope).await?;
                Err(StateError::Conflict { scope, expected: self.version, actual: head.version })
            }
            answer => answer,
        }
    }
}
