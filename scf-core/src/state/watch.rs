//! Word of changes.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{StateError, Version};

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Watched {
    /// Values were written or removed. Read them: by then they may have changed again.
    Change {
        /// The scope's version after it.
        version: Version,
        /// The keys under the prefix, without order; one may be named though it was not changed.
        keys: Vec<String>,
    },
    /// Changes up to `version` may have been missed: read everything again.
    Gap {
        /// The version up to which nothing is known.
        version: Version,
    },
}

/// Word of the changes of one scope, from [`StateBackend::watch`](super::StateBackend::watch).
///
/// A hint: what was missed is told as a [`Watched::Gap`], but a watcher that hears nothing for long should
/// read all the same. Values that expire are no changes.
#[async_trait]
pub trait Watch: Debug + Send {
    /// Waits for the next change. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] when the backend is gone; asking again may help.
    async fn next(&mut self) -> Result<Watched, StateError>;
}

const _: fn(&dyn Watch) = |_| {};
