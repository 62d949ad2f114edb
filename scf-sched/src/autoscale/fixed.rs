//! Always the same.

use scf_core::{Autoscaler, Load};

/// Keeps a function at one number of slots.
#[derive(Clone, Copy, Debug)]
pub struct FixedConcurrency(u32);

impl FixedConcurrency {
    /// `slots` calls at once.
    #[must_use]
    pub const fn new(slots: u32) -> Self {
        Self(slots)
    }
}

impl Autoscaler for FixedConcurrency {
    fn desired(&mut self, _load: &Load) -> u32 {
        self.0
    }
}
