//! Nodes that have something in common, and change often.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{bitmap::Bitmap, list::List, names::NodeIx};

/// A set of nodes: whether one is in it, and some of them one after the other, both without a lock.
#[derive(Debug)]
pub(crate) struct NodeSet {
    members: Bitmap,
    list: List,
    /// Where each member is in the list; held by whoever changes it.
    positions: Mutex<HashMap<NodeIx, u32>>,
}

impl NodeSet {
    pub(crate) fn new() -> Self {
        Self { members: Bitmap::new(), list: List::default(), positions: Mutex::default() }
    }

    #[inline]
    pub(crate) fn contains(&self, node: NodeIx) -> bool {
        self.members.contains(node.index())
    }

    pub(crate) fn insert(&self, node: NodeIx) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.entry(node).or_insert_with(|| self.list.push(node));
        self.members.insert(node.index());
    }

    pub(crate) fn remove(&self, node: NodeIx) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        self.members.remove(node.index());
        let Some(at) = positions.remove(&node) else { return };
        if let Some(moved) = self.list.remove(at) {
            positions.insert(moved, at);
        }
    }

    /// Up to `most` members, beginning at one that `turn` decides.
    #[inline]
    pub(crate) fn some(&self, turn: usize, most: usize) -> impl Iterator<Item = NodeIx> {
        let len = self.list.len();
        let start = if len == 0 { 0 } else { turn % len };
        (start..len).chain(0..start).take(most).filter_map(|at| self.list.get(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_given_once_wherever_it_was_moved_to() {
        let set = NodeSet::new();
        (0..100).chain(0..50).for_each(|node| set.insert(NodeIx(node)));
        (0..100).step_by(3).chain([0]).for_each(|node| set.remove(NodeIx(node)));
        let mut given: Vec<_> = set.some(17, 1000).map(NodeIx::index).collect();
        given.sort_unstable();
        assert_eq!(given, (0..100).filter(|node| node % 3 != 0).collect::<Vec<_>>());
        assert!(set.contains(NodeIx(1)) && !set.contains(NodeIx(3)));
        assert_eq!(set.some(5, 4).count(), 4);
    }
}
