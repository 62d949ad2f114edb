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

/// Decides on a node when scopes change between remote and local state.
///
/// Held by the state service of the node. Synchronous, no I/O, no clock: the time is in what it is told.
pub trait PhasePolicy: Debug + Send + Sync + 'static {
    /// What decides for one scope from its first call on. Whatever is random in it comes from `seed`.
    fn rule(&self, seed: u64) -> Box<dyn PhaseRule>;

    /// How many scopes may be local on the node; default without bound. Asked several times a second, whenever the
    /// state service maintains its scopes. Above the bound the scopes that are called least often are given back.
    fn share(&self, load: &PhaseLoad) -> u32 {
        let _ = load;
        u32::MAX
    }
}

const _: fn(&dyn PhasePolicy) = |_| {};

/// Decides for one scope.
pub trait PhaseRule: Debug + Send + 'static {
    /// Where the scope should be, now that a call of it has ended. Called once for each call, whatever phase it ran
    /// in; nanoseconds.
    fn after_call(&mut self, stats: &PhaseStats) -> PhaseChoice;

    /// Where the scope should be until its next call, now that it was found here after a restart or was brought here
    /// by order. Default: here, for ten seconds.
    fn adopted(&mut self) -> PhaseChoice {
        PhaseChoice::Local { idle: Duration::from_secs(10) }
    }
}

const _: fn(&dyn PhaseRule) = |_| {};

/// Where a scope should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PhaseChoice {
    /// In the remote store.
    #[default]
    Remote,
    /// Here, until no call has come for so long.
    Local {
        /// How long.
        idle: Duration,
    },
}

/// What is known about a scope when a call of it has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct PhaseStats {
    /// The time.
    pub now: Timestamp,
    /// Whether the call worked on local state.
    pub local: bool,
    /// Time since the call before ended; [`Duration::MAX`] for the first one.
    pub gap: Duration,
    /// What the call spent on remote reads and commits; of a local call, what calls spent on them as a mean of the
    /// last remote ones.
    pub remote_cost: Duration,
    /// What taking the state here takes, by the last time or by size and link.
    pub moving_in: Duration,
    /// What giving it back takes, by the last time or by size, link and whether it is written at all.
    pub moving_out: Duration,
    /// Size of the state.
    pub size: ByteSize,
    /// Share of the last calls that wrote something.
    pub writes: f64,
    /// What one request to the remote store takes.
    pub request: Duration,
    /// How the node is.
    pub node: NodeCondition,
}

/// How a node is, as far as keeping state on it goes. Told by the embedding program, which has the sensors.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct NodeCondition {
    /// How much of its memory is taken, from 0 to 1.
    pub memory_pressure: f64,
    /// How long it is expected to stay where it is and to have power.
    pub stays: Duration,
}

impl Default for NodeCondition {
    /// All memory is free and it stays for ever.
    fn default() -> Self {
        Self { memory_pressure: 0.0, stays: Duration::MAX }
    }
}

/// What a node serves, as the last calls were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct PhaseLoad {
    /// The time.
    pub now: Timestamp,
    /// Scopes that are called, in whatever phase.
    pub scopes: u32,
    /// Scopes that are local.
    pub local_scopes: u32,
    /// Calls per second over all scopes.
    pub rate: f64,
    /// How long calls on remote state take, without waiting; no calls: none were seen.
    pub remote: ServiceTimes,
    /// How long calls on local state take, without waiting.
    pub local: ServiceTimes,
    /// What remote calls spend of it on remote reads and commits, in seconds.
    pub remote_cost: f64,
}

/// How long calls take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct ServiceTimes {
    /// How many were measured, older ones counting less.
    pub calls: f64,
    /// Mean in seconds.
    pub mean: f64,
    /// Variance over the square of the mean: 0 when all take as long, 1 for an exponential distribution.
    pub variation: f64,
}
