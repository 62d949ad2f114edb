//! How many isolates of a function a node runs.

use std::{fmt::Debug, time::Duration};

use crate::Timestamp;

/// Decides how many calls of one function a node serves at the same time.
///
/// The functions controller owns one per function and node and asks at most every 100 ms, on the way
/// of a call. Synchronous, no I/O, no clock: `load.now` is the time.
pub trait Autoscaler: Debug + Send + 'static {
    /// The wanted number; the controller holds it between 0 and the function's concurrency limit. Zero
    /// means that the function is dormant and the next call wakes it.
    fn desired(&mut self, load: &Load) -> u32;

    /// When the function should be started again although nobody calls it, once it is dormant. Asked when the
    /// function falls asleep. Default: never.
    fn wakes_at(&self) -> Option<Timestamp> {
        None
    }
}

const _: fn(&dyn Autoscaler) = |_| {};

/// What a function has to do on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct Load {
    /// The time.
    pub now: Timestamp,
    /// Calls running.
    pub running: u32,
    /// Calls waiting.
    pub waiting: u32,
    /// What was decided last.
    pub current: u32,
    /// Calls that ended since the autoscaler was asked before.
    pub ended: u32,
    /// For how long calls have held a slot lately, in the mean; zero before the first one ended.
    pub service: Duration,
}

impl Load {
    /// Calls running or waiting.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.running.saturating_add(self.waiting)
    }
}
