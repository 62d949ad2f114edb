//! The state service of one node.

use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use scf_core::{
    ByteSize, Clock, Durability, InvocationId, Moved, NodeCondition, NodeId, Opened, Phase, PhaseLoad, PhasePolicy,
    Scope, Snapshot, StateBackend, StateError, StateStore, Timestamp,
};
use tokio::sync::broadcast;

use super::{
    load::LoadMeter,
    naming::{aside, index, indexed},
    session::{LocalSession, RemoteSession, Visit},
    slot::{Beside, Cell, Slot},
};

/// Migrations that run side by side.
const MIGRATIONS: usize = 16;

/// How often the policy is asked for the number of local scopes.
const SHARE_EVERY: Duration = Duration::from_millis(200);
/// How many times as often a remote scope must be called as a local one to take its place.
const DISPLACES: u32 = 4;
/// How often a scope that moves is brought up to date before its gate is closed.
const ROUNDS: usize = 2;

/// How a scope moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Migration {
    /// A copy is made while calls go on; they wait while what they changed meanwhile follows.
    #[default]
    TwoStage,
    /// Calls wait while everything is copied.
    StopAndCopy,
}

/// What a [`PhasedState`] asks for and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct PhaseConfig {
    /// What is asked of every commit, at home and here.
    pub durability: Durability,
    /// How long others wait for a local scope of a node that is not heard of. Renewed at half of it.
    pub lease: Duration,
    /// Scopes that are kept track of. At the bound the idle remote ones are forgotten; when there are none,
    /// opening another is refused.
    pub scopes: usize,
    /// Values of one local scope that are held in memory; those of a larger one are read from the local store.
    pub resident: ByteSize,
    /// Wait before a failed migration or renewal is tried again; doubles up to a minute.
    pub retry: Duration,
    /// Idle time after which a remote scope is forgotten, together with what was measured about it.
    pub forget: Duration,
    /// Changes of phase that an observer may be behind before it misses some.
    pub history: usize,
    /// Remote calls of one scope that run at the same time, at least 1. Where it is more than 1, a call that read
    /// what another one wrote meanwhile is run again.
    pub beside: u32,
    /// How scopes move.
    pub migration: Migration,
    /// Over what time calls are counted for [`PhasePolicy::share`].
    pub window: Duration,
}

impl Default for PhaseConfig {
    /// Durable; leases of 10 min; 4096 scopes, of which 1 MiB each is resident; retries after 1 s; forgets
    /// after 10 min; 1024 changes; one remote call at a time; moves in two stages; a window of 30 s.
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            lease: Duration::from_secs(600),
            scopes: 4096,
            resident: ByteSize::from_mib(1),
            retry: Duration::from_secs(1),
            forget: Duration::from_secs(600),
            history: 1024,
            beside: 1,
            migration: Migration::TwoStage,
            window: Duration::from_secs(30),
        }
    }
}

/// A scope came into another phase.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseChange {
    /// When, on the store's clock.
    pub at: Timestamp,
    /// The scope.
    pub scope: Scope,
    /// The phase that it is in from then on.
    pub phase: Phase,
}

/// A [`StateStore`] whose scopes alternate between remote and local state (Puliafito et al., IEEE Computer 55(9),
/// 2022).
///
/// In the remote phase a call reads from the home and ends with one conditional commit there. When the
/// [`PhasePolicy`] says so, the node acquires the scope, takes everything over and serves further calls from its
/// own store without network, as the scope's owner; later it publishes the state at home and gives it up. The
/// results of past invocations move with the state, so that an invocation happens once across phases.
///
/// While home cannot be reached, local scopes go on, beyond their lease too: what another node may have taken
/// over by then is kept out of home by the fence, set aside here ([`PhasedState::set_aside`]) and counted
/// ([`PhasedState::losses`]). After a restart on the same local store the local scopes go on as well.
///
/// It runs nothing of its own: [`StateStore::maintain`] does what is due.
#[derive(Debug)]
pub struct PhasedState(Arc<Parts>);

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
    load: Mutex<LoadMeter>,
    condition: Mutex<NodeCondition>,
    seeds: RandomState,
    slots: Mutex<HashMap<Scope, Arc<Slot>>>,
    changes: broadcast::Sender<PhaseChange>,
    /// Held while maintaining; whether the scopes that an earlier process left local are in `slots`.
    resumed: tokio::sync::Mutex<bool>,
    draining: AtomicBool,
}

impl PhasedState {
    /// The state service of `node`: state lives in `home`, while it is local in `local`, which no other process
    /// writes. Asks for the best durability that both give; the rest is as [`PhaseConfig::default`] says.
    #[must_use]
    pub fn new(
        node: NodeId,
        home: Arc<dyn StateBackend>,
        local: Arc<dyn StateBackend>,
        policy: Arc<dyn PhasePolicy>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let durability = home.caps().durability.min(local.caps().durability);
        Self::assemble(node, home, local, policy, clock, PhaseConfig { durability, ..PhaseConfig::default() })
    }

