//! Where a stateful function works on its state, and when that changes.
//!
//! The alternation of remote-state and local-state phases is that of Puliafito et al., "Stateful
//! Function-as-a-Service at the Edge", IEEE Computer 55(9), 2022.

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Fence, Timestamp};

/// Where the state of one scope is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Phase {
    /// In the remote store: every call reads and commits over the network.
    #[default]
    Remote,
    /// Ownership is taken and the state is on its way here.
    Acquiring,
    /// Here, as the scope's owner.
    Local(Fence),
    /// On its way back; calls wait.
    Draining(Fence),
}

impl Phase {
    /// The phase as one word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Remote => "remote",
            Self::Acquiring => "acquiring",
            Self::Local(_) => "local",
            Self::Draining(_) => "draining",
        }
    }
}

/// Decides when a scope changes between remote and local state.
///
/// The state service asks in the remote phase after every call, in the local phase when it maintains its
/// scopes. Synchronous, no I/O, no clock: `stats.now` is the time.
pub trait PhasePolicy: Debug + Send + Sync + 'static {
    /// Whether to take a remote scope here.
    fn go_local(&self, stats: &PhaseStats) -> bool;

    /// Whether to give a local scope back.
    fn go_remote(&self, stats: &PhaseStats) -> bool;

    /// How long after a call the next one still belongs to the same burst; default for ever.
    /// [`PhaseStats::gap`] and [`PhaseStats::spent_remote`] rest on it.
    fn patience(&self) -> Duration {
        Duration::MAX
    }
}

const _: fn(&dyn PhasePolicy) = |_| {};

/// What is known about a scope when its phase is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct PhaseStats {
    /// The time.
    pub now: Timestamp,
    /// When the last call ended.
    pub last_call: Timestamp,
    /// Mean time between the last calls (exponential, weight 0.3); [`Duration::MAX`] before the
    /// second call of a burst.
    pub gap: Duration,
    /// Time that calls have spent on remote reads and commits since the scope was last local, not
    /// counting calls that came more than [`PhasePolicy::patience`] after the one before.
    pub spent_remote: Duration,
    /// What one call spent on remote reads and commits, as a mean of the last calls.
    pub remote_cost: Duration,
    /// What moving the state here and back takes, by the last such moves or by size and link.
    pub migration: Duration,
    /// Size of the state.
    pub size: ByteSize,
    /// Scopes that are local on this node now.
    pub local_scopes: u32,
}
