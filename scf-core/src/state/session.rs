//! State as calls see it.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Commit, Scope, StateError};
use crate::{InvocationId, Phase, QueuedCall, WallTime};

/// The state service of one node: opens the state of a function and key for a call, wherever it lives.
#[async_trait]
pub trait StateStore: Debug + Send + Sync + 'static {
    /// Opens `scope` for one call; waits while another call of this node has it open.
    ///
    /// # Errors
    /// [`StateError::Held`] when another node owns the scope, otherwise as [`StateBackend::get`](super::StateBackend::get).
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

    /// Copies what the scope's home has here, ahead of [`StateStore::adopt`], while calls go on elsewhere. Called again
    /// it brings the copy up to date.
    ///
    /// # Errors
    /// As [`StateBackend::export`](super::StateBackend::export); [`StateError::Unsupported`] where scopes do not move.
    async fn prefetch(&self, scope: &Scope) -> Result<(), StateError> {
        let _ = scope;
        Err(StateError::Unsupported { what: "move scopes".to_owned() })
    }

    /// Takes the scope here, whatever calls say.
    ///
    /// # Errors
    /// As [`StateBackend::acquire`](super::StateBackend::acquire); [`StateError::Unsupported`] where scopes do not move.
    async fn adopt(&self, scope: &Scope) -> Result<(), StateError> {
        let _ = scope;
        Err(StateError::Unsupported { what: "move scopes".to_owned() })
    }

    /// Moves a scope that is local here to the node of `to`. Calls go on while it is copied; those that come in the
    /// last moments wait, and are then answered that `to` owns it. When it fails the scope is here, at home or there,
    /// whole and owned by one at most.
    ///
    /// # Errors
    /// As [`StateStore::adopt`].
    async fn hand_over(&self, scope: &Scope, to: &dyn StateStore) -> Result<Moved, StateError> {
        let _ = (scope, to);
        Err(StateError::Unsupported { what: "move scopes".to_owned() })
    }
}

/// Keeps what a call sends until what it may have read is safe: a call in the local phase begins while the commits of
/// those before it are still on their way to the disk. Its own reply waits for its own commit.
#[async_trait]
pub trait OutputGate: Debug + Send + Sync {
    /// Returns once what was written before the call is safe.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when some of it did not come about; the call is run again.
    async fn open(&self) -> Result<(), StateError>;
}

const _: fn(&dyn OutputGate) = |_| {};

/// How long a scope moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct Moved {
    /// While calls went on.
    pub copying: Duration,
    /// While they waited.
    pub closed: Duration,
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
    /// As [`StateBackend::get`](super::StateBackend::get).
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StateError>;

    /// Writes a value when the call commits.
    fn put(&self, key: &str, value: Bytes);

    /// Writes a value that is gone at `expires` of the clock where the state is, when the call commits.
    ///
    /// # Errors
    /// [`StateError::Unsupported`] where the state service or a backend of it lets no value expire
    /// ([`Caps::expiry`](super::Caps)).
    fn put_until(&self, key: &str, value: Bytes, expires: WallTime) -> Result<(), StateError> {
        let _ = (key, value, expires);
        Err(StateError::Unsupported { what: "let values expire".to_owned() })
    }

    /// Removes a value when the call commits.
    fn delete(&self, key: &str);

    /// Has a call accepted into the invocation queue of the backend when this call commits, or not at all. A
    /// [timer](QueuedCall::timer) is such a call.
    ///
    /// # Errors
    /// [`StateError::Unsupported`] where the state service does not do that. Whether the backend has a queue, and room in
    /// it, the commit says.
    fn enqueue(&self, call: QueuedCall) -> Result<(), StateError> {
        let _ = call;
        Err(StateError::Unsupported { what: "accept calls".to_owned() })
    }

    /// Calls a timer of this scope off when the call commits.
    ///
    /// # Errors
    /// As [`StateSession::enqueue`].
    fn cancel_timer(&self, name: &str) -> Result<(), StateError> {
        let _ = name;
        Err(StateError::Unsupported { what: "call timers off".to_owned() })
    }

    /// The phase that the scope is in.
    fn phase(&self) -> Phase;

    /// In the local phase, what an isolate's memory may rest on: a call that commits leaves the scope at the next turn,
    /// and the session of the call after it is at that turn unless something else became of the state.
    fn turn(&self) -> u64 {
        0
    }

    /// What the call waits for before it sends anything to others; `None` where it reads only what is safe.
    fn output(&self) -> Option<Arc<dyn OutputGate>> {
        None
    }

    /// Commits the changes together with the call's `result`; the reply waits for it (output gate).
    ///
    /// # Errors
    /// As [`StateBackend::commit`](super::StateBackend::commit). After [`StateError::Conflict`] the call is run again.
    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError>;
}

const _: fn(&dyn StateSession) = |_| {};
