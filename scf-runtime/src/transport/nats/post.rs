//! Messages through the broker, and what they come to.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use async_nats::{Client, Message, StatusCode, Subscriber, connection::State};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use scf_core::{NodeId, TransportError};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    frame::{self, CallId, Order, Reply},
    subject::Subjects,
};

/// One process's letters to nodes of others. Holds one entry for every message that waits for its answer, which goes
/// with whoever waits.
pub(super) struct Post {
    client: Client,
    subjects: Subjects,
    session: u64,
    next: AtomicU64,
    /// By the number of the message: to whom it went, and who waits.
    waiting: Mutex<Waiting>,
    /// Nothing that was said for a while reached the broker.
    is_unheard: AtomicBool,
}

type Waiting = HashMap<u64, (NodeId, oneshot::Sender<Message>)>;

impl Post {
    pub(super) fn new(client: Client, subjects: Subjects) -> Self {
        let session = u64::from_le_bytes(frame::secret());
        let (next, waiting, is_unheard) = (AtomicU64::new(0), Mutex::default(), AtomicBool::new(false));
        Self { client, subjects, session, next, waiting, is_unheard }
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) const fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Longest frame that the broker takes.
    pub(super) fn largest(&self) -> usize {
        self.client.max_payload()
    }

    /// Where the answers to what is sent from here arrive.
    pub(super) async fn answers(&self) -> Result<Subscriber, async_nats::SubscribeError> {
        self.client.subscribe(self.subjects.answers(self.session)).await
    }

    /// Hands answers to who waits for them until the connection is closed.
    pub(super) async fn deliver(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(answer) = answers.next().await {
            let waits = Subjects::call(&answer.subject).and_then(|call| self.waiting().remove(&call));
            if let Some((_, waits)) = waits {
                // It fails when who waited has just gone.
                let _ = waits.send(answer);
            }
        }
    }

    /// Sends `order` to a node and waits for what it comes to. Who stops waiting for an answer calls it off.
    pub(super) async fn order(
        self: &Arc<Self>,
        to: &NodeId,
        order: &Order,
        body: &[u8],
    ) -> Result<(Reply, Bytes), TransportError> {
        let unreachable = || TransportError::Unreachable { node: to.clone() };
        if !self.is_connected() {
            return Err(unreachable());
        }
        let call = self.next.fetch_add(1, Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(call, (to.clone(), sender));
        let place = self.subjects.node(to);
        let frame = frame::encode(order, body);
        let answer_to = self.subjects.answer(self.session, call);
        let mut waits = Waits { post: self, call, place: None };
        self.client.publish_with_reply(place.clone(), answer_to, frame).await.map_err(|error| {
            tracing::warn!(%error, node = %to, "the broker's client did not take a message");
            unreachable()
        })?;
        waits.place = matches!(order, Order::Ask { .. }).then_some(place);
        let answered = answer.await;
        waits.place = None;
        let answer = answered.map_err(|_| TransportError::Interrupted { node: to.clone() })?;
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(unreachable());
        }
        frame::decode(answer.payload).ok_or_else(|| TransportError::Interrupted { node: to.clone() })
    }

    /// Sends what `message` came to back to whoever sent it.
    pub(super) async fn reply(&self, to: async_nats::Subject, reply: &Reply, body: &[u8]) {
        if let Err(error) = self.client.publish(to, frame::encode(reply, body)).await {
            tracing::warn!(%error, "the broker's client did not take an answer");
        }
    }

    /// Says something to all. What the client has no room for is not said: the next beat tells more.
    pub(super) fn say(&self, beat: Bytes) {
        if let Some(Err(error)) = self.client.publish(self.subjects.beats(), beat).now_or_never() {
            tracing::warn!(%error, "the broker's client did not take a beat");
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected && !self.is_unheard.load(Relaxed)
    }

    pub(super) fn set_heard(&self, is_heard: bool) {
        self.is_unheard.store(!is_heard, Relaxed);
    }

    pub(super) fn connect_anew(&self) -> bool {
        let is_connected = self.client.connection_state() == State::Connected;
        if is_connected {
            let client = self.client.clone();
            // It waits for room in the client, which there is none of while nothing can be sent.
            tokio::spawn(async move { client.force_reconnect().await });
        }
        is_connected
    }

    /// Nobody answers at a node any more: who waits for it is told so.
    pub(super) fn lose(&self, node: &NodeId) {
        self.waiting().retain(|_, (to, _)| to != node);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post").field("subjects", &self.subjects).finish_non_exhaustive()
    }
}

/// Somebody who waits for an answer.
struct Waits<'a> {
    post: &'a Arc<Post>,
    call: u64,
    /// Where to say that nobody waits any more, while that matters.
    place: Option<String>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.post.waiting().remove(&self.call);
        let Some(place) = self.place.take() else { return };
        let of = CallId { session: self.post.session, call: self.call };
        let (client, frame) = (self.post.client.clone(), frame::encode(&Order::Cancel { of }, &[]));
        // Outside of a runtime nobody can send; the call ends at its deadline then.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { client.publish(place, frame).await });
        }
    }
}
