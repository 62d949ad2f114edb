//! Versions of a function and the names that traffic is sent to them by.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Name;

/// One deployment of a function's name, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// The revision of that number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// Which revision of a function a call wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Qualifier {
    /// Where the function's traffic goes by default.
    #[default]
    Live,
    /// Where the alias points; an alias may split its traffic between revisions by weight.
    Alias(Name),
    /// Exactly this one.
    Revision(Revision),
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Alias(alias) => fmt::Display::fmt(alias, f),
            Self::Revision(revision) => fmt::Display::fmt(revision, f),
        }
    }
}
