//! Emulated links: what a process says to the others goes through a relay that is as slow as the link would be.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use scf::core::{Bandwidth, Link};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};

/// Between camera and gateway, where the broker is too.
pub(crate) const ACCESS: Link = Link { latency: Duration::from_millis(3), bandwidth: Bandwidth::from_mbit_per_s(50) };
/// Between gateway and cloud.
pub(crate) const UPLINK: Link = Link { latency: Duration::from_millis(25), bandwidth: Bandwidth::from_mbit_per_s(20) };
/// Bytes that are sent at once.
const CHUNK: usize = 8 << 10;
/// Chunks that are on their way in one direction of a connection.
const ON_THE_WAY: usize = 64;

/// A link to one address. Both directions have the link's bandwidth, which all connections share.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A link to `to`.
    pub(crate) async fn start(to: SocketAddr, link: Link) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (up, down) = (Arc::new(Pacer::new(link)), Arc::new(Pacer::new(link)));
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (up, down) = (Arc::clone(&up), Arc::clone(&down));
                tokio::spawn(async move {
                    // Who connects to nobody is refused late, as over any relay.
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    if near.set_nodelay(true).is_ok() && far.set_nodelay(true).is_ok() {
                        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                        // A connection that breaks on one side breaks on the other.
                        tokio::select! {
                            () = carry(from_near, to_far, &up) => {}
                            () = carry(from_far, to_near, &down) => {}
                        }
                    }
                });
            }
        });
        Ok(Self { address, accepting })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One direction of a link.
struct Pacer {
    link: Link,
    free: Mutex<Instant>,
}

impl Pacer {
    fn new(link: Link) -> Self {
        Self { link, free: Mutex::new(Instant::now()) }
    }

    /// When `bytes` that are sent now have arrived.
    fn arrival(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / self.link.bandwidth.bits_per_s() as f64);
        *free = (*free).max(Instant::now()) + takes;
        *free + self.link.latency
    }
}

/// Carries what is read to where it is written until either ends.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, pacer: &Pacer) {
    let (send, mut sent) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let read = async move {
        loop {
            let mut chunk = vec![0; CHUNK];
            let Ok(1..) = from.read(&mut chunk).await.inspect(|&bytes| chunk.truncate(bytes)) else { return };
            if send.send((pacer.arrival(chunk.len()), chunk)).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some((at, chunk)) = sent.recv().await {
            tokio::time::sleep_until(at.into()).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
