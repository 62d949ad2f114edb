//! What a function does, revision by revision and node by node.

use std::sync::{Arc, PoisonError};

use scf_core::{FunctionName, NodeId, Revision};

use super::Fabric;
use crate::controller::{Controller, Lifecycle, Ready};

/// A revision of a function on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevisionStatus {
    /// The revision.
    pub revision: Revision,
    /// The node.
    pub node: NodeId,
    /// What it does there.
    pub lifecycle: Lifecycle,
    /// Its weight in the live traffic, beside that of the other revisions.
    pub weight: u32,
    /// Calls that run there.
    pub running: u32,
    /// Calls that wait there.
    pub waiting: u32,
    /// Calls that may run at the same time there.
    pub slots: u32,
}

impl Fabric {
    /// What a function does: every revision that is kept or still drains, on every node that it is ready on; the
    /// oldest first. Empty when it is not deployed and nothing of it drains.
    #[must_use]
    pub fn status(&self, function: &FunctionName) -> Vec<RevisionStatus> {
        let deployment = self.inner.functions.read().unwrap_or_else(PoisonError::into_inner).get(function).cloned();
        let mut found = Vec::new();
        for (position, member) in self.inner.members.iter().enumerate() {
            let mut add = |ready: &Ready, weight: u32| {
                let (lifecycle, running, waiting, slots) = Controller::lifecycle(ready);
                let (revision, node) = (ready.revision, member.node.id.clone());
                found.push(RevisionStatus { revision, node, lifecycle, weight, running, waiting, slots });
            };
            for ready in member.controller.draining().iter().filter(|ready| ready.function.name == *function) {
                add(ready, 0);
            }
            let kept = deployment.iter().flat_map(|deployment| deployment.revisions());
            for route in kept {
                let weight = deployment.as_ref().map_or(0, |all| all.live().weight_of(route.revision));
                if let Some(ready) = route.ready[position].as_ref().map(Arc::as_ref) {
                    add(ready, weight);
                }
            }
        }
        found.sort_by_key(|status| status.revision);
        found
    }
}
