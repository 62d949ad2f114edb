//! What the scopes of one node share, and what is decided over all of them.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use scf_core::{
    ByteSize, Clock, InvocationId, NodeCondition, NodeId, Opened, Phase, PhaseLoad, PhasePolicy, Scope, StateBackend,
    StateError, Timestamp,
};
use tokio::sync::broadcast;

use super::{
    config::{PhaseChange, PhaseConfig},
    load::LoadMeter,
    naming::{index, indexed},
    session::{RemoteSession, Visit},
    slot::{Beside, Cell, Slot},
};

/// How often the policy is asked for the number of local scopes.
const SHARE_EVERY: Duration = Duration::from_millis(200);
/// How many times as often a remote scope must be called as a local one to take its place.
const DISPLACES: u32 = 4;

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) node: NodeId,
    pub(super) home: Arc<dyn StateBackend>,
    pub(super) local: Arc<dyn StateBackend>,
    pub(super) policy: Arc<dyn PhasePolicy>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: PhaseConfig,
    pub(super) local_scopes: AtomicU32,
    pub(super) losses: AtomicU64,
    /// Scopes that are about to be local.
    entering: AtomicU32,
    /// Scopes that may be local, and when the policy said so.
    share: Mutex<(u32, Option<Timestamp>)>,
    pub(super) load: Mutex<LoadMeter>,
    pub(super) condition: Mutex<NodeCondition>,
    seeds: RandomState,
    slots: Mutex<HashMap<Scope, Arc<Slot>>>,
    pub(super) changes: broadcast::Sender<PhaseChange>,
    /// Held while maintaining; whether the scopes that an earlier process left local are in `slots`.
    pub(super) resumed: tokio::sync::Mutex<bool>,
    pub(super) draining: AtomicBool,
}
impl Parts {
    /// Nothing is local yet.
    pub(super) fn new(
        node: NodeId,
        home: Arc<dyn StateBackend>,
        local: Arc<dyn StateBackend>,
        policy: Arc<dyn PhasePolicy>,
        clock: Arc<dyn Clock>,
        config: PhaseConfig,
    ) -> Self {
        Self {
            node,
            home,
            local,
            policy,
            clock,
            config,
            local_scopes: AtomicU32::new(0),
            losses: AtomicU64::new(0),
            entering: AtomicU32::new(0),
            share: Mutex::new((u32::MAX, None)),
            load: Mutex::new(LoadMeter::new(config.window)),
            condition: Mutex::default(),
            seeds: RandomState::new(),
            slots: Mutex::default(),
            changes: broadcast::Sender::new(config.history.max(1)),
            resumed: tokio::sync::Mutex::new(false),
            draining: AtomicBool::new(false),
        }
    }

    pub(super) fn local_scopes(&self) -> u32 {
        self.local_scopes.load(Ordering::Relaxed)
    }

    /// Whether a value may expire wherever it comes to be.
    pub(super) fn may_expire(&self) -> Result<(), StateError> {
        if self.home.caps().expiry && self.local.caps().expiry {
            return Ok(());
        }
        Err(StateError::Unsupported { what: "let values expire".to_owned() })
    }

