//! What lies between nodes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Bandwidth, ByteSize, Timestamp};

/// A link between two nodes, the same in both directions, as an operator describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "written as a literal by everyone who describes a network")]
pub struct Link {
    /// One-way delay of the first bit.
    pub latency: Duration,
    /// Rate of each direction.
    pub bandwidth: Bandwidth,
}

/// The way between two nodes as it was last measured, over however many links it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "planners and their tests write it as a literal")]
pub struct Path {
    /// One-way delay of the first bit.
    pub latency: Duration,
    /// Rate of the narrowest part.
    pub bandwidth: Bandwidth,
    /// When the later of the two was measured.
    pub measured: Timestamp,
}

impl Path {
    /// The way from a node to itself.
    pub const HERE: Self = Self {
        latency: Duration::ZERO,
        bandwidth: Bandwidth::from_bits_per_s(u64::MAX),
        measured: Timestamp::from_nanos(0),
    };

    /// One-way time of a message of `size`.
    #[must_use]
    pub fn time_for(&self, size: ByteSize) -> Duration {
        self.latency.saturating_add(self.bandwidth.time_for(size))
    }
}

/// How well a way carries what is put on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "simulators and tests write it as a literal")]
pub struct LinkQuality {
    /// One-way delay of the first bit.
    pub latency: Duration,
    /// Rate of the narrowest part.
    pub bandwidth: Bandwidth,
    /// Standard deviation of the delay.
    pub jitter: Duration,
    /// Messages lost, in parts per million.
    pub loss: u32,
}

impl LinkQuality {
    /// A way that is as good at every time and loses nothing.
    #[must_use]
    pub const fn steady(latency: Duration, bandwidth: Bandwidth) -> Self {
        Self { latency, bandwidth, jitter: Duration::ZERO, loss: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_takes_latency_plus_serialisation() {
        let path = Path {
            latency: Duration::from_millis(25),
            bandwidth: Bandwidth::from_mbit_per_s(20),
            measured: Timestamp::default(),
        };
        assert_eq!(path.time_for(ByteSize::from_bytes(250_000)), Duration::from_millis(125));
        assert_eq!(Path::HERE.time_for(ByteSize::ZERO), Duration::ZERO);
    }
}
