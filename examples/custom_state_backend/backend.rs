//! The contract, over the log.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use async_trait::async_trait;
use scf::core::{
    Batch, Bytes, Caps, Commit, Durability, Entry, Fence, Guard, Head, InvocationId, NodeId, Op, Ownership, Scope,
    Snapshot, StateBackend, StateError, Timestamp,
};

use crate::log::{Image, LogState};

/// Results of past invocations that are kept per scope.
const RESULTS: usize = 64;

/// Passes the owner, and anybody while there is none.
fn admit(scope: &Scope, (_, epoch, owner): &Image, fence: Option<Fence>) -> Result<(), StateError> {
    let owner = owner.as_ref().map(|(_, nonce)| Fence { epoch: *epoch, nonce: *nonce });
    if owner == fence { Ok(()) } else { Err(StateError::Fenced { scope: scope.clone(), epoch: *epoch }) }
}

fn result(of: &Snapshot, id: InvocationId) -> Option<Bytes> {
    of.results.iter().find(|(kept, _)| *kept == id).map(|(_, result)| result.clone())
}

#[async_trait]
impl StateBackend for LogState {
    fn caps(&self) -> Caps {
        Caps::new(Durability::Durable).results_per_scope(RESULTS)
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        Ok(self.read(scope).0.0.entries.into_iter().find(|(k, _)| k == key).map(|(_, entry)| entry))
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        let ((Snapshot { version, .. }, epoch, owner), lease) = self.read(scope);
        let owner = owner.map(|(node, _)| Ownership { node, epoch, remaining: lease.since(now) });
        Ok(Head { version, owner })
    }

    async fn result_of(&self, scope: &Scope, id: InvocationId) -> Result<Option<Bytes>, StateError> {
        Ok(result(&self.read(scope).0.0, id))
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.caps().check(&batch)?;
        let Batch { scope, fence, expect, guards, invocation, ops, .. } = batch;
        self.change(&scope, |image, _| {
            if let Some(result) = invocation.as_ref().and_then(|(id, _)| result(&image.0, *id)) {
                return Ok(Commit::Duplicate { result });
            }
            admit(&scope, image, fence)?;
            let now = &mut image.0;
            if let Some(expected) = expect.filter(|expected| *expected != now.version) {
                return Err(StateError::Conflict { scope: scope.clone(), expected, actual: now.version });
            }
            for Guard { key, version: expected } in guards {
                let actual = now.entries.iter().find(|(k, _)| *k == key).map(|(_, entry)| entry.version);
                if actual != expected {
                    return Err(StateError::Guard { scope: Box::new(scope.clone()), key, expected, actual });
                }
            }
            now.version = now.version.next();
            for op in ops {
                let (key, value) = match op {
                    Op::Put { key, value, .. } => (key, Some(value)),
                    Op::Delete { key } => (key, None),
                    other => return Err(StateError::Unavailable { reason: format!("{other:?} is not known here") }),
                };
                now.entries.retain(|(k, _)| *k != key);
                now.entries.extend(value.map(|value| (key, Entry::new(value, now.version))));
            }
            now.entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            now.results.extend(invocation);
            now.results.drain(..now.results.len().saturating_sub(RESULTS));
            Ok(Commit::Applied { version: now.version, durability: Durability::Durable })
        })
    }

    async fn acquire(&self, s: &Scope, node: &NodeId, lasts: Duration, now: Timestamp) -> Result<Fence, StateError> {
        self.change(s, |(_, epoch, owner), lease| {
            if let Some((owner, _)) = owner.take_if(|(owner, _)| owner != node && *lease > now) {
                return Err(StateError::Held { scope: s.clone(), owner, remaining: lease.since(now) });
            }
            let half = || u128::from(RandomState::new().hash_one(0));
            let fence = Fence { epoch: *epoch + 1, nonce: (half() << 64) | half() };
            (*epoch, *owner, *lease) = (fence.epoch, Some((node.clone(), fence.nonce)), now + lasts);
            Ok(fence)
        })
    }

    async fn renew(&self, s: &Scope, fence: Fence, lasts: Duration, now: Timestamp) -> Result<(), StateError> {
        self.change(s, |image, lease| admit(s, image, Some(fence)).map(|()| *lease = now + lasts))
    }

    async fn release(&self, s: &Scope, fence: Fence) -> Result<(), StateError> {
        self.change(s, |image, _| {
            let owned = admit(s, image, Some(fence)).is_ok();
            image.2.take_if(|_| owned);
            Ok(())
        })
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        Ok(self.read(scope).0.0)
    }

    async fn import(&self, s: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.change(s, |image, _| admit(s, image, Some(fence)).map(|()| image.0 = snapshot))
    }
}
