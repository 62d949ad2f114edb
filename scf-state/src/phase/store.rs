//! The state service of one node.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use scf_core::{
    ByteSize, Clock, Durability, InvocationId, NodeId, Opened, Phase, PhasePolicy, Scope, Snapshot, StateBackend,
    StateError, StateStore, Timestamp,
};
use tokio::sync::{OwnedMutexGuard, broadcast};

use super::{
    naming::{aside, index, indexed},
    session::{LocalSession, RemoteSession, Visit},
    slot::{Cell, Slot},
};

/// Migrations that run side by side.
const MIGRATIONS: usize = 16;

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
}

impl Default for PhaseConfig {
    /// Durable; leases of 10 min; 4096 scopes, of which 1 MiB each is resident; retries after 1 s; forgets
    /// after 10 min; 1024 changes.
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            lease: Duration::from_secs(600),
            scopes: 4096,
            resident: ByteSize::from_mib(1),
            retry: Duration::from_secs(1),
            forget: Duration::from_secs(600),
            history: 1024,
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
            slots.retain(|_, slot| !is_idle(slot, |_| true));
        }
        if slots.len() >= self.config.scopes {
            let reason = format!("{} scopes are in use, which is the limit", slots.len());
            return Err(StateError::Unavailable { reason });
        }
        let slot = Arc::new(Slot::new(scope.clone()));
        slots.insert(scope.clone(), Arc::clone(&slot));
        Ok(slot)
    }

    /// Brings back the scopes that an earlier process left local, once.
    async fn resume(&self, resumed: &mut bool) -> Result<(), StateError> {
        if !*resumed {
            for (key, _) in self.local.export(&index()).await?.entries {
                match indexed(&key) {
                    Some(scope) => {
                        let slot = || Arc::new(Slot::new(scope.clone()));
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
        self.slots().retain(|_, slot| !is_idle(slot, |cell| cell.meter.idle(now) >= self.config.forget));
    }

    /// Does what is due for one scope.
    async fn tend(&self, slot: &Slot, cell: &mut Cell) -> Result<(), StateError> {
        let now = self.clock.now();
        if !cell.backoff.is_due(now) {
            return Ok(());
        }
        if !cell.examined {
            return self.examine(slot, cell).await.inspect_err(|_| cell.backoff.fail(now, self.config.retry));
        }
        match &cell.hold {
            Some(_) if cell.must_leave || self.policy.go_remote(&cell.stats(now, self.local_scopes())) => {
                self.leave(slot, cell).await
            }
            Some(hold) if now >= hold.renew_at => self.renew(slot, cell).await,
            None if self.may_enter(cell, now) => self.enter(slot, cell).await,
            _ => Ok(()),
        }
    }

    fn may_enter(&self, cell: &Cell, now: Timestamp) -> bool {
        cell.wants_local && cell.backoff.is_due(now) && !self.draining.load(Ordering::Relaxed)
    }

    async fn open_remote(self: &Arc<Self>, visit: Visit) -> Result<Opened, StateError> {
        let scope = &visit.slot.scope;
        let started = self.clock.now();
        let (head, done) = tokio::join!(self.home_head(scope), self.home.result_of(scope, visit.invocation));
        let spent = self.clock.now().since(started);
        match done? {
            Some(result) => Ok(Opened::Done(result)),
            None => Ok(Opened::Session(Box::new(RemoteSession::new(visit, head?.version, spent)))),
        }
    }
}

/// Whether nobody uses a remote scope that `also` holds for.
fn is_idle(slot: &Arc<Slot>, also: impl FnOnce(&Cell) -> bool) -> bool {
    // Whoever opens a scope takes a reference to it under the lock that the caller holds.
    Arc::strong_count(slot) == 1
        && slot.gate.try_lock().is_ok_and(|cell| cell.examined && cell.hold.is_none() && also(&cell))
}

#[async_trait]
impl StateStore for PhasedState {
    async fn open(&self, scope: &Scope, invocation: InvocationId) -> Result<Opened, StateError> {
        let parts = &self.0;
        let slot = parts.slot(scope)?;
        let mut cell = Arc::clone(&slot.gate).lock_owned().await;
        if !cell.examined {
            parts.examine(&slot, &mut cell).await?;
        }
        if cell.hold.is_none()
            && parts.may_enter(&cell, parts.clock.now())
            && parts.enter(&slot, &mut cell).await.is_err()
        {
            // The remote phase goes on, if the home answers; `enter` said why.
            parts.examine(&slot, &mut cell).await?;
        }
        if let Some(hold) = &mut cell.hold {
            if hold.stale {
                parts.refresh(&slot, hold).await?;
            }
            if let Some(result) = parts.local.result_of(&slot.local, invocation).await? {
                return Ok(Opened::Done(result));
            }
            let visit = Visit { parts: Arc::clone(parts), slot, cell, invocation };
            return Ok(Opened::Session(Box::new(LocalSession::new(visit))));
        }
        parts.open_remote(Visit { parts: Arc::clone(parts), slot, cell, invocation }).await
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
        let idle = slots.into_iter().filter_map(|slot| {
            let cell = Arc::clone(&slot.gate).try_lock_owned().ok()?;
            Some((slot, cell))
        });
        let tend = |(slot, mut cell): (Arc<Slot>, OwnedMutexGuard<Cell>)| async move {
            if let Err(error) = parts.tend(&slot, &mut cell).await {
                tracing::debug!(scope = %slot.scope, %error, "maintenance is put off");
            }
        };
        stream::iter(idle).for_each_concurrent(MIGRATIONS, tend).await;
        parts.drop_idle();
    }

    async fn drain(&self) -> Result<(), StateError> {
        let parts = &self.0;
        parts.draining.store(true, Ordering::Relaxed);
        let mut resumed = parts.resumed.lock().await;
        let listed = parts.resume(&mut resumed).await;
        let slots: Vec<_> = parts.slots().values().cloned().collect();
        let leave = |slot: Arc<Slot>| async move {
            let mut cell = Arc::clone(&slot.gate).lock_owned().await;
            if !cell.examined {
                parts.examine(&slot, &mut cell).await?;
            }
            parts.leave(&slot, &mut cell).await
        };
        let left: Vec<Result<(), StateError>> =
            stream::iter(slots).map(leave).buffer_unordered(MIGRATIONS).collect().await;
        left.into_iter().fold(listed, Result::and)
    }
}
