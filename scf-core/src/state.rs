//! What stateful functions remember, and who may write it.

use std::{fmt, fmt::Debug, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{FunctionName, InvocationId, NodeId, Phase, Timestamp};

/// Whose state: one key of one function. Everything in a scope commits together and has one writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a scope is")]
pub struct Scope {
    /// The function.
    pub function: FunctionName,
    /// The key of its invocations.
    pub key: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.function, self.key)
    }
}

/// Counts the commits of a scope; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version after `commits` commits.
    #[must_use]
    pub const fn new(commits: u64) -> Self {
        Self(commits)
    }

    /// How many commits led to it.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The version after one more commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Proof of ownership of a scope. Every commit of an owned scope carries it, and the backend compares it
/// with the scope's head record in the same transaction; a take-over rewrites that record, so a commit of
/// the former owner fails however late it arrives. A lease says only how long others wait before they try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Fence {
    /// Counts the acquisitions of the scope.
    pub epoch: u64,
    /// Unique per acquisition, in case a store forgets an epoch.
    pub nonce: u128,
}

/// How safe a commit is, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Durability {
    /// Lost with the process.
    Memory,
    /// Lost with the machine's power.
    OsBuffered,
    /// On the disk.
    Durable,
}

/// A value and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Entry {
    /// The value, reference-counted.
    pub value: Bytes,
    /// The scope's version when it was written.
    pub version: Version,
}

/// One change inside a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Op {
    /// Writes a value.
    Put {
        /// The entry's key.
        key: String,
        /// The value.
        value: Bytes,
    },
    /// Removes a value; nothing when it is not there.
    Delete {
        /// The entry's key.
        key: String,
    },
}

/// Changes of one scope that happen together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    /// The scope.
    pub scope: Scope,
    /// Ownership; `None` commits only while nobody owns the scope.
    pub fence: Option<Fence>,
    /// The scope's version that the changes rest on; `None` for any.
    pub expect: Option<Version>,
    /// The call that makes the changes and its result, stored with them, so that a retry finds it.
    pub invocation: Option<(InvocationId, Bytes)>,
    /// The changes, in order.
    pub ops: Vec<Op>,
    /// What is asked.
    pub durability: Durability,
}

impl Batch {
    /// No changes yet, not fenced, on any version, without invocation, [`Durability::Durable`].
    #[must_use]
    pub const fn new(scope: Scope) -> Self {
        Self { scope, fence: None, expect: None, invocation: None, ops: Vec::new(), durability: Durability::Durable }
    }

    /// Adds a value to write.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into() });
        self
    }

    /// Adds a value to remove.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// The owner's fence; default none.
    #[must_use]
    pub const fn fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// The version that the changes rest on; default any.
    #[must_use]
    pub const fn expect(mut self, version: Version) -> Self {
        self.expect = Some(version);
        self
    }

    /// The call that makes the changes, and its result; default none.
    #[must_use]
    pub fn invocation(mut self, id: InvocationId, result: impl Into<Bytes>) -> Self {
        self.invocation = Some((id, result.into()));
        self
    }

    /// What is asked; default [`Durability::Durable`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

/// What became of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Commit {
    /// It was applied.
    Applied {
        /// The scope's version now.
        version: Version,
        /// What was given; at least what was asked.
        durability: Durability,
    },
    /// The same invocation was committed before; nothing was applied now.
    Duplicate {
        /// The result that was stored then.
        result: Bytes,
    },
}

/// Everything in a scope, as it moves between backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Snapshot {
    /// The scope's version.
    pub version: Version,
    /// Keys and values, by key.
    pub entries: Vec<(String, Entry)>,
    /// Results of past invocations, oldest first.
    pub results: Vec<(InvocationId, Bytes)>,
}

/// Where a scope stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Head {
    /// The scope's version; 0 when nothing was ever committed.
    pub version: Version,
    /// Who owns it, if anybody does.
    pub owner: Option<Ownership>,
}

/// Who owns a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Ownership {
    /// The owner.
    pub node: NodeId,
    /// The epoch of its fence.
    pub epoch: u64,
    /// How long its lease lasts; zero when it has run out and the scope may be taken over.
    pub remaining: Duration,
}

/// What a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "backends of integrators write it as a literal")]
pub struct Caps {
    /// The best durability it gives.
    pub durability: Durability,
    /// How many results of past invocations it keeps per scope before it forgets the oldest.
    pub results_per_scope: usize,
}

