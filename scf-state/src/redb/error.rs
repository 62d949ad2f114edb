//! What redb and the disk report, and what becomes of it.

use scf_core::{BoxError, Scope, StateError};
use thiserror::Error;

/// Why a state store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be opened, or another process has it open.
    #[error("the state file could not be opened")]
    Disk(#[source] std::io::Error),
    /// The disk holds something that is no state store, or one that was written by a newer version.
    #[error("the disk holds no state store that can be opened")]
    Store(#[source] BoxError),
}

#[derive(Debug, Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Redb(Box<redb::Error>),
    #[error(transparent)]
    Disk(#[from] std::io::Error),
    #[error("a record cannot be decoded")]
    Record(#[from] postcard::Error),
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("the store has format {found}, this program knows {known}")]
    Format { found: u32, known: u32 },
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for EngineError {
            fn from(error: redb::$error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError, SetDurabilityError);

/// A failure and the scope that was worked on.
pub(super) struct Failure<'a>(pub(super) &'a Scope, pub(super) EngineError);

impl From<Failure<'_>> for StateError {
    fn from(Failure(scope, error): Failure<'_>) -> Self {
        match error {
            EngineError::Record(_) | EngineError::Malformed(_) => {
                Self::Corrupt { scope: scope.clone(), what: error.to_string() }
            }
            EngineError::Redb(error) => match *error {
                redb::Error::Corrupted(what) => Self::Corrupt { scope: scope.clone(), what },
                other => Self::Unavailable { reason: other.to_string() },
            },
            EngineError::Format { .. } | EngineError::Disk(_) => Self::Unavailable { reason: error.to_string() },
        }
    }
}
