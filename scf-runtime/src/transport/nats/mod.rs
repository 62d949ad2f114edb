//! A transport between processes, over a NATS server.

mod admission;
mod beat;
mod direct;
mod frame;
mod joined;
mod local;
mod post;
mod roster;
mod shelf;
mod subject;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
    time::Duration,
};

use async_nats::Client;
use async_trait::async_trait;
use scf_core::{ByteSize, Clock, Envelope, Handler, Name, NodeId, Path, Subject, Transport, TransportError};
use thiserror::Error;
use tokio::{sync::watch, task::JoinHandle};

pub use self::{admission::Standing, direct::DataPlane, roster::Presence};
use self::{
    admission::{admit, admit_later},
    direct::Direct,
    joined::{Joined, TOLD},
    local::Local,
    post::Post,
    shelf::Shelf,
    subject::Subjects,
};
use super::PathEstimator;
use crate::clock::SystemClock;

/// What nodes tell each other of themselves.
pub(crate) mod fleet {
    pub(crate) use super::{
        beat::{Beat, Life, Status},
        roster::{BEAT, News, Roster, SUSPECTED},
    };
}

/// Messages that a node handles at the same time; more are refused.
const IN_FLIGHT: usize = 1024;
/// Bytes of bodies that wait to be fetched by others.
const SHELF: ByteSize = ByteSize::from_mib(256);
/// Largest body that is taken from others.
const LARGEST: ByteSize = ByteSize::from_mib(1024);

/// Joins the nodes of this process to those of others that are connected to the same NATS server, or to servers that
/// are connected to each other.
///
/// - A message is one of the broker's where it fits; what is larger is fetched in parts, a few at a time, and held
///   against its BLAKE3 hash. With a [`DataPlane`], large bodies go over connections beside the broker where one can be
///   made.
/// - A node that nobody runs is unreachable at once: the broker says that nobody listens.
/// - The handler of a caller that gives up is dropped, on the node where it runs; so is one whose caller's patience is
///   over, where nothing could be said.
/// - Nothing is sent twice. What may have been handled is said to be interrupted or late, and who knows that it may be
///   repeated does so.
///
/// Names of nodes and prefix are the only parts of subjects. Dropping it ends what it started.
pub struct Nats {
    joined: Arc<Joined>,
    tasks: Vec<JoinHandle<()>>,
    standing: watch::Receiver<Standing>,
}

/// Describes the part of a fleet that a process is.
#[derive(Debug)]
#[must_use = "a builder does nothing until join is called"]
pub struct NatsBuilder {
    client: Client,
    prefix: Name,
    nodes: Vec<NodeId>,
    peers: Vec<NodeId>,
    in_flight: usize,
    shelf: ByteSize,
    largest: ByteSize,
    plane: Option<DataPlane>,
    allows_plaintext: bool,
    clock: Option<Arc<dyn Clock>>,
}

/// Why a process did not join.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The process has no node to join with.
    #[error("no node joins: name at least one with NatsBuilder::node")]
    NoNode,
    /// The client has not reached its broker yet, of which nothing is known then.
    #[error("the client is not connected to its broker: wait until it is, or call join_in_background")]
    Disconnected,
    /// What is said to the broker crosses a network unencrypted.
    #[error("the broker {server} is on another machine and does not ask for TLS: let it, or allow plaintext")]
    PlaintextBroker {
        /// Its name.
        server: String,
    },
    /// The data plane would carry bodies unencrypted over a network.
    #[error("the data plane would listen on {address} without TLS: give it certificates or allow plaintext")]
    Plaintext {
        /// Where it would listen.
        address: SocketAddr,
    },
    /// The data plane could not listen.
    #[error("the data plane can not listen on {address}")]
    Listen {
        /// Where it would listen.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The broker's client takes no subscriptions.
    #[error("the subjects of node {node} could not be subscribed to")]
    Subscribe {
        /// The node.
        node: NodeId,
        /// What the client says.
        #[source]
        source: async_nats::SubscribeError,
    },
    /// A node does not get the messages that are for it: its account may lack the permission.
    #[error("the broker does not deliver what is for a node")]
    Unconfirmed {
        /// What became of a message to the node itself.
        #[source]
        source: TransportError,
    },
}

impl NatsBuilder {
    /// Keeps fabrics apart that share an account of a broker; default `scf`.
    pub fn prefix(mut self, prefix: Name) -> Self {
        self.prefix = prefix;
        self
    }

    /// Adds a node of this process; at least one.
    pub fn node(mut self, node: NodeId) -> Self {
        if !self.nodes.contains(&node) {
            self.nodes.push(node);
        }
        self
    }

