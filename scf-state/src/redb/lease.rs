//! How long owners' leases last. Kept in memory: a lease is liveness, the fence on the disk is safety.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{Scope, Timestamp};

use crate::head::Owner;

/// The end of each owned scope's lease, as far as this process knows it.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<Scope, Lease>>);

#[derive(Clone, Copy, Debug)]
struct Lease {
    nonce: u128,
    until: Timestamp,
}

impl Leases {
    /// What is left of `owner`'s lease. One that this process does not know, because it started after the
    /// acquisition, begins anew.
    pub(super) fn remaining(&self, scope: &Scope, owner: Option<&Owner>, now: Timestamp) -> Duration {
        let Some(owner) = owner else { return Duration::ZERO };
        let mut leases = self.leases();
        match leases.get(scope) {
            Some(lease) if lease.nonce == owner.nonce => lease.until.since(now),
            Some(_) => owner.lease,
            None => {
                leases.insert(scope.clone(), Lease { nonce: owner.nonce, until: now + owner.lease });
                owner.lease
            }
        }
    }

    /// Notes an acquisition.
    pub(super) fn begin(&self, scope: &Scope, nonce: u128, until: Timestamp) {
        self.leases().insert(scope.clone(), Lease { nonce, until });
    }

    /// Extends the lease of `nonce`, unless another acquired since.
    pub(super) fn extend(&self, scope: &Scope, nonce: u128, until: Timestamp) {
        let mut leases = self.leases();
        if leases.get(scope).is_none_or(|lease| lease.nonce == nonce) {
            leases.insert(scope.clone(), Lease { nonce, until });
        }
    }

    /// Forgets the lease of `nonce`.
    pub(super) fn end(&self, scope: &Scope, nonce: u128) {
        let mut leases = self.leases();
        if leases.get(scope).is_some_and(|lease| lease.nonce == nonce) {
            leases.remove(scope);
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Scope, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
