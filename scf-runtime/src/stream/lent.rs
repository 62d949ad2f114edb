//! The callers' ends of streams whose calls run on other nodes.

use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{ByteSize, Envelope, Handler, InvocationId, ItemReceiver, ItemSender, NodeId, StreamError, Streams};
use tokio::sync::watch;

use super::message::{Ask, Lending, Told, What, join, read, split, write};
use crate::fabric::Inner;

/// Calls with streams that are on other nodes at the same time; more are refused. What they ask for leaves half of the
/// messages that a node handles at the same time to others.
const LOANS: usize = 512;

/// The streams of the calls that this process has sent to other nodes.
#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<HashMap<InvocationId, Arc<Ends>>>);

/// The streams of one call while another node runs it. Dropped, it gives them back.
#[derive(Debug)]
pub(crate) struct Loan<'a> {
    lent: &'a Lent,
    streams: &'a Streams,
    lending: Lending,
    ends: Arc<Ends>,
}

/// What the node that runs the call may ask for.
struct Ends {
    node: NodeId,
    held: Mutex<Option<(ItemReceiver, ItemSender)>>,
    /// Numbers of the next items of the input and of the output, which messages pass on the way.
    next_pulled: watch::Sender<u64>,
    next_pushed: watch::Sender<u64>,
    /// Bytes on links.
    on_wire: AtomicU64,
}

impl Lent {
    /// Lends the streams of a call to the node that it is sent to; `None` when they were taken before, or too many
    /// are lent.
    pub(crate) fn lend<'a>(&'a self, key: InvocationId, node: &NodeId, streams: &'a Streams) -> Option<Loan<'a>> {
        let mut loans = self.loans();
        if loans.len() >= LOANS {
            return None;
        }
        let held = streams.input().zip(streams.output())?;
        let (next_pulled, next_pushed) = (watch::Sender::new(0), watch::Sender::new(0));
        let (node, held, on_wire) = (node.clone(), Mutex::new(Some(held)), AtomicU64::new(0));
        let ends = Arc::new(Ends { node, held, next_pulled, next_pushed, on_wire });
        loans.insert(key, Arc::clone(&ends));
        Some(Loan { lent: self, streams, lending: Lending { key, room: streams.room().bytes() }, ends })
    }

    fn of(&self, key: &InvocationId, node: &NodeId) -> Option<Arc<Ends>> {
        self.loans().get(key).filter(|ends| ends.node == *node).cloned()
    }

    fn loans(&self) -> MutexGuard<'_, HashMap<InvocationId, Arc<Ends>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan<'_> {
    /// What the other node is told of it.
    pub(crate) const fn lending(&self) -> Lending {
        self.lending
    }

    /// Bytes that its messages and their answers had.
    pub(crate) fn on_wire(&self) -> ByteSize {
        ByteSize::from_bytes(self.ends.on_wire.load(Relaxed))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.lent.loans().remove(&self.lending.key);
        if let Some((input, output)) = self.ends.held().take() {
            self.streams.give_back(input, output);
        }
    }
}

impl Ends {
    fn held(&self) -> MutexGuard<'_, Option<(ItemReceiver, ItemSender)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, what: What, body: Bytes) -> (Told, Bytes) {
        match what {
            What::Push { number, lengths } => {
                let Some(items) = split(&lengths, body) else { return (Told::Gone, Bytes::new()) };
                if !in_turn(&self.next_pushed, number).await {
                    return (Told::Gone, Bytes::new());
                }
                let told = self.push(items).unwrap_or(Told::Gone);
                self.next_pushed.send_replace(number + 1);
                (told, Bytes::new())
            }
            What::Grant { than } => {
                let granted = poll_fn(|cx| match &*self.held() {
                    Some((_, output)) => output.poll_granted(cx, than),
                    None => Poll::Ready(Err(StreamError::Closed)),
                });
                (granted.await.map_or(Told::Gone, |granted| Told::Granted { granted }), Bytes::new())
            }
            What::Pull { number, most } => {
                if !in_turn(&self.next_pulled, number).await {
                    return (Told::Gone, Bytes::new());
                }
                let items = poll_fn(|cx| self.poll_pull(cx, ByteSize::from_bytes(most))).await;
                self.next_pulled.send_replace(number + 1);
                match items {
                    Ok(items) if items.is_empty() => (Told::Ended, Bytes::new()),
                    Ok(items) => match join(items) {
                        Some((lengths, body)) => (Told::Items { lengths }, body),
                        None => (Told::BrokenOff, Bytes::new()),
                    },
                    Err(_) => (Told::BrokenOff, Bytes::new()),
                }
            }
        }
    }

    /// `None` where nobody takes them.
    fn push(&self, items: Vec<Bytes>) -> Option<Told> {
        let mut held = self.held();
        let (_, output) = held.as_mut()?;
        for item in items {
            // Who sends more than was granted is not listened to any more.
            output.try_send(item).ok()?;
        }
        Some(Told::Granted { granted: output.granted() })
    }

    fn poll_pull(&self, cx: &mut Context<'_>, most: ByteSize) -> Poll<Result<Vec<Bytes>, StreamError>> {
        match &mut *self.held() {
            Some((input, _)) => input.poll_items(cx, most),
            None => Poll::Ready(Err(StreamError::Closed)),
        }
    }
}

/// Waits until it is the turn of `number`; `false` when that has passed.
async fn in_turn(next: &watch::Sender<u64>, number: u64) -> bool {
    let mut turns = next.subscribe();
    // The sender is borrowed: it is not gone.
    turns.wait_for(|next| *next >= number).await.is_ok_and(|next| *next == number)
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Answers what the nodes that run calls of this process ask of their streams.
#[derive(Debug)]
pub(crate) struct StreamServer {
    pub(crate) inner: Weak<Inner>,
}

#[async_trait]
impl Handler for StreamServer {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        let size = request.size();
        let Some(Ask { key, what }) = read(&request.head) else {
            tracing::warn!(%from, "dropped a message that is of no stream");
            return Envelope::default();
        };
        let ends = self.inner.upgrade().and_then(|inner| inner.lent.of(&key, from));
        let Some(ends) = ends else { return write(&Told::Gone, Bytes::new()) };
        let (told, body) = ends.answer(what, request.body).await;
        let answer = write(&told, body);
        ends.on_wire.fetch_add((size + answer.size()).bytes(), Relaxed);
        answer
    }
}
