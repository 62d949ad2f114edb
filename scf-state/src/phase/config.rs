//! What a state service asks for and keeps, and what it tells.

use std::time::Duration;

use scf_core::{ByteSize, Durability, Phase, Scope, Timestamp};

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

/// What a [`PhasedState`](super::PhasedState) asks for and keeps.
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
    /// Over what time calls are counted for [`PhasePolicy::share`](scf_core::PhasePolicy::share).
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