    /// Names a node of another process, the way to which is measured. Not needed for one that says itself that it
    /// is there.
    pub fn peer(mut self, node: NodeId) -> Self {
        self.peers.push(node);
        self
    }

    /// Messages that each node handles at the same time; default 1024.
    pub const fn in_flight(mut self, messages: usize) -> Self {
        self.in_flight = messages;
        self
    }

    /// Bytes of bodies, too large for one message, that wait to be fetched by others; default 256 MiB. A message that
    /// finds no room is refused as [`TransportError::Overloaded`].
    pub const fn shelf(mut self, room: ByteSize) -> Self {
        self.shelf = room;
        self
    }

    /// Largest body that is taken from others; default 1 GiB.
    pub const fn largest(mut self, body: ByteSize) -> Self {
        self.largest = body;
        self
    }

    /// Lets large bodies go beside the broker. Default: all go through it.
    pub fn data_plane(mut self, plane: DataPlane) -> Self {
        self.plane = Some(plane);
        self
    }

    /// Lets messages go to a broker on another machine that does not ask for TLS, where something else protects them or
    /// the client was told to encrypt them all the same. Default: such a broker is refused.
    pub const fn allow_plaintext(mut self) -> Self {
        self.allows_plaintext = true;
        self
    }

    /// Where time comes from. Default: the machine's monotonic clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Subscribes to the messages for the nodes; they arrive from now on.
    ///
    /// # Errors
    /// [`NatsError`] naming what is missing.
    pub async fn join(self) -> Result<Nats, NatsError> {
        let allows_plaintext = self.allows_plaintext;
        let (joined, mut tasks) = self.open().await?;
        let serving = match admit(&joined, allows_plaintext).await {
            Ok(serving) => serving,
            Err(error) => {
                tasks.iter().for_each(JoinHandle::abort);
                return Err(error);
            }
        };
        tasks.push(tokio::spawn(async move { drop(serving.join_all().await) }));
        Ok(Nats { joined, tasks, standing: watch::channel(Standing::Joined).1 })
    }

    /// Does not wait for the broker: the process joins when a client that [retries at
    /// first](async_nats::ConnectOptions::retry_on_initial_connect) has reached one that will do. Until then nobody of
    /// another process is reachable, nothing is said to the broker, and [`Nats::standing`] says why.
    ///
    /// # Errors
    /// [`NatsError`] naming what is missing here: no node, or no place for the data plane.
    pub async fn join_in_background(self) -> Result<Nats, NatsError> {
        let allows_plaintext = self.allows_plaintext;
        let (joined, mut tasks) = self.open().await?;
        joined.post.set_heard(false);
        let (says, standing) = watch::channel(Standing::NotJoined { why: None });
        tasks.push(tokio::spawn(admit_later(Arc::clone(&joined), allows_plaintext, says)));
        Ok(Nats { joined, tasks, standing })
    }

    /// What messages go through, and the data plane; nothing is said to the broker yet.
    async fn open(self) -> Result<(Arc<Joined>, Vec<JoinHandle<()>>), NatsError> {
        if self.nodes.is_empty() {
            return Err(NatsError::NoNode);
        }
        let bound = match self.plane {
            Some(plane) => Some(Direct::bind(plane).await?),
            None => None,
        };
        let (direct, listener) = bound.map(|(direct, listener)| (Arc::new(direct), listener)).unzip();
        let post = Arc::new(Post::new(self.client, Subjects::new(self.prefix)));
        let local = |node: &NodeId| (node.clone(), Arc::new(Local::new(node.clone(), self.in_flight)));
        let joined = Arc::new(Joined {
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            post,
            locals: self.nodes.iter().map(local).collect::<HashMap<_, _>>(),
            shelf: Arc::new(Shelf::new(self.shelf)),
            largest: self.largest,
            estimator: PathEstimator::new(),
            peers: RwLock::new(self.peers.into_iter().filter(|peer| !self.nodes.contains(peer)).collect()),
            direct: direct.clone(),
            next_here: AtomicU64::new(0),
        });
        let listening = direct.zip(listener);
        let listening = listening.map(|(direct, listener)| direct::listen(Arc::clone(&joined), direct, listener));
        Ok((joined, listening.map(tokio::spawn).into_iter().collect()))
    }
}

