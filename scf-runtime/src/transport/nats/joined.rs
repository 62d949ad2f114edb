//! What the nodes of this process share of the way to those of others.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_nats::{Message, Subscriber};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use scf_core::{ByteSize, Clock, Envelope, NodeId, Subject, TransportError};

use super::{
    direct::{Direct, Exchanged},
    frame::{self, Body, CallId, Kept, Order, Reply},
    local::{Admitted, Local},
    post::Post,
    shelf::{OnShelf, Shelf},
};
use crate::transport::PathEstimator;

/// Longest part of a body that is fetched through the broker at once, and how many are on their way at the same time:
/// what one body may occupy of the broker.
const PART: usize = 256 << 10;
const PARTS_AT_ONCE: usize = 4;

/// What a frame has beside the head and body of a message: at most a name, numbers and a hash.
const OVERHEAD: usize = 512;
/// How long a one-way message may be on its way, and how long it may be handled.
pub(super) const TOLD: Duration = Duration::from_secs(60);
/// How long an answer is kept that its caller does not fetch.
const FETCHED: Duration = Duration::from_secs(30);
/// Sizes of the probes in bytes.
const PROBES: [usize; 2] = [64, 32768];
/// A probe that takes longer than this is given up.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// A broker that has not delivered a message to who sent it after so long does not.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);

/// What outlives the transport for as long as messages are on their way.
pub(super) struct Joined {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) post: Arc<Post>,
    pub(super) locals: HashMap<NodeId, Arc<Local>>,
    pub(super) shelf: Arc<Shelf>,
    /// Largest body that is fetched from others.
    pub(super) largest: ByteSize,
    pub(super) estimator: PathEstimator,
    /// Nodes of other processes.
    pub(super) peers: RwLock<BTreeSet<NodeId>>,
    pub(super) direct: Option<Arc<Direct>>,
    pub(super) next_here: AtomicU64,
}

impl Joined {
    pub(super) fn local(&self, node: &NodeId) -> Result<&Arc<Local>, TransportError> {
        self.locals.get(node).ok_or_else(|| TransportError::UnknownNode { node: node.clone() })
    }

