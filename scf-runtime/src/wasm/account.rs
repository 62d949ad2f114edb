//! What each tenant holds of a factory and is due.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use scf_core::{ByteSize, Tenant, TenantName};

/// Accounts that are kept before those that nobody uses are closed.
const OPEN: usize = 1024;

/// What one tenant may hold, what it holds, and the CPU time that its long calls had.
#[derive(Debug)]
pub(super) struct Account {
    limit: usize,
    memory: AtomicUsize,
    weight: u64,
    /// CPU time divided by the weight, in nanoseconds: who has the least is next.
    pub(super) virtual_time: AtomicU64,
}

impl Account {
    pub(super) fn new(tenant: &Tenant) -> Self {
        Self {
            limit: usize::try_from(tenant.memory.bytes()).unwrap_or(usize::MAX),
            memory: AtomicUsize::new(0),
            weight: u64::from(tenant.weight.max(1)),
            virtual_time: AtomicU64::new(0),
        }
    }

    /// Takes `bytes` of the tenant's memory, or nothing if there are not so many left.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.memory.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    /// Gives back what was charged.
    pub(super) fn release(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Relaxed);
    }

    /// Memory of all of the tenant's isolates.
    pub(super) fn memory(&self) -> ByteSize {
        ByteSize::from_bytes(self.memory.load(Relaxed) as u64)
    }

    /// Books CPU time of a long call, in nanoseconds.
    pub(super) fn book(&self, cpu: u64) {
        self.virtual_time.fetch_add(cpu / self.weight, Relaxed);
    }
}

/// The accounts of a factory.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Tenants that were described; others are as [`Tenant::new`] says.
    tenants: Mutex<HashMap<TenantName, Tenant>>,
    open: Mutex<HashMap<TenantName, Arc<Account>>>,
}

impl Accounts {
    pub(super) fn new(tenants: HashMap<TenantName, Tenant>) -> Self {
        Self { tenants: Mutex::new(tenants), open: Mutex::default() }
    }

    /// Describes tenants that were not described before. An account that is open stays as it is.
    pub(super) fn describe(&self, tenants: &[Tenant]) {
        let mut described = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        for tenant in tenants {
            described.entry(tenant.name.clone()).or_insert_with(|| tenant.clone());
        }
    }

    /// The account of a tenant; the same for as long as anybody holds it.
    pub(super) fn of(&self, name: &TenantName) -> Arc<Account> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = open.get(name) {
            return Arc::clone(account);
        }
        if open.len() >= OPEN {
            open.retain(|_, account| Arc::strong_count(account) > 1);
        }
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let account = match tenants.get(name) {
            Some(tenant) => Account::new(tenant),
            None => Account::new(&Tenant::new(name.clone())),
        };
        let account = Arc::new(account);
        open.insert(name.clone(), Arc::clone(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantName {
        TenantName::new(name).unwrap()
    }

    #[test]
    fn a_tenant_holds_no_more_than_its_limit() {
        let account = Account::new(&Tenant::new(tenant("a")).memory(ByteSize::from_bytes(100)));
        assert!(account.charge(60));
        assert!(!account.charge(41));
        assert!(account.charge(40));
        account.release(60);
        assert_eq!(account.memory(), ByteSize::from_bytes(40));
    }

    #[test]
    fn an_account_that_is_held_stays_and_others_are_closed_when_there_are_many() {
        let accounts = Accounts::default();
        let held = accounts.of(&tenant("held"));
        assert!(held.charge(1));
        for other in 0..3 * OPEN {
            accounts.of(&tenant(&format!("t{other}")));
        }
        assert!(Arc::ptr_eq(&held, &accounts.of(&tenant("held"))));
        assert!(accounts.open.lock().unwrap().len() <= OPEN);
    }
}
