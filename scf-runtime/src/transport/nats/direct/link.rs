//! Connections to others, kept for the next messages.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use scf_core::{NodeId, Timestamp, TransportError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, Semaphore},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    Direct, OPENING, Stream,
    listener::WELCOME,
    message::{self, Message},
};
use crate::transport::nats::{
    frame::{Hash, Opened, Order, Reply, head, read_head},
    joined::Joined,
};

/// How long a node to which no connection could be made is not tried again.
const NO_ROUTE: Duration = Duration::from_secs(5);

/// The connections from a node of this process to one of another.
pub(super) struct Peer {
    /// One for every connection that may be in use.
    places: Semaphore,
    idle: Mutex<Vec<Box<dyn Stream>>>,
    /// Told when the node is not there any more.
    lost: Notify,
    /// Until when there is no route, in nanoseconds of the clock.
    closed_until: AtomicU64,
}

impl Peer {
    pub(super) fn new(links: usize) -> Self {
        let closed_until = AtomicU64::new(0);
        Self { places: Semaphore::new(links), idle: Mutex::default(), lost: Notify::new(), closed_until }
    }

    /// Interrupts what is under way, and keeps no connection.
    pub(super) fn lose(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
        self.lost.notify_waiters();
    }

    /// A connection that is kept and still open.
    fn take(&self) -> Option<Box<dyn Stream>> {
        loop {
            let mut stream = self.idle().pop()?;
            // Nobody says anything on it unasked: what is ready is its end.
            if stream.read(&mut [0]).now_or_never().is_none() {
                return Some(stream);
            }
        }
    }

    fn put(&self, stream: Box<dyn Stream>) {
        self.idle().push(stream);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Stream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came back on a connection.
pub(in super::super) struct Exchanged {
    pub(in super::super) reply: Reply,
    pub(in super::super) body: Bytes,
    /// BLAKE3 of the body, of what was kept to be taken.
    pub(in super::super) hash: Option<Hash>,
}

impl Direct {
    /// Sends `order` over a connection and waits for what it comes to; `None` where no connection can be made, and
    /// nothing was handled.
    pub(in super::super) async fn exchange(
        &self,
        joined: &Arc<Joined>,
        from: &NodeId,
        to: &NodeId,
        order: &Order,
        body: &[u8],
    ) -> Result<Option<Exchanged>, TransportError> {
        let peer = self.peer(from, to);
        if joined.clock.now() < Timestamp::from_nanos(peer.closed_until.load(Relaxed)) {
            return Ok(None);
        }
        let Ok(_place) = peer.places.acquire().await else { return Ok(None) };
        let has_digest = matches!(order, Order::Take { .. });
        let order = head(order);
        let mut kept = peer.take();
        loop {
            let is_kept = kept.is_some();
            let opened = match kept.take() {
                Some(stream) => Ok(stream),
                None => self.connect(joined, from, to).await,
            };
            let sent = match opened {
                Ok(mut stream) => message::write(&mut *stream, &order, body).await.map(|()| stream),
                Err(error) => Err(error),
            };
            match sent {
                Ok(mut stream) => {
                    let broken = |error: Option<io::Error>| {
                        tracing::debug!(?error, %to, "a connection broke before the answer came");
                        TransportError::Interrupted { node: to.clone() }
                    };
                    let mut digest = has_digest.then(blake3::Hasher::new);
                    let (largest, receiving) = (joined.largest.bytes(), &self.receiving);
                    let answer = tokio::select! {
                        biased;
                        answer = message::read(&mut *stream, largest, receiving, digest.as_mut()) => answer,
                        () = peer.lost.notified() => Err(io::ErrorKind::ConnectionAborted.into()),
                    };
                    let answer = answer.map_err(|error| broken(Some(error)))?;
                    let Message { head, body } = answer.ok_or_else(|| broken(None))?;
                    let reply = read_head(&head).ok_or_else(|| broken(None))?;
                    peer.put(stream);
                    let hash = digest.map(|digest| *digest.finalize().as_bytes());
                    return Ok(Some(Exchanged { reply, body, hash }));
                }
                // A message that did not leave whole was not handled; the node may have been started anew.
                Err(_) if is_kept => peer.idle().clear(),
                Err(error) => {
                    tracing::debug!(%error, %to, "no connection beside the broker");
                    peer.closed_until.store((joined.clock.now() + NO_ROUTE).nanos(), Relaxed);
                    return Ok(None);
                }
            }
        }
    }

    /// Has `to` let a connection in, and makes it.
    async fn connect(&self, joined: &Arc<Joined>, from: &NodeId, to: &NodeId) -> io::Result<Box<dyn Stream>> {
        let ask = Order::Open { from: from.clone() };
        let (reply, _) = joined.post.order(to, &ask, &[]).await.map_err(io::Error::other)?;
        let Reply::Opened(opened) = reply else { return Err(io::ErrorKind::Unsupported.into()) };
        tokio::select! {
            stream = self.enter(to, &opened) => stream,
            () = joined.clock.sleep(OPENING) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn enter(&self, to: &NodeId, opened: &Opened) -> io::Result<Box<dyn Stream>> {
        let is_loopback = || opened.address.parse().is_ok_and(|address: SocketAddr| address.ip().is_loopback());
        let is_allowed = match self.plane.tls {
            Some(_) => opened.is_encrypted,
            None => !opened.is_encrypted && (self.plane.allows_plaintext || is_loopback()),
        };
        if !is_allowed {
            tracing::warn!(%to, address = opened.address, "one side encrypts connections or must, and the other does not");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let stream = TcpStream::connect(&opened.address).await?;
        stream.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &self.plane.tls {
            Some((_, client)) => {
                let name = ServerName::try_from(to.as_str().to_owned()).map_err(io::Error::other)?;
                Box::new(TlsConnector::from(Arc::clone(client)).connect(name, stream).await?)
            }
            None => Box::new(stream),
        };
        stream.write_all(&opened.ticket).await?;
        stream.flush().await?;
        match stream.read_u8().await? {
            WELCOME => Ok(stream),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
