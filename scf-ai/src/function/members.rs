//! The nodes of a function, kept from one decision to the next.

use std::sync::{Arc, Mutex, PoisonError};

use scf_core::{FunctionName, Host, Node, NodeId};

/// Nodes of one process that ask; beyond, what is kept is forgotten.
const MAX_ASKING: usize = 64;

/// The nodes that one function may run on, as each node that asks is told of them. To ask costs a decision more than all
/// the rest of it: the runtime's tables are out of the caches when a network has just run.
#[derive(Debug, Default)]
pub(super) struct Members(Mutex<Vec<Known>>);

#[derive(Debug)]
struct Known {
    asking: NodeId,
    version: u64,
    nodes: Arc<[Arc<Node>]>,
}

impl Members {
    /// The node of `host` first, then the others that `function` may run on, with or without a way to them.
    pub(super) fn of(&self, host: &dyn Host, function: &FunctionName) -> Arc<[Arc<Node>]> {
        let here = host.node();
        let first = |others: Vec<Arc<Node>>| {
            let others = others.into_iter().filter(|node| node.id != here.id);
            std::iter::once(here.clone()).chain(others).collect::<Arc<[_]>>()
        };
        // Before what it is of: what changes meanwhile changes it too.
        let Some(version) = host.members_version() else { return first(host.hosts_of(function)) };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|known| known.asking == here.id);
        if let Some(fresh) = place.map(|at| &known[at]).filter(|known| known.version == version) {
            return fresh.nodes.clone();
        }
        let nodes = first(host.members_of(function));
        let told = Known { asking: here.id.clone(), version, nodes: nodes.clone() };
        match place {
            Some(at) => known[at] = told,
            None => {
                if known.len() == MAX_ASKING {
                    known.clear();
                }
                known.push(told);
            }
        }
        nodes
    }
}
