//! How a scope changes between remote and local state.
//!
//! Each way goes in two stages: a copy is made while calls go on, then the gate is closed and what they changed
//! meanwhile follows. Every step may fail or be dropped. What holds at any time: at most one fence passes at home; a
//! scope's local copy and the fence it rests on are one record of the local store, and a copy without that record
//! is nobody's state; a local copy is cleared only after home has all of it, or after it was set aside.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use scf_core::{Batch, Delta, Fence, Head, Phase, Scope, Snapshot, StateError, Timestamp, Version};

use super::{
    config::Migration,
    naming::{self, HomeRecord, RECORD, aside, index, index_key},
    parts::Parts,
    resident::{self, Resident},
    slot::{Cell, Copied, Hold, Slot},
};

/// Ownership in the local store ends with the local phase, not by time.
const LOCAL_LEASE: Duration = Duration::from_secs(u32::MAX as u64);

/// What home was given ahead of giving a scope back: under which fence, up to which version.
pub(super) type Ahead = (Fence, Version);

impl Parts {
    /// Finds out whether the local store owns the scope, after a start or an interrupted migration.
    pub(super) async fn examine(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        self.set_hold(cell, None);
        let Some(entry) = self.local.get(&slot.local, RECORD).await? else {
            cell.examined = true;
            self.set_phase(slot, Phase::Remote);
            return Ok(());
        };
        let record = HomeRecord::decode(&slot.scope, &entry.value)?;
        let now = self.clock.now();
        let snapshot = naming::unpack(self.local.export(&slot.local).await?);
        let renewed = self.home.renew(&slot.scope, record.fence, self.config.lease, now).await;
        if let Err(StateError::Fenced { .. }) = renewed {
            return self.lose(slot, cell, &record, snapshot).await;
        }
        let local = self.local.acquire(&slot.local, &self.node, LOCAL_LEASE, now).await?;
        // Without an answer the scope goes on here: if somebody has taken it, its fence keeps us out of home.
        let renew_at = if renewed.is_ok() { now + self.config.lease / 2 } else { now };
        slot.mind().adopt(now);
        self.begin_local(slot, cell, &record, local, &snapshot, renew_at);
        Ok(())
    }

    /// The first stage of taking a scope: everything that home has is copied here, while others work on it.
    pub(super) async fn copy_in(&self, slot: &Slot) -> Result<(), StateError> {
        let mut copied = slot.copied.lock().await;
        if let Some(Copied { local, snapshot }) = &mut *copied {
            if let Some(delta) = self.home.export_since(&slot.scope, snapshot.version).await? {
                let packed = naming::pack_delta(delta.clone(), None);
                self.local.import_since(&slot.local, *local, packed).await?;
                delta.apply(snapshot);
                return Ok(());
            }
            *copied = None;
        }
        let snapshot = self.home.export(&slot.scope).await?;
        let local = self.store_copy(slot, &snapshot, None).await?;
        *copied = Some(Copied { local, snapshot });
        Ok(())
    }

    /// Puts a snapshot from home into the local store.
    async fn store_copy(
        &self,
        slot: &Slot,
        snapshot: &Snapshot,
        record: Option<&HomeRecord>,
    ) -> Result<Fence, StateError> {
        let listed = Batch::new(index()).durability(self.config.durability).put(index_key(&slot.scope), "");
        self.local.commit(listed).await?;
        let local = self.local.acquire(&slot.local, &self.node, LOCAL_LEASE, self.clock.now()).await?;
        self.local.import(&slot.local, local, naming::pack(snapshot.clone(), record)).await?;
        Ok(local)
    }

    /// Remote to local: acquires at home, brings the copy that was made up to date, stores the fence with it.
    pub(super) async fn enter(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let started = self.clock.now();
        cell.examined = false;
        self.set_phase(slot, Phase::Acquiring);
        let fence = match self.home.acquire(&slot.scope, &self.node, self.config.lease, started).await {
            Ok(fence) => fence,
            Err(error) => return Err(self.stay_remote(slot, cell, error)),
        };
        match self.take(slot, fence).await {
            Ok((record, local, snapshot)) => {
                self.begin_local(slot, cell, &record, local, &snapshot, started + self.config.lease / 2);
                slot.must_leave.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                if let Err(release) = self.home.release(&slot.scope, fence).await {
                    tracing::debug!(scope = %slot.scope, error = %release, "a scope stays owned that was not taken");
                }
                Err(self.stay_remote(slot, cell, error))
            }
        }
    }

    async fn take(&self, slot: &Slot, fence: Fence) -> Result<(HomeRecord, Fence, Snapshot), StateError> {
        if let Some(Copied { local, mut snapshot }) = slot.copied.lock().await.take()
            && let Some(delta) = self.home.export_since(&slot.scope, snapshot.version).await?
        {
            let record = HomeRecord { fence, base: delta.version };
            self.local.import_since(&slot.local, local, naming::pack_delta(delta.clone(), Some(&record))).await?;
            delta.apply(&mut snapshot);
            return Ok((record, local, snapshot));
        }
        let snapshot = self.home.export(&slot.scope).await?;
        let record = HomeRecord { fence, base: snapshot.version };
        let local = self.store_copy(slot, &snapshot, Some(&record)).await?;
        Ok((record, local, snapshot))
    }

