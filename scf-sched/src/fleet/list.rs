//! Nodes in a row, so that one of them is drawn with equal chance.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use super::{names::NodeIx, segments::Segments};

/// A set of nodes that one is drawn of without a lock. Who draws while one is removed may draw the removed one: a
/// filter looks at it anyway. Changed by one thread at a time.
#[derive(Debug)]
pub(crate) struct List {
    nodes: Segments<AtomicU32, 4>,
    len: AtomicU32,
}

impl Default for List {
    fn default() -> Self {
        Self { nodes: Segments::new(), len: AtomicU32::new(0) }
    }
}

impl List {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.load(SeqCst) as usize
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<NodeIx> {
        self.nodes.get(at).map(|node| NodeIx(node.load(SeqCst)))
    }

    /// Adds a node that is not in it, and says at which position.
    pub(crate) fn push(&self, node: NodeIx) -> u32 {
        let at = self.len.load(SeqCst);
        self.nodes.make(at as usize).store(node.0, SeqCst);
        self.len.store(at + 1, SeqCst);
        at
    }

    /// Removes the node at a position; the last one takes its place, and is given back if there is another.
    pub(crate) fn remove(&self, at: u32) -> Option<NodeIx> {
        let last = self.len.load(SeqCst).checked_sub(1)?;
        let moved = NodeIx(self.nodes.make(last as usize).load(SeqCst));
        if at < last {
            self.nodes.make(at as usize).store(moved.0, SeqCst);
        }
        self.len.store(last, SeqCst);
        (at < last).then_some(moved)
    }
}