    /// The same with a configuration of its own.
    ///
    /// # Errors
    /// [`StateError::Durability`] when one of the two backends cannot give what `config` asks.
    pub fn with(
        node: NodeId,
        home: Arc<dyn StateBackend>,
        local: Arc<dyn StateBackend>,
        policy: Arc<dyn PhasePolicy>,
        clock: Arc<dyn Clock>,
        config: PhaseConfig,
    ) -> Result<Self, StateError> {
        for backend in [&home, &local] {
            let (asked, given) = (config.durability, backend.caps().durability);
            if asked > given {
                return Err(StateError::Durability { asked, given });
            }
        }
        Ok(Self::assemble(node, home, local, policy, clock, config))
    }

    fn assemble(
        node: NodeId,
        home: Arc<dyn StateBackend>,
        local: Arc<dyn StateBackend>,
        policy: Arc<dyn PhasePolicy>,
        clock: Arc<dyn Clock>,
        config: PhaseConfig,
    ) -> Self {
        Self(Arc::new(Parts {
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
        }))
    }

    /// The changes of phase from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<PhaseChange> {
        self.0.changes.subscribe()
    }

    /// How many scopes are local on this node.
    #[must_use]
    pub fn local_scopes(&self) -> u32 {
        self.0.local_scopes()
    }

    /// How often another node had taken a local scope over, so that commits of this node were set aside.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.0.losses.load(Ordering::Relaxed)
    }

    /// How the node is from now on: the policy takes it into account at the next call of each scope.
    pub fn set_condition(&self, condition: NodeCondition) {
        *lock(&self.0.condition) = condition;
    }

    /// What the policy is told of the node's calls.
    #[must_use]
    pub fn load(&self) -> PhaseLoad {
        let parts = &self.0;
        let slots: Vec<_> = parts.slots().values().cloned().collect();
        parts.measure(&slots, parts.clock.now())
    }

    /// What was set aside when `scope`, which this node held in `epoch`, was found to be taken over.
    ///
    /// # Errors
    /// As [`StateBackend::export`].
    pub async fn set_aside(&self, scope: &Scope, epoch: u64) -> Result<Snapshot, StateError> {
        self.0.local.export(&aside(scope, epoch)).await
    }
}

impl Parts {
    pub(super) fn local_scopes(&self) -> u32 {
        self.local_scopes.load(Ordering::Relaxed)
    }

