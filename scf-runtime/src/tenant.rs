//! The tenants of a fabric: what is theirs, what they have running, what they used.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU32},
};

use scf_core::{Tenant, TenantName};

use crate::{
    bill::Bill,
    ledger::Ledger,
    spread::{Apart, Shared, Spread},
};

/// Tenants that were not added to the builder and are known all the same.
const STRANGERS: usize = 10_000;

/// A tenant, on all nodes of this process.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) tenant: Tenant,
    /// Its number, which the queues know it by.
    pub(crate) number: u32,
    pub(crate) ledger: Ledger,
    /// By position of the node.
    pub(crate) seats: Box<[Seat]>,
}

/// What a tenant has on one node.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    pub(crate) running: Apart<AtomicU32>,
    pub(crate) waiting: AtomicU32,
}

/// The accounts of a fabric. Tenants that were added to the builder are there from the start, others come with
/// their first call or function and have what [`Tenant::new`] gives.
#[derive(Debug)]
pub(crate) struct Accounts {
    nodes: usize,
    known: RwLock<HashMap<TenantName, Arc<Account>>>,
    /// The same, for calls to read.
    near: Spread<TenantName, Account>,
    /// How many there can be.
    bound: usize,
}

/// There is no room for one more tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) tenants: usize,
}

impl Accounts {
    pub(crate) fn new(tenants: Vec<Tenant>, nodes: usize) -> Self {
        let bound = tenants.len() + STRANGERS;
        let accounts = Self { nodes, known: RwLock::default(), near: Spread::default(), bound };
        for tenant in tenants {
            accounts.open(tenant);
        }
        accounts
    }

    /// The account of `name`, opened if it is not known.
    pub(crate) fn of(&self, name: &TenantName) -> Result<Arc<Account>, TooMany> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        match known {
            Some(account) => Ok(account),
            None => self.open(Tenant::new(name.clone())).ok_or(TooMany { tenants: self.bound }),
        }
    }

    /// The same, counted for `part` of the cores.
    pub(crate) fn near(&self, part: usize, name: &TenantName) -> Result<Shared<Account>, TooMany> {
        match self.near.get(part, name) {
            Some(account) => Ok(account),
            // An account stays what it is.
            None => Ok(self.near.fill(part, name, &self.of(name)?)),
        }
    }

    /// What the calls of every tenant came to so far, by name.
    pub(crate) fn bills(&self) -> Vec<(TenantName, Bill)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut bills: Vec<_> = known.iter().map(|(name, account)| (name.clone(), account.ledger.bill())).collect();
        bills.sort_by(|a, b| a.0.cmp(&b.0));
        bills
    }

    fn open(&self, tenant: Tenant) -> Option<Arc<Account>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.get(&tenant.name) {
            return Some(Arc::clone(account));
        }
        if known.len() >= self.bound {
            return None;
        }
        let number = u32::try_from(known.len()).ok()?;
        let name = tenant.name.clone();
        let seats = (0..self.nodes).map(|_| Seat::default()).collect();
        let account = Arc::new(Account { tenant, number, ledger: Ledger::default(), seats });
        known.insert(name, Arc::clone(&account));
        Some(account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_that_nobody_added_have_accounts_up_to_a_bound() {
        let name = |at: usize| TenantName::new(&format!("t{at}")).unwrap();
        let accounts = Accounts::new(vec![Tenant::new(name(0)).weight(7)], 2);
        assert_eq!(accounts.of(&name(0)).unwrap().tenant.weight, 7);
        for at in 1..=STRANGERS {
            assert_eq!(accounts.of(&name(at)).unwrap().number as usize, at);
        }
        assert_eq!(accounts.of(&name(STRANGERS + 1)).unwrap_err(), TooMany { tenants: STRANGERS + 1 });
        assert_eq!(accounts.of(&name(1)).unwrap().seats.len(), 2);
    }
}
