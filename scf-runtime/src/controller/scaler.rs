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

    /// What it wants now, at most `most`; zero: the function is dormant.
    pub(crate) fn desired(&mut self, now: Timestamp, running: u32, waiting: u32, most: u32) -> u32 {
        let load = Load { now, running, waiting, current: self.current, ..Load::default() };
        self.current = self.policy.desired(&load).min(most);
        self.current
    }
}

impl fmt::Debug for Scaler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scaler").field("policy", &self.policy).field("current", &self.current).finish()
    }
}
