//! Items of streams as messages between nodes.

use bytes::{Bytes, BytesMut};
use scf_core::{Envelope, InvocationId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a call says of its streams when it goes to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lending {
    /// What they are asked for by.
    pub(crate) key: InvocationId,
    /// Room of each direction, in bytes.
    pub(crate) room: u64,
}

/// What the node that runs a call asks of the one that sent it. The items are the message's body.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) key: InvocationId,
    pub(super) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum What {
    /// Take these items of the output, which are of so many bytes each, behind those of the number before.
    Push { number: u64, lengths: Vec<u32> },
    /// Say once more than this is granted to the output.
    Grant { than: u64 },
    /// Give items of the input that count for so much, behind those of the number before.
    Pull { number: u64, most: u64 },
}

/// What is answered. The items are the message's body.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// So much is granted to the output.
    Granted { granted: u64 },
    /// Items of the input, of so many bytes each.
    Items { lengths: Vec<u32> },
    /// The input has ended.
    Ended,
    /// The input broke off.
    BrokenOff,
    /// Nobody reads the output any more, or waits for the call.
    Gone,
}

pub(super) fn write(head: &impl Serialize, body: Bytes) -> Envelope {
    // Heads hold no map with unknown length and no non-UTF-8 text, the two things postcard refuses.
    Envelope { head: postcard::to_stdvec(head).expect("heads are always encodable").into(), body }
}

pub(super) fn read<T: DeserializeOwned>(head: &[u8]) -> Option<T> {
    postcard::from_bytes(head).ok()
}

/// Items as one body; the only one is not copied. `None` where one is too long for a message.
pub(super) fn join(mut items: Vec<Bytes>) -> Option<(Vec<u32>, Bytes)> {
    let lengths = items.iter().map(|item| u32::try_from(item.len()).ok()).collect::<Option<Vec<_>>>()?;
    if items.len() == 1 {
        return Some((lengths, items.pop()?));
    }
    let mut body = BytesMut::with_capacity(items.iter().map(Bytes::len).sum());
    items.iter().for_each(|item| body.extend_from_slice(item));
    Some((lengths, body.freeze()))
}

/// What [`join`] joined, uncopied; `None` when the lengths are not the body's.
pub(super) fn split(lengths: &[u32], mut body: Bytes) -> Option<Vec<Bytes>> {
    let mut items = Vec::with_capacity(lengths.len());
    for length in lengths {
        let length = *length as usize;
        if length > body.len() {
            return None;
        }
        items.push(body.split_to(length));
    }
    body.is_empty().then_some(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_cross_whole(items: Vec<Vec<u8>>) {
            let items: Vec<Bytes> = items.into_iter().map(Bytes::from).collect();
            let (lengths, body) = join(items.clone()).unwrap();
            prop_assert_eq!(split(&lengths, body), Some(items));
        }

        #[test]
        fn lengths_that_are_not_the_bodys_are_noticed(lengths: Vec<u32>, body: Vec<u8>) {
            let sum: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
            let is_it = sum == body.len() as u64;
            prop_assert_eq!(split(&lengths, body.into()).is_some(), is_it);
        }
    }
}
