//! Units of the inventory that follow the nodes of a cluster.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use scf_core::{Name, Node, Timestamp};
use thiserror::Error;

use super::{
    api::KubeNews,
    node::{EDGE, KubeNode, NodeEvent},
};
use crate::inventory::{Heartbeat, Intent, Inventory, InventoryError, Unit};

/// How often a node is heard of, as far as the inventory is told: as often as a watch is asked for, and a little more.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Keeps the units of a cluster's nodes. Other units of the inventory it leaves alone.
///
/// It is told what the API says and the time; it does no I/O.
#[derive(Debug)]
pub struct NodeMirror {
    tolerated: Vec<String>,
    /// By the name in the cluster.
    known: HashMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    unit: Name,
    node: Arc<Node>,
    is_ready: bool,
}

/// Why a node of the cluster is no unit here. The others are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// Its name is too long.
    #[error("the cluster's node {node:?} can not be named here: its name is longer than 63 characters")]
    Name {
        /// Its name in the cluster.
        node: String,
    },
    /// The inventory does not take it: something else has its name, or there is no room.
    #[error("the cluster's node {node:?}")]
    Inventory {
        /// Its name in the cluster.
        node: String,
        /// Why not.
        #[source]
        source: InventoryError,
    },
}

impl Default for NodeMirror {
    /// Tolerates the taint of KubeEdge's nodes.
    fn default() -> Self {
        Self { tolerated: vec![EDGE.to_owned()], known: HashMap::new() }
    }
}

impl NodeMirror {
    /// Adds the key of a taint that does not keep work off a node; default `node-role.kubernetes.io/edge`.
    #[must_use]
    pub fn tolerate(mut self, key: impl Into<String>) -> Self {
        self.tolerated.push(key.into());
        self
    }

    /// Nodes that are followed.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.known.len()
    }

    /// Takes down what the API said by `now`. Gives why nodes are not followed.
    pub fn hear(&mut self, news: &KubeNews<'_>, inventory: &mut Inventory, now: Timestamp) -> Vec<MirrorError> {
        match news {
            KubeNews::Listed(nodes) => self.list(nodes, inventory, now),
            KubeNews::Changed(NodeEvent::Added(node) | NodeEvent::Modified(node)) => {
                self.set(node, inventory, now).err().into_iter().collect()
            }
            KubeNews::Changed(NodeEvent::Deleted(node)) => {
                self.remove(node.name(), inventory).err().into_iter().collect()
            }
            KubeNews::Heard => {
                for known in self.known.values().filter(|known| known.is_ready) {
                    // It fails where somebody else took the unit off, which is theirs to say.
                    let _ = inventory.heartbeat(&known.unit, Heartbeat::default(), now);
                }
                Vec::new()
            }
            KubeNews::Changed(_) | KubeNews::Lost(_) => Vec::new(),
        }
    }

    /// All nodes of the cluster: those that are followed and not among them are taken off.
    fn list(&mut self, nodes: &[KubeNode], inventory: &mut Inventory, now: Timestamp) -> Vec<MirrorError> {
        let there: HashSet<&str> = nodes.iter().map(KubeNode::name).collect();
        let gone: Vec<String> = self.known.keys().filter(|name| !there.contains(name.as_str())).cloned().collect();
        let mut refused: Vec<_> = gone.iter().filter_map(|name| self.remove(name, inventory).err()).collect();
        refused.extend(nodes.iter().filter_map(|node| self.set(node, inventory, now).err()));
        refused
    }

    fn set(&mut self, told: &KubeNode, inventory: &mut Inventory, now: Timestamp) -> Result<(), MirrorError> {
        let name = told.name().to_owned();
        let Some(node) = told.node() else { return Err(MirrorError::Name { node: name }) };
        let refused = |source| MirrorError::Inventory { node: name.clone(), source };
        // Another description is another unit: what was claimed of the one before may not fit it.
        if self.known.get(&name).is_none_or(|known| *known.node != node) {
            self.remove(&name, inventory)?;
            let node = Arc::new(node);
            let Some(unit) = Unit::node(Arc::clone(&node)) else { return Err(MirrorError::Name { node: name }) };
            let unit = unit.heartbeat(HEARTBEAT);
            let known = Known { unit: unit.id.clone(), node, is_ready: true };
            inventory.register(unit, now).map_err(refused)?;
            self.known.insert(name.clone(), known);
        }
        let Some(known) = self.known.get_mut(&name) else { return Ok(()) };
        known.is_ready = told.is_ready();
        let intent = match told.intent(&self.tolerated) {
            // What the cluster does not hear of gets nothing new before the inventory suspects it.
            Intent::Serve if !known.is_ready => Intent::Cordon,
            intent => intent,
        };
        inventory.intend(&known.unit, intent).map_err(refused)
    }

    fn remove(&mut self, name: &str, inventory: &mut Inventory) -> Result<(), MirrorError> {
        let Some(known) = self.known.remove(name) else { return Ok(()) };
        match inventory.leave(&known.unit) {
            Ok(()) | Err(InventoryError::NoSuchUnit { .. }) => Ok(()),
            Err(source) => Err(MirrorError::Inventory { node: name.to_owned(), source }),
        }
    }
}
