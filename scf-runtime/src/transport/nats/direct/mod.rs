//! Connections between nodes beside the broker, for large bodies.

mod link;
mod listener;
mod message;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use scf_core::{ByteSize, NodeId, Timestamp};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use self::link::Peer;
pub(super) use self::{link::Exchanged, listener::listen};
use super::{
    NatsError,
    frame::{Key, Opened, secret},
    local::Local,
};

/// Bodies from so many bytes on go beside the broker.
const THRESHOLD: ByteSize = ByteSize::from_kib(64);
/// Connections to one node at the same time.
const LINKS: usize = 4;
/// Connections from others at the same time.
const GUESTS: usize = 256;
/// Bytes of bodies that are being received at the same time; who sends more waits.
const RECEIVING: ByteSize = ByteSize::from_mib(256);
/// How long a ticket is good for, and how long a connection may take to be made.
const OPENING: Duration = Duration::from_secs(5);
/// Tickets that were asked for and not used yet.
const TICKETS: usize = 1024;

/// How a process takes and sends large bodies over TCP connections of its own.
///
/// Two nodes agree on a connection through the broker: the one that listens tells its address and a ticket that lets
/// one connection in. Connections are kept for the next messages; each carries one message and its answer at a time,
/// held against XXH3 checksums, which guard against faults of the way and not against who owns it: that is for TLS. A
/// body that was announced through the broker is also held against its BLAKE3 hash. Where no connection can be made,
/// bodies go through the broker.
///
/// Without TLS the process listens and connects on the loopback alone, unless it is told that plaintext is allowed.
#[derive(Clone, Debug)]
#[must_use]
pub struct DataPlane {
    listen: SocketAddr,
    address: Option<String>,
    tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
    allows_plaintext: bool,
    threshold: ByteSize,
    links: usize,
}

impl DataPlane {
    /// Listens on `listen`; port 0 is a free one.
    pub const fn new(listen: SocketAddr) -> Self {
        Self { listen, address: None, tls: None, allows_plaintext: false, threshold: THRESHOLD, links: LINKS }
    }

    /// What others connect to, as `host:port`, where that is not what is listened on.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Encrypts connections. A node's certificate is for its name, as the DNS name `edge-1`; whether clients show one
    /// is for `server` to say.
    pub fn tls(mut self, server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Self {
        self.tls = Some((server, client));
        self
    }

    /// Lets bodies cross networks unencrypted, where something else protects them.
    pub const fn allow_plaintext(mut self) -> Self {
        self.allows_plaintext = true;
        self
    }

    /// Bodies from this size on go beside the broker; default 64 KiB.
    pub const fn threshold(mut self, body: ByteSize) -> Self {
        self.threshold = body;
        self
    }

    /// Connections to one node at the same time, at least 1; who finds none free waits. Default 4.
    pub const fn links(mut self, links: usize) -> Self {
        self.links = links;
        self
    }
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The data plane of a process.
pub(super) struct Direct {
    plane: DataPlane,
    /// What others connect to.
    address: String,
    tickets: Mutex<HashMap<Key, Ticket>>,
    peers: Mutex<HashMap<(NodeId, NodeId), Arc<Peer>>>,
    guests: Arc<Semaphore>,
    /// In KiB.
    receiving: Semaphore,
}

/// Who may connect to whom, once.
struct Ticket {
    from: NodeId,
    to: Arc<Local>,
    until: Timestamp,
}

impl Direct {
    /// Begins to listen.
    pub(super) async fn bind(plane: DataPlane) -> Result<(Self, TcpListener), NatsError> {
        let listen = plane.listen;
        if plane.tls.is_none() && !plane.allows_plaintext && !listen.ip().is_loopback() {
            return Err(NatsError::Plaintext { address: listen });
        }
        let failed = |source| NatsError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let direct = Self {
            address: plane.address.clone().unwrap_or_else(|| bound.to_string()),
            plane,
            tickets: Mutex::default(),
            peers: Mutex::default(),
            guests: Arc::new(Semaphore::new(GUESTS)),
            receiving: Semaphore::new(kib(RECEIVING.bytes()) as usize),
        };
        Ok((direct, listener))
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether a body goes beside the broker, if a connection can be made.
    pub(super) const fn takes(&self, body: usize) -> bool {
        body as u64 >= self.plane.threshold.bytes()
    }

    /// Lets one connection from `from` to `to` in; `None` while too many that were let in have not come.
    pub(super) fn admit(&self, from: NodeId, to: &Arc<Local>, now: Timestamp) -> Option<Opened> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= TICKETS {
            tickets.retain(|_, ticket| ticket.until > now);
        }
        if tickets.len() >= TICKETS {
            return None;
        }
        let ticket = secret();
        tickets.insert(ticket, Ticket { from, to: Arc::clone(to), until: now + OPENING });
        Some(Opened { address: self.address.clone(), ticket, is_encrypted: self.plane.tls.is_some() })
    }

    /// A node is not there any more: what is under way to it is interrupted.
    pub(super) fn lose(&self, node: &NodeId) {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().filter(|((_, to), _)| to == node).for_each(|(_, peer)| peer.lose());
    }

    fn redeem(&self, ticket: &Key, now: Timestamp) -> Option<Ticket> {
        let ticket = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)?;
        (ticket.until > now).then_some(ticket)
    }

    fn peer(&self, from: &NodeId, to: &NodeId) -> Arc<Peer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let way = (from.clone(), to.clone());
        Arc::clone(peers.entry(way).or_insert_with(|| Arc::new(Peer::new(self.plane.links.max(1)))))
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Direct").field("address", &self.address).finish_non_exhaustive()
    }
}
