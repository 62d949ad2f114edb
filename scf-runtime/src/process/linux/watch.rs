//! Holds a process to its CPU time and memory, and meters both.

use std::time::Duration;

use scf_core::{LimitKind, Limits};

use super::child::Process;

/// Shortest time between two looks at a process: the tick by which it can go over its CPU time, on each core.
const TICK: Duration = Duration::from_millis(1);
/// Longest time between two looks, which is how long memory can grow unseen where no control group bounds it.
const LOOK: Duration = Duration::from_millis(10);

/// What one call of a process used, and may use.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    /// CPU time that the process had used before.
    before: Duration,
    /// Most memory seen, in bytes.
    peak: u64,
    cores: u32,
    was_ready: bool,
}

impl Watch {
    pub(super) fn new(_: &Process, limits: &Limits, before: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        Self { limits: *limits, before, peak: 0, cores, was_ready: false }
    }

    /// The process had said that it is ready before this call.
    pub(super) const fn with_ready(mut self) -> Self {
        self.was_ready = true;
        self
    }

    pub(super) const fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// CPU time of this call up to now.
    pub(super) fn cpu(&self, process: &Process) -> Duration {
        process.cpu().saturating_sub(self.before)
    }

    /// Looks at the process until it is over a limit; ends it then.
    pub(super) async fn run(&mut self, process: &Process) -> LimitKind {
        loop {
            let used = self.cpu(process);
            let over = if used >= self.limits.cpu {
                Some(LimitKind::Cpu)
            } else if self.look(process) > self.limits.memory.bytes() {
                Some(LimitKind::Memory)
            } else {
                None
            };
            if let Some(limit) = over {
                process.kill();
                return limit;
            }
            let left = (self.limits.cpu - used) / self.cores;
            tokio::time::sleep(left.clamp(TICK, LOOK)).await;
        }
    }

    /// Memory of its own now, in bytes.
    fn look(&mut self, process: &Process) -> u64 {
        let memory = process.memory();
        self.peak = self.peak.max(memory.own).max(memory.peak.saturating_sub(memory.files));
        memory.own
    }

    /// CPU time and peak memory of the call.
    pub(super) fn finish(&mut self, process: &Process) -> (Duration, u64) {
        self.look(process);
        (self.cpu(process), self.peak)
    }
}
