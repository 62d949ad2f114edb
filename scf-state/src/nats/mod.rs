//! State in a fleet's broker.

mod ask;
mod blob;
mod broker;
mod error;
mod lease;
mod link;
mod monitor;
mod open;
mod options;
mod record;
mod shared;
mod subject;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, ByteSize, Caps, Commit, Delta, Durability, Entry, Fence, Head, InvocationId, NodeId, Scope, Snapshot,
    StateBackend, StateError, Timestamp, Version, Watch,
};

pub use blob::{NatsBlobs, NatsBlobsBuilder};
pub use broker::{Broker, Syncing};
pub use error::NatsError;
pub use open::NatsStateBuilder;
pub use options::{NatsCredentials, NatsOptions};

use self::{
    ask::{Ask, Done, delta_size, snapshot_size},
    link::Stored,
    record::Record,
    shared::Shared,
    subject::Place,
    watch::HeadWatch,
    writer::Writer,
};
use crate::{head::nonce, limit::check_snapshot};

/// How often a scope is read anew because it changed meanwhile.
const READS: usize = 16;
/// Messages of a generation that are stored at once.
const STORED: usize = 128;

/// A [`StateBackend`] in NATS JetStream, for the nodes of a fleet.
///
/// A commit is one message, stored only where no other came first: the scope's head record with the changes in it.
/// Commits of many scopes that are queued beside each other are one atomic batch, which the server stores several times
/// as fast as single messages; a few are stored each by itself. What has gathered in a head is moved into one message per
/// entry. Reads ask the leader of the stream.
///
/// It gives [`Durability::Durable`], or [`Durability::Replicated`] with more than one replica, only if every server whose
/// monitoring endpoint is named syncs before it acknowledges; otherwise it gives [`Durability::OsBuffered`], and that
/// must be asked for. With one replica its reads are linearizable; with more, a leader that lost its majority may for a
/// moment answer from before, which [`Caps::linearizable_reads`] says. Commits are safe in either case.
///
/// Leases are measured on the clock of the node that asks: a node that did not give a lease waits a whole one from when
/// it first sees it, and from each renewal.
///
/// When the broker does not answer, a commit is [`StateError::Unknown`]; while there is no connection it is
/// [`StateError::Unavailable`] at once. When the broker's storage is full it is [`StateError::Full`].
///
/// It runs one task per shard on the runtime that it is opened on; its drop stops them.
#[derive(Debug)]
pub struct NatsState {
    /// By shard.
    writers: Vec<Writer>,
    shared: Arc<Shared>,
    caps: Caps,
}

impl NatsState {
    /// State at `broker`, yet to be opened.
    pub fn at(broker: Broker) -> NatsStateBuilder {
        NatsStateBuilder::new(broker)
    }

    fn place(&self, scope: &Scope) -> Place {
        self.shared.link.layout.place(scope)
    }

    async fn ask(&self, place: Place, ask: Ask) -> Result<Done, StateError> {
        self.writers[place.shard as usize].ask(place, ask).await
    }

    /// The whole scope at the version of the record that is given back.
    async fn read(&self, place: &Place) -> Result<(Record, Snapshot), StateError> {
        let link = &self.shared.link;
        let lives = |entry: &Entry| self.shared.wall.lives(entry);
        let (_, mut before) = link.head(place).await?;
        for _ in 0..READS {
            if before.moves == 0 {
                let snapshot = before.snapshot(Vec::new(), Vec::new(), lives);
                return Ok((before, snapshot));
            }
            let (entries, kept) = link.generation(place, before.generation).await?;
            // Changes that were being moved meanwhile have all gathered in the head that is read now.
            let (_, after) = link.head(place).await?;
            if (after.generation, after.moves) != (before.generation, before.moves) {
                before = after;
                continue;
            }
            let mut moved: Vec<_> = kept.into_iter().filter(|kept| after.moved().contains(&kept.place)).collect();
            moved.sort_unstable_by_key(|kept| kept.place);
            if moved.len() as u64 != after.moved().end - after.moved().start {
                let what = "results are missing".to_owned();
                return Err(StateError::Corrupt { scope: place.scope.clone(), what });
            }
            let moved = moved.into_iter().map(|kept| (kept.invocation, kept.result)).collect();
            let snapshot = after.snapshot(entries, moved, lives);
            return Ok((after, snapshot));
        }
        Err(StateError::Unavailable { reason: "the scope changes faster than it is read".to_owned() })
    }

