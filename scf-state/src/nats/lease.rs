//! How long owners' leases last, by this process's time.
//!
//! No two nodes' clocks are compared: a lease that this process did not give begins where the process first sees it, and
//! anew with each renewal that it sees. A take-over waits until an owner was seen to do nothing for a whole lease.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use scf_core::{Scope, Timestamp};

use super::record::Record;

/// Leases that are known; beyond, the one that ends first is forgotten, and begins anew when it is seen again.
const KNOWN: usize = 1 << 16;

#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<Scope, Lease>>);

#[derive(Clone, Copy, Debug)]
struct Lease {
    nonce: u128,
    renewals: u64,
    until: Timestamp,
}

impl Leases {
    /// What is left of the lease of the owner that `record` names.
    pub(super) fn remaining(&self, record: &Record, now: Timestamp) -> Duration {
        let Some(owner) = &record.head.owner else { return Duration::ZERO };
        let mut leases = self.leases();
        match leases.get(&record.scope) {
            Some(lease) if (lease.nonce, lease.renewals) == (owner.nonce, record.renewals) => lease.until.since(now),
            _ => {
                insert(&mut leases, record, now + owner.lease);
                owner.lease
            }
        }
    }

    /// Notes that the owner which `record` names has the scope until then, or that nobody has it.
    pub(super) fn note(&self, record: &Record, until: Timestamp) {
        insert(&mut self.leases(), record, until);
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Scope, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(leases: &mut HashMap<Scope, Lease>, record: &Record, until: Timestamp) {
    let Some(owner) = &record.head.owner else {
        leases.remove(&record.scope);
        return;
    };
    if leases.len() >= KNOWN
        && !leases.contains_key(&record.scope)
        && let Some(first) = leases.iter().min_by_key(|(_, lease)| lease.until).map(|(scope, _)| scope.clone())
    {
        leases.remove(&first);
    }
    let lease = Lease { nonce: owner.nonce, renewals: record.renewals, until };
    leases.insert(record.scope.clone(), lease);
}
