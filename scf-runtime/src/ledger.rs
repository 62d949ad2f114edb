//! Who used how much.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use scf_core::{ByteSize, Receipt};

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

/// Adds up the receipts of one function without a lock.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
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
        self.calls.fetch_add(1, Relaxed);
        self.cpu_ns.fetch_add(nanos(receipt.usage.cpu), Relaxed);
        self.wall_ns.fetch_add(nanos(receipt.wall), Relaxed);
        self.bytes_in.fetch_add(receipt.bytes_in.bytes(), Relaxed);
        self.bytes_out.fetch_add(receipt.bytes_out.bytes(), Relaxed);
    }

    /// Books a call that gave no outcome.
    pub(crate) fn book_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Books messages, on the node that sent the request.
    pub(crate) fn book_wire(&self, size: ByteSize) {
        self.on_wire.fetch_add(size.bytes(), Relaxed);
    }

    pub(crate) fn bill(&self) -> Bill {
        Bill {
            calls: self.calls.load(Relaxed),
            failures: self.failures.load(Relaxed),
            cpu: Duration::from_nanos(self.cpu_ns.load(Relaxed)),
            wall: Duration::from_nanos(self.wall_ns.load(Relaxed)),
            bytes_in: ByteSize::from_bytes(self.bytes_in.load(Relaxed)),
            bytes_out: ByteSize::from_bytes(self.bytes_out.load(Relaxed)),
            on_wire: ByteSize::from_bytes(self.on_wire.load(Relaxed)),
        }
    }
}
