//! The head record of a scope, and what it lets pass. One set of rules for every backend of this crate.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use scf_core::{Fence, Head, NodeId, Ownership, Scope, StateError, Version};
use serde::{Deserialize, Serialize};

/// What is stored about a scope beside its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadRecord {
    pub(crate) version: Version,
    /// Counts acquisitions; stays when the owner leaves.
    pub(crate) epoch: u64,
    pub(crate) owner: Option<Owner>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) node: NodeId,
    pub(crate) nonce: u128,
    /// Length of the lease as it was acquired. A store that forgot the lease's end in a restart lets it
    /// begin anew, so that its own restart takes nothing from a living owner.
    pub(crate) lease: Duration,
}

impl HeadRecord {
    /// Whether `fence` is the owner's.
    pub(crate) fn is_owned_under(&self, fence: Fence) -> bool {
        self.owner.as_ref().is_some_and(|owner| Fence { epoch: self.epoch, nonce: owner.nonce } == fence)
    }

    /// Passes the owner's fence alone.
    pub(crate) fn admit_owner(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        if self.is_owned_under(fence) { Ok(()) } else { Err(self.fenced(scope)) }
    }

    /// Passes a commit: the owner's of an owned scope, anybody's of another, on the version it rests on.
    pub(crate) fn admit(
        &self,
        scope: &Scope,
        fence: Option<Fence>,
        expected: Option<Version>,
    ) -> Result<(), StateError> {
        match fence {
            Some(fence) => self.admit_owner(scope, fence)?,
            None if self.owner.is_some() => return Err(self.fenced(scope)),
            None => {}
        }
        match expected {
            Some(expected) if expected != self.version => {
                Err(StateError::Conflict { scope: scope.clone(), expected, actual: self.version })
            }
            _ => Ok(()),
        }
    }

    /// Makes `node` the owner, unless another's lease has `remaining` left.
    pub(crate) fn acquire(
        &mut self,
        scope: &Scope,
        node: &NodeId,
        lease: Duration,
        remaining: Duration,
    ) -> Result<Fence, StateError> {
        match &self.owner {
            Some(owner) if owner.node != *node && !remaining.is_zero() => {
                return Err(StateError::Held { scope: scope.clone(), owner: owner.node.clone(), remaining });
            }
            _ => {}
        }
        self.epoch += 1;
        let nonce = nonce();
        self.owner = Some(Owner { node: node.clone(), nonce, lease });
        Ok(Fence { epoch: self.epoch, nonce })
    }

    /// The record as callers see it.
    pub(crate) fn head(&self, remaining: Duration) -> Head {
        let ownership = |owner: &Owner| Ownership { node: owner.node.clone(), epoch: self.epoch, remaining };
        Head { version: self.version, owner: self.owner.as_ref().map(ownership) }
    }

    fn fenced(&self, scope: &Scope) -> StateError {
        StateError::Fenced { scope: scope.clone(), epoch: self.epoch }
    }
}

/// 128 bits that no other acquisition has: two keyed hashes whose keys the standard library draws from the
/// system's randomness. They tell owners apart; they are no secret.
pub(crate) fn nonce() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0u8));
    (half() << 64) | half()
}
