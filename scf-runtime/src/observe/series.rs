//! What is counted of the calls of one function, revision, tenant and node.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use scf_core::Receipt;

use super::{ErrorKind, histogram::Histogram};

/// In nanoseconds: 10 µs, where a call costs little more than its dispatch, to 10 s.
const TIMES: &[u64] = &[
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];
/// In bytes: 64 KiB, a page of a guest, to 4 GiB.
const MEMORY: &[u64] = &[64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30, 4 << 30];
/// In bytes: 256 B to 64 MiB.
const PAYLOADS: &[u64] = &[256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20];
/// The span by which an isolate says how long it took to start.
const INIT: &str = "init";

/// The names of the labels.
pub(super) const LABELS: [&str; 4] = ["faas_name", "faas_version", "tenant", "node"];

/// Counters and histograms of one combination of labels.
#[derive(Debug)]
pub(crate) struct Series {
    /// Values of [`LABELS`], escaped.
    pub(super) labels: [String; 4],
    pub(super) errors: [AtomicU64; ErrorKind::ALL.len()],
    pub(super) cold: AtomicU64,
    pub(super) took: Histogram,
    pub(super) init: Histogram,
    pub(super) cpu: Histogram,
    pub(super) memory: Histogram,
    pub(super) payloads: Histogram,
}

impl Series {
    pub(super) fn new(labels: [&str; 4]) -> Self {
        Self {
            labels: labels.map(crate::escape::escape),
            errors: Default::default(),
            cold: AtomicU64::new(0),
            took: Histogram::new(TIMES),
            init: Histogram::new(TIMES),
            cpu: Histogram::new(TIMES),
            memory: Histogram::new(MEMORY),
            payloads: Histogram::new(PAYLOADS),
        }
    }

    /// Counts a call that gave an outcome.
    pub(super) fn succeeded(&self, receipt: &Receipt) {
        self.took.observe(nanos(receipt.wall));
        self.cpu.observe(nanos(receipt.usage.cpu));
        self.memory.observe(receipt.usage.memory.bytes());
        self.payloads.observe((receipt.bytes_in + receipt.bytes_out).bytes());
        if receipt.cold {
            self.cold.fetch_add(1, Relaxed);
            if let Some(init) = receipt.spans.iter().find(|span| span.name == INIT) {
                self.init.observe(nanos(init.took));
            }
        }
    }

    /// Counts a call that did not.
    pub(super) fn failed(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Relaxed);
    }
}

/// A series for as long as a call takes.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    /// That of the function's own tenant, found before the call.
    Own(&'a Series),
    Other(Arc<Series>),
}

impl Deref for Held<'_> {
    type Target = Series;

    fn deref(&self) -> &Series {
        match self {
            Self::Own(series) => series,
            Self::Other(series) => series,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
