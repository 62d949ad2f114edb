//! Bodies that wait to be fetched.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use scf_core::{ByteSize, Timestamp};

use super::frame::{Kept, Key, secret};

/// Bodies too large for one message of the broker, kept until they were fetched, are not wanted any more, or nobody
/// came in time. Holds so many bytes in all; what goes beyond them is not taken.
#[derive(Debug)]
pub(super) struct Shelf {
    room: u64,
    bodies: Mutex<Bodies>,
}

#[derive(Debug, Default)]
struct Bodies {
    kept: HashMap<Key, (Bytes, Timestamp)>,
    bytes: u64,
}

impl Shelf {
    pub(super) fn new(room: ByteSize) -> Self {
        Self { room: room.bytes(), bodies: Mutex::default() }
    }

    /// Keeps `body` for `patience`; `None` when there is no room for it.
    pub(super) fn keep(&self, body: &Bytes, now: Timestamp, patience: Duration) -> Option<Kept> {
        let (key, size) = (secret(), body.len() as u64);
        let hash = *blake3::hash(body).as_bytes();
        let mut bodies = self.bodies();
        if bodies.bytes + size > self.room {
            bodies.forget_late(now);
        }
        if bodies.bytes + size > self.room {
            return None;
        }
        bodies.bytes += size;
        bodies.kept.insert(key, (body.clone(), now + patience));
        Some(Kept { key, size, hash })
    }

    /// At most `most` bytes of a body from `offset` on. What has given its last byte is not kept any longer.
    pub(super) fn part(&self, key: &Key, offset: u64, most: usize) -> Option<Bytes> {
        let mut bodies = self.bodies();
        let body = &bodies.kept.get(key)?.0;
        let start = usize::try_from(offset).ok().filter(|start| *start <= body.len())?;
        let end = body.len().min(start + most);
        let (part, is_last) = (body.slice(start..end), end == body.len());
        if is_last {
            bodies.forget(key);
        }
        Some(part)
    }

    pub(super) fn forget(&self, key: &Key) {
        self.bodies().forget(key);
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bodies {
    fn forget(&mut self, key: &Key) {
        if let Some((body, _)) = self.kept.remove(key) {
            self.bytes -= body.len() as u64;
        }
    }

    fn forget_late(&mut self, now: Timestamp) {
        self.kept.retain(|_, (_, until)| *until > now);
        self.bytes = self.kept.values().map(|(body, _)| body.len() as u64).sum();
    }
}

/// Takes a body off when its caller gives up or has its answer.
#[derive(Debug)]
pub(super) struct OnShelf {
    pub(super) shelf: Arc<Shelf>,
    pub(super) kept: Kept,
}

impl Drop for OnShelf {
    fn drop(&mut self) {
        self.shelf.forget(&self.kept.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_body_is_there_until_its_last_part_was_fetched() {
        let shelf = Shelf::new(ByteSize::from_bytes(10));
        let kept = shelf.keep(&Bytes::from_static(b"0123456789"), Timestamp::default(), SECOND).unwrap();
        assert_eq!(shelf.part(&kept.key, 4, 4).unwrap(), &b"4567"[..]);
        assert_eq!(shelf.part(&kept.key, 8, 4).unwrap(), &b"89"[..]);
        assert_eq!(shelf.part(&kept.key, 0, 4), None);
    }

    #[test]
    fn what_is_beyond_the_room_is_not_taken_until_what_nobody_fetched_is_late() {
        let shelf = Shelf::new(ByteSize::from_bytes(10));
        let keep = |at| shelf.keep(&Bytes::from_static(b"012345"), Timestamp::default() + at, SECOND).is_some();
        assert_eq!([keep(Duration::ZERO), keep(SECOND / 2), keep(SECOND)], [true, false, true]);
    }
}
