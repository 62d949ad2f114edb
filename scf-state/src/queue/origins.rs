//! Which calls other nodes may offer again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use scf_core::{InvocationId, NodeId};

/// Nodes that are remembered; beyond that the one that was not heard for longest is forgotten, and of what it offers
/// again only what is not forgotten itself is known.
const MOST: usize = 4096;

/// Of every node, the calls that were taken of it last. It settles those before it offers others, so that these are all
/// that it may offer again, however long ago they were done.
#[derive(Debug, Default)]
pub(super) struct Origins(HashMap<NodeId, Last>);

#[derive(Debug)]
struct Last {
    at: Duration,
    ids: HashSet<InvocationId>,
}

impl Origins {
    pub(super) fn has(&self, node: &NodeId, id: InvocationId) -> bool {
        self.0.get(node).is_some_and(|last| last.ids.contains(&id))
    }

    /// Notes what was taken of a node at `at`. Answers a node that is forgotten for it.
    pub(super) fn note(&mut self, node: &NodeId, at: Duration, ids: HashSet<InvocationId>) -> Option<NodeId> {
        self.0.insert(node.clone(), Last { at, ids });
        if self.0.len() <= MOST {
            return None;
        }
        let oldest = self.0.iter().filter(|(other, _)| *other != node).min_by_key(|(_, last)| last.at);
        let oldest = oldest.map(|(other, _)| other.clone())?;
        self.0.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_was_not_heard_for_longest_is_forgotten() {
        let mut origins = Origins::default();
        let node = |number: usize| NodeId::new(&format!("n{number}")).unwrap();
        let ids = || HashSet::from([InvocationId::new(7)]);
        for number in 0..MOST {
            assert_eq!(origins.note(&node(number), Duration::from_secs(number as u64), ids()), None);
        }
        assert_eq!(origins.note(&node(0), Duration::from_secs(9999), ids()), None, "it is heard again");
        assert_eq!(origins.note(&node(MOST), Duration::from_secs(10_000), ids()), Some(node(1)));
        assert!(origins.has(&node(0), InvocationId::new(7)) && !origins.has(&node(1), InvocationId::new(7)));
    }
}
