//! Why a call gave no outcome.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{FunctionName, NodeId, Qualifier, ScheduleError, StateError};

/// A limit of [`Limits`](crate::Limits), for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LimitKind {
    /// Memory of the isolate.
    Memory,
    /// CPU time.
    Cpu,
    /// Wall time, or the caller's patience.
    Wall,
    /// Elements of tables.
    Table,
    /// Instances, tables, memories or handles.
    Handles,
    /// The stack.
    Stack,
    /// Memory that the host allocates on the isolate's behalf.
    HostMemory,
    /// Memory of all isolates of the tenant.
    TenantMemory,
    /// Instructions, where they are counted.
    Fuel,
    /// Size of the input.
    Input,
    /// Size of the output.
    Output,
}

/// Why a call gave no outcome. Every variant names the function; it travels between nodes whole.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InvokeError {
    /// No function of that name is deployed.
    #[error("function {function} is not deployed")]
    NotFound {
        /// The function.
        function: FunctionName,
    },
    /// The function has no such revision or alias.
    #[error("function {function} has no {qualifier}")]
    NoRevision {
        /// The function.
        function: FunctionName,
        /// What was asked for.
        qualifier: Qualifier,
    },
    /// The function was given something it cannot work with, and said so.
    #[error("function {function} refused its input: {message}")]
    Refused {
        /// The function.
        function: FunctionName,
        /// What the function said; escaped, at most 1 KiB.
        message: String,
    },
    /// A part of the input is not of the function's WIT type; the function was not called.
    #[error("function {function}: {path}: {problem}")]
    Input {
        /// The function.
        function: FunctionName,
        /// Where, from the parameter on: `frames[3].width`.
        path: String,
        /// What is wrong; escaped, at most 1 KiB.
        problem: String,
    },
    /// The payload is not of the type that the function takes.
    #[error("function {function} takes {takes}, not {given}")]
    Media {
        /// The function.
        function: FunctionName,
        /// What it takes.
        takes: String,
        /// What it was given.
        given: String,
    },
    /// The function crashed.
    #[error("function {function} trapped: {message}")]
    Trapped {
        /// The function.
        function: FunctionName,
        /// The trap; escaped, at most 1 KiB.
        message: String,
    },
    /// The call went over a limit and was ended.
    #[error("function {function} went over its {limit:?} limit")]
    Limit {
        /// The function.
        function: FunctionName,
        /// Which.
        limit: LimitKind,
    },
    /// A stateful function was called without a key.
    #[error("function {function} keeps state per key and was called without one")]
    NoKey {
        /// The function.
        function: FunctionName,
    },
    /// Nothing is free and the queue is full.
    #[error("function {function} is overloaded on {node}; try again in {retry_after:?}")]
    Overloaded {
        /// The function.
        function: FunctionName,
        /// The node.
        node: NodeId,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The node cannot be reached, or stopped answering; whether it ran the call may be unknown.
    #[error("function {function}: node {node} is unreachable")]
    Unreachable {
        /// The function.
        function: FunctionName,
        /// The node.
        node: NodeId,
    },
    /// The node stopped answering, the call may have run there, and the function is not to be run twice
    /// ([`Repeat::Never`](crate::Repeat::Never)).
    #[error("function {function}: node {node} stopped answering, and the call is not repeated")]
    Interrupted {
        /// The function.
        function: FunctionName,
        /// The node.
        node: NodeId,
    },
    /// No node satisfies the function's needs.
    #[error("function {function} cannot be placed")]
    Unplaceable {
        /// The function.
        function: FunctionName,
        /// Which filter refused how many nodes.
        #[source]
        source: ScheduleError,
    },
    /// The state could not be read or committed; nothing of the call's effect is visible.
    #[error("function {function}: state of key {key:?}")]
    State {
        /// The function.
        function: FunctionName,
        /// The key.
        key: String,
        /// Why; boxed, since a result is as large as the largest of its errors, and every call gives one.
        #[source]
        source: Box<StateError>,
    },
    /// The host itself failed.
    #[error("function {function}: host failure: {message}")]
    Host {
        /// The function.
        function: FunctionName,
        /// What happened.
        message: String,
    },
}

impl InvokeError {
    /// Whether the same call, with the same id, may succeed elsewhere or later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::Unreachable { .. } => true,
            Self::State { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}
