//! Changes that happen together, and what became of them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Fence, Scope, Version};
use crate::{InvocationId, QueuedCall, WallTime};

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
    /// On the disks of so many nodes, this one's among them.
    Replicated(u8),
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
        /// When it is no longer there; `None`: it stays. Refused where [`Caps::expiry`](super::Caps) is not.
        expires: Option<WallTime>,
    },
    /// Removes a value; nothing when it is not there.
    Delete {
        /// The entry's key.
        key: String,
    },
    /// Accepts a call into the backend's [`InvocationQueue`](crate::InvocationQueue); nothing when a call of that id was
    /// accepted before. A call with a [timer's name](QueuedCall::timer) takes the place of what waits under that name.
    /// [`StateError::Unsupported`](super::StateError) where the backend has no queue.
    Enqueue {
        /// The call.
        call: Box<QueuedCall>,
    },
    /// Calls off what waits under a timer's name; nothing when there is none.
    CancelTimer {
        /// Whose timer it is.
        scope: Scope,
        /// Its name.
        name: String,
    },
}

impl Op {
    /// The key of the entry that it changes, if it changes one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => Some(key),
            Self::Enqueue { .. } | Self::CancelTimer { .. } => None,
        }
    }

    /// The bytes that it stores, if it stores any.
    #[must_use]
    pub const fn value(&self) -> Option<&Bytes> {
        match self {
            Self::Put { value, .. } => Some(value),
            Self::Enqueue { call } => Some(&call.payload.bytes),
            Self::Delete { .. } | Self::CancelTimer { .. } => None,
        }
    }
}

/// An entry that a [`Batch`] rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a guard is")]
pub struct Guard {
    /// The entry's key.
    pub key: String,
    /// The version that the entry has; `None`: it is not there.
    pub version: Option<Version>,
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
    /// Entries that the changes rest on, as they are before the first change.
    pub guards: Vec<Guard>,
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
        Self {
            scope,
            fence: None,
            expect: None,
            guards: Vec::new(),
            invocation: None,
            ops: Vec::new(),
            durability: Durability::Durable,
        }
    }

    /// Adds a value to write.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), expires: None });
        self
    }

    /// Adds a value to write that is gone at `expires` of the backend's clock.
    #[must_use]
    pub fn put_until(mut self, key: impl Into<String>, value: impl Into<Bytes>, expires: WallTime) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into(), expires: Some(expires) });
        self
    }

    /// Adds a value to remove.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Adds a call to accept.
    #[must_use]
    pub fn enqueue(mut self, call: QueuedCall) -> Self {
        self.ops.push(Op::Enqueue { call: Box::new(call) });
        self
    }

    /// Adds a timer to call off.
    #[must_use]
    pub fn cancel_timer(mut self, scope: Scope, name: impl Into<String>) -> Self {
        self.ops.push(Op::CancelTimer { scope, name: name.into() });
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

    /// Adds that the changes rest on `key` being at `version`, or on its absence.
    #[must_use]
    pub fn guard(mut self, key: impl Into<String>, version: Option<Version>) -> Self {
        self.guards.push(Guard { key: key.into(), version });
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
