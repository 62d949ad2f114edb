//! Nodes on a ring of hashes.

use crate::{
    fleet::{Fleet, FunctionIx, NodeIx},
    random::Random,
};

/// Where each node has some points by its id, so that a node that leaves moves only what was on it.
#[derive(Debug)]
pub(super) struct Ring {
    /// Points of each node.
    each: usize,
    /// In their order, of the first so many nodes of the fleet.
    points: Vec<(u64, NodeIx)>,
    nodes: usize,
}

impl Ring {
    pub(super) const fn new(each: usize) -> Self {
        Self { each, points: Vec::new(), nodes: 0 }
    }

    /// Puts nodes on the ring that joined since.
    pub(super) fn keep_up(&mut self, fleet: &Fleet) {
        let len = fleet.len();
        if len == self.nodes {
            return;
        }
        for node in (self.nodes..len).map(|at| NodeIx::new(at as u32)) {
            let Some(described) = fleet.node(node) else { continue };
            // FNV-1a (RFC 9923), then mixed: ids that differ in the last character are to be far apart.
            let id = described.id.as_str().bytes();
            let hash = id.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            let mut points = Random::new(hash);
            self.points.extend((0..self.each).map(|_| (points.next(), node)));
        }
        self.points.sort_unstable();
        self.nodes = len;
    }

    /// The nodes from a function's place on, once around; a node comes as often as it has points.
    pub(super) fn from(&self, function: FunctionIx) -> impl Iterator<Item = NodeIx> + use<'_> {
        let place = Random::new(function.index() as u64).next();
        let (before, after) = self.points.split_at(self.points.partition_point(|(point, _)| *point < place));
        after.iter().chain(before).map(|(_, node)| *node)
    }
}
