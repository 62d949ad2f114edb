//! Holds a process to its CPU time and memory, and meters both.

use std::{sync::Arc, time::Duration};

use scf_core::{ByteSize, LimitKind, Limits, Meter};

use super::{child::Process, raw::cpu_time};

/// Shortest time between two looks at a process: the tick by which it can go over its CPU time, on each core.
const TICK: Duration = Duration::from_millis(1);
/// Longest time between two looks, which is how long memory can grow unseen where no control group bounds it.
const LOOK: Duration = Duration::from_millis(10);

/// What one call of a process uses, and may use.
///
/// Dropped before the process is, it tells the meter what it had not told yet.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    /// None once the call is over.
    pid: Option<i32>,
    /// CPU time that the process had used before.
    before: Duration,
    /// CPU time of the call that the meter knows of.
    told: Duration,
    meter: Arc<Meter>,
    /// Most memory seen, in bytes.
    peak: u64,
    cores: u32,
    /// Whether the process had said that it is ready before this call.
    was_ready: bool,
}

impl Watch {
    /// Of the first call of a process, whose start is part of the call.
    pub(super) fn first(process: &Process, limits: &Limits, meter: Arc<Meter>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let (before, told) = (Duration::ZERO, Duration::ZERO);
        Self { limits: *limits, pid: Some(process.pid()), before, told, meter, peak: 0, cores, was_ready: false }
    }

    /// Of a call of a process that was started before.
    pub(super) fn later(process: &Process, limits: &Limits, meter: Arc<Meter>) -> Self {
        let mut watch = Self::first(process, limits, meter);
        (watch.before, watch.was_ready) = (process.cpu(), true);
        watch
    }

    pub(super) const fn was_ready(&self) -> bool {
        self.was_ready
    }

    /// CPU time of this call up to now.
    pub(super) fn cpu(&self, process: &Process) -> Duration {
        process.cpu().saturating_sub(self.before)
    }

    /// Tells the meter of CPU time up to `used`.
    fn tell(&mut self, used: Duration) {
        self.meter.add_cpu(used.saturating_sub(self.told));
        self.told = self.told.max(used);
    }

    /// Looks at the process until it is over a limit; ends it then.
    pub(super) async fn run(&mut self, process: &Process) -> LimitKind {
        loop {
            let used = self.cpu(process);
            self.tell(used);
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
        self.meter.saw_memory(ByteSize::from_bytes(self.peak));
        memory.own
    }

    /// CPU time and peak memory of the call, which is over.
    pub(super) fn finish(mut self, process: &Process) -> (Duration, ByteSize) {
        self.look(process);
        let used = self.cpu(process);
        self.tell(used);
        self.pid = None;
        (used, ByteSize::from_bytes(self.peak))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The process has not been reaped: it is dropped after this. Where it has no clock there is nothing to tell.
        if let Some(Ok(cpu)) = self.pid.map(cpu_time) {
            self.tell(cpu.saturating_sub(self.before));
        }
    }
}
