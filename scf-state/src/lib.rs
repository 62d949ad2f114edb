//! Remembers: backends and phases of a stateful function.
//!
//! | type | what it is |
//! |---|---|
//! | [`MemoryState`] | a backend that is lost with the process |
//! | [`RedbState`] | a backend on a [`Disk`](scf_core::Disk), with group commit: [`FileDisk`], [`MemoryDisk`] for tests |
//! | [`RedbQueue`], [`MemoryQueue`] | invocation queues: beside the state on the disk, and in memory |
//! | [`CheckedDisk`], `EncryptedDisk` (feature `encryption`) | disks on others that find damage, or that only a key opens |
//! | [`CachedState`] | a backend whose reads are kept near |
//! | [`FolderObjects`], [`MemoryObjects`] | object stores: content-addressed chunks on the disk, and in memory |
//! | [`RemoteState`], [`StateServer`] | a backend of another node, and what serves it there |
//! | `NatsState` (feature `nats`) | a backend in a fleet's broker, NATS JetStream; `NatsOptions` joins it, `Broker` is the connection |
//! | `NatsBlobs` (feature `nats`) | code and models that a fleet shares, in the same broker |
//! | [`PhasedState`] | the state service of a node: scopes alternate between a home and this node |
//! | [`SkiRental`], [`AlwaysRemote`], [`AlwaysLocal`] | when they do |
//! | [`BestShare`] | how many of them are local, so that calls take least over all |
//! | [`replay`] | traces of calls, what a policy pays for one and what the least is |
//!
//! A backend of your own implements [`StateBackend`](scf_core::StateBackend) and passes
//! `scf_core::conformance::state`; a policy of your own implements [`PhasePolicy`](scf_core::PhasePolicy).
//!
//! Modules: `disk`, `memory`, `redb` and `remote` hold the backends, `head` and `results` what backends share,
//! `phase` the state service. This crate spawns no task; a [`RedbState`] runs one thread
//! and a [`FolderObjects`] two, which their drops join.
//! Of tokio it uses channels and locks alone, so any executor will do. A `NatsState` is the exception to both: it is opened
//! on a tokio runtime and runs a task per shard there, which its drop stops.
#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod cache;
mod change;
mod disk;
mod head;
mod history;
mod limit;
#[cfg(test)]
mod loopback;
mod memory;
#[cfg(feature = "nats")]
mod nats;
mod object;
mod phase;
mod queue;
mod quota;
mod redb;
mod remote;
mod results;
mod wall;

pub use crate::cache::{CacheCounts, CacheReads, CachedState};
pub use crate::redb::{OpenError, RedbBuilder, RedbConfig, RedbQueue, RedbState};
pub use disk::{CheckedDisk, FileDisk, MemoryDisk, SealError};
#[cfg(feature = "encryption")]
pub use disk::{DiskKey, EncryptedDisk};
pub use memory::MemoryState;
#[cfg(feature = "nats")]
pub use nats::{
    Broker, NatsBlobs, NatsBlobsBuilder, NatsCredentials, NatsError, NatsOptions, NatsState, NatsStateBuilder, Syncing,
};
pub use object::{FolderObjects, MemoryObjects, ObjectConfig};
pub use phase::{
    AlwaysLocal, AlwaysRemote, BestShare, Migration, PhaseChange, PhaseConfig, PhasedState, SkiRental, best_share,
    mean_response, replay,
};
pub use queue::{MemoryQueue, QueueConfig};
pub use quota::Quotas;
pub use remote::{RemoteState, StateServer};
