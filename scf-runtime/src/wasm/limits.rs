//! What one call of a guest may hold.

use scf_core::ByteSize;
use wasmtime::ResourceLimiter;

/// Elements that all tables of a call have at most.
const TABLE_ELEMENTS: usize = 20_000;
/// Core instances, tables and memories of a call.
const INSTANCES: usize = 64;
const TABLES: usize = 64;
const MEMORIES: usize = 16;

/// Adds up the memory of one call over all of its memories, and refuses what goes over the limit.
///
/// wasmtime's own limits are per memory.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: usize,
    /// What one memory can have, whatever the limit is.
    slot: usize,
    memory: usize,
    table_elements: usize,
    refused: bool,
}

impl Ledger {
    pub(super) fn new(limit: ByteSize, slot: ByteSize) -> Self {
        let [limit, slot] = [limit, slot].map(|size| usize::try_from(size.bytes()).unwrap_or(usize::MAX));
        Self { limit, slot, memory: 0, table_elements: 0, refused: false }
    }

    /// What the memories came to; they never shrink.
    pub(super) fn memory(&self) -> ByteSize {
        ByteSize::from_bytes(self.memory as u64)
    }

    /// Whether more memory was asked for than there is.
    pub(super) const fn has_refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Ledger {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The memory's own declaration forbids it.
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        let fits = desired <= self.slot && self.memory.checked_add(more).is_some_and(|all| all <= self.limit);
        if fits {
            self.memory += more;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = self.table_elements.checked_add(more).is_some_and(|all| all <= TABLE_ELEMENTS);
        if fits {
            self.table_elements += more;
        }
        Ok(fits)
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
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn memories_are_added_up() {
        let mut ledger = Ledger::new(ByteSize::from_mib(4), ByteSize::from_mib(64));
        assert!(ledger.memory_growing(0, 3 * MIB, None).unwrap());
        assert!(!ledger.memory_growing(0, 2 * MIB, None).unwrap());
        assert!(ledger.has_refused());
        assert!(ledger.memory_growing(3 * MIB, 4 * MIB, None).unwrap());
        assert_eq!(ledger.memory(), ByteSize::from_mib(4));
    }

    #[test]
    fn a_memory_is_refused_what_its_slot_cannot_hold() {
        let mut ledger = Ledger::new(ByteSize::from_mib(4), ByteSize::from_mib(2));
        assert!(!ledger.memory_growing(MIB, 3 * MIB, None).unwrap());
        assert!(ledger.has_refused());
        assert_eq!(ledger.memory(), ByteSize::ZERO);
    }

    #[test]
    fn a_memory_that_forbids_itself_to_grow_is_not_refused_anything() {
        let mut ledger = Ledger::new(ByteSize::from_mib(4), ByteSize::from_mib(64));
        assert!(!ledger.memory_growing(MIB, 2 * MIB, Some(MIB)).unwrap());
        assert!(!ledger.has_refused());
    }
}
