//! Amounts with their unit in the type.

use std::{
    fmt,
    ops::{Add, AddAssign},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// An amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// An amount in bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// An amount in KiB, 1024 bytes each; saturates.
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// An amount in MiB, 1024 KiB each; saturates.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// The amount in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// What is left after taking `other` away, or nothing.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Add for ByteSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for ByteSize {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b if b < 10 << 10 => write!(f, "{b} B"),
            b if b < 10 << 20 => write!(f, "{:.1} KiB", b as f64 / 1024.0),
            b => write!(f, "{:.1} MiB", b as f64 / 1_048_576.0),
        }
    }
}

/// A rate of data in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bandwidth(u64);

impl Bandwidth {
    /// A rate in bits per second.
    #[must_use]
    pub const fn from_bits_per_s(bits: u64) -> Self {
        Self(bits)
    }

    /// A rate in Mbit/s, 10^6 bits per second each.
    #[must_use]
    pub const fn from_mbit_per_s(mbit: u64) -> Self {
        Self(mbit.saturating_mul(1_000_000))
    }

    /// The rate in bits per second.
    #[must_use]
    pub const fn bits_per_s(self) -> u64 {
        self.0
    }

    /// How long `size` takes to be put on the wire; [`Duration::MAX`] at a rate of zero.
    #[must_use]
    pub fn time_for(self, size: ByteSize) -> Duration {
        if self.0 == 0 {
            return Duration::MAX;
        }
        Duration::from_secs_f64(size.0 as f64 * 8.0 / self.0 as f64)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} Mbit/s", self.0 as f64 / 1e6)
    }
}

/// An amount of processor: 1000 is one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MilliCpu(u32);

impl MilliCpu {
    /// Thousandths of a core.
    #[must_use]
    pub const fn new(milli: u32) -> Self {
        Self(milli)
    }

    /// Whole cores; saturates.
    #[must_use]
    pub const fn from_cores(cores: u32) -> Self {
        Self(cores.saturating_mul(1000))
    }

    /// The amount in thousandths of a core.
    #[must_use]
    pub const fn milli(self) -> u32 {
        self.0
    }

    /// What is left after taking `other` away, or nothing.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} cores", f64::from(self.0) / 1000.0)
    }
}

/// How many times slower a node computes than the CPU that emulates it; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slowdown(f32);

impl Slowdown {
    /// As fast as this CPU.
    pub const NONE: Self = Self(1.0);

    /// `times` slower than this CPU; anything that is no number of at least 1 counts as 1.
    #[must_use]
    pub fn new(times: f32) -> Self {
        Self(if times.is_finite() && times > 1.0 { times } else { 1.0 })
    }

    /// The factor.
    #[must_use]
    pub const fn factor(self) -> f32 {
        self.0
    }

    /// What `cpu` of this CPU comes to on the slower one.
    #[must_use]
    pub fn stretch(self, cpu: Duration) -> Duration {
        cpu.mul_f64(f64::from(self.0))
    }
}

impl Default for Slowdown {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_megabit_takes_a_second_for_125_kilobytes() {
        let time = Bandwidth::from_mbit_per_s(1).time_for(ByteSize::from_bytes(125_000));
        assert_eq!(time, Duration::from_secs(1));
        assert_eq!(Bandwidth::from_bits_per_s(0).time_for(ByteSize::ZERO), Duration::MAX);
    }

    #[test]
    fn slowdown_never_speeds_up() {
        for times in [0.5, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(Slowdown::new(times), Slowdown::NONE);
        }
        assert_eq!(Slowdown::new(8.0).stretch(Duration::from_millis(2)), Duration::from_millis(16));
    }

    #[test]
    fn prints_its_unit() {
        assert_eq!(ByteSize::from_kib(64).to_string(), "64.0 KiB");
        assert_eq!(Bandwidth::from_mbit_per_s(50).to_string(), "50.0 Mbit/s");
    }
}
