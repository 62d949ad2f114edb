//! Connections that others make.

use std::{io, sync::Arc};

use scf_core::{Clock, Envelope, NodeId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    Direct, OPENING, Stream, Ticket,
    message::{self, Message},
};
use crate::transport::nats::{
    frame::{Body, Key, Order, Reply, head, read_head},
    joined::Joined,
};

/// What is said to a connection that was let in.
pub(super) const WELCOME: u8 = 1;
/// How long accepting rests after it failed, which it does while the process has no file descriptors.
const REST: std::time::Duration = std::time::Duration::from_millis(100);

/// Lets connections in until it is dropped, with all of them.
pub(in super::super) async fn listen(joined: Arc<Joined>, direct: Arc<Direct>, listener: TcpListener) {
    let mut guests = JoinSet::new();
    loop {
        while guests.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&direct.guests).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection could be accepted");
                joined.clock.sleep(REST).await;
                continue;
            }
        };
        let (joined, direct) = (Arc::clone(&joined), Arc::clone(&direct));
        guests.spawn(async move {
            let _place = place;
            let opened = tokio::select! {
                opened = open(&direct, &*joined.clock, stream) => opened,
                () = joined.clock.sleep(OPENING) => Err(io::ErrorKind::TimedOut.into()),
            };
            let ended = match opened {
                Ok((stream, ticket)) => serve(&joined, &direct, stream, &ticket).await,
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// Asks a connection for its ticket.
async fn open(direct: &Direct, clock: &dyn Clock, stream: TcpStream) -> io::Result<(Box<dyn Stream>, Ticket)> {
    stream.set_nodelay(true)?;
    let mut stream: Box<dyn Stream> = match &direct.plane.tls {
        Some((server, _)) => Box::new(TlsAcceptor::from(Arc::clone(server)).accept(stream).await?),
        None => Box::new(stream),
    };
    let mut ticket = Key::default();
    stream.read_exact(&mut ticket).await?;
    let ticket = direct.redeem(&ticket, clock.now()).ok_or(io::ErrorKind::PermissionDenied)?;
    stream.write_all(&[WELCOME]).await?;
    stream.flush().await?;
    Ok((stream, ticket))
}

/// Answers one message after the other until the connection ends.
async fn serve(joined: &Arc<Joined>, direct: &Direct, mut stream: Box<dyn Stream>, ticket: &Ticket) -> io::Result<()> {
    while let Some(message) = message::read(&mut *stream, joined.largest.bytes(), &direct.receiving, None).await? {
        let Message { head: order, body } = message;
        let (reply, body) = match read_head(&order) {
            Some(Order::Ask { subject, patience, head, .. }) => match ticket.to.admit(joined.id_here(), subject) {
                Ok(admitted) => {
                    let message = async { Ok(Envelope { head, body }) };
                    let answer = admitted.answer(&ticket.from, message, &*joined.clock, patience);
                    tokio::select! {
                        biased;
                        answer = answer => match answer {
                            Ok(Envelope { head, body }) => (Reply::Answer { head, body: Body::Here }, body),
                            Err(reply) => (reply, Default::default()),
                        },
                        // Who asks says nothing more until it is answered: it has gone.
                        _ = stream.read_u8() => return Ok(()),
                    }
                }
                Err(refused) => (refused, Default::default()),
            },
            Some(Order::Take { key }) => match joined.shelf.part(&key, 0, usize::MAX) {
                Some(body) => (Reply::Follows, body),
                None => (Reply::Gone, Default::default()),
            },
            Some(Order::Echo) => (Reply::Follows, body),
            _ => return Err(refused(&ticket.from)),
        };
        message::write(&mut *stream, &head(&reply), &body).await?;
    }
    Ok(())
}

fn refused(from: &NodeId) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{from} asked for what is not done on connections"))
}
