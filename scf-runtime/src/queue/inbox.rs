//! What nodes ask of each other's invocation queues.

use std::{sync::Weak, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{CallStatus, Durability, Envelope, Handler, Handover, InvocationId, NodeId, QueueError, QueuedCall};
use serde::{Deserialize, Serialize};

use super::Watched;
use crate::fabric::Inner;

/// Calls that one message may bring.
pub(super) const MOST_CALLS: usize = 512;
/// The longest that a message about a call waits for it to be settled.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The head of a message to another node's queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Take the calls in the body, if they are kept at least as safely as this.
    Take { durability: Durability },
    /// Say how a call stands: once it is settled, or when `wait` is over.
    Status { id: InvocationId, wait: Duration },
}

/// The head of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What came of the first calls, in their order.
    Taken(Vec<Handover>),
    Status(Option<CallStatus>),
    /// Calls are kept less safely here than where they come from: none was taken.
    Weaker(Durability),
    Failed(QueueError),
    /// The message is none of ours.
    Unreadable,
}

impl Request {
    pub(super) fn take(calls: &[QueuedCall], durability: Durability) -> Envelope {
        let body = postcard::to_stdvec(calls).expect("calls can be encoded");
        Envelope { head: Self::Take { durability }.encode(), body: body.into() }
    }

    pub(super) fn status(id: InvocationId, wait: Duration) -> Envelope {
        Envelope { head: Self::Status { id, wait }.encode(), body: Bytes::new() }
    }

    fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("a request can be encoded").into()
    }
}

impl Answer {
    /// What a queue answered; `None` when it is no answer of one.
    pub(super) fn read(answer: &Envelope) -> Option<Self> {
        postcard::from_bytes(&answer.head).ok()
    }
}

/// Answers other nodes for the queue of this process.
#[derive(Debug)]
pub(crate) struct QueueServer {
    pub(crate) inner: Weak<Inner>,
}

#[async_trait]
impl Handler for QueueServer {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        let answer = self.answer(from, &request).await.unwrap_or_else(|| {
            tracing::warn!(%from, "dropped a message that nothing is known of");
            Answer::Unreadable
        });
        let head = postcard::to_stdvec(&answer).expect("an answer can be encoded");
        Envelope { head: head.into(), body: Bytes::new() }
    }
}

impl QueueServer {
    async fn answer(&self, from: &NodeId, request: &Envelope) -> Option<Answer> {
        // What waits here keeps no fabric alive.
        let (watched, clock) = {
            let inner = self.inner.upgrade()?;
            (inner.dispatcher.as_ref()?.watched(), inner.clock.clone())
        };
        match postcard::from_bytes(&request.head).ok()? {
            Request::Take { durability } if watched.queue.durability() < durability => {
                Some(Answer::Weaker(watched.queue.durability()))
            }
            Request::Take { .. } => {
                let mut calls: Vec<QueuedCall> = postcard::from_bytes(&request.body).ok()?;
                if calls.len() > MOST_CALLS {
                    return None;
                }
                calls.iter_mut().for_each(|call| call.destination = None);
                Some(watched.queue.take(from, calls).await.map_or_else(Answer::Failed, Answer::Taken))
            }
            Request::Status { id, wait } => {
                let Watched { queue, settled } = watched;
                let settles = super::settles(&*queue, settled, id);
                let status = tokio::select! {
                    biased;
                    status = settles => status,
                    () = clock.sleep(wait.min(LONGEST_WAIT)) => queue.status(id).await,
                };
                Some(status.map_or_else(Answer::Failed, Answer::Status))
            }
        }
    }
}
