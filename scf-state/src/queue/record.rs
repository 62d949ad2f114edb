//! What a queue stores, and under which keys.
//!
//! A key is [`REGION`], a tag, and what the tag says; every record is postcard:
//!
//! | tag | rest of the key | record |
//! |---|---|---|
//! | [`CALL`] | invocation (16 bytes, big endian) | [`Stored`]: the call, until it is done or its dead letter is discarded |
//! | [`TRY`] | invocation | [`Tries`]: attempts so far, of a call that was started |
//! | [`DONE`] | invocation | [`Done`]: that it completed, and with what, or which node has it |
//! | [`DEAD`] | invocation | [`Dead`]: that it is a dead letter, and why |
//! | [`HELD`] | a scope in postcard | nothing: its calls are held back |
//! | [`CLOCK`] | nothing | [`Moment`]: how both times stood after civil time was set |
//! | [`OFFERED`] | a node in postcard | invocations, in order: what it was offered, until that is settled |
//! | [`TAKEN`] | a node in postcard | [`TakenOf`]: what was taken of it last |

use std::time::Duration;

use scf_core::{CallState, Cause, InvocationId, NodeId, Payload, QueuedCall, Scope};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::time::{DueAt, Moment};

/// First bytes of every key: beside the keys of a redb store that belong to no scope.
pub(crate) const REGION: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 1];
/// Behind every key.
pub(crate) const BEHIND: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 2];

pub(super) const CALL: u8 = 0;
pub(super) const TRY: u8 = 1;
pub(super) const DONE: u8 = 2;
pub(super) const DEAD: u8 = 3;
pub(super) const HELD: u8 = 4;
pub(super) const CLOCK: u8 = 5;
pub(super) const OFFERED: u8 = 6;
pub(super) const TAKEN: u8 = 7;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Counts what was accepted.
    pub(super) seq: u64,
    pub(super) at: Moment,
    pub(super) due: DueAt,
    pub(super) call: QueuedCall,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tries {
    pub(super) attempts: u32,
    /// Attempts during which the process ended.
    pub(super) crashes: u32,
    /// Whether a worker has it; found so when the store is opened, the process ended meanwhile.
    pub(super) is_running: bool,
    /// When the next attempt is due, after a failure.
    pub(super) due: Option<Duration>,
    /// When it first became due: its age counts from there.
    pub(super) due_since: Duration,
    pub(super) at: Moment,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) at: Moment,
    pub(super) attempts: u32,
    pub(super) result: Option<Payload>,
    /// Whose queue has it now, where it is done here and not there.
    pub(super) forwarded: Option<NodeId>,
}

impl Done {
    pub(super) fn into_state(self) -> CallState {
        match self.forwarded {
            Some(to) => CallState::Forwarded { to },
            None => CallState::Completed(self.result),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Dead {
    /// Counts what was given up.
    pub(super) seq: u64,
    pub(super) at: Moment,
    pub(super) attempts: u32,
    pub(super) cause: Cause,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TakenOf {
    pub(super) at: Moment,
    pub(super) ids: Vec<InvocationId>,
}

/// The key of `id` under `tag`.
pub(super) fn key(tag: u8, id: InvocationId) -> [u8; 22] {
    let mut key = [0; 22];
    key[..5].copy_from_slice(&REGION);
    key[5] = tag;
    key[6..].copy_from_slice(&id.bits().to_be_bytes());
    key
}

/// The key of a scope that is held back.
pub(super) fn held_key(scope: &Scope) -> Result<Vec<u8>, postcard::Error> {
    let mut key = REGION.to_vec();
    key.push(HELD);
    postcard::to_extend(scope, key)
}

/// The key of a node under `tag`.
pub(super) fn node_key(tag: u8, node: &NodeId) -> Result<Vec<u8>, postcard::Error> {
    let mut key = REGION.to_vec();
    key.push(tag);
    postcard::to_extend(node, key)
}

/// The key of the moment after civil time was set.
pub(super) fn clock_key() -> Vec<u8> {
    [&REGION[..], &[CLOCK]].concat()
}

/// What a key of the queue is about.
pub(super) enum Key {
    Call(u8, InvocationId),
    Held(Scope),
    Clock,
    Offered(NodeId),
    Taken(NodeId),
}

/// Reads a key that begins with [`REGION`].
pub(super) fn read_key(key: &[u8]) -> Option<Key> {
    let (&tag, rest) = key.get(REGION.len()..)?.split_first()?;
    match tag {
        HELD => return postcard::from_bytes(rest).ok().map(Key::Held),
        CLOCK => return Some(Key::Clock),
        OFFERED => return postcard::from_bytes(rest).ok().map(Key::Offered),
        TAKEN => return postcard::from_bytes(rest).ok().map(Key::Taken),
        _ => {}
    }
    let bits = u128::from_be_bytes(rest.try_into().ok()?);
    Some(Key::Call(tag, InvocationId::new(bits)))
}

/// Where a queue's records are, in one transaction.
pub(crate) trait Records {
    /// Why one could not be read or written: the end of the transaction.
    type Error: From<postcard::Error>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error>;
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Self::Error>;
    fn remove(&mut self, key: &[u8]) -> Result<(), Self::Error>;
}

/// Reads the record under `key`; the inner error is one that cannot be decoded.
pub(super) fn load<T: DeserializeOwned, R: Records>(
    records: &R,
    key: &[u8],
) -> Result<Result<Option<T>, postcard::Error>, R::Error> {
    Ok(records.get(key)?.map(|bytes| postcard::from_bytes(&bytes)).transpose())
}

pub(super) fn save<R: Records>(records: &mut R, key: &[u8], record: &impl Serialize) -> Result<(), R::Error> {
    records.put(key, &postcard::to_stdvec(record)?)
}
