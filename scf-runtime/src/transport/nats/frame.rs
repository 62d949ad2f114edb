//! What nodes of different processes write to each other.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use scf_core::{NodeId, Subject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What one node asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// Answer a message.
    Ask {
        from: NodeId,
        subject: Subject,
        patience: Duration,
        head: Bytes,
        body: Body,
        /// Whether a large answer is rather fetched over a connection.
        has_plane: bool,
    },
    /// Take a message and say so.
    Tell { from: NodeId, subject: Subject, head: Bytes, body: Body },
    /// Stop answering what was asked.
    Cancel { of: CallId },
    /// Give a part of a body that is kept to be fetched.
    Part { key: Key, offset: u64, length: u32 },
    /// Give the whole of a body that is kept to be fetched.
    Take { key: Key },
    /// Give back what follows: a probe.
    Echo,
    /// Let a connection in.
    Open { from: NodeId },
}

/// One message that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct CallId {
    /// Of the process that sent it.
    pub(super) session: u64,
    pub(super) call: u64,
}

/// Where the body of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// Behind the head.
    Here,
    /// With who sent the message, to be fetched in parts.
    Kept(Kept),
}

/// A body that waits to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) size: u64,
    /// BLAKE3 of all of it.
    pub(super) hash: Hash,
}

/// What a kept body is asked for by, and what opens a connection: nobody guesses it.
pub(super) type Key = [u8; 16];
pub(super) type Hash = [u8; 32];

/// What an [`Order`] comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The handler's answer.
    Answer { head: Bytes, body: Body },
    /// The message was taken.
    Taken,
    /// What was asked for follows.
    Follows,
    /// A connection is let in.
    Opened(Opened),
    /// Nobody answers this subject here.
    Unstaffed,
    /// Too many messages are being handled.
    Overloaded,
    /// What was being handled was given up.
    Interrupted,
    /// The caller's patience is over.
    Late,
    /// What was asked for is not here, or not any more.
    Gone,
}

/// Where a node listens, and the ticket of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) address: String,
    pub(super) ticket: Key,
    pub(super) is_encrypted: bool,
}

/// A head alone.
pub(super) fn head<T: Serialize>(head: &T) -> Vec<u8> {
    postcard::to_stdvec(head).expect("what is sent can be encoded")
}

/// What [`head`] made; `None` when it is none of ours.
pub(super) fn read_head<T: DeserializeOwned>(head: &[u8]) -> Option<T> {
    postcard::from_bytes(head).ok()
}

/// A head and what follows it as one message of the broker.
pub(super) fn encode<T: Serialize>(order: &T, body: &[u8]) -> Bytes {
    let head = head(order);
    let mut frame = BytesMut::with_capacity(4 + head.len() + body.len());
    frame.put_u32_le(u32::try_from(head.len()).expect("a head is shorter than 4 GiB"));
    frame.put_slice(&head);
    frame.put_slice(body);
    frame.freeze()
}

/// The head, and what follows it uncopied; `None` when it is no message of ours.
pub(super) fn decode<T: DeserializeOwned>(mut frame: Bytes) -> Option<(T, Bytes)> {
    let length = u32::from_le_bytes(frame.get(..4)?.try_into().ok()?) as usize;
    let head = read_head(frame.get(4..4 + length)?)?;
    Some((head, frame.split_off(4 + length)))
}

/// Random bits that nobody guesses.
pub(super) fn secret<const N: usize>() -> [u8; N] {
    let mut bits = [0; N];
    getrandom::fill(&mut bits).expect("the operating system gives random numbers");
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_crosses_whole_and_its_body_is_not_copied_out() {
        let kept = Kept { key: secret(), size: 1 << 40, hash: secret() };
        let from = NodeId::new("edge-1").unwrap();
        let patience = Duration::from_millis(7);
        let head = Bytes::from_static(b"head");
        let order =
            Order::Ask { from, subject: Subject::Invoke, patience, head, body: Body::Kept(kept), has_plane: true };
        let frame = encode(&order, b"body");
        let end = frame.as_ptr_range().end;
        let (read, body) = decode::<Order>(frame).unwrap();
        assert_eq!((read, &body[..]), (order, &b"body"[..]));
        assert_eq!(body.as_ptr_range().end, end);
    }

    #[test]
    fn what_somebody_else_wrote_is_no_message() {
        for noise in [&b""[..], &[1, 0, 0], &[0xff; 12], &[200, 0, 0, 0, 1, 2]] {
            assert!(decode::<Order>(Bytes::copy_from_slice(noise)).is_none(), "{noise:?}");
        }
    }
}
