//! How many calls of a function run at once, where an autoscaler says.

use std::{fmt, sync::Arc};

use scf_core::{Autoscaler, Function, Load, Timestamp};

/// Makes the autoscaler of a function when it is deployed to a node.
pub(crate) type ScalerFor = Arc<dyn Fn(&Function) -> Box<dyn Autoscaler> + Send + Sync>;

/// A function's autoscaler and what it said last.
pub(crate) struct Scaler {
    policy: Box<dyn Autoscaler>,
    current: u32,
}

impl Scaler {
    pub(crate) fn new(policy: Box<dyn Autoscaler>, current: u32) -> Self {
        Self { policy, current }
    }

    /// What it wants now under `load`, of which it knows itself what it said last; at most `most`; zero: the function is
    /// dormant.
    pub(crate) fn desired(&mut self, load: Load, most: u32) -> u32 {
        self.current = self.policy.desired(&Load { current: self.current, ..load }).min(most);
        self.current
    }

    /// When the function should be started again although nobody calls it.
    pub(crate) fn wakes_at(&self) -> Option<Timestamp> {
        self.policy.wakes_at()
    }
}

impl fmt::Debug for Scaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scaler").field("policy", &self.policy).field("current", &self.current).finish()
    }
}
