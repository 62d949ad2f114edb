//! Messages, their answers and probes under way between nodes of one process.

use std::{collections::HashMap, sync::Arc, time::Duration};

use scf_core::{ByteSize, Clock, Envelope, NodeId, Subject, TransportError};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    desk::Desk,
    estimate::PathEstimator,
    network::{Hop, Route},
    travel::{Began, Lost, Roads},
};

/// Sizes of the probes on the wire in bytes. The second takes 16 ms at 1 Mbit/s; the third is sent only
/// where the second told too little, so that probes never fill a slow link.
const PROBES: [u64; 3] = [64, 2048, 32768];
/// The second probe tells enough where it took this much longer than the first.
const TELLING: Duration = Duration::from_millis(4);
/// A probe that takes longer than this is given up.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// What outlives the [`InProcess`] for as long as messages are on their way.
pub(super) struct Joined {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) numbers: HashMap<NodeId, usize>,
    pub(super) desks: Vec<Desk>,
    pub(super) roads: Roads,
    pub(super) estimator: PathEstimator,
    pub(super) in_flight: usize,
}

impl Joined {
    pub(super) fn number(&self, node: &NodeId) -> Option<usize> {
        self.numbers.get(node).copied()
    }

    pub(super) fn known(&self, node: &NodeId) -> Result<usize, TransportError> {
        self.number(node).ok_or_else(|| TransportError::UnknownNode { node: node.clone() })
    }

    /// Finds the way and, for a message that somebody is to answer, takes one of the places in flight.
    pub(super) fn depart(
        self: &Arc<Self>,
        from: &NodeId,
        to: &NodeId,
        subject: Option<Subject>,
    ) -> Result<Journey, TransportError> {
        let numbers = (self.known(from)?, self.known(to)?);
        // Before the way is looked up, so that no change after it is missed.
        let changes = self.roads.watch();
        let route = self.roads.network().route(numbers.0, numbers.1);
        let desk = &self.desks[numbers.1];
        let Some(route) = route.filter(|_| desk.handler(subject).is_some()) else {
            self.estimator.failed(from, to);
            return Err(TransportError::Unreachable { node: to.clone() });
        };
        if subject.is_some() {
            desk.take_place(self.in_flight).ok_or_else(|| TransportError::Overloaded { node: to.clone() })?;
        }
        let has_place = subject.is_some();
        Ok(Journey { fabric: Arc::clone(self), from: numbers.0, to: numbers.1, route, changes, has_place })
    }

    /// Measures one way; whether it is there.
    ///
    /// A probe that takes too long waits behind other messages, whose own times say what the way is like: it is
    /// no sign of a cut, which is noticed at once.
    pub(super) async fn probe(self: &Arc<Self>, from: &NodeId, to: &NodeId) -> bool {
        let measure = async {
            let mut journey = self.depart(from, to, None).ok()?;
            let (mut small, mut large) = journey.probe().await?;
            if !self.estimator.agrees(from, to, small, large) {
                // Of two probes the shorter times count: what waited behind other messages is no new way.
                let again = journey.probe().await?;
                small.1 = small.1.min(again.0.1);
                large = if large.0 == again.1.0 { (large.0, large.1.min(again.1.1)) } else { again.1 };
            }
            self.estimator.probed(from, to, small, large, self.clock.now());
            Some(())
        };
        tokio::select! {
            biased;
            done = measure => done.is_some(),
            () = self.clock.sleep(PROBE_PATIENCE) => true,
        }
    }
}

/// One message, and its answer, in flight.
pub(super) struct Journey {
    fabric: Arc<Joined>,
    from: usize,
    to: usize,
    route: Route,
    changes: watch::Receiver<u64>,
    has_place: bool,
}

#[derive(Clone, Copy)]
enum Way {
    There,
    Back,
}

impl Journey {
    pub(super) async fn ask(mut self, subject: Subject, request: Envelope) -> Result<Envelope, TransportError> {
        self.carry(Way::There, &request).await?;
        let answer = self.handled(subject, request).await?;
        self.carry(Way::Back, &answer).await?;
        Ok(answer)
    }

