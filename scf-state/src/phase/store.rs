//! The state service of one node.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use scf_core::{
    Clock, InvocationId, Moved, NodeCondition, NodeId, Opened, Phase, PhaseLoad, PhasePolicy, Scope, Snapshot,
    StateBackend, StateError, StateStore,
};
use tokio::sync::broadcast;

use super::{
    config::{Migration, PhaseChange, PhaseConfig},
    naming::aside,
    parts::{Parts, lock},
    session::{LocalSession, Visit},
    slot::Slot,
};

/// Migrations that run side by side.
const MIGRATIONS: usize = 16;
/// How often a scope that moves is brought up to date before its gate is closed.
const ROUNDS: usize = 2;

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
        let config = PhaseConfig { durability, ..PhaseConfig::default() };
        Self(Arc::new(Parts::new(node, home, local, policy, clock, config)))
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
        Ok(Self(Arc::new(Parts::new(node, home, local, policy, clock, config))))
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
            if cell.hold.is_some() {
                parts.leave(&slot, &mut cell).await?;
                parts.unlist(&slot).await;
            }
            Ok(())
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
        let moved = Moved { copying: asked.since(began), closed: parts.clock.now().since(closed) };
        drop(cell);
        // A copy may be made here again, or the scope be back, by the time that it is unlisted.
        let cell = slot.alone().await;
        if cell.hold.is_none() && slot.copied.lock().await.is_none() {
            parts.unlist(&slot).await;
        }
        Ok(moved)
    }
}