    pub(super) fn peers(&self) -> Vec<NodeId> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Sends a message to a node and waits for its answer.
    pub(super) async fn ask(
        self: &Arc<Self>,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError> {
        if let Ok(local) = self.local(to) {
            return self.ask_here(local, from, subject, request, patience).await;
        }
        let Envelope { head, body } = request;
        let has_plane = self.direct.is_some();
        let ask = |head, body| Order::Ask { from: from.clone(), subject, patience, head, body, has_plane };
        // Items of a stream follow each other: a connection that is there is sooner than the broker for small ones too.
        let is_streamed = subject == Subject::Stream && !body.is_empty();
        if let Some(direct) = self.direct.as_ref().filter(|direct| is_streamed || direct.takes(body.len())) {
            let order = ask(head.clone(), Body::Here);
            match direct.exchange(self, from, to, &order, &body).await? {
                Some(Exchanged { reply: Reply::Answer { head, .. }, body, .. }) => return Ok(Envelope { head, body }),
                Some(Exchanged { reply, .. }) => return Err(refusal(to, &reply, patience)),
                None => {}
            }
        }
        let (place, here, _kept) = self.pack(to, &head, body, patience)?;
        let (reply, rest) = self.post.order(to, &ask(head, place), &here).await?;
        match reply {
            Reply::Answer { head, body } => Ok(Envelope { head, body: self.unpack(from, to, body, rest).await? }),
            other => Err(refusal(to, &other, patience)),
        }
    }

    /// Sends a message to a node and waits until the node has it whole.
    pub(super) async fn tell(
        self: &Arc<Self>,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        message: Envelope,
    ) -> Result<(), TransportError> {
        if let Ok(local) = self.local(to) {
            let admitted = local.admit(self.id_here(), subject).map_err(|reply| refusal(to, &reply, TOLD))?;
            self.handle_told(admitted, from.clone(), message);
            return Ok(());
        }
        let Envelope { head, body } = message;
        let (place, here, _kept) = self.pack(to, &head, body, TOLD)?;
        let order = Order::Tell { from: from.clone(), subject, head, body: place };
        match self.post.order(to, &order, &here).await?.0 {
            Reply::Taken => Ok(()),
            other => Err(refusal(to, &other, TOLD)),
        }
    }

    /// Answers the messages for a node of this process until the connection is closed.
    pub(super) async fn serve(self: Arc<Self>, local: Arc<Local>, mut messages: Subscriber) {
        while let Some(message) = messages.next().await {
            self.take(&local, message).await;
        }
    }

    async fn take(self: &Arc<Self>, local: &Arc<Local>, message: Message) {
        let Some((order, rest)) = frame::decode::<Order>(message.payload) else {
            tracing::warn!(node = %local.desk.node, "dropped a message that is none of ours");
            return;
        };
        if let Order::Cancel { of } = order {
            return local.end(of);
        }
        let place = message.reply.and_then(|reply| Some((self.post.subjects().call_id(&reply)?, reply)));
        let Some((id, answer_to)) = place else {
            tracing::warn!(node = %local.desk.node, "dropped a message that can not be answered");
            return;
        };
        let (reply, body) = match order {
            Order::Ask { from, subject, patience, head, body, has_plane } => match local.admit(id, subject) {
                Ok(admitted) => {
                    let (joined, to) = (Arc::clone(self), local.desk.node.clone());
                    tokio::spawn(async move {
                        let message = joined.whole(&to, &from, head, body, rest);
                        let answer = admitted.answer(&from, message, &*joined.clock, patience).await;
                        let (reply, body) = joined.pack_answer(answer, has_plane);
                        joined.post.reply(answer_to, &reply, &body).await;
                    });
                    return;
                }
                Err(refused) => (refused, Bytes::new()),
            },
            Order::Tell { from, subject, head, body } => match local.admit(id, subject) {
                Ok(admitted) => {
                    let (joined, to) = (Arc::clone(self), local.desk.node.clone());
                    tokio::spawn(async move {
                        let reply = match joined.whole(&to, &from, head, body, rest).await {
                            Ok(message) => {
                                joined.handle_told(admitted, from, message);
                                Reply::Taken
                            }
                            Err(reply) => reply,
                        };
                        joined.post.reply(answer_to, &reply, &[]).await;
                    });
                    return;
                }
                Err(refused) => (refused, Bytes::new()),
            },
            Order::Part { key, offset, length } => {
                match self.shelf.part(&key, offset, self.part().min(length as usize)) {
                    Some(part) => (Reply::Follows, part),
                    None => (Reply::Gone, Bytes::new()),
                }
            }
            Order::Echo => (Reply::Follows, rest),
            Order::Open { from } => {
                let opened = self.direct.as_ref().and_then(|direct| direct.admit(from, local, self.clock.now()));
                (opened.map_or(Reply::Gone, Reply::Opened), Bytes::new())
            }
            // The one is said on connections alone, the other was done above.
            Order::Take { .. } | Order::Cancel { .. } => (Reply::Gone, Bytes::new()),
        };
        self.post.reply(answer_to, &reply, &body).await;
    }

    async fn ask_here(
        &self,
        local: &Arc<Local>,
        from: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError> {
        let refused = |reply: Reply| refusal(&local.desk.node, &reply, patience);
        let admitted = local.admit(self.id_here(), subject).map_err(refused)?;
        admitted.answer(from, async { Ok(request) }, &*self.clock, patience).await.map_err(refused)
    }

    fn handle_told(self: &Arc<Self>, admitted: Admitted, from: NodeId, message: Envelope) {
        let joined = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(reply) = admitted.answer(&from, async { Ok(message) }, &*joined.clock, TOLD).await {
                tracing::debug!(?reply, "a one-way message was lost");
            }
        });
    }

    /// Where the body of a message to `to` goes: into the message, or to be fetched by the node.
    fn pack(
        &self,
        to: &NodeId,
        head: &Bytes,
        body: Bytes,
        patience: Duration,
    ) -> Result<(Body, Bytes, Option<OnShelf>), TransportError> {
        if head.len() + body.len() + OVERHEAD <= self.post.largest() {
            return Ok((Body::Here, body, None));
        }
        let kept = self.shelf.keep(&body, self.clock.now(), patience);
        let kept = kept.ok_or_else(|| TransportError::Overloaded { node: to.clone() })?;
        Ok((Body::Kept(kept), Bytes::new(), Some(OnShelf { shelf: Arc::clone(&self.shelf), kept })))
    }

    fn pack_answer(&self, answer: Result<Envelope, Reply>, has_plane: bool) -> (Reply, Bytes) {
        let Envelope { head, body } = match answer {
            Ok(answer) => answer,
            Err(reply) => return (reply, Bytes::new()),
        };
        let is_taken = has_plane && self.direct.as_ref().is_some_and(|direct| direct.takes(body.len()));
        if !is_taken && head.len() + body.len() + OVERHEAD <= self.post.largest() {
            return (Reply::Answer { head, body: Body::Here }, body);
        }
        match self.shelf.keep(&body, self.clock.now(), FETCHED) {
            Some(kept) => (Reply::Answer { head, body: Body::Kept(kept) }, Bytes::new()),
            None => (Reply::Interrupted, Bytes::new()),
        }
    }

    async fn whole(
        self: &Arc<Self>,
        to: &NodeId,
        from: &NodeId,
        head: Bytes,
        body: Body,
        rest: Bytes,
    ) -> Result<Envelope, Reply> {
        match self.unpack(to, from, body, rest).await {
            Ok(body) => Ok(Envelope { head, body }),
            Err(error) => {
                tracing::warn!(%error, %from, "a message's body did not come");
                Err(Reply::Gone)
            }
        }
    }