    pub(super) async fn tell(mut self, subject: Subject, message: Envelope) -> Result<(), TransportError> {
        self.carry(Way::There, &message).await?;
        self.handled(subject, message).await.map(drop)
    }

    /// Carries a message and learns from it about the way.
    async fn carry(&mut self, way: Way, message: &Envelope) -> Result<(), TransportError> {
        let (from, to) = match way {
            Way::There => (self.from, self.to),
            Way::Back => (self.to, self.from),
        };
        let fabric = Arc::clone(&self.fabric);
        let mut passage = UnderWay { fabric, from, to, size: message.size(), began: Began::new(), ended: false };
        let took = self.travel(way, passage.size, &passage.began).await;
        passage.ended = true;
        match took {
            Ok(took) => {
                let (from, to) = passage.ends();
                self.fabric.estimator.observe(from, to, passage.size, took, self.fabric.clock.now());
                Ok(())
            }
            Err(Lost) => Err(self.interrupted()),
        }
    }

    /// Two messages, a small one and a larger one, with the time that each took.
    async fn probe(&mut self) -> Option<((ByteSize, Duration), (ByteSize, Duration))> {
        let mut there = async |bytes| {
            let size = ByteSize::from_bytes(bytes);
            self.travel(Way::There, size, &Began::new()).await.ok().map(|took| (size, took))
        };
        let small = there(PROBES[0]).await?;
        let mut large = there(PROBES[1]).await?;
        if large.1.saturating_sub(small.1) < TELLING {
            large = there(PROBES[2]).await?;
        }
        Some((small, large))
    }

    async fn travel(&mut self, way: Way, size: ByteSize, began: &Began) -> Result<Duration, Lost> {
        let (roads, clock) = (&self.fabric.roads, &*self.fabric.clock);
        let hops = self.route.iter().copied();
        match way {
            Way::There => roads.travel(hops, size, clock, &mut self.changes, began).await,
            Way::Back => roads.travel(hops.rev().map(Hop::back), size, clock, &mut self.changes, began).await,
        }
    }

    /// Has the message handled on a task of its own, until the way is cut or the node is detached.
    async fn handled(&mut self, subject: Subject, message: Envelope) -> Result<Envelope, TransportError> {
        let desk = &self.fabric.desks[self.to];
        let Some((handler, dismissals)) = desk.handler(Some(subject)) else {
            self.fabric.estimator.failed(&self.fabric.desks[self.from].node, &desk.node);
            return Err(TransportError::Unreachable { node: desk.node.clone() });
        };
        let from = self.fabric.desks[self.from].node.clone();
        let mut task = Aborted(tokio::spawn(async move { handler.handle(&from, message).await }));
        loop {
            tokio::select! {
                biased;
                answer = &mut task.0 => return answer.map_err(|error| {
                    tracing::error!(%error, node = %desk.node, ?subject, "a handler panicked");
                    TransportError::Interrupted { node: desk.node.clone() }
                }),
                // The sender lives as long as `self`.
                _ = self.changes.changed() => {}
            }
            if !desk.is_staffed_since(dismissals) || !self.fabric.roads.network().is_intact(&self.route) {
                return Err(self.interrupted());
            }
        }
    }

    fn interrupted(&self) -> TransportError {
        let (from, to) = (&self.fabric.desks[self.from].node, &self.fabric.desks[self.to].node);
        self.fabric.estimator.failed(from, to);
        self.fabric.estimator.failed(to, from);
        TransportError::Interrupted { node: to.clone() }
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        if self.has_place {
            self.fabric.desks[self.to].leave_place();
        }
    }
}

/// A message that may be given up on its way, which tells something of the way as well.
struct UnderWay {
    fabric: Arc<Joined>,
    from: usize,
    to: usize,
    size: ByteSize,
    began: Began,
    ended: bool,
}

impl UnderWay {
    fn ends(&self) -> (&NodeId, &NodeId) {
        (&self.fabric.desks[self.from].node, &self.fabric.desks[self.to].node)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            let now = self.fabric.clock.now();
            let (from, to) = self.ends();
            self.fabric.estimator.overdue(from, to, self.size, self.began.elapsed(now), now);
        }
    }
}

/// A task that ends with whoever waits for it.
struct Aborted<T>(JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
