//! One scope on this node.

use std::{
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::{Fence, Phase, PhaseChoice, PhaseRule, PhaseStats, Scope, Snapshot, Timestamp, Version};
use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{backoff::Backoff, meter::Meter, naming::local_scope, pipe::Pipe, resident::Resident};

/// What is known about a scope, and the gate that its calls pass.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) scope: Scope,
    /// The scope's name in the local store.
    pub(super) local: Scope,
    /// Held by the calls that have the scope open: shared by remote ones, by a local one or a migration alone.
    pub(super) gate: Arc<RwLock<Cell>>,
    pub(super) mind: StdMutex<Mind>,
    /// The local store fails: leave as soon as the home can be reached.
    pub(super) must_leave: AtomicBool,
    /// What was copied here of a remote scope, ahead of taking it; locked while it is copied.
    pub(super) copied: Mutex<Option<Copied>>,
    phase: StdMutex<Phase>,
}

/// The gate, passed.
pub(super) type Alone = OwnedRwLockWriteGuard<Cell>;
/// The gate, passed beside others.
pub(super) type Beside = OwnedRwLockReadGuard<Cell>;

/// What the gate guards.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Whether the local store was asked if it owns the scope. Unset while a migration is under way, so that
    /// one that is dropped midway is looked into before the scope is used again.
    pub(super) examined: bool,
    /// The local phase; `None` in the remote phase.
    pub(super) hold: Option<Hold>,
    pub(super) backoff: Backoff,
}

/// A scope that is local here.
#[derive(Debug)]
pub(super) struct Hold {
    /// Ownership at home.
    pub(super) home: Fence,
    /// The version that home has.
    pub(super) base: Version,
    /// Ownership in the local store, which only this process writes.
    pub(super) local: Fence,
    /// With all commits that are under way.
    pub(super) version: Version,
    /// All values, if they are few enough, with all commits that are under way.
    pub(super) resident: Option<Resident>,
    /// The commits that are under way.
    pub(super) pipe: Arc<Pipe>,
    /// Changes with every commit, and whenever version and values are read anew.
    pub(super) turn: u64,
    /// When the lease at home is to be renewed.
    pub(super) renew_at: Timestamp,
}

/// A copy of what home has, in the local store and without the record that would make it the scope's state.
#[derive(Debug)]
pub(super) struct Copied {
    /// Ownership in the local store.
    pub(super) local: Fence,
    pub(super) snapshot: Snapshot,
}

/// What was measured about a scope, and what was made of it.
#[derive(Debug)]
pub(super) struct Mind {
    pub(super) meter: Meter,
    rule: Box<dyn PhaseRule>,
    /// What the rule said after the last call.
    pub(super) choice: PhaseChoice,
}

impl Mind {
    /// Has the rule decide after a call.
    pub(super) fn decide(&mut self, stats: &PhaseStats) {
        self.choice = self.rule.after_call(stats);
    }

    /// The scope was found here after a restart, or was brought here by order.
    pub(super) fn adopt(&mut self, now: Timestamp) {
        self.meter.begin(now);
        self.choice = self.rule.adopted();
    }

    /// It is remote, whatever the rule said.
    pub(super) fn stay_remote(&mut self) {
        self.choice = PhaseChoice::Remote;
    }

    pub(super) const fn wants_local(&self) -> bool {
        matches!(self.choice, PhaseChoice::Local { .. })
    }

    /// Whether a local scope is to go home.
    pub(super) fn wants_home(&self, now: Timestamp) -> bool {
        match self.choice {
            PhaseChoice::Local { idle } => self.meter.idle(now) > idle,
            _ => true,
        }
    }
}

impl Slot {
    /// `beside`: remote calls that may have the scope open at the same time.
    pub(super) fn new(scope: Scope, rule: Box<dyn PhaseRule>, beside: u32) -> Self {
        let local = local_scope(&scope);
        let mind = StdMutex::new(Mind { meter: Meter::default(), rule, choice: PhaseChoice::Remote });
        Self {
            scope,
            local,
            gate: Arc::new(RwLock::with_max_readers(Cell::default(), beside)),
            mind,
            must_leave: AtomicBool::new(false),
            copied: Mutex::default(),
            phase: StdMutex::new(Phase::Remote),
        }
    }

    pub(super) fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn alone(&self) -> Alone {
        Arc::clone(&self.gate).write_owned().await
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether that is another phase than before.
    pub(super) fn set_phase(&self, phase: Phase) -> bool {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *now, phase) != phase
    }

    /// How long ago the last call was, and the mean gap between calls over some time.
    pub(super) fn pace(&self, now: Timestamp) -> Duration {
        self.mind().meter.pace(now)
    }

    pub(super) fn must_leave(&self) -> bool {
        self.must_leave.load(Relaxed)
    }
}
