//! One scope on this node.

use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use scf_core::{Fence, Phase, PhaseStats, Scope, Timestamp, Version};
use tokio::sync::Mutex;

use super::{backoff::Backoff, meter::Meter, naming::local_scope, resident::Resident};

/// What is known about a scope, and the gate that one call at a time passes.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) scope: Scope,
    /// The scope's name in the local store.
    pub(super) local: Scope,
    /// Held by the call that has the scope open, or by a migration.
    pub(super) gate: Arc<Mutex<Cell>>,
    phase: StdMutex<Phase>,
}

/// What the gate guards.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// Whether the local store was asked if it owns the scope. Unset while a migration is under way, so that
    /// one that is dropped midway is looked into before the scope is used again.
    pub(super) examined: bool,
    /// The local phase; `None` in the remote phase.
    pub(super) hold: Option<Hold>,
    pub(super) meter: Meter,
    /// The policy said so after the last call.
    pub(super) wants_local: bool,
    /// The local store fails: leave as soon as the home can be reached.
    pub(super) must_leave: bool,
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
    pub(super) version: Version,
    /// All values, if they are few enough.
    pub(super) resident: Option<Resident>,
    /// A commit's outcome is not known; version and values are read anew before the next call.
    pub(super) stale: bool,
    /// When the lease at home is to be renewed.
    pub(super) renew_at: Timestamp,
}

impl Slot {
    pub(super) fn new(scope: Scope) -> Self {
        let local = local_scope(&scope);
        Self { scope, local, gate: Arc::default(), phase: StdMutex::new(Phase::Remote) }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether that is another phase than before.
    pub(super) fn set_phase(&self, phase: Phase) -> bool {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *now, phase) != phase
    }
}

impl Cell {
    pub(super) fn stats(&self, now: Timestamp, local_scopes: u32) -> PhaseStats {
        self.meter.stats(now, local_scopes)
    }
}
