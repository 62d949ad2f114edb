//! What every writer has, and how it works out what comes of a request.

use std::{collections::HashMap, convert::Infallible};

use bytes::Bytes;
use scf_core::{Batch, Commit, Durability, Entry, Guard, InvocationId, StateError, Timestamp};

use super::{
    ask::{Ask, Done},
    lease::Leases,
    link::{Link, NewHead, Stored},
    record::Record,
    subject::Place,
};
use crate::{
    change::{changes, guard},
    queue::calls_of,
    wall::Wall,
};

/// How often a group is worked out anew because others were first.
pub(super) const TRIES: usize = 64;

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

/// Whether a head is to be stored.
pub(super) enum Effect {
    None,
    /// It is; the owner has the scope until then, where that changes.
    Stored(Option<Timestamp>),
}

impl Shared {
    /// The head of a scope as it is now, with room for changes.
    pub(super) async fn head(&self, place: &Place) -> Result<(u64, Record), StateError> {
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

    pub(super) async fn apply(
        &self,
        place: &Place,
        record: &mut Record,
        ask: &Ask,
    ) -> Result<(Done, Effect), StateError> {
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
