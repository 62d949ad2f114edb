//! A device's memory, and who has it.

use std::sync::{Arc, Mutex, PoisonError};

use scf_core::ByteSize;

use super::AcceleratorError;
use crate::device::Device;

/// The memory of one accelerator. Clones are the same memory.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    device: Device,
    total: ByteSize,
    leased: Mutex<ByteSize>,
}

impl Budget {
    pub(super) fn new(device: Device, total: ByteSize) -> Self {
        Self(Arc::new(Memory { device, total, leased: Mutex::default() }))
    }

    pub(super) fn total(&self) -> ByteSize {
        self.0.total
    }

    pub(super) fn free(&self) -> ByteSize {
        self.0.total.saturating_sub(*self.0.leased.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn lease(&self, size: ByteSize) -> Result<Lease, AcceleratorError> {
        let Memory { device, total, leased } = &*self.0;
        let mut leased = leased.lock().unwrap_or_else(PoisonError::into_inner);
        let free = total.saturating_sub(*leased);
        if size > free {
            return Err(AcceleratorError::Memory { device: *device, asked: size, free, total: *total });
        }
        *leased += size;
        Ok(Lease { budget: self.clone(), size })
    }

    /// Whether `lease` is of this memory.
    pub(super) fn check(&self, lease: &Lease) -> Result<(), AcceleratorError> {
        if Arc::ptr_eq(&self.0, &lease.budget.0) {
            return Ok(());
        }
        Err(AcceleratorError::ForeignLease { device: self.0.device, found: lease.budget.0.device })
    }
}

/// Memory of an accelerator that is set aside; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the memory is given back when the lease is dropped"]
pub struct Lease {
    budget: Budget,
    size: ByteSize,
}

impl Lease {
    /// How much.
    #[must_use]
    pub const fn size(&self) -> ByteSize {
        self.size
    }

    /// Of which accelerator.
    #[must_use]
    pub fn device(&self) -> Device {
        self.budget.0.device
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leased = self.budget.0.leased.lock().unwrap_or_else(PoisonError::into_inner);
        *leased = leased.saturating_sub(self.size);
    }
}
