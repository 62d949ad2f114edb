//! Civil time, for values that expire.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use scf_core::{Clock, Entry, WallTime};

/// Where a backend reads civil time.
#[derive(Clone, Debug, Default)]
pub(crate) enum Wall {
    /// The machine's clock.
    #[default]
    System,
    /// A clock that was given.
    Given(Arc<dyn Clock>),
}

impl Wall {
    pub(crate) fn now(&self) -> WallTime {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Given(clock) => clock.wall(),
        }
    }

    /// Whether `entry` is there now. Reads the clock only for one that expires.
    pub(crate) fn lives(&self, entry: &Entry) -> bool {
        entry.expires.is_none() || entry.lives(self.now())
    }
}
