//! State as calls see it.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Commit, Scope, StateError};
use crate::{InvocationId, Phase};

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

    /// Removes a value when the call commits.
    fn delete(&self, key: &str);

    /// The phase that the scope is in.
    fn phase(&self) -> Phase;

    /// Commits the changes together with the call's `result`; the reply waits for it (output gate).
    ///
    /// # Errors
    /// As [`StateBackend::commit`](super::StateBackend::commit). After [`StateError::Conflict`] the call is run again.
    async fn commit(self: Box<Self>, result: Bytes) -> Result<Commit, StateError>;
}

const _: fn(&dyn StateSession) = |_| {};
