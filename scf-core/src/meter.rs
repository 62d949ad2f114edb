//! What a call has used, as it arises.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{ByteSize, Usage};

/// Adds up what a call uses while it runs.
///
/// An isolate tells it as it arises; a reply says the same once more, for the receipt. Of a call that fails or is
/// given up there is no reply, and this is what it is billed. A call that is run again, because its state moved
/// on meanwhile, adds to the same meter.
#[derive(Debug, Default)]
pub struct Meter {
    cpu_ns: AtomicU64,
    memory: AtomicU64,
    accelerator_ns: AtomicU64,
    /// One more than the number, so that none can be told from zero.
    fuel: AtomicU64,
    host_ns: AtomicU64,
}

impl Meter {
    /// Counts CPU time on this CPU, not stretched by an emulated node's slowdown.
    #[inline]
    pub fn add_cpu(&self, time: Duration) {
        self.cpu_ns.fetch_add(nanos(time), Relaxed);
    }

    /// Notes that the isolate has, or had, so much memory; the highest counts.
    #[inline]
    pub fn saw_memory(&self, memory: ByteSize) {
        self.memory.fetch_max(memory.bytes(), Relaxed);
    }

    /// Counts time for which an accelerator or another attached device was held.
    pub fn add_accelerator(&self, time: Duration) {
        self.accelerator_ns.fetch_add(nanos(time), Relaxed);
    }

    /// Counts instructions, where the isolate does.
    pub fn add_fuel(&self, instructions: u64) {
        self.fuel.fetch_max(1, Relaxed);
        self.fuel.fetch_add(instructions, Relaxed);
    }

    /// Counts CPU time that threads of the host used for the call beside those that it came on: for its turns,
    /// and to interrupt it.
    pub fn add_host(&self, time: Duration) {
        self.host_ns.fetch_add(nanos(time), Relaxed);
    }

    /// What was counted by [`Meter::add_host`] so far.
    #[must_use]
    #[inline]
    pub fn host(&self) -> Duration {
        Duration::from_nanos(self.host_ns.load(Relaxed))
    }

    /// The CPU time so far.
    #[must_use]
    #[inline]
    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Relaxed))
    }

    /// What it came to so far.
    #[must_use]
    #[inline]
    pub fn usage(&self) -> Usage {
        Usage {
            cpu: self.cpu(),
            memory: ByteSize::from_bytes(self.memory.load(Relaxed)),
            accelerator: Duration::from_nanos(self.accelerator_ns.load(Relaxed)),
            fuel: self.fuel.load(Relaxed).checked_sub(1),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_the_highest_memory_counts_and_no_fuel_is_not_zero_fuel() {
        let meter = Meter::default();
        assert_eq!(meter.usage(), Usage::default());
        for (cpu, memory) in [(3, 64), (4, 128), (5, 32)] {
            meter.add_cpu(Duration::from_millis(cpu));
            meter.saw_memory(ByteSize::from_kib(memory));
        }
        meter.add_fuel(0);
        assert_eq!(meter.usage().fuel, Some(0));
        meter.add_fuel(7);
        meter.add_accelerator(Duration::from_secs(1));
        assert_eq!(meter.host(), Duration::ZERO);
        meter.add_host(Duration::from_micros(5));
        assert_eq!(meter.host(), Duration::from_micros(5));
        let expected = Usage {
            cpu: Duration::from_millis(12),
            memory: ByteSize::from_kib(128),
            accelerator: Duration::from_secs(1),
            fuel: Some(7),
        };
        assert_eq!(meter.usage(), expected);
    }
}
