//! State of calls, in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use scf_core::{Bytes, Commit, Durability, Phase, StateError, StateSession, Version};

/// What is committed, by key.
pub(crate) type Committed = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// One call's view of it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    committed: Committed,
    changes: Mutex<BTreeMap<String, Option<Bytes>>>,
}

impl Session {
    pub(crate) fn of(committed: &Committed) -> Box<Self> {
        Box::new(Self { committed: committed.clone(), changes: Mutex::default() })
    }

    /// Keys that the call would write.
    pub(crate) fn changed(&self) -> Vec<String> {
        self.changes.lock().unwrap().keys().cloned().collect()
    }
}

#[async_trait]
impl StateSession for Session {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError> {
        if let Some(change) = self.changes.lock().unwrap().get(key) {
            return Ok(change.clone());
        }
        Ok(self.committed.lock().unwrap().get(key).cloned())
    }

    fn put(&self, key: &str, value: Bytes) {
        self.changes.lock().unwrap().insert(key.into(), Some(value));
    }

    fn delete(&self, key: &str) {
        self.changes.lock().unwrap().insert(key.into(), None);
    }

    fn phase(&self) -> Phase {
        Phase::Remote
    }

    async fn commit(self: Box<Self>, _: Bytes) -> Result<Commit, StateError> {
        let mut committed = self.committed.lock().unwrap();
        for (key, change) in self.changes.into_inner().unwrap() {
            match change {
                Some(value) => committed.insert(key, value),
                None => committed.remove(&key),
            };
        }
        Ok(Commit::Applied { version: Version::default(), durability: Durability::Memory })
    }
}