    /// The body of a message that `from` sent to `to`: what was in it, or what it keeps.
    async fn unpack(
        self: &Arc<Self>,
        to: &NodeId,
        from: &NodeId,
        body: Body,
        here: Bytes,
    ) -> Result<Bytes, TransportError> {
        match body {
            Body::Here => Ok(here),
            Body::Kept(kept) => self.fetch(to, from, kept).await,
        }
    }

    /// Fetches what `from` keeps for `to`: over a connection, or else in parts through the broker.
    async fn fetch(self: &Arc<Self>, to: &NodeId, from: &NodeId, kept: Kept) -> Result<Bytes, TransportError> {
        let broken = || TransportError::Interrupted { node: from.clone() };
        let size = usize::try_from(kept.size).ok().filter(|_| kept.size <= self.largest.bytes());
        let size = size.ok_or_else(|| {
            tracing::warn!(%from, kept.size, largest = %self.largest, "a body is larger than is taken");
            broken()
        })?;
        if let Some(direct) = self.direct.as_ref().filter(|direct| direct.takes(size)) {
            let taken = direct.exchange(self, to, from, &Order::Take { key: kept.key }, &[]).await?;
            if let Some(Exchanged { reply, body, hash }) = taken {
                let is_it = reply == Reply::Follows && hash == Some(kept.hash);
                return if is_it { Ok(body) } else { Err(broken()) };
            }
        }
        let part = self.part();
        let ask = |offset: usize| async move {
            let length = part.min(size - offset);
            let order = Order::Part { key: kept.key, offset: offset as u64, length: length as u32 };
            let (reply, bytes) = self.post.order(from, &order, &[]).await?;
            let is_whole = reply == Reply::Follows && bytes.len() == length;
            if is_whole { Ok(bytes) } else { Err(broken()) }
        };
        let mut parts = stream::iter((0..size).step_by(part)).map(ask).buffered(PARTS_AT_ONCE);
        let (mut body, mut hash) = (BytesMut::with_capacity(size), blake3::Hasher::new());
        while let Some(part) = parts.next().await {
            let part = part?;
            hash.update(&part);
            body.extend_from_slice(&part);
        }
        if *hash.finalize().as_bytes() != kept.hash {
            tracing::warn!(%from, "a body came that is not the one that was sent");
            return Err(broken());
        }
        Ok(body.freeze())
    }

    fn part(&self) -> usize {
        PART.min(self.post.largest().saturating_sub(OVERHEAD)).max(1)
    }

    /// The id of a message that did not come through the broker.
    pub(super) fn id_here(&self) -> CallId {
        CallId { session: 0, call: self.next_here.fetch_add(1, Relaxed) }
    }

    /// Measures the way to a node of another process; whether it is there.
    pub(super) async fn probe(self: &Arc<Self>, from: &NodeId, to: &NodeId) -> bool {
        let probes = async {
            let (small, large) = (self.echo(to, PROBES[0]).await?, self.echo(to, PROBES[1]).await?);
            self.estimator.probed(from, to, small, large, self.clock.now());
            Ok::<_, TransportError>(())
        };
        tokio::select! {
            biased;
            done = probes => done.is_ok(),
            () = self.clock.sleep(PROBE_PATIENCE) => false,
        }
    }

    /// Returns once the messages for a node of this process arrive.
    pub(super) async fn confirm(self: &Arc<Self>, node: &NodeId) -> Result<(), TransportError> {
        tokio::select! {
            biased;
            confirmed = self.post.order(node, &Order::Echo, &[]) => confirmed.map(drop),
            () = self.clock.sleep(CONFIRM_PATIENCE) => {
                Err(TransportError::TimedOut { node: node.clone(), patience: CONFIRM_PATIENCE })
            }
        }
    }

    /// A message of so many bytes on the wire, and half of the time that it took there and back.
    async fn echo(self: &Arc<Self>, to: &NodeId, bytes: usize) -> Result<(ByteSize, Duration), TransportError> {
        let begun = self.clock.now();
        self.post.order(to, &Order::Echo, &vec![0; bytes]).await?;
        Ok((ByteSize::from_bytes(bytes as u64), self.clock.now().since(begun) / 2))
    }
}

/// What a reply that is no answer means to who waited for one with `patience`.
fn refusal(to: &NodeId, reply: &Reply, patience: Duration) -> TransportError {
    let node = to.clone();
    match reply {
        Reply::Late => TransportError::TimedOut { node, patience },
        Reply::Unstaffed => TransportError::Unreachable { node },
        Reply::Overloaded => TransportError::Overloaded { node },
        _ => TransportError::Interrupted { node },
    }
}
