//! The clock of a fabric, which is not read where a meter has just done so.

use std::{ops::Deref, sync::Arc};

use scf_core::{Clock, Timestamp};

use crate::{clock::SystemClock, cpu};

/// A clock, and how it relates to the one that meters read.
#[derive(Clone, Debug)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    /// What meters read when it was zero, where both count the same seconds.
    start: Option<u64>,
}

impl Time {
    /// The machine's, or one that was given.
    pub(crate) fn new(given: Option<Arc<dyn Clock>>) -> Self {
        match given {
            Some(clock) => Self { clock, start: None },
            None => {
                let clock = SystemClock::new();
                let start = Some(clock.start());
                Self { clock: Arc::new(clock), start }
            }
        }
    }

    pub(crate) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The time at which a meter last began or ended in the poll that runs now. Only inside of a meter, and as long
    /// as nothing that takes time has happened since.
    pub(crate) fn marked(&self) -> Timestamp {
        match self.start {
            Some(start) => Timestamp::from_nanos(cpu::marked().saturating_sub(start)),
            None => self.clock.now(),
        }
    }
}

impl Deref for Time {
    type Target = dyn Clock;

    fn deref(&self) -> &Self::Target {
        &*self.clock
    }
}