    fn stay_remote(&self, slot: &Slot, cell: &mut Cell, error: StateError) -> StateError {
        cell.backoff.fail(self.clock.now(), self.config.retry);
        slot.mind().stay_remote();
        self.set_phase(slot, Phase::Remote);
        tracing::debug!(scope = %slot.scope, %error, "a scope stays remote");
        error
    }

    /// The first stage of giving a scope back: home is brought up to date, while calls go on here.
    pub(super) async fn copy_out(&self, slot: &Slot) -> Result<Option<Ahead>, StateError> {
        if self.config.migration == Migration::StopAndCopy {
            return Ok(None);
        }
        let (fence, base) = match &slot.alone().await.hold {
            Some(hold) if hold.version != hold.base => (hold.home, hold.base),
            _ => return Ok(None),
        };
        let version = self.publish(slot, fence, base).await?;
        // What home has now is noted at once: a later stage that finds nothing new has nothing to send.
        if let Some(hold) = slot.alone().await.hold.as_mut().filter(|hold| hold.home == fence) {
            hold.base = version;
        }
        Ok(Some((fence, version)))
    }

    /// Brings home from `base` to what is stored here; answers that version.
    async fn publish(&self, slot: &Slot, fence: Fence, base: Version) -> Result<Version, StateError> {
        if self.config.migration == Migration::TwoStage
            && let Some(delta) = self.local.export_since(&slot.local, base).await?
        {
            let delta: Delta = naming::unpack_delta(delta);
            let version = delta.version;
            match self.home.import_since(&slot.scope, fence, delta).await {
                // Home got more than is known here, before a restart or an answer that was lost.
                Err(StateError::Conflict { .. }) => {}
                answer => return answer.map(|()| version),
            }
        }
        let snapshot = naming::unpack(self.local.export(&slot.local).await?);
        let version = snapshot.version;
        self.home.import(&slot.scope, fence, snapshot).await?;
        Ok(version)
    }

    /// Local to remote: publishes at home under the fence what it does not have, gives the fence up, clears the local
    /// copy. The scope stays local when home cannot be reached.
    pub(super) async fn leave(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let Some(hold) = &mut cell.hold else { return Ok(()) };
        let started = self.clock.now();
        hold.pipe.empty().await;
        let (home, local, base, version) = (hold.home, hold.local, hold.base, hold.version);
        let is_new = hold.pipe.has_failed() || version != base;
        cell.examined = false;
        self.set_phase(slot, Phase::Draining(home));
        let published = if is_new { self.publish(slot, home, base).await.map(drop) } else { Ok(()) };
        match published {
            Ok(()) => {
                // Whoever sends the release must not go on here, whatever answer comes: the copy goes first. After a
                // restart in between, home still says that this node owns the scope, and this node knows of none.
                let forgotten =
                    Batch::new(slot.local.clone()).durability(self.config.durability).fence(local).delete(RECORD);
                if let Err(error) = self.local.commit(forgotten).await {
                    tracing::warn!(scope = %slot.scope, %error, "a local copy that has gone home stays behind");
                }
                self.end_local(slot, cell);
                if let Err(error) = self.home.release(&slot.scope, home).await {
                    tracing::debug!(scope = %slot.scope, %error, "a scope that has gone home stays owned until it is used");
                }
                slot.mind().meter.moved_out(self.clock.now().since(started));
                Ok(())
            }
            Err(StateError::Fenced { .. }) => {
                let snapshot = naming::unpack(self.local.export(&slot.local).await?);
                self.lose(slot, cell, &HomeRecord { fence: home, base }, snapshot).await
            }
            Err(error) => {
                cell.examined = true;
                cell.backoff.fail(self.clock.now(), self.config.retry);
                self.set_phase(slot, Phase::Local(home));
                tracing::debug!(scope = %slot.scope, %error, "a scope stays local");
                Err(error)
            }
        }
    }

    /// Removes what is left of a scope that has gone home, and takes it from the list of those to be examined after a
    /// restart.
    pub(super) async fn unlist(&self, slot: &Slot) {
        self.clear(slot, None).await;
    }

    /// Extends the lease at home.
    pub(super) async fn renew(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let Some(hold) = &mut cell.hold else { return Ok(()) };
        let now = self.clock.now();
        match self.home.renew(&slot.scope, hold.home, self.config.lease, now).await {
            Ok(()) => {
                hold.renew_at = now + self.config.lease / 2;
                cell.backoff.succeed();
                Ok(())
            }
            Err(StateError::Fenced { .. }) => {
                hold.pipe.empty().await;
                cell.examined = false;
                self.examine(slot, cell).await
            }
            Err(error) => {
                cell.backoff.fail(now, self.config.retry);
                Err(error)
            }
        }
    }

