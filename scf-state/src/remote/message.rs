//! What a node and its home say to each other about state, in postcard.

use std::time::Duration;

use bytes::Bytes;
use scf_core::{
    Batch, Commit, Delta, Envelope, Fence, Head, InvocationId, NodeId, Page, Scope, Snapshot, StateError, Version,
    WallTime, Watched,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// One method of `StateBackend`. No timestamp travels: the home measures leases on its own clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Get {
        scope: Scope,
        key: String,
    },
    Head {
        scope: Scope,
    },
    ResultOf {
        scope: Scope,
        invocation: InvocationId,
    },
    Commit(Batch),
    Acquire {
        scope: Scope,
        owner: NodeId,
        lease: Duration,
    },
    Renew {
        scope: Scope,
        fence: Fence,
        lease: Duration,
    },
    Release {
        scope: Scope,
        fence: Fence,
    },
    Export {
        scope: Scope,
    },
    Import {
        scope: Scope,
        fence: Fence,
        snapshot: Snapshot,
    },
    Scan {
        scope: Scope,
        prefix: String,
        after: Option<String>,
        limit: usize,
    },
    /// The first change after `from`; nothing if there is none for so long.
    Watch {
        scope: Scope,
        prefix: String,
        from: Version,
        wait: Duration,
    },
    ExportSince {
        scope: Scope,
        since: Version,
    },
    ImportSince {
        scope: Scope,
        fence: Fence,
        delta: Delta,
    },
}

/// The answer. A single value travels in the message's body, which nobody copies.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Absent,
    Entry { version: Version, expires: Option<WallTime> },
    Result,
    Head(Head),
    Commit(Commit),
    Fence(Fence),
    Snapshot(Snapshot),
    Page(Page),
    Watched(Option<Watched>),
    Delta(Option<Delta>),
    Done,
    Failed(StateError),
}

/// A message of `head` and `body`.
pub(super) fn envelope(head: &impl Serialize, body: Bytes) -> Result<Envelope, postcard::Error> {
    Ok(Envelope { head: postcard::to_stdvec(head)?.into(), body })
}

/// The head of a message.
pub(super) fn head<T: DeserializeOwned>(envelope: &Envelope) -> Result<T, postcard::Error> {
    postcard::from_bytes(&envelope.head)
}
