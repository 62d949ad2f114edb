//! What changed, for schedulers elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
};

use scf_core::Health;

use super::{Fleet, HotView, Units, amount::Amount, bitmap::Bitmap, claim, names::NodeIx};

/// Feeds that a fleet has at the same time.
const FEEDS: usize = 8;

/// The nodes of which something changed since a reader looked last.
#[derive(Debug)]
struct Changed {
    nodes: Bitmap,
    is_read: AtomicBool,
}

/// The feeds of a fleet. Without readers a change costs one read.
#[derive(Debug)]
pub(crate) struct Feeds {
    readers: AtomicU32,
    feeds: [Arc<Changed>; FEEDS],
}

impl Feeds {
    pub(crate) fn new() -> Self {
        let feed = |_| Arc::new(Changed { nodes: Bitmap::new(), is_read: AtomicBool::new(false) });
        Self { readers: AtomicU32::new(0), feeds: std::array::from_fn(feed) }
    }

    /// Notes that something of a node changed.
    #[inline]
    pub(crate) fn note(&self, node: NodeIx) {
        if self.readers.load(SeqCst) > 0 {
            self.note_for_readers(node);
        }
    }

    #[cold]
    fn note_for_readers(&self, node: NodeIx) {
        for feed in self.feeds.iter().filter(|feed| feed.is_read.load(SeqCst)) {
            feed.nodes.insert(node.index());
        }
    }
}

/// Reads what changes in a fleet, each node once however often it changed. Ends when it is dropped.
#[derive(Debug)]
pub struct Feed<'a> {
    fleet: &'a Fleet,
    changed: Arc<Changed>,
    at: usize,
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        self.changed.is_read.store(false, SeqCst);
        self.fleet.feeds().readers.fetch_sub(1, SeqCst);
    }
}

/// The state of one node, as it goes to a scheduler elsewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Delta {
    /// The node, by its position in the fleet that it is of.
    pub node: NodeIx,
    /// Counts how often the node left or came back.
    pub epoch: u32,
    /// What is free.
    pub free: Amount,
    /// Accelerators that are free.
    pub units: Units,
    /// Whether it takes calls.
    pub health: Health,
    /// Calls that run or wait there.
    pub queued: u32,
    /// How long a call is expected to wait there, in seconds.
    pub wait: f32,
    /// Its charge in per cent; none on mains.
    pub charge: Option<u8>,
}

impl Delta {
    fn of(node: NodeIx, epoch: u32, hot: &HotView) -> Self {
        Self {
            node,
            epoch,
            free: hot.free(),
            units: hot.units(),
            health: hot.health(),
            queued: hot.queued(),
            wait: hot.wait(),
            charge: hot.charge(),
        }
    }
}

impl Feed<'_> {
    /// Gives up to `most` nodes that changed since they were given last, and says how many: batches of changes go to
    /// replicas, not every change (da Silva et al.: Dodoor, arXiv 2510.12889, sends one message for a batch of decisions).
    /// A reader that lags finds the newest state, and no node is given twice for it.
    pub fn read(&mut self, most: usize, mut each: impl FnMut(Delta)) -> usize {
        let (len, start) = (self.fleet.len(), self.at);
        let mut given = 0;
        for (from, end) in [(start, len), (0, start.min(len))] {
            self.at = from;
            while given < most {
                let Some(found) = self.changed.nodes.next(self.at, end) else { break };
                // Taken out before it is read: what changes in between is given again.
                self.changed.nodes.remove(found);
                self.at = found + 1;
                let node = NodeIx(found as u32);
                if let (Some(hot), Some(epoch)) = (self.fleet.look(node), self.fleet.epoch(node)) {
                    each(Delta::of(node, epoch, &hot));
                    given += 1;
                }
            }
            if given == most {
                return given;
            }
        }
        given
    }
}

impl Fleet {
    /// Begins to note what changes, every node at first; `None` when eight readers do so already.
    #[must_use]
    pub fn feed(&self) -> Option<Feed<'_>> {
        let free = |feed: &&Arc<Changed>| feed.is_read.compare_exchange(false, true, SeqCst, SeqCst).is_ok();
        let changed = Arc::clone(self.feeds().feeds.iter().find(free)?);
        self.feeds().readers.fetch_add(1, SeqCst);
        (0..self.len()).for_each(|node| changed.nodes.insert(node));
        Some(Feed { fleet: self, changed, at: 0 })
    }

    /// Takes over what a node of another fleet was like. In this replica the node must have joined at the same
    /// position. Schedulers choose by replicas and claim where the node is: what they hold here is a guess that the
    /// next delta corrects.
    pub fn apply(&self, delta: &Delta) {
        let (Some(hot), Some(cold)) = (self.hot.get(delta.node.index()), self.cold(delta.node)) else { return };
        self.set_health(delta.node, delta.health);
        self.set_load(delta.node, delta.queued, delta.wait);
        self.set_charge(delta.node, delta.charge);
        cold.epoch.store(delta.epoch, SeqCst);
        let left = super::Need { amount: delta.free, units: delta.units };
        let moved = claim::begin(&hot.free, &hot.units, delta.epoch, left);
        self.note(delta.node, hot, moved);
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{ByteSize, MilliCpu, Node, NodeId, Resources, Tier};

    use super::*;
    use crate::{Random, fleet::Need};

    fn fleet() -> Fleet {
        let fleet = Fleet::new();
        for at in 0..200 {
            let resources = Resources { cpu: MilliCpu::from_cores(4), memory: ByteSize::from_mib(4096) };
            let node = Node::new(NodeId::new(&format!("n{at}")).unwrap(), Tier::Edge).resources(resources);
            let site = scf_core::Name::new("site").unwrap();
            fleet.join(Arc::new(node.site(site))).unwrap();
        }
        fleet
    }

    #[test]
    fn a_replica_that_reads_in_batches_ends_up_equal() {
        let (truth, replica, mut random) = (fleet(), fleet(), Random::new(2));
        let mut feed = truth.feed().unwrap();
        let mut claims = Vec::new();
        let mut sent = 0;
        for step in 0..3000 {
            let node = NodeIx(random.below(200) as u32);
            let cpu = MilliCpu::new(random.below(1500) as u32);
            let need = Need::new(Resources { cpu, memory: ByteSize::ZERO }, 1).unwrap();
            match random.below(4) {
                0 if !claims.is_empty() => drop(truth.release(claims.swap_remove(random.below(claims.len())))),
                1 => truth.set_load(node, step, 0.5),
                _ => claims.extend(truth.claim(node, need)),
            }
            if step % 50 == 0 {
                sent += feed.read(64, |delta| replica.apply(&delta));
            }
        }
        while feed.read(64, |delta| replica.apply(&delta)) > 0 {}
        for at in 0..200 {
            let seen = |fleet: &Fleet| Delta::of(NodeIx(at), 0, &fleet.look(NodeIx(at)).unwrap());
            assert_eq!(seen(&truth), seen(&replica));
        }
        assert!(sent < 3000, "{sent} deltas for 3000 changes");
    }

    #[test]
    fn there_are_no_more_readers_than_are_kept_and_one_that_ends_makes_room() {
        let fleet = fleet();
        let mut feeds: Vec<_> = (0..FEEDS).map(|_| fleet.feed().unwrap()).collect();
        assert!(fleet.feed().is_none());
        feeds.pop();
        assert_eq!(fleet.feed().unwrap().read(1000, |_| {}), 200);
    }
}
