//! What nodes tell all others of themselves, twice a second.

use scf_core::{FunctionName, Health, Node, NodeId, Path, Resources};
use serde::{Deserialize, Serialize};

/// One message to all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Beat {
    /// All of it: the first one, every tenth, and when somebody asks.
    Whole { life: Life, node: Box<Node>, plane: Option<String>, status: Status },
    /// What changed since the one before.
    Change { node: NodeId, life: Life, change: Change },
    /// The node has left for good.
    Left { node: NodeId, life: Life },
    /// Asks a node, or all, to tell all of it.
    Who { node: Option<NodeId> },
}

/// Which beat of which life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// When the process began, in civil milliseconds: a later life has more.
    pub(crate) began: u64,
    pub(crate) beat: u64,
}

/// What changes about a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) free: Resources,
    /// Calls running or waiting.
    pub(crate) load: u32,
    pub(crate) health: Health,
    /// What claims are compared with.
    pub(crate) version: u64,
    /// Functions that are ready there and have isolates.
    pub(crate) warm: Vec<FunctionName>,
    /// Functions that the node's own process deployed on it.
    pub(crate) hosted: Vec<FunctionName>,
    /// The ways from there as last measured.
    pub(crate) paths: Vec<(NodeId, Path)>,
}

/// The parts of a [`Status`] that are not as they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Change {
    free: Option<Resources>,
    load: Option<u32>,
    health: Option<Health>,
    version: Option<u64>,
    warm: Option<Vec<FunctionName>>,
    hosted: Option<Vec<FunctionName>>,
    paths: Option<Vec<(NodeId, Path)>>,
}

impl Status {
    /// What makes `before` this.
    pub(crate) fn since(&self, before: &Self) -> Change {
        fn changed<T: Clone + PartialEq>(now: &T, before: &T) -> Option<T> {
            (now != before).then(|| now.clone())
        }
        Change {
            free: changed(&self.free, &before.free),
            load: changed(&self.load, &before.load),
            health: changed(&self.health, &before.health),
            version: changed(&self.version, &before.version),
            warm: changed(&self.warm, &before.warm),
            hosted: changed(&self.hosted, &before.hosted),
            paths: changed(&self.paths, &before.paths),
        }
    }

    pub(crate) fn apply(&mut self, change: Change) {
        fn set<T>(place: &mut T, to: Option<T>) {
            if let Some(to) = to {
                *place = to;
            }
        }
        set(&mut self.free, change.free);
        set(&mut self.load, change.load);
        set(&mut self.health, change.health);
        set(&mut self.version, change.version);
        set(&mut self.warm, change.warm);
        set(&mut self.hosted, change.hosted);
        set(&mut self.paths, change.paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_makes_the_status_before_the_one_after() {
        let before = Status {
            free: Resources::default(),
            load: 1,
            health: Health::Ready,
            version: 7,
            warm: Vec::new(),
            hosted: Vec::new(),
            paths: Vec::new(),
        };
        let warm = vec![FunctionName::new("echo").unwrap()];
        let after = Status { load: 3, health: Health::Draining, warm, ..before.clone() };
        let change = after.since(&before);
        assert_eq!((change.version, change.load), (None, Some(3)));
        let mut told = before;
        told.apply(change);
        assert_eq!(told, after);
    }
}
