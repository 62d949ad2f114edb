//! What stands against reading or writing state.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Durability, Scope, Version};
use crate::{ByteSize, NodeId, QueueError, TenantName};

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
    /// An entry is not as the batch rests on; see [`Guard`](super::Guard).
    #[error("entry {key:?} of {scope} is {}, not {}", at(.actual), at(.expected))]
    Guard {
        /// The scope; boxed, so that errors stay small.
        scope: Box<Scope>,
        /// The entry's key.
        key: String,
        /// What the batch rests on.
        expected: Option<Version>,
        /// What it is.
        actual: Option<Version>,
    },
    /// A call that the batch enqueues was not accepted; nothing was changed.
    #[error("a call that {scope} enqueues is not accepted")]
    Queue {
        /// The scope.
        scope: Scope,
        /// Why not.
        #[source]
        source: Box<QueueError>,
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
    /// The tenant would keep more than it may.
    #[error("tenant {tenant} would keep {asked} where {limit} are allowed")]
    Quota {
        /// The tenant.
        tenant: TenantName,
        /// What it would keep then.
        asked: ByteSize,
        /// What it may keep.
        limit: ByteSize,
    },
    /// More at once than [`Caps`](super::Caps) allow.
    #[error("{what} of {size} is asked of {scope}, {limit} are allowed")]
    TooLarge {
        /// The scope.
        scope: Scope,
        /// What: a value, a batch, a key.
        what: String,
        /// Its size.
        size: ByteSize,
        /// The bound.
        limit: ByteSize,
    },
    /// The backend does not do this; see [`Caps`](super::Caps).
    #[error("this state store does not {what}")]
    Unsupported {
        /// What is asked of it.
        what: String,
    },
    /// The disk is full; nothing was changed. Goes on by itself when there is space.
    #[error("the disk of the state store is full: {reason}")]
    Full {
        /// What the device reports.
        reason: String,
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
        matches!(
            self,
            Self::Conflict { .. }
                | Self::Guard { .. }
                | Self::Held { .. }
                | Self::Full { .. }
                | Self::Unavailable { .. }
                | Self::Unknown { .. }
        )
    }
}

fn at(version: &Option<Version>) -> String {
    version.map_or_else(|| "absent".to_owned(), |version| format!("at version {}", version.get()))
}
