//! Messages between a host and a worker, over a socket that keeps them apart.
//!
//! A message is, little-endian: magic `SCFL`; its number as `u64`, which the answer repeats; the hash of the rest as
//! `u64`; the rest in postcard. A file may go with it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::message::hash;

const MAGIC: [u8; 4] = *b"SCFL";
const HEAD: usize = 20;
/// Bytes of the longest message: the description of a network of some thousand blocks.
const MAX_MESSAGE: usize = 128 << 10;

/// Why no message came or went.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The other side is gone.
    Closed,
    /// None came in time.
    Late,
    /// What came is no message, for this part.
    Garbage(&'static str),
    /// It is longer than messages may be.
    TooLong,
    System(io::Error),
}

impl From<Errno> for LinkError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            Errno::AGAIN => Self::Late,
            other => Self::System(other.into()),
        }
    }
}

/// One side of the connection.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    /// Where messages arrive.
    buffer: Vec<u8>,
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Received<T> {
    pub(super) number: u64,
    pub(super) body: T,
    pub(super) file: Option<OwnedFd>,
}

impl Link {
    /// A connection, and the socket of its other side.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (here, there) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self::over(here), there))
    }

    /// This side of a connection that somebody else made.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self { socket, buffer: vec![0; MAX_MESSAGE + 1] }
    }

    pub(super) fn send<T: Serialize>(
        &self,
        number: u64,
        body: &T,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<(), LinkError> {
        let mut message = MAGIC.to_vec();
        message.extend_from_slice(&number.to_le_bytes());
        message.extend_from_slice(&[0; 8]);
        let mut message =
            postcard::to_extend(body, message).map_err(|error| LinkError::System(io::Error::other(error)))?;
        if message.len() > MAX_MESSAGE {
            return Err(LinkError::TooLong);
        }
        let sum = hash(&message[HEAD..]).to_le_bytes();
        message[HEAD - 8..HEAD].copy_from_slice(&sum);
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut files = SendAncillaryBuffer::new(&mut space);
        if let Some(file) = file.as_ref() {
            files.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(file)));
        }
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&message)], &mut files, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                sent => return sent.map(drop).map_err(Into::into),
            }
        }
    }

    /// The next message; waits for it at most until `until`, for ever where that is none.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, until: Option<Instant>) -> Result<Received<T>, LinkError> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut files = RecvAncillaryBuffer::new(&mut space);
        let came = loop {
            if let Some(until) = until {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(LinkError::Late);
                }
                // The system knows no finer time, and takes none for ever.
                set_socket_timeout(&self.socket, Timeout::Recv, Some(left.max(Duration::from_millis(1))))?;
            }
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut self.buffer)], &mut files, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if until.is_some_and(|until| Instant::now() < until) => {}
                came => break came?,
            }
        };
        let file = files.drain().find_map(|with| match with {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        if came.bytes == 0 {
            return Err(LinkError::Closed);
        }
        if came.flags.contains(ReturnFlags::TRUNC) || came.bytes > MAX_MESSAGE {
            return Err(LinkError::Garbage("length"));
        }
        let (number, body) = read(&self.buffer[..came.bytes])?;
        Ok(Received { number, body, file })
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read<T: DeserializeOwned>(message: &[u8]) -> Result<(u64, T), LinkError> {
    let (head, body) = message.split_first_chunk::<HEAD>().ok_or(LinkError::Garbage("length"))?;
    let (magic, head) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(LinkError::Garbage("magic"));
    }
    let (words, _) = head.as_chunks::<8>();
    let [number, sum] = [words[0], words[1]].map(u64::from_le_bytes);
    if hash(body) != sum {
        return Err(LinkError::Garbage("hash"));
    }
    match postcard::take_from_bytes(body) {
        Ok((body, [])) => Ok((number, body)),
        _ => Err(LinkError::Garbage("body")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair() -> (Link, Link) {
        let (here, there) = Link::pair().unwrap();
        (here, Link::over(there))
    }

    #[test]
    fn a_message_and_its_file_arrive_as_they_were_sent() {
        let (here, mut there) = pair();
        let file = super::super::memory::seal(b"file").unwrap();
        here.send(7, &("hello".to_owned(), 3u32), Some(file.as_fd())).unwrap();
        let Received { number, body, file } = there.receive::<(String, u32)>(None).unwrap();
        assert_eq!((number, body), (7, ("hello".to_owned(), 3)));
        assert_eq!(super::super::memory::map(file.unwrap().as_fd()).unwrap(), &b"file"[..]);
        drop(here);
        assert!(matches!(there.receive::<u32>(None), Err(LinkError::Closed)));
    }

    #[test]
    fn what_is_no_message_is_told_by_its_part() {
        let (here, mut there) = pair();
        let mut good = MAGIC.to_vec();
        good.extend_from_slice(&[0; 16]);
        let raw: [(&[u8], &str); 4] =
            [(b"short", "length"), (&[0; 40], "magic"), (&good, "hash"), (&vec![1; MAX_MESSAGE + 1], "length")];
        for (bytes, part) in raw {
            rustix::net::send(&here, bytes, SendFlags::NOSIGNAL).unwrap();
            match there.receive::<u64>(None) {
                Err(LinkError::Garbage(found)) => assert_eq!(found, part),
                other => panic!("{part}: {other:?}"),
            }
        }
        here.send(1, &"text", None).unwrap();
        assert!(matches!(there.receive::<(u64, u64)>(None), Err(LinkError::Garbage("body"))));
        assert!(matches!(here.send(1, &vec![1u8; MAX_MESSAGE], None), Err(LinkError::TooLong)));
    }

    #[test]
    fn who_says_nothing_is_late() {
        let (mut here, _there) = pair();
        let until = Instant::now() + Duration::from_millis(5);
        assert!(matches!(here.receive::<u64>(Some(until)), Err(LinkError::Late)));
        assert!(Instant::now() >= until);
    }
}
