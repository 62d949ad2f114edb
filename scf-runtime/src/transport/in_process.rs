//! A transport between nodes of one process over emulated links.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use scf_core::{Clock, Envelope, Handler, Link, NodeId, Path, Subject, Transport, TransportError};

use super::{
    desk::Desk,
    estimate::PathEstimator,
    journey::Joined,
    link::{LinkError, LinkState, Traffic},
    network::Network,
    travel::Roads,
};

/// Messages that a node handles, or that are on their way to it, at the same time; more are refused.
const IN_FLIGHT: usize = 1024;

/// Joins nodes of this process over links of given latency and bandwidth.
///
/// - Between nodes without a link of their own, messages go over the chain of links with the least latency,
///   the answer back over the same one. Each link has a message whole before the next begins to send it.
/// - Each direction of a link sends one message after the other, in order; a message takes its size by the
///   bandwidth, then the latency. [`InProcess::set_link`] changes either at any time, also under messages.
/// - Messages on a link that is cut are lost. What a caller gave up was sent all the same.
/// - Bodies are passed on, not copied. Messages within a node take no time.
/// - A node that is detached answers nothing, but messages to others still pass through it.
///
/// Requests are handled on tasks of their own, of the tokio runtime of the caller.
pub struct InProcess {
    fabric: Arc<Joined>,
}

/// Describes the links of an [`InProcess`].
#[derive(Debug)]
#[must_use]
pub struct InProcessBuilder {
    nodes: Vec<NodeId>,
    links: Vec<(NodeId, NodeId, LinkState)>,
    in_flight: usize,
}

impl InProcessBuilder {
    /// Adds a node; not needed for one that a link leads to.
    pub fn node(mut self, node: NodeId) -> Self {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
        self
    }

    /// Joins two nodes, the same way in both directions; the last description of a pair counts.
    pub fn link(self, a: NodeId, b: NodeId, link: Link) -> Self {
        let mut with_ends = self.node(a.clone()).node(b.clone());
        with_ends.links.push((a, b, LinkState::Shaped(link)));
        with_ends
    }

    /// Messages that each node handles, or that are on their way to it, at the same time; default 1024.
    pub const fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages;
        self
    }

    /// Builds the links, on which time passes as `clock` says.
    ///
    /// # Errors
    /// [`LinkError`] naming a link that cannot be.
    pub fn build(self, clock: Arc<dyn Clock>) -> Result<InProcess, LinkError> {
        let nodes: Arc<[NodeId]> = self.nodes.into();
        let numbers: HashMap<_, _> = nodes.iter().cloned().enumerate().map(|(number, id)| (id, number)).collect();
        let mut network = Network::new(Arc::clone(&nodes));
        for (a, b, state) in self.links {
            network.set(numbers[&a], numbers[&b], state, clock.now())?;
        }
        let desks = nodes.iter().cloned().map(Desk::new).collect();
        let roads = Roads::new(network);
        let estimator = PathEstimator::new();
        Ok(InProcess {
            fabric: Arc::new(Joined { clock, numbers, desks, roads, estimator, in_flight: self.in_flight }),
        })
    }
}

impl InProcess {
    /// No nodes yet.
    pub const fn builder() -> InProcessBuilder {
        InProcessBuilder { nodes: Vec::new(), links: Vec::new(), in_flight: IN_FLIGHT }
    }

    /// Changes the link between two nodes, or adds one. What is on its way is sped up, slowed down or lost.
    ///
    /// # Errors
    /// [`LinkError`]; nothing is changed then.
    pub fn set_link(&self, a: &NodeId, b: &NodeId, state: LinkState) -> Result<(), LinkError> {
        let number =
            |node: &NodeId| self.fabric.number(node).ok_or_else(|| LinkError::UnknownNode { node: node.clone() });
        let (a, b) = (number(a)?, number(b)?);
        self.fabric.roads.network().set(a, b, state, self.fabric.clock.now())?;
        self.fabric.roads.changed();
        Ok(())
    }

    /// What each direction of each link has carried, in the order in which the links were described.
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        self.fabric.roads.network().traffic()
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("nodes", &self.fabric.numbers.len()).finish_non_exhaustive()
    }
}

impl Drop for InProcess {
    /// Ends what is still being handled.
    fn drop(&mut self) {
        for desk in &self.fabric.desks {
            desk.clear();
        }
        self.fabric.roads.changed();
    }
}

#[async_trait]
impl Transport for InProcess {
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        let number = self.fabric.known(node)?;
        self.fabric.desks[number].staff_with(subject, handler);
        Ok(())
    }

    fn detach(&self, node: &NodeId) {
        if let Some(number) = self.fabric.number(node) {
            self.fabric.desks[number].clear();
            self.fabric.roads.changed();
        }
    }

    async fn request(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        request: Envelope,
        patience: Duration,
    ) -> Result<Envelope, TransportError> {
        let journey = self.fabric.depart(from, to, Some(subject))?;
        tokio::select! {
            biased;
            answer = journey.ask(subject, request) => answer,
            () = self.fabric.clock.sleep(patience) => Err(TransportError::TimedOut { node: to.clone(), patience }),
        }
    }

    async fn send(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        message: Envelope,
    ) -> Result<(), TransportError> {
        let journey = self.fabric.depart(from, to, Some(subject))?;
        tokio::spawn(async move {
            if let Err(error) = journey.tell(subject, message).await {
                tracing::debug!(%error, "a one-way message was lost");
            }
        });
        Ok(())
    }

    async fn probe(&self, node: &NodeId) {
        // One after the other: probes at the same time would measure each other.
        for desk in &self.fabric.desks {
            if desk.node != *node && !self.fabric.probe(node, &desk.node).await {
                self.fabric.estimator.failed(node, &desk.node);
            }
        }
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        self.fabric.estimator.path(from, to)
    }

    fn hops(&self, from: &NodeId, to: &NodeId) -> Option<usize> {
        let (from, to) = (self.fabric.number(from)?, self.fabric.number(to)?);
        self.fabric.roads.network().route(from, to).map(|route| route.len())
    }
}