/// Stores the state of stateful functions.
///
/// Used as `Arc<dyn StateBackend>` by the phases of a function and by nodes that serve state to others.
/// Implementations are linearizable per scope and pass `conformance::state` (feature `conformance`).
///
/// # Contract
/// - `commit` applies everything or nothing, including the invocation's result.
/// - Of a scope that is owned, only commits with the owner's [`Fence`] apply.
/// - What a call returned is visible to every later call, whoever makes it.
/// - Cancelling a future leaves the call done or not done, never half done.
#[async_trait]
pub trait StateBackend: Debug + Send + Sync + 'static {
    /// What it can do. Never changes.
    fn caps(&self) -> Caps;

    /// Reads without waiting, where the value is at hand; `None` means: use [`StateBackend::get`].
    fn try_get(&self, scope: &Scope, key: &str) -> Option<Result<Option<Entry>, StateError>> {
        let _ = (scope, key);
        None
    }

    /// Reads one value; `Ok(None)` when it is not there.
    ///
    /// # Errors
    /// [`StateError::Unavailable`], [`StateError::Corrupt`].
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError>;

    /// Where the scope stands at `now` of the caller's clock, the one that [`StateBackend::acquire`] is told.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn head(&self, scope: &Scope, now: Timestamp) -> Result<Head, StateError>;

    /// The result that was committed with `invocation`, if it is still kept.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError>;

    /// Applies `batch` or answers why not.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the version is another, [`StateError::Fenced`] when the scope is owned
    /// by somebody else, [`StateError::Durability`] when more is asked than [`Caps::durability`],
    /// [`StateError::Unknown`] when it may or may not have been applied: ask again with the same invocation.
    async fn commit(&self, batch: Batch) -> Result<Commit, StateError>;

    /// Makes `owner` the owner of `scope` for `lease`, measured on the caller's clock that says `now`.
    /// The owner itself may acquire again; it gets a new fence.
    ///
    /// # Errors
    /// [`StateError::Held`] while somebody else's lease lasts.
    async fn acquire(
        &self,
        scope: &Scope,
        owner: &NodeId,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Fence, StateError>;

    /// Extends the owner's lease to `now + lease`.
    ///
    /// # Errors
    /// [`StateError::Fenced`] when `fence` is no longer the scope's.
    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, now: Timestamp) -> Result<(), StateError>;

    /// Gives the scope up. Does nothing when `fence` is no longer the scope's.
    ///
    /// # Errors
    /// [`StateError::Unavailable`].
    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError>;

    /// Everything in the scope at one version.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError>;

    /// Replaces everything in the scope by `snapshot`, as its owner.
    ///
    /// # Errors
    /// As [`StateBackend::commit`].
    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError>;
}

const _: fn(&dyn StateBackend) = |_| {};

/// The state service of one node: opens the state of a function and key for a call, wherever it lives.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// Opens `scope` for one call; waits while another call of this node has it open.
    ///
    /// # Errors
    /// [`StateError::Held`] when another node owns the scope, otherwise as [`StateBackend::get`].
    async fn open(&self, scope: &Scope, invocation: InvocationId) -> Result<Opened, StateError>;

    /// The phase that the scope is in on this node.
    fn phase(&self, scope: &Scope) -> Phase;

    /// Does what is due by time: leaves local phases that no longer pay, renews leases. Called every 50 ms
    /// by the fabric; must not wait for calls that are running.
    async fn maintain(&self);

    /// Publishes every scope that is local here and gives it up. Called once, before the node stops.
    ///
    /// # Errors
    /// The first failure; the other scopes are published all the same.
    async fn drain(&self) -> Result<(), StateError>;
}

const _: fn(&dyn StateStore) = |_| {};

/// What opening a scope gave.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened {
    /// The call may run.
    Session(Box<dyn StateSession>),
    /// The call ran before; this is the result that was committed with its effect.
    Done(Bytes),
}

/// The state of one scope during one call. Dropping it without commit undoes the call's changes.
#[async_trait]
pub trait StateSession: Debug + Send + Sync {
    /// Reads without waiting and without allocating, where the value is at hand, as in the local phase; `None`
    /// means: use [`StateSession::get`].
    fn try_get(&self, key: &str) -> Option<Result<Option<Bytes>, StateError>> {
        let _ = key;
        None
    }

    /// Reads a value, the call's own changes included.
    ///
    /// # Errors
    /// As [`StateBackend::get`].
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError>;

    /// Writes a value when the call commits.
    fn put(&self, key: &str, value: Bytes);

    /// Removes a value when the call commits.
    fn delete(&self, key: &str);

    /// The phase that the scope is in.
    fn phase(&self) -> Phase;

    /// Commits the changes together with the call's `result`; the reply waits for it (output gate).
    ///
    /// # Errors
    /// As [`StateBackend::commit`]. After [`StateError::Conflict`] the call is run again.
    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError>;
}

const _: fn(&dyn StateSession) = |_| {};

/// Why state could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StateError {
    /// The scope moved on since the call read it.
    #[error("{scope} is at version {}, not {}", .actual.get(), .expected.get())]
    Conflict {
        /// The scope.
        scope: Scope,
        /// What the batch rests on.
        expected: Version,
        /// What it is.
        actual: Version,
    },
    /// Somebody else owns the scope: the commit came from a former owner, or from none.
    #[error("{scope} is owned by another, who took it in epoch {epoch}")]
    Fenced {
        /// The scope.
        scope: Scope,
        /// The epoch of the present owner.
        epoch: u64,
    },
    /// Another node owns the scope and its lease lasts.
    #[error("{scope} is held by {owner} for another {remaining:?}")]
    Held {
        /// The scope.
        scope: Scope,
        /// The owner.
        owner: NodeId,
        /// How long the lease lasts.
        remaining: Duration,
    },
    /// More durability is asked than the backend gives.
    #[error("{asked:?} durability is asked, the backend gives {given:?}")]
    Durability {
        /// What is asked.
        asked: Durability,
        /// The best it gives.
        given: Durability,
    },
    /// The store cannot be reached or cannot write; nothing was changed.
    #[error("the state store is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The store did not answer; the commit may or may not have been applied.
    #[error("the outcome of a commit to {scope} is unknown")]
    Unknown {
        /// The scope.
        scope: Scope,
    },
    /// Stored bytes are not what was written.
    #[error("stored data of {scope} is corrupt: {what}")]
    Corrupt {
        /// The scope.
        scope: Scope,
        /// What was found to be wrong.
        what: String,
    },
}

impl StateError {
    /// Whether the same call, with the same invocation id, may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Held { .. } | Self::Unavailable { .. } | Self::Unknown { .. })
    }
}
