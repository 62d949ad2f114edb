//! Messages between nodes.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ByteSize, NodeId, Path};

/// Who answers a message on the node it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Subject {
    /// The node's functions controller.
    Invoke,
    /// The node's state server.
    State,
    /// Who owns the node's resources.
    Claim,
    /// The node's invocation queue.
    Queue,
    /// The streams of calls that the node has sent to others.
    Stream,
}

/// A message: a small encoded head, and a body that is passed on untouched and uncopied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a message is")]
pub struct Envelope {
    /// What to do, encoded by whoever owns the subject.
    pub head: Bytes,
    /// The data.
    pub body: Bytes,
}

impl Envelope {
    /// What a message adds to head and body on the wire: lengths, subject, addresses.
    pub const OVERHEAD: ByteSize = ByteSize::from_bytes(64);

    /// Size on the wire.
    #[must_use]
    pub fn size(&self) -> ByteSize {
        Self::OVERHEAD + ByteSize::from_bytes((self.head.len() + self.body.len()) as u64)
    }
}

/// Answers messages on a node.
#[async_trait]
pub trait Handler: Debug + Send + Sync + 'static {
    /// Answers `request`, which came from node `from`. Failures are part of the answer. Dropped when the
    /// caller gives up or is cut off.
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope;
}

const _: fn(&dyn Handler) = |_| {};

/// Carries messages between the nodes of a fabric.
///
/// Implementations: in one process over shaped links; a fleet's broker. A request is answered at most once;
/// nothing is retried here.
#[async_trait]
pub trait Transport: Debug + Send + Sync + 'static {
    /// Lets `handler` answer `subject` on `node`, in place of an earlier one.
    ///
    /// # Errors
    /// [`TransportError::UnknownNode`].
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError>;

    /// Takes `node` off: it answers nothing from now on, and what it is answering is dropped.
    fn detach(&self, node: &NodeId);

    /// Sends `request` and waits for the answer.
    ///
    /// # Errors
    /// [`TransportError`]; after [`TransportError::TimedOut`] and [`TransportError::Interrupted`] the request
    /// may have been handled.
    async fn request(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError>;

    /// Sends `message` and waits until it is on its way, not until it is handled.
    ///
    /// # Errors
    /// [`TransportError`].
    async fn send(&self, from: &NodeId, to: &NodeId, subject: Subject, message: Envelope)
    -> Result<(), TransportError>;

    /// Measures the ways from `node` to all others with small messages. Called by the fabric every half
    /// second, so that a way that nothing uses is still known.
    async fn probe(&self, node: &NodeId);

    /// The way between two nodes as last measured by probes and by what was sent; `None` when it is cut or
    /// was never measured.
    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path>;

    /// How many links a message between two nodes crosses as things are, to bill its bytes by; `None` when
    /// no way leads there. By default one, unless the nodes are the same.
    fn hops(&self, from: &NodeId, to: &NodeId) -> Option<usize> {
        Some(usize::from(from != to))
    }
}

const _: fn(&dyn Transport) = |_| {};

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The transport does not know the node.
    #[error("node {node} is not known")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// No way leads there; the message was not delivered.
    #[error("node {node} is unreachable")]
    Unreachable {
        /// The node.
        node: NodeId,
    },
    /// The way was cut after the message was sent; it may have been handled.
    #[error("the way to node {node} was cut before it answered")]
    Interrupted {
        /// The node.
        node: NodeId,
    },
    /// No answer came in time; the message may have been handled.
    #[error("node {node} did not answer within {patience:?}")]
    TimedOut {
        /// The node.
        node: NodeId,
        /// How long was waited.
        patience: Duration,
    },
    /// The node takes no more messages now; it was not delivered.
    #[error("node {node} has too many messages waiting")]
    Overloaded {
        /// The node.
        node: NodeId,
    },
}