    pub(super) fn set_phase(&self, slot: &Slot, phase: Phase) {
        if slot.set_phase(phase) {
            tracing::debug!(scope = %slot.scope, phase = phase.as_str(), "phase");
            let change = PhaseChange { at: self.clock.now(), scope: slot.scope.clone(), phase };
            // Without an observer nobody hears of it.
            drop(self.changes.send(change));
        }
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn slot(&self, scope: &Scope) -> Result<Arc<Slot>, StateError> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(scope) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= self.config.scopes {
            slots.retain(|_, slot| !is_idle(slot, || true));
        }
        if slots.len() >= self.config.scopes {
            let reason = format!("{} scopes are in use, which is the limit", slots.len());
            return Err(StateError::Unavailable { reason });
        }
        let slot = Arc::new(self.new_slot(scope));
        slots.insert(scope.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    fn new_slot(&self, scope: &Scope) -> Slot {
        let rule = self.policy.rule(self.seeds.hash_one(scope));
        Slot::new(scope.clone(), rule, self.config.beside.max(1))
    }

    /// Brings back the scopes that an earlier process left local, once.
    pub(super) async fn resume(&self, resumed: &mut bool) -> Result<(), StateError> {
        if !*resumed {
            for (key, _) in self.local.export(&index()).await?.entries {
                match indexed(&key) {
                    Some(scope) => {
                        let slot = || Arc::new(self.new_slot(&scope));
                        self.slots().entry(scope.clone()).or_insert_with(slot);
                    }
                    None => tracing::warn!("an entry in the list of local scopes is no scope"),
                }
            }
            *resumed = true;
        }
        Ok(())
    }

    pub(super) fn drop_idle(&self) {
        let now = self.clock.now();
        self.slots().retain(|_, slot| !is_idle(slot, || slot.mind().meter.idle(now) >= self.config.forget));
    }

    /// A call ended that took `took`; `remote` of it was spent on remote accesses, in the remote phase.
    pub(super) fn served(
        &self,
        slot: &Slot,
        now: Timestamp,
        took: Duration,
        remote: Option<Duration>,
        wrote: bool,
        size: Option<ByteSize>,
    ) {
        lock(&self.load).call(now, took, remote);
        let condition = *lock(&self.condition);
        let mut mind = slot.mind();
        mind.meter.call(now, remote, wrote);
        if let Some(size) = size {
            mind.meter.size = size;
        }
        let stats = mind.meter.stats(remote.is_none(), remote, condition);
        mind.decide(&stats);
    }

    pub(super) fn measure(&self, slots: &[Arc<Slot>], now: Timestamp) -> PhaseLoad {
        let (rate, remote, local, remote_cost) = lock(&self.load).read(now);
        let scopes = slots.iter().filter(|slot| slot.pace(now) < self.config.window).count();
        let scopes = u32::try_from(scopes).unwrap_or(u32::MAX);
        PhaseLoad { now, scopes, local_scopes: self.local_scopes(), rate, remote, local, remote_cost }
    }

    /// Asks the policy how many scopes may be local, now and then.
    pub(super) fn share(&self, slots: &[Arc<Slot>], now: Timestamp) -> u32 {
        let (share, asked) = *lock(&self.share);
        if asked.is_some_and(|asked| now.since(asked) < SHARE_EVERY) {
            return share;
        }
        let share = self.policy.share(&self.measure(slots, now));
        *lock(&self.share) = (share, Some(now));
        share
    }

    /// The local scopes that make room: those that are called least often, if there are more than there may be, and
    /// the last of them, if a remote one is called far more often.
    pub(super) fn surplus(&self, slots: &[Arc<Slot>], now: Timestamp) -> HashSet<Scope> {
        let share = self.share(slots, now) as usize;
        let is_local = |slot: &&Arc<Slot>| matches!(slot.phase(), Phase::Local(_));
        let mut local: Vec<_> = slots.iter().filter(is_local).map(|slot| (slot.pace(now), slot)).collect();
        if local.len() < share {
            return HashSet::new();
        }
        local.sort_by_key(|(pace, _)| *pace);
        let first = local.split_off(share.min(local.len()));
        let mut surplus: HashSet<_> = first.into_iter().map(|(_, slot)| slot.scope.clone()).collect();
        let waits = |slot: &&Arc<Slot>| !is_local(slot) && slot.mind().wants_local();
        let hottest = slots.iter().filter(waits).map(|slot| slot.pace(now)).min();
        if let (Some(hottest), Some((coldest, slot))) = (hottest, local.last())
            && hottest.saturating_mul(DISPLACES) < *coldest
        {
            surplus.insert(slot.scope.clone());
        }
        surplus
    }

    /// Does what is due for one scope, without waiting for calls that are running.
    pub(super) async fn tend(&self, slot: &Arc<Slot>, is_surplus: bool) -> Result<(), StateError> {
        let now = self.clock.now();
        let is_due = |cell: &Cell| {
            let (mind, is_local) = (slot.mind(), cell.hold.is_some());
            is_local && (slot.must_leave() || is_surplus || mind.wants_home(now))
        };
        {
            let Ok(mut cell) = Arc::clone(&slot.gate).try_write_owned() else { return Ok(()) };
            if !cell.backoff.is_due(now) {
                return Ok(());
            }
            if !cell.examined {
                let examined = self.examine(slot, &mut cell).await;
                return examined.inspect_err(|_| cell.backoff.fail(now, self.config.retry));
            }
            match &cell.hold {
                _ if is_due(&cell) => {}
                Some(hold) if now >= hold.renew_at => return self.renew(slot, &mut cell).await,
                None => {
                    self.forget_copy(slot, now).await;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
        // Calls go on while the first stage lasts; `leave` says what does not work.
        if !slot.must_leave() {
            drop(self.copy_out(slot).await);
        }
        let mut cell = slot.alone().await;
        if is_due(&cell) {
            self.leave(slot, &mut cell).await?;
            self.unlist(slot).await;
        }
        Ok(())
    }

    /// Removes a copy that was made for a move that did not come.
    async fn forget_copy(&self, slot: &Slot, now: Timestamp) {
        let idle = slot.mind().meter.idle(now);
        if idle >= self.config.forget
            && let Ok(mut copied) = slot.copied.try_lock()
            && let Some(copied) = copied.take()
        {
            self.clear(slot, Some(copied.local)).await;
        }
    }

    pub(super) fn may_enter(&self, slot: &Slot) -> bool {
        slot.mind().wants_local()
            && self.local_scopes() + self.entering.load(Ordering::Relaxed) < lock(&self.share).0
            && !self.draining.load(Ordering::Relaxed)
    }

    /// Takes a scope, if there is room for another one.
    pub(super) async fn try_enter(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let _entering = Entering::new(&self.entering);
        if self.local_scopes() + self.entering.load(Ordering::Relaxed) > lock(&self.share).0 {
            return Ok(());
        }
        let started = self.clock.now();
        self.enter(slot, cell).await?;
        slot.mind().meter.moved_in(self.clock.now().since(started));
        Ok(())
    }

    pub(super) async fn open_remote(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        gate: Beside,
        invocation: InvocationId,
    ) -> Result<Opened, StateError> {
        let began = self.clock.now();
        let (head, done) = tokio::join!(self.home_head(&slot.scope), self.home.result_of(&slot.scope, invocation));
        let spent = self.clock.now().since(began);
        match done? {
            Some(result) => Ok(Opened::Done(result)),
            None => {
                let visit = Visit { parts: Arc::clone(self), slot, gate, invocation, began };
                Ok(Opened::Session(Box::new(RemoteSession::new(visit, head?.version, spent))))
            }
        }
    }
}

/// Counts a scope that is about to be local.
struct Entering<'a>(&'a AtomicU32);

impl<'a> Entering<'a> {
    fn new(entering: &'a AtomicU32) -> Self {
        entering.fetch_add(1, Ordering::Relaxed);
        Self(entering)
    }
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nobody uses a remote scope that `also` holds for.
fn is_idle(slot: &Arc<Slot>, also: impl FnOnce() -> bool) -> bool {
    // Whoever opens a scope takes a reference to it under the lock that the caller holds.
    Arc::strong_count(slot) == 1
        && slot.gate.try_write().is_ok_and(|cell| cell.examined && cell.hold.is_none())
        && slot.copied.try_lock().is_ok_and(|copied| copied.is_none())
        && also()
}