impl Nats {
    /// Over the connection of `client`. Its timeouts do not matter here, its limits do: the broker's `max_payload`
    /// decides what is one message. How soon the node is there again when the broker is back is its
    /// `reconnect_delay_callback`'s, which by default lets it try every four seconds in the end.
    pub fn builder(client: Client) -> NatsBuilder {
        NatsBuilder {
            client,
            prefix: prefix(),
            nodes: Vec::new(),
            peers: Vec::new(),
            in_flight: IN_FLIGHT,
            shelf: SHELF,
            largest: LARGEST,
            plane: None,
            allows_plaintext: false,
            clock: None,
        }
    }
}

impl Nats {
    /// Whether this process has joined the others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Returns once this process has joined the others.
    pub async fn joined(&self) {
        // It fails when what would join is gone, and that is when this is.
        let _ = self.standing.clone().wait_for(Standing::is_joined).await;
    }

    /// What all nodes of the fleet say to all.
    pub(crate) async fn hear(&self) -> Result<async_nats::Subscriber, async_nats::SubscribeError> {
        self.joined.post.client().subscribe(self.joined.post.subjects().beats()).await
    }

    /// Says something to all nodes of the fleet.
    pub(crate) fn say(&self, beat: &fleet::Beat) {
        self.joined.post.say(frame::head(beat).into());
    }

    /// Whether the broker can be talked to.
    pub(crate) fn is_connected(&self) -> bool {
        self.joined.post.is_connected()
    }

    /// Notes whether what is said to the broker is heard there: where it is not, nobody can be reached.
    pub(crate) fn set_heard(&self, is_heard: bool) {
        self.joined.post.set_heard(is_heard);
    }

    /// Gives up the connection to the broker and makes another one; whether there was one.
    pub(crate) fn connect_anew(&self) -> bool {
        self.joined.post.connect_anew()
    }

    /// Where the data plane of this process is.
    pub(crate) fn plane(&self) -> Option<&str> {
        self.joined.direct.as_ref().map(|direct| direct.address())
    }

    /// A node of another process is there: the way to it is measured from now on.
    pub(crate) fn know(&self, node: &NodeId) {
        self.joined.peers.write().unwrap_or_else(PoisonError::into_inner).insert(node.clone());
    }

    /// A node is not there any more: what it was asked is interrupted.
    pub(crate) fn lose(&self, node: &NodeId) {
        self.joined.peers.write().unwrap_or_else(PoisonError::into_inner).remove(node);
        self.joined.locals.keys().for_each(|from| self.joined.estimator.failed(from, node));
        self.joined.post.lose(node);
        self.joined.direct.iter().for_each(|direct| direct.lose(node));
    }
}

/// Of subjects, where none is given.
fn prefix() -> Name {
    Name::new("scf").expect("the literal is a name")
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.joined.locals.keys().collect();
        f.debug_struct("Nats").field("nodes", &nodes).field("post", &self.joined.post).finish_non_exhaustive()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.joined.locals.values().for_each(|local| local.clear());
    }
}

#[async_trait]
impl Transport for Nats {
    fn attach(&self, node: &NodeId, subject: Subject, handler: Arc<dyn Handler>) -> Result<(), TransportError> {
        self.joined.local(node)?.desk.staff_with(subject, handler);
        Ok(())
    }

    fn detach(&self, node: &NodeId) {
        if let Ok(local) = self.joined.local(node) {
            local.clear();
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
        self.joined.local(from)?;
        let result = tokio::select! {
            biased;
            answer = self.joined.ask(from, to, subject, request, patience) => answer,
            () = self.joined.clock.sleep(patience) => Err(TransportError::TimedOut { node: to.clone(), patience }),
        };
        if let Err(TransportError::Unreachable { .. } | TransportError::Interrupted { .. }) = &result {
            self.joined.estimator.failed(from, to);
        }
        result
    }

    async fn send(
        &self,
        from: &NodeId,
        to: &NodeId,
        subject: Subject,
        message: Envelope,
    ) -> Result<(), TransportError> {
        self.joined.local(from)?;
        tokio::select! {
            biased;
            told = self.joined.tell(from, to, subject, message) => told,
            () = self.joined.clock.sleep(TOLD) => Err(TransportError::TimedOut { node: to.clone(), patience: TOLD }),
        }
    }

    async fn probe(&self, node: &NodeId) {
        // One after the other: probes at the same time would measure each other.
        for peer in self.joined.peers() {
            if !self.joined.probe(node, &peer).await {
                self.joined.estimator.failed(node, &peer);
            }
        }
    }

    fn path(&self, from: &NodeId, to: &NodeId) -> Option<Path> {
        let is_here = |node| self.joined.locals.contains_key(node);
        // Between nodes of one process messages are not sent.
        if is_here(from) && is_here(to) { Some(Path::HERE) } else { self.joined.estimator.path(from, to) }
    }
}
