//! Which calls are done or dead, in memory.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use scf_core::InvocationId;

use super::config::QueueConfig;

/// The completed calls in the order in which they are forgotten, and the dead letters in theirs.
#[derive(Debug, Default)]
pub(super) struct Settled {
    done: VecDeque<Kept>,
    is_done: HashSet<InvocationId>,
    done_bytes: u64,
    dead: BTreeMap<u64, InvocationId>,
    /// Their place in the order and the bytes of their payload.
    of_dead: HashMap<InvocationId, (u64, u64)>,
}

#[derive(Debug)]
struct Kept {
    id: InvocationId,
    at: Duration,
    bytes: u64,
}

impl Settled {
    pub(super) fn is_done(&self, id: InvocationId) -> bool {
        self.is_done.contains(&id)
    }

    pub(super) fn is_dead(&self, id: InvocationId) -> bool {
        self.of_dead.contains_key(&id)
    }

    pub(super) fn dead(&self) -> u64 {
        self.dead.len() as u64
    }

    pub(super) fn next_dead(&self) -> u64 {
        self.dead.last_key_value().map_or(0, |(seq, _)| seq + 1)
    }

    pub(super) fn complete(&mut self, id: InvocationId, at: Duration, bytes: u64) {
        if self.is_done.insert(id) {
            self.done.push_back(Kept { id, at, bytes });
            self.done_bytes += bytes;
        }
    }

    /// Takes the completed call out that is to be forgotten next, if there are too many or it is too old.
    pub(super) fn forget(&mut self, config: &QueueConfig, now: Duration) -> Option<InvocationId> {
        let oldest = self.done.front()?;
        let is_over = self.done.len() > config.results || self.done_bytes > config.result_bytes.bytes();
        if !is_over && now.saturating_sub(oldest.at) < config.retention {
            return None;
        }
        let Kept { id, bytes, .. } = self.done.pop_front()?;
        self.is_done.remove(&id);
        self.done_bytes -= bytes;
        Some(id)
    }

    pub(super) fn bury(&mut self, id: InvocationId, seq: u64, bytes: u64) {
        self.dead.insert(seq, id);
        self.of_dead.insert(id, (seq, bytes));
    }

    /// Takes a dead letter out; the bytes of its payload.
    pub(super) fn raise(&mut self, id: InvocationId) -> Option<u64> {
        let (seq, bytes) = self.of_dead.remove(&id)?;
        self.dead.remove(&seq);
        Some(bytes)
    }

    /// The dead letters behind `after`, oldest first.
    pub(super) fn dead_after(&self, after: Option<InvocationId>, limit: usize) -> Vec<InvocationId> {
        let from = after.and_then(|id| self.of_dead.get(&id)).map_or(0, |(seq, _)| seq + 1);
        self.dead.range(from..).take(limit).map(|(_, id)| *id).collect()
    }
}
