//! What the instance of one call may hold.

use std::sync::Arc;

use scf_core::{ByteSize, LimitKind};
use wasmtime::ResourceLimiter;

use super::{account::Account, profile::TABLE};

/// Elements that all tables of a call have at most.
const TABLE_ELEMENTS: usize = 20_000;
/// Core instances, tables and memories of a call.
const INSTANCES: usize = 64;
const TABLES: usize = 64;
const MEMORIES: usize = 16;
/// Handles of component resources that a call has open at the same time.
pub(super) const HANDLES: usize = 1000;
/// What a guest may make the host allocate in one go beside its output, in bytes.
pub(super) const HOST_MEMORY: usize = 8 << 20;

/// Adds up the memory of one instance over all of its memories, and refuses what goes over the function's limit
/// or what is left of the tenant's.
///
/// wasmtime's own limits are per memory.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: usize,
    /// What one memory can have, whatever the limit is.
    slot: usize,
    /// Who is charged for it.
    account: Arc<Account>,
    memory: usize,
    table_elements: usize,
    refused: Option<LimitKind>,
}

impl Ledger {
    pub(super) fn new(limit: ByteSize, slot: ByteSize, account: Arc<Account>) -> Self {
        let [limit, slot] = [limit, slot].map(|size| usize::try_from(size.bytes()).unwrap_or(usize::MAX));
        Self { limit, slot, account, memory: 0, table_elements: 0, refused: None }
    }

    /// What the memories came to; they never shrink.
    pub(super) fn memory(&self) -> ByteSize {
        ByteSize::from_bytes(self.memory as u64)
    }

    /// Who is charged.
    pub(super) const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The limit at which more was refused, if any was.
    pub(super) const fn refused(&self) -> Option<LimitKind> {
        self.refused
    }

    /// Charges `account` from now on for what the instance has. Answers whether that has so much left.
    pub(super) fn charge_to(&mut self, account: &Arc<Account>) -> bool {
        if Arc::ptr_eq(&self.account, account) {
            return true;
        }
        if !account.charge(self.memory) {
            return false;
        }
        self.account.release(self.memory);
        self.account = Arc::clone(account);
        true
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.account.release(self.memory);
    }
}

impl ResourceLimiter for Ledger {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum && maximum < self.slot) {
            // The memory's own declaration forbids it.
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let fits = desired <= self.slot && self.memory.checked_add(more).is_some_and(|all| all <= self.limit);
        if !fits {
            self.refused = Some(LimitKind::Memory);
        } else if !self.account.charge(more) {
            self.refused = Some(LimitKind::TenantMemory);
        } else {
            self.memory += more;
            return Ok(true);
        }
        Ok(false)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused.get_or_insert(LimitKind::Memory);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum && maximum < TABLE) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let fits = desired <= TABLE && self.table_elements.checked_add(more).is_some_and(|all| all <= TABLE_ELEMENTS);
        if fits {
            self.table_elements += more;
        } else {
            self.refused = Some(LimitKind::Table);
        }
        Ok(fits)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused.get_or_insert(LimitKind::Table);
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Tenant, TenantName};

    use super::*;

    const MIB: usize = 1 << 20;

    fn account(mib: u64) -> Arc<Account> {
        Arc::new(Account::new(&Tenant::new(TenantName::default()).memory(ByteSize::from_mib(mib))))
    }

    fn ledger(limit: u64, slot: u64) -> Ledger {
        Ledger::new(ByteSize::from_mib(limit), ByteSize::from_mib(slot), account(1000))
    }

    #[test]
    fn memories_are_added_up() {
        let mut ledger = ledger(4, 64);
        assert!(ledger.memory_growing(0, 3 * MIB, None).unwrap());
        assert!(!ledger.memory_growing(0, 2 * MIB, None).unwrap());
        assert_eq!(ledger.refused(), Some(LimitKind::Memory));
        assert!(ledger.memory_growing(3 * MIB, 4 * MIB, None).unwrap());
        assert_eq!(ledger.memory(), ByteSize::from_mib(4));
    }

    #[test]
    fn a_memory_is_refused_what_its_slot_cannot_hold() {
        let mut ledger = ledger(4, 2);
        assert!(!ledger.memory_growing(MIB, 3 * MIB, None).unwrap());
        assert_eq!(ledger.refused(), Some(LimitKind::Memory));
        assert_eq!(ledger.memory(), ByteSize::ZERO);
    }

    #[test]
    fn a_memory_that_forbids_itself_to_grow_is_not_refused_anything() {
        let mut ledger = ledger(4, 64);
        assert!(!ledger.memory_growing(MIB, 2 * MIB, Some(MIB)).unwrap());
        assert_eq!(ledger.refused(), None);
    }

    #[test]
    fn a_memory_that_may_grow_to_all_of_its_slot_is_refused_more() {
        let mut ledger = ledger(64, 4);
        assert!(!ledger.memory_growing(MIB, 5 * MIB, Some(4 * MIB)).unwrap());
        assert_eq!(ledger.refused(), Some(LimitKind::Memory));
    }

    #[test]
    fn the_ledgers_of_a_tenant_share_its_memory_and_give_it_back() {
        let tenant = account(5);
        let ledger = || Ledger::new(ByteSize::from_mib(4), ByteSize::from_mib(4), Arc::clone(&tenant));
        let (mut first, mut second) = (ledger(), ledger());
        assert!(first.memory_growing(0, 3 * MIB, None).unwrap());
        assert!(!second.memory_growing(0, 3 * MIB, None).unwrap());
        assert_eq!(second.refused(), Some(LimitKind::TenantMemory));
        drop(first);
        assert!(second.memory_growing(0, 3 * MIB, None).unwrap());
        assert_eq!(tenant.memory(), ByteSize::from_mib(3));
    }

    #[test]
    fn who_calls_a_kept_instance_is_charged_for_it() {
        let (owner, caller, poor) = (account(10), account(10), account(1));
        let mut ledger = Ledger::new(ByteSize::from_mib(4), ByteSize::from_mib(4), Arc::clone(&owner));
        assert!(ledger.memory_growing(0, 2 * MIB, None).unwrap());
        assert!(!ledger.charge_to(&poor));
        assert!(ledger.charge_to(&caller));
        assert_eq!(
            (owner.memory(), caller.memory(), poor.memory()),
            (ByteSize::ZERO, ByteSize::from_mib(2), ByteSize::ZERO)
        );
    }

    #[test]
    fn tables_are_added_up() {
        let mut ledger = ledger(4, 64);
        assert!(ledger.table_growing(0, TABLE, None).unwrap());
        assert!(ledger.table_growing(0, TABLE, None).unwrap());
        assert!(!ledger.table_growing(0, 1, None).unwrap());
        assert_eq!(ledger.refused(), Some(LimitKind::Table));
    }
}
