//! Brings queued calls to the queues of other nodes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use scf_core::{
    ByteSize, Handover, InvocationId, InvocationQueue, NodeId, OfferAsk, QueueError, QueuedCall, RetryPolicy, Subject,
    Transport, TransportError,
};
use tokio::{
    sync::watch,
    task::{self, JoinError, JoinSet},
};

use super::inbox::{Answer, MOST_CALLS, Request};
use crate::{fabric::Inner, peer::CAN_JOIN, time::Time};

/// Bytes of payloads that one message brings, beyond the first call.
const BATCH: ByteSize = ByteSize::from_mib(1);
/// How long a message may take that carries nothing; it doubles with every failure, up to [`PATIENCE_DOUBLES`] times.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_DOUBLES: u32 = 5;
/// Bytes that a way is taken to carry in a second at least.
const SLOWEST: u64 = 32 << 10;
/// Destinations that calls are brought to at the same time, as many as there are nodes that are remembered; others wait
/// until one of them has its calls.
const COURIERS: usize = 4096;
/// How long a destination is let be that could not be reached, unless it is heard before.
const BACKOFF: RetryPolicy = RetryPolicy {
    attempts: u32::MAX,
    base: Duration::from_millis(200),
    longest: Duration::from_secs(30),
    budget: 0,
    floor: 1,
};

/// How often each node of another process came, or came back.
pub(super) type Arrivals = HashMap<NodeId, u64>;

/// Who brings calls to other nodes: one for every destination, so that its calls arrive in their order.
#[derive(Debug, Default)]
pub(super) struct Couriers {
    tasks: JoinSet<()>,
    to: HashMap<task::Id, NodeId>,
}

impl Couriers {
    /// Starts one for every destination of due calls that has none.
    pub(super) fn start(&mut self, fabric: &Weak<Inner>, inner: &Inner, queue: &dyn InvocationQueue) {
        if !CAN_JOIN || inner.transport.is_none() {
            return;
        }
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.ended(ended);
        }
        let due = queue.destinations();
        if due.is_empty() {
            return;
        }
        let served: HashSet<NodeId> = self.to.values().cloned().collect();
        let unserved = due.into_iter().filter(|to| !served.contains(to));
        for to in unserved.take(COURIERS.saturating_sub(served.len())) {
            let task = self.tasks.spawn(bring(Weak::clone(fabric), to.clone()));
            self.to.insert(task.id(), to);
        }
    }

    /// Returns when one of them is done.
    pub(super) async fn done(&mut self) -> Option<()> {
        if !CAN_JOIN {
            return None;
        }
        let ended = self.tasks.join_next_with_id().await?;
        self.ended(ended);
        Some(())
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        self.to.remove(&id);
    }
}

/// What a courier works with between two looks at whether the fabric is still there.
struct Way {
    queue: Arc<dyn InvocationQueue>,
    transport: Arc<dyn Transport>,
    clock: Time,
    from: NodeId,
    arrivals: watch::Receiver<Arrivals>,
    settled: watch::Sender<u64>,
}

impl Way {
    fn of(fabric: &Weak<Inner>) -> Option<Self> {
        let inner = fabric.upgrade()?;
        let dispatcher = inner.dispatcher.as_ref()?;
        Some(Self {
            queue: Arc::clone(&dispatcher.queue),
            transport: Arc::clone(inner.transport.as_ref()?),
            clock: inner.clock.clone(),
            from: inner.members[0].node.id.clone(),
            arrivals: dispatcher.arrivals(),
            settled: dispatcher.settles(),
        })
    }
}

/// What came of one message.
enum Brought {
    /// These calls are settled; those behind them were not taken.
    Settled(Vec<(InvocationId, Handover)>),
    /// None was taken, now.
    Refused,
    /// Nobody knows.
    Unknown,
    /// The node came back while the message was on its way: it may be lost.
    Anew,
}

/// Brings the calls of a destination there until none is left.
async fn bring(fabric: Weak<Inner>, to: NodeId) {
    let (mut settled, mut failures) = (None, 0);
    loop {
        let Some(way) = Way::of(&fabric) else { return };
        let mut arrivals = way.arrivals.clone();
        let seen = arrivals.borrow_and_update().get(&to).copied();
        let is_settled = settled.is_some();
        let ask = OfferAsk { to: to.clone(), settled: settled.take(), calls: MOST_CALLS, bytes: BATCH };
        let brought = match way.queue.offer(ask).await {
            Ok(calls) => {
                if is_settled {
                    way.settled.send_modify(|settled| *settled += 1);
                }
                if calls.is_empty() {
                    return;
                }
                tokio::select! {
                    biased;
                    brought = way.bring(&to, &calls, failures) => brought,
                    () = arrived(&mut arrivals, &to, seen) => Brought::Anew,
                }
            }
            Err(error) => {
                tracing::warn!(%error, %to, "queued calls cannot be brought to their destination now");
                Brought::Unknown
            }
        };
        let is_over = match brought {
            Brought::Settled(outcomes) => {
                let is_any = !outcomes.is_empty();
                settled = Some(outcomes);
                is_any
            }
            Brought::Refused => {
                settled = Some(Vec::new());
                false
            }
            Brought::Unknown => false,
            Brought::Anew => true,
        };
        if is_over {
            failures = 0;
            continue;
        }
        failures += 1;
        let wait = BACKOFF.delay(way.jitter(), failures, 0);
        tracing::debug!(%to, failures, ?wait, "scf.queue.backoff");
        tokio::select! {
            () = way.clock.sleep(wait) => {}
            () = arrived(&mut arrivals, &to, seen) => failures = 0,
        }
    }
}

impl Way {
    async fn bring(&self, to: &NodeId, calls: &[QueuedCall], failures: u32) -> Brought {
        let request = Request::take(calls, self.queue.durability());
        let patience = PATIENCE * (1 << failures.min(PATIENCE_DOUBLES));
        let patience = patience + Duration::from_secs(request.size().bytes() / SLOWEST);
        let answer = match self.transport.request(&self.from, to, Subject::Queue, request, patience).await {
            Ok(answer) => answer,
            Err(TransportError::TimedOut { .. } | TransportError::Interrupted { .. }) => return Brought::Unknown,
            Err(_) => return Brought::Refused,
        };
        match Answer::read(&answer) {
            Some(Answer::Taken(outcomes)) => Brought::Settled(calls.iter().map(|call| call.id).zip(outcomes).collect()),
            Some(Answer::Failed(QueueError::Full { room, .. })) => {
                tracing::warn!(%to, ?room, "queued calls wait for room at their destination");
                Brought::Refused
            }
            Some(Answer::Weaker(durability)) => {
                let here = self.queue.durability();
                tracing::warn!(%to, ?durability, ?here, "queued calls would be kept less safely at their destination");
                Brought::Refused
            }
            answer => {
                tracing::warn!(%to, ?answer, "queued calls were not taken by their destination");
                Brought::Unknown
            }
        }
    }

    /// Spreads those who fail at the same time.
    fn jitter(&self) -> InvocationId {
        InvocationId::new(u128::from(self.clock.now().nanos()))
    }
}

/// Returns when a node has come more often than was `seen`.
pub(super) async fn arrived(arrivals: &mut watch::Receiver<Arrivals>, node: &NodeId, seen: Option<u64>) {
    if arrivals.wait_for(|arrivals| arrivals.get(node).copied() != seen).await.is_err() {
        // The fabric is gone, and who waits with it.
        std::future::pending().await
    }
}
