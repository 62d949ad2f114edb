//! The events of a platform.

use crate::sim::{Event, FlowDue};

#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    Deploy(u32),
    Begin(u32),
    Arrive(u32),
    Flow(FlowDue),
    /// What a run waited for is done, if it is still the same run.
    Step(u32, u32),
    /// The same of a replica that starts.
    Start(u32, u32),
    IdleCheck,
    Disturb(u32),
    Suspect(u32),
    /// A battery is empty, if nothing has changed since.
    Empty(u32, u32),
}

impl Event for Happening {
    fn digest(&self) -> u64 {
        let (kind, a, b) = match *self {
            Self::Deploy(function) => (1, function, 0),
            Self::Begin(function) => (2, function, 0),
            Self::Arrive(function) => (3, function, 0),
            Self::Flow(due) => return due.digest() ^ 4 << 60,
            Self::Step(run, serial) => (5, run, serial),
            Self::Start(replica, serial) => (6, replica, serial),
            Self::IdleCheck => (7, 0, 0),
            Self::Disturb(which) => (8, which, 0),
            Self::Suspect(node) => (9, node, 0),
            Self::Empty(node, serial) => (10, node, serial),
        };
        kind << 60 | u64::from(a) << 28 ^ u64::from(b)
    }
}
