//! What calls came to.

use std::time::Duration;

use scf_core::{ByteSize, Spent};

/// What calls came to, on all nodes of this process: those of a function, or those of a tenant.
///
/// What a call used is on the bill whether it gave an outcome or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bill {
    /// Calls that gave an outcome.
    pub calls: u64,
    /// Calls that failed, for whatever reason.
    pub failures: u64,
    /// The failures by reason.
    pub failed: Failures,
    /// CPU time of the isolates, on this CPU.
    pub cpu: Duration,
    /// CPU time of the host for the calls: routing, admission, hand-over, commit, the bill itself.
    pub host: Duration,
    /// Time from acceptance to reply, of the calls that gave an outcome.
    pub wall: Duration,
    /// Memory of the isolates times the time for which they had it: bytes held for one second.
    pub memory_seconds: ByteSize,
    /// Time for which accelerators and other devices were held.
    pub accelerator: Duration,
    /// Size of the inputs of the calls that gave an outcome.
    pub bytes_in: ByteSize,
    /// Size of their outputs.
    pub bytes_out: ByteSize,
    /// Size of all messages between nodes that the calls caused.
    pub on_wire: ByteSize,
    /// What the CPU time of the isolates came to by the rates of the nodes that they ran on.
    pub spent: Spent,
    /// Calls that were sent to a second node as well because they took long.
    pub hedged: u64,
}

/// Why calls failed, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failures {
    /// The input was refused, by its type or by the function.
    pub refused: u64,
    /// The function crashed.
    pub trapped: u64,
    /// A limit was reached, time among them.
    pub limit: u64,
    /// There was no room.
    pub overloaded: u64,
    /// The caller gave up, or the node stopped.
    pub given_up: u64,
    /// State, placement, network or host failed.
    pub host: u64,
}

impl Failures {
    pub(crate) const fn add(&mut self, more: &Self) {
        self.refused += more.refused;
        self.trapped += more.trapped;
        self.limit += more.limit;
        self.overloaded += more.overloaded;
        self.given_up += more.given_up;
        self.host += more.host;
    }
}
