//! What a queue keeps and how it tries.

use std::time::Duration;

use scf_core::{ByteSize, RetryPolicy};

/// Bounds and terms of an invocation queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct QueueConfig {
    /// Calls that it holds, dead letters included; more are refused. A call that becomes a dead letter stays in
    /// the place that it was accepted into, so there is always room to give one up. At least 1.
    pub calls: u64,
    /// Bytes of their payloads; more are refused.
    pub bytes: ByteSize,
    /// Bytes of one payload; larger ones are refused. Results that are larger are not kept.
    pub payload: ByteSize,
    /// How a call is tried again.
    pub retry: RetryPolicy,
    /// How often the process may end while a call runs before that call is given up. From the second time on it
    /// runs alone, so that no other is taken for the one that ends processes. At least 1.
    pub crashes: u32,
    /// How long a call may be due before it is started, unless it says itself.
    pub max_age: Duration,
    /// How long what became of a completed call is kept.
    pub retention: Duration,
    /// Completed calls that are kept; the oldest is forgotten. A call that is accepted again after that is a new one.
    pub results: usize,
    /// Bytes of their results.
    pub result_bytes: ByteSize,
    /// Decides the jitter of retries.
    pub seed: u64,
}

impl Default for QueueConfig {
    /// 100 000 calls and 256 MiB, payloads of 4 MiB, retries as [`RetryPolicy::default`], given up after 4 crashes or
    /// a day; 100 000 results and 256 MiB of them for a day; seed 0.
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            calls: 100_000,
            bytes: ByteSize::from_mib(256),
            payload: ByteSize::from_mib(4),
            retry: RetryPolicy::default(),
            crashes: 4,
            max_age: day,
            retention: day,
            results: 100_000,
            result_bytes: ByteSize::from_mib(256),
            seed: 0,
        }
    }
}