    /// Stores a snapshot that no head can hold, message by message, and then makes it the scope's.
    async fn import_apart(&self, place: Place, fence: Fence, mut snapshot: Snapshot) -> Result<(), StateError> {
        let (shared, generation) = (&self.shared, nonce() as u64);
        let Done::Left(left) = self.ask(place.clone(), Ask::Stage { fence, generation }).await? else {
            return Err(StateError::Unknown { scope: place.scope });
        };
        self.forget(&place, left).await;
        snapshot.results.drain(..snapshot.results.len().saturating_sub(shared.kept));
        let version = snapshot.version;
        let results = snapshot.results.iter().map(|(id, _)| *id).collect();
        for messages in Record::spread(&place, snapshot, generation, shared.kept, shared.wall.now()).chunks(STORED) {
            match shared.link.store_unseen(messages).await {
                Stored::Until(_) => {}
                Stored::Refused(error) => return Err(error),
                Stored::Stale | Stored::Unknown => {
                    let reason = "the broker did not take all of an import".to_owned();
                    return Err(StateError::Unavailable { reason });
                }
            }
        }
        let switched = self.ask(place.clone(), Ask::Switch { fence, generation, version, results }).await?;
        if let Done::Left(left) = switched {
            self.forget(&place, left).await;
        }
        Ok(())
    }

    async fn forget(&self, place: &Place, generations: Vec<u64>) {
        for generation in generations {
            self.shared.link.purge(place, generation).await;
        }
    }
}

#[async_trait]
impl StateBackend for NatsState {
    fn caps(&self) -> Caps {
        self.caps
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        let place = self.place(scope);
        let (_, mut record) = self.shared.link.head(&place).await?;
        for _ in 0..READS {
            let found = self.shared.entry(&place, &record, key).await?;
            if found.is_some() || record.moves == 0 || record.find(key).is_some() {
                return Ok(found);
            }
            // What is not there may have been removed with its generation.
            let (_, now) = self.shared.link.head(&place).await?;
            if now.generation == record.generation {
                return Ok(None);
            }
            record = now;
        }
        Err(StateError::Unavailable { reason: "the scope changes faster than it is read".to_owned() })
    }

    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError> {
        let (_, record) = self.shared.link.head(&self.place(scope)).await?;
        Ok(record.head.head(self.shared.leases.remaining(&record, now)))
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        let place = self.place(scope);
        let (_, mut record) = self.shared.link.head(&place).await?;
        for _ in 0..READS {
            let found = self.shared.result_of(&place, &record, invocation).await?;
            if found.is_some() || record.moves == 0 {
                return Ok(found);
            }
            let (_, now) = self.shared.link.head(&place).await?;
            if now.generation == record.generation {
                return Ok(None);
            }
            record = now;
        }
        Err(StateError::Unavailable { reason: "the scope changes faster than it is read".to_owned() })
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.caps.check(&batch)?;
        let place = self.place(&batch.scope);
        let scope = batch.scope.clone();
        match self.ask(place, Ask::Commit(batch)).await? {
            Done::Committed(commit) => Ok(commit),
            _ => Err(StateError::Unknown { scope }),
        }
    }

    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError> {
        match self.ask(self.place(scope), Ask::Acquire { owner: owner.clone(), lease, now }).await? {
            Done::Acquired(fence) => Ok(fence),
            _ => Err(StateError::Unknown { scope: scope.clone() }),
        }
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError> {
        self.ask(self.place(scope), Ask::Renew { fence, lease, now }).await.map(drop)
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.ask(self.place(scope), Ask::Release { fence }).await.map(drop)
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        Ok(Box::new(HeadWatch::begin(Arc::clone(&self.shared), self.place(scope), prefix, from).await?))
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        Ok(self.read(&self.place(scope)).await?.1)
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        check_snapshot(self.caps, scope, &snapshot)?;
        let place = self.place(scope);
        if snapshot_size(&snapshot) > self.shared.room {
            return self.import_apart(place, fence, snapshot).await;
        }
        let ask = Ask::Replace { fence, snapshot, generation: nonce() as u64 };
        if let Done::Left(left) = self.ask(place.clone(), ask).await? {
            self.forget(&place, left).await;
        }
        Ok(())
    }

    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        let (_, record) = self.shared.link.head(&self.place(scope)).await?;
        Ok(record.since(since, |entry| self.shared.wall.lives(entry)))
    }

    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        let place = self.place(scope);
        if delta_size(&delta) <= self.shared.room {
            return self.ask(place, Ask::Follow { fence, delta }).await.map(drop);
        }
        let (record, mut copy) = self.read(&place).await?;
        record.head.admit_owner(scope, fence)?;
        if copy.version != delta.since {
            let (expected, actual) = (delta.since, copy.version);
            return Err(StateError::Conflict { scope: scope.clone(), expected, actual });
        }
        delta.apply(&mut copy);
        self.import(scope, fence, copy).await
    }
}

/// What of a message's size is left to the changes of a head that keeps so many results.
const fn room(max_payload: usize, kept: usize) -> usize {
    /// Headers, the head record itself, and what encoding adds.
    const REST: usize = 16 << 10;
    max_payload.saturating_sub(REST + record::GATHERED + 4 * kept)
}

fn caps(durability: Durability, replicas: u8, room: usize, kept: usize) -> Caps {
    // Room for what each change costs beside key and value.
    let size = ByteSize::from_bytes((room - room / 8) as u64);
    let caps = Caps::new(durability).results_per_scope(kept).max_value(size).max_batch(size).with_expiry().with_watch();
    if replicas > 1 { caps.without_linearizable_reads() } else { caps }
}
