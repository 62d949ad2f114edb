//! What became of a queued call, and why not.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::QueuedCall;
use crate::{ByteSize, Durability, InvocationId, NodeId, Payload, WallTime};

/// What accepting a call gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Acceptance {
    /// It is kept, as safely as it says.
    New(Durability),
    /// A call of that id was accepted before; this is how it stands. Nothing was changed.
    Known(CallStatus),
}

/// How a call stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "queues of integrators write it as a literal")]
pub struct CallStatus {
    /// The call.
    pub id: InvocationId,
    /// How often it was started.
    pub attempts: u32,
    /// Where it stands.
    pub state: CallState,
}

/// Where a call stands. One that was accepted ends as exactly one of completed and dead, in the queue that has it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallState {
    /// Not due yet, behind another of its key, held back, or waiting for the next attempt.
    Waiting,
    /// A worker has it.
    Running,
    /// It is done; what it gave, unless that is larger than results that are kept.
    Completed(Option<Payload>),
    /// It is a dead letter.
    Dead(Cause),
    /// The queue of its destination has it; how it stands is known there.
    Forwarded {
        /// The destination.
        to: NodeId,
    },
}

impl CallState {
    /// Whether nothing will change about it any more, unless somebody redrives it.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Dead(_))
    }
}

/// Why a call failed, for its dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Cause {
    /// Its last attempt failed.
    #[error("it failed: {message}")]
    Failed {
        /// What the last attempt gave; at most 1 KiB.
        message: String,
    },
    /// It can never succeed: the function refused its input, or does not take it.
    #[error("it was refused: {message}")]
    Refused {
        /// What was said; at most 1 KiB.
        message: String,
    },
    /// A worker had it and made no progress for as long as its lease.
    #[error("its worker made no progress for {lease:?}")]
    NoProgress {
        /// The lease.
        lease: Duration,
    },
    /// The process that ran it ended, every time.
    #[error("the process that ran it ended {times} times")]
    Crashed {
        /// How often.
        times: u32,
    },
    /// It was due for longer than it may be.
    #[error("it was due for {age:?}")]
    Expired {
        /// How long it may be.
        age: Duration,
    },
    /// Somebody called it off.
    #[error("it was called off")]
    Cancelled,
}

impl Cause {
    /// Longest message that is kept, in bytes.
    pub const MESSAGE: usize = 1024;

    /// An attempt that failed with `message`, of which the first [`Cause::MESSAGE`] bytes are kept.
    #[must_use]
    pub fn failed(message: &str) -> Self {
        Self::Failed { message: cut(message) }
    }

    /// A call that was refused with `message`, of which the first [`Cause::MESSAGE`] bytes are kept.
    #[must_use]
    pub fn refused(message: &str) -> Self {
        Self::Refused { message: cut(message) }
    }
}

fn cut(message: &str) -> String {
    message[..message.floor_char_boundary(Cause::MESSAGE)].to_owned()
}

/// A call that was given up, with all that is needed to run it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "queues of integrators write it as a literal")]
pub struct DeadLetter {
    /// The call.
    pub call: QueuedCall,
    /// Why it was given up.
    pub cause: Cause,
    /// How often it was started.
    pub attempts: u32,
    /// When it was given up.
    pub at: WallTime,
}

/// What a queue has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Room {
    /// Calls, dead letters included: each keeps the room that its dead letter may need.
    Calls {
        /// How many it holds at most.
        limit: u64,
    },
    /// Bytes of payloads, those of dead letters included.
    Bytes {
        /// How many it holds at most.
        limit: ByteSize,
    },
    /// Bytes on the disk. It goes on by itself when there is space.
    Disk,
    /// Bytes in one payload.
    Payload {
        /// How many it takes at most.
        limit: ByteSize,
    },
}

/// Why a queue did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum QueueError {
    /// There is no room for the call; it was not accepted.
    #[error("the invocation queue has no room for call {id}: {room:?}")]
    Full {
        /// The call.
        id: InvocationId,
        /// For what there is none.
        room: Room,
    },
    /// The lease has run out or was settled; somebody else may have the call.
    #[error("call {id} is not leased under this token")]
    NotLeased {
        /// The call.
        id: InvocationId,
    },
    /// There is no such call, or none in the state that the operation is about.
    #[error("the queue has no call {id} that this is about")]
    NotFound {
        /// The call.
        id: InvocationId,
    },
    /// The queue cannot be reached or cannot write; nothing was changed.
    #[error("the invocation queue is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The queue did not answer; it may have been done. Asking again with the same id is safe.
    #[error("what came of call {id} is unknown")]
    Unknown {
        /// The call.
        id: InvocationId,
    },
    /// Stored bytes are not what was written.
    #[error("the stored call {id} is corrupt: {what}")]
    Corrupt {
        /// The call.
        id: InvocationId,
        /// What was found to be wrong.
        what: String,
    },
}

impl QueueError {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Full { room: Room::Payload { .. }, .. } => false,
            Self::Full { .. } | Self::Unavailable { .. } | Self::Unknown { .. } => true,
            _ => false,
        }
    }
}
