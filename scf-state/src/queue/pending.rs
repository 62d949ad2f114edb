//! What is known in memory about one call that is not done.

use std::{sync::Arc, time::Duration};

use scf_core::{FunctionName, NodeId, Scope, WallTime};

use super::lane::Ticket;

/// A call that the process ended under so often runs alone.
const QUARANTINE: u32 = 2;

/// What is known in memory about a call that is not done.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) function: FunctionName,
    /// Whose calls it takes turns with.
    pub(super) line: Option<Arc<Scope>>,
    pub(super) timer: Option<String>,
    pub(super) every: Option<Duration>,
    pub(super) destination: Option<NodeId>,
    pub(super) max_age: Duration,
    /// When it first became due.
    pub(super) due_since: Option<Duration>,
    pub(super) attempts: u32,
    pub(super) crashes: u32,
    pub(super) bytes: u64,
    pub(super) place: Place,
    pub(super) is_in_line: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Nowhere yet.
    New,
    Passed(Duration),
    Wall(WallTime),
    /// Due, behind another of its line or held back.
    Line,
    Ready(Ticket),
    Running(Run),
    /// Due, and to go to another node, under this number.
    Outbox(u64),
    /// As before, and the other node may have it.
    Offered(u64),
}

/// A lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) token: u64,
    pub(super) until: Duration,
    pub(super) lease: Duration,
}

impl Pending {
    pub(super) fn new(function: FunctionName, line: Option<Scope>, max_age: Duration, bytes: u64) -> Self {
        Self {
            function,
            line: line.map(Arc::new),
            timer: None,
            every: None,
            destination: None,
            max_age,
            due_since: None,
            attempts: 0,
            crashes: 0,
            bytes,
            place: Place::New,
            is_in_line: false,
        }
    }

    pub(super) fn run(&self) -> Option<Run> {
        if let Place::Running(run) = self.place { Some(run) } else { None }
    }

    /// Whether somebody else has it, so that nothing is decided about it here.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.place, Place::Running(_) | Place::Offered(_))
    }

    pub(super) fn is_expired(&self, now: Duration) -> bool {
        self.due_since.is_some_and(|since| now >= since.saturating_add(self.max_age))
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.crashes >= QUARANTINE
    }
}