    pub(super) fn set_phase(&self, slot: &Slot, phase: Phase) {
        if slot.set_phase(phase) {
            tracing::debug!(scope = %slot.scope, phase = phase.as_str(), "phase");
            let change = PhaseChange { at: self.clock.now(), scope: slot.scope.clone(), phase };
            // Without an observer nobody hears of it.
            drop(self.changes.send(change));
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, scope: &Scope) -> Result<Arc<Slot>, StateError> {
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
    async fn resume(&self, resumed: &mut bool) -> Result<(), StateError> {
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

    fn drop_idle(&self) {
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

    fn measure(&self, slots: &[Arc<Slot>], now: Timestamp) -> PhaseLoad {
        let (rate, remote, local, remote_cost) = lock(&self.load).read(now);
        let scopes = slots.iter().filter(|slot| slot.pace(now) < self.config.window).count();
        let scopes = u32::try_from(scopes).unwrap_or(u32::MAX);
        PhaseLoad { now, scopes, local_scopes: self.local_scopes(), rate, remote, local, remote_cost }
    }

    /// Asks the policy how many scopes may be local, now and then.
    fn share(&self, slots: &[Arc<Slot>], now: Timestamp) -> u32 {
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
    fn surplus(&self, slots: &[Arc<Slot>], now: Timestamp) -> HashSet<Scope> {
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
    async fn tend(&self, slot: &Arc<Slot>, is_surplus: bool) -> Result<(), StateError> {
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
            return self.leave(slot, &mut cell).await;
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

    fn may_enter(&self, slot: &Slot) -> bool {
        slot.mind().wants_local()
            && self.local_scopes() + self.entering.load(Ordering::Relaxed) < lock(&self.share).0
            && !self.draining.load(Ordering::Relaxed)
    }

    /// Takes a scope, if there is room for another one.
    async fn try_enter(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let _entering = Entering::new(&self.entering);
        if self.local_scopes() + self.entering.load(Ordering::Relaxed) > lock(&self.share).0 {
            return Ok(());
        }
        let started = self.clock.now();
        self.enter(slot, cell).await?;
        slot.mind().meter.moved_in(self.clock.now().since(started));
        Ok(())
    }

    async fn open_remote(
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

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
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

#[async_trait]
impl StateStore for PhasedState {
    async fn open(&self, scope: &Scope, invocation: InvocationId) -> Result<Opened, StateError> {
        let parts = &self.0;
        let slot = parts.slot(scope)?;
        let wants_in = parts.may_enter(&slot) && slot.phase() == Phase::Remote;
        if wants_in && parts.config.migration == Migration::TwoStage {
            // Where the copy cannot be made ahead, `enter` makes it, or says why it cannot.
            drop(parts.copy_in(&slot).await);
        }
        if !wants_in && slot.phase() == Phase::Remote {
            let cell = Arc::clone(&slot.gate).read_owned().await;
            if cell.examined && cell.hold.is_none() {
                return parts.open_remote(slot, cell, invocation).await;
            }
        }
        let mut cell = slot.alone().await;
        if !cell.examined {
            parts.examine(&slot, &mut cell).await?;
        }
        if cell.hold.is_none()
            && cell.backoff.is_due(parts.clock.now())
            && parts.may_enter(&slot)
            && parts.try_enter(&slot, &mut cell).await.is_err()
        {
            // The remote phase goes on, if the home answers; `enter` said why.
            parts.examine(&slot, &mut cell).await?;
        }
        let Some(hold) = &mut cell.hold else {
            return parts.open_remote(slot, cell.downgrade(), invocation).await;
        };
        if hold.pipe.has(invocation) {
            hold.pipe.empty().await;
        }
        if hold.pipe.has_failed() {
            parts.refresh(&slot, hold).await?;
        }
        if let Some(result) = parts.local.result_of(&slot.local, invocation).await? {
            return Ok(Opened::Done(result));
        }
        let (parts, began) = (Arc::clone(parts), parts.clock.now());
        let visit = Visit { parts, slot, gate: cell, invocation, began };
        Ok(Opened::Session(Box::new(LocalSession::new(visit))))
    }

    fn phase(&self, scope: &Scope) -> Phase {
        self.0.slots().get(scope).map_or(Phase::Remote, |slot| slot.phase())
    }

    async fn maintain(&self) {
        let parts = &self.0;
        let Ok(mut resumed) = parts.resumed.try_lock() else { return };
        if let Err(error) = parts.resume(&mut resumed).await {
            tracing::warn!(%error, "the list of local scopes cannot be read");
        }
        let slots: Vec<_> = parts.slots().values().cloned().collect();
        let surplus = parts.surplus(&slots, parts.clock.now());
        let tend = |slot: Arc<Slot>| {
            let is_surplus = surplus.contains(&slot.scope);
            async move {
                if let Err(error) = parts.tend(&slot, is_surplus).await {
                    tracing::debug!(scope = %slot.scope, %error, "maintenance is put off");
                }
            }
        };
        stream::iter(slots).for_each_concurrent(MIGRATIONS, tend).await;
        parts.drop_idle();
    }

    async fn drain(&self) -> Result<(), StateError> {
        let parts = &self.0;
        parts.draining.store(true, Ordering::Relaxed);
        let mut resumed = parts.resumed.lock().await;
        let listed = parts.resume(&mut resumed).await;
        let slots: Vec<_> = parts.slots().values().cloned().collect();
        let leave = |slot: Arc<Slot>| async move {
            let mut cell = slot.alone().await;
            if !cell.examined {
                parts.examine(&slot, &mut cell).await?;
            }
            parts.leave(&slot, &mut cell).await
        };
        let left: Vec<Result<(), StateError>> =
            stream::iter(slots).map(leave).buffer_unordered(MIGRATIONS).collect().await;
        left.into_iter().fold(listed, Result::and)
    }

    async fn prefetch(&self, scope: &Scope) -> Result<(), StateError> {
        let parts = &self.0;
        let slot = parts.slot(scope)?;
        slot.mind().meter.begin(parts.clock.now());
        parts.copy_in(&slot).await
    }

    async fn adopt(&self, scope: &Scope) -> Result<(), StateError> {
        let parts = &self.0;
        let slot = parts.slot(scope)?;
        let mut cell = slot.alone().await;
        if !cell.examined {
            parts.examine(&slot, &mut cell).await?;
        }
        if cell.hold.is_some() {
            return Ok(());
        }
        slot.mind().adopt(parts.clock.now());
        parts.enter(&slot, &mut cell).await
    }

    async fn hand_over(&self, scope: &Scope, to: &dyn StateStore) -> Result<Moved, StateError> {
        let parts = &self.0;
        let slot = parts.slot(scope)?;
        let began = parts.clock.now();
        if parts.config.migration == Migration::TwoStage {
            for _ in 0..ROUNDS {
                parts.copy_out(&slot).await?;
                to.prefetch(scope).await?;
            }
        }
        let asked = parts.clock.now();
        let mut cell = slot.alone().await;
        let closed = parts.clock.now();
        parts.leave(&slot, &mut cell).await?;
        // Calls that come meanwhile wait until the scope is there, and are then told where.
        to.adopt(scope).await?;
        Ok(Moved { copying: asked.since(began), closed: parts.clock.now().since(closed) })
    }
}
