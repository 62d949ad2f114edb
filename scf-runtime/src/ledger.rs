//! Who used how much.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use scf_core::{ByteSize, Receipt};

use crate::spread::{Apart, PARTS, here};

/// What the calls of one function came to, on all nodes of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bill {
    /// Calls that gave an outcome.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// CPU time of its isolates, on this CPU.
    pub cpu: Duration,
    /// Time from acceptance to reply.
    pub wall: Duration,
    /// Size of all inputs.
    pub bytes_in: ByteSize,
    /// Size of all outputs.
    pub bytes_out: ByteSize,
    /// Size of all messages between nodes that its calls caused.
    pub on_wire: ByteSize,
}

/// Adds up the receipts of one function without a lock, apart for each core.
#[derive(Debug, Default)]
pub(crate) struct Ledger([Apart<Sums>; PARTS]);

#[derive(Debug, Default)]
struct Sums {
    calls: AtomicU64,
    failures: AtomicU64,
    cpu_ns: AtomicU64,
    wall_ns: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    on_wire: AtomicU64,
}

impl Ledger {
    /// Books a call on the node that ran it.
    pub(crate) fn book(&self, receipt: &Receipt) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let sums = &self.0[here()];
        sums.calls.fetch_add(1, Relaxed);
        sums.cpu_ns.fetch_add(nanos(receipt.usage.cpu), Relaxed);
        sums.wall_ns.fetch_add(nanos(receipt.wall), Relaxed);
        sums.bytes_in.fetch_add(receipt.bytes_in.bytes(), Relaxed);
        sums.bytes_out.fetch_add(receipt.bytes_out.bytes(), Relaxed);
    }

    /// Books a call that gave no outcome.
    pub(crate) fn book_failure(&self) {
        self.0[here()].failures.fetch_add(1, Relaxed);
    }

    /// Books messages, on the node that sent the request.
    pub(crate) fn book_wire(&self, size: ByteSize) {
        self.0[here()].on_wire.fetch_add(size.bytes(), Relaxed);
    }

    pub(crate) fn bill(&self) -> Bill {
        let sum = |of: fn(&Sums) -> &AtomicU64| self.0.iter().map(|sums| of(sums).load(Relaxed)).sum();
        Bill {
            calls: sum(|sums| &sums.calls),
            failures: sum(|sums| &sums.failures),
            cpu: Duration::from_nanos(sum(|sums| &sums.cpu_ns)),
            wall: Duration::from_nanos(sum(|sums| &sums.wall_ns)),
            bytes_in: ByteSize::from_bytes(sum(|sums| &sums.bytes_in)),
            bytes_out: ByteSize::from_bytes(sum(|sums| &sums.bytes_out)),
            on_wire: ByteSize::from_bytes(sum(|sums| &sums.on_wire)),
        }
    }
}
