//! What redb and the disk report, and what becomes of it.

use std::io;

use scf_core::{BoxError, Scope, StateError};
use thiserror::Error;

use crate::disk::SealError;

/// Why a state store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file could not be opened, or another process has it open.
    #[error("the state file could not be opened")]
    Disk(#[source] io::Error),
    /// What seals the disk does not open: damage, another key, another version.
    #[error("the disk cannot be opened")]
    Seal(#[from] SealError),
    /// The disk holds something that is no state store, or one that was written by a newer version.
    #[error("the disk holds no state store that can be opened")]
    Store(#[source] BoxError),
}

#[derive(Debug, Error)]
pub(super) enum EngineError {
    #[error(transparent)]
    Redb(Box<redb::Error>),
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error("a record cannot be decoded")]
    Record(#[from] postcard::Error),
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("the store has format {found}, this program knows {known}")]
    Format { found: u32, known: u32 },
}

impl EngineError {
    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Disk(error) => Some(error),
            Self::Redb(error) => match &**error {
                redb::Error::Io(error) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether stored bytes are not what was written.
    pub(super) fn is_damage(&self) -> bool {
        self.io().is_some_and(is_damage)
    }

    /// Whether there is no space.
    pub(super) fn is_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        self.io().is_some_and(|error| full.contains(&error.kind()))
    }
}

fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
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
        let scope = scope.clone();
        match error {
            EngineError::Record(_) | EngineError::Malformed(_) => Self::Corrupt { scope, what: error.to_string() },
            EngineError::Redb(error) => match *error {
                redb::Error::Corrupted(what) => Self::Corrupt { scope, what },
                redb::Error::Io(error) if is_damage(&error) => Self::Corrupt { scope, what: error.to_string() },
                other => Self::Unavailable { reason: other.to_string() },
            },
            EngineError::Disk(error) if is_damage(&error) => Self::Corrupt { scope, what: error.to_string() },
            EngineError::Format { .. } | EngineError::Disk(_) => Self::Unavailable { reason: error.to_string() },
        }
    }
}
