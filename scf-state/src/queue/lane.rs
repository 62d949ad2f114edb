//! The calls of one function that could run now.

use std::{collections::VecDeque, time::Duration};

use scf_core::InvocationId;

use super::budget::Budget;

/// A place in a lane: whoever left it in between has another number by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) number: u64,
    pub(super) since: Duration,
}

/// The calls of a function that could run now, in the order in which they could, and how many do.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Those that left their place are passed over.
    pub(super) line: VecDeque<(Ticket, InvocationId)>,
    pub(super) waiting: u64,
    pub(super) running: usize,
    pub(super) budget: Budget,
    /// Whether it has a turn.
    pub(super) has_turn: bool,
}