    /// Reads version and values anew after a commit that failed or whose outcome is not known.
    pub(super) async fn refresh(&self, slot: &Slot, hold: &mut Hold) -> Result<(), StateError> {
        hold.pipe.empty().await;
        let snapshot = naming::unpack(self.local.export(&slot.local).await?);
        hold.version = snapshot.version;
        hold.resident = Resident::of(&snapshot, self.config.resident);
        hold.pipe = Arc::default();
        hold.turn += 1;
        Ok(())
    }

    /// Home says that the fence is no longer the scope's: somebody took the scope over, or this node had
    /// published it and did not come to clear its copy. What home does not have is set aside, never dropped.
    async fn lose(
        &self,
        slot: &Slot,
        cell: &mut Cell,
        record: &HomeRecord,
        snapshot: Snapshot,
    ) -> Result<(), StateError> {
        let commits = snapshot.version.get().saturating_sub(record.base.get());
        let published = match snapshot.results.last() {
            _ if commits == 0 => true,
            Some((last, _)) => matches!(self.home.result_of(&slot.scope, *last).await, Ok(Some(_))),
            None => false,
        };
        if !published {
            let epoch = record.fence.epoch;
            let copy = aside(&slot.scope, epoch);
            let fence = self.local.acquire(&copy, &self.node, LOCAL_LEASE, self.clock.now()).await?;
            self.local.import(&copy, fence, snapshot).await?;
            self.losses.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(scope = %slot.scope, epoch, commits, "taken over by another node; the local copy is set aside");
        }
        self.clear(slot, None).await;
        self.end_local(slot, cell);
        Ok(())
    }

    /// Removes a local copy that is no longer the scope's state. What cannot be removed now is found, and known
    /// for what it is, when the scope is examined after the next start.
    pub(super) async fn clear(&self, slot: &Slot, local: Option<Fence>) {
        if let Err(error) = self.try_clear(slot, local).await {
            tracing::warn!(scope = %slot.scope, %error, "a local copy that has gone home stays behind");
        }
    }

    async fn try_clear(&self, slot: &Slot, local: Option<Fence>) -> Result<(), StateError> {
        let local = match local {
            Some(local) => local,
            None => self.local.acquire(&slot.local, &self.node, LOCAL_LEASE, self.clock.now()).await?,
        };
        self.local.import(&slot.local, local, Snapshot::default()).await?;
        self.local.release(&slot.local, local).await?;
        let unlisted = Batch::new(index()).durability(self.config.durability).delete(index_key(&slot.scope));
        self.local.commit(unlisted).await.map(drop)
    }

    fn begin_local(
        &self,
        slot: &Slot,
        cell: &mut Cell,
        record: &HomeRecord,
        local: Fence,
        snapshot: &Snapshot,
        renew_at: Timestamp,
    ) {
        let resident = Resident::of(snapshot, self.config.resident);
        let (home, base, version) = (record.fence, record.base, snapshot.version);
        let pipe = Arc::default();
        self.set_hold(cell, Some(Hold { home, base, local, version, resident, pipe, turn: 0, renew_at }));
        slot.mind().meter.size = resident::size(snapshot);
        cell.examined = true;
        cell.backoff.succeed();
        self.set_phase(slot, Phase::Local(home));
    }

    fn end_local(&self, slot: &Slot, cell: &mut Cell) {
        self.set_hold(cell, None);
        cell.examined = true;
        slot.must_leave.store(false, Ordering::Relaxed);
        slot.mind().stay_remote();
        cell.backoff.succeed();
        self.set_phase(slot, Phase::Remote);
    }

    fn set_hold(&self, cell: &mut Cell, hold: Option<Hold>) {
        match (cell.hold.is_some(), hold.is_some()) {
            (false, true) => drop(self.local_scopes.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.local_scopes.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        cell.hold = hold;
    }

    /// Where a remote scope stands at home, after ending an ownership that binds nobody: this node's own, left
    /// over from an interrupted migration, or one whose lease has run out.
    pub(super) async fn home_head(&self, scope: &Scope) -> Result<Head, StateError> {
        let head = self.home.head(scope, self.clock.now()).await?;
        let Some(owner) = &head.owner else { return Ok(head) };
        if owner.node != self.node && !owner.remaining.is_zero() {
            let (owner, remaining) = (owner.node.clone(), owner.remaining);
            return Err(StateError::Held { scope: scope.clone(), owner, remaining });
        }
        if owner.node != self.node {
            tracing::warn!(%scope, owner = %owner.node, "its lease has run out; the scope is taken from it");
        }
        let fence = self.home.acquire(scope, &self.node, self.config.lease, self.clock.now()).await?;
        self.home.release(scope, fence).await?;
        Ok(Head { version: self.home.head(scope, self.clock.now()).await?.version, owner: None })
    }
}
