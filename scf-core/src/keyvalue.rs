//! The key-value store that functions share: buckets of a tenant, not bound to one function's state.

use std::{fmt, fmt::Debug};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{BoxError, Entry, FunctionName, Name, Op, Scope, TenantName, Version};

/// A bucket of one tenant. Buckets of the same name of two tenants are two buckets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "two parts are all that a bucket is")]
pub struct Bucket {
    /// Whose it is: the tenant on whose behalf the call is made.
    pub tenant: TenantName,
    /// Its name, as the manifest grants it.
    pub name: Name,
}

impl Bucket {
    /// The function name under which buckets lie in a [`StateBackend`](crate::StateBackend). No function of this
    /// name can be deployed.
    pub const RESERVED: &'static str = "scf-buckets";

    /// Where the bucket lies in a [`StateBackend`](crate::StateBackend).
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the reserved name is a name")]
    pub fn scope(&self) -> Scope {
        let function = FunctionName::new(Self::RESERVED).expect("the reserved name is a name");
        // Neither name can have a slash, so that no two buckets share a scope.
        Scope { function, key: format!("{}/{}", self.tenant, self.name) }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

/// What a [`KeyValue`] store takes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "written with struct update syntax from the default")]
pub struct KeyValueLimits {
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Size of all entries of a bucket, as [`KeyValueLimits::size_of`] counts them.
    pub bucket: u64,
    /// Changes in one [`KeyValue::write`].
    pub changes: usize,
}

impl Default for KeyValueLimits {
    /// Keys of 1 KiB, values of 1 MiB, buckets of 16 MiB, 1000 changes.
    fn default() -> Self {
        Self { key: 1 << 10, value: 1 << 20, bucket: 16 << 20, changes: 1000 }
    }
}

/// Stores what functions keep beside their own state, in buckets of their tenants.
///
/// Used as `Arc<dyn KeyValue>` by the services that isolates offer to guests. Who may use which bucket is
/// checked before it is asked. Implementations pass `conformance::keyvalue` (feature `conformance`).
///
/// # Contract
/// - Each bucket is linearizable: what a call returned is visible to every later call.
/// - `write` and `swap` apply everything or nothing.
/// - A bucket is there as soon as it is written to; an empty one and one that is not there are the same.
/// - What is over [`KeyValue::limits`] is refused before anything is changed.
/// - Cancelling a future leaves the call done or not done, never half done.
#[async_trait]
pub trait KeyValue: Debug + Send + Sync + 'static {
    /// What it takes at most. Never changes.
    fn limits(&self) -> KeyValueLimits;

    /// Reads one value; `Ok(None)` when it is not there. Its version is that of the write that wrote it, and no
    /// two writes of a key have the same.
    ///
    /// # Errors
    /// [`KeyValueError::Key`], [`KeyValueError::Store`].
    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Entry>, KeyValueError>;

    /// Applies `changes`, in order.
    ///
    /// # Errors
    /// As [`KeyValue::get`], [`KeyValueError::Value`], [`KeyValueError::Full`], [`KeyValueError::Changes`].
    async fn write(&self, bucket: &Bucket, changes: Vec<Op>) -> Result<(), KeyValueError>;

    /// Writes `value` if the key's entry is of version `expect`, or is not there when `expect` is none. Answers
    /// whether it was written.
    ///
    /// # Errors
    /// As [`KeyValue::write`].
    async fn swap(
        &self,
        bucket: &Bucket,
        key: &str,
        expect: Option<Version>,
        value: Bytes,
    ) -> Result<bool, KeyValueError>;

    /// The first `most` keys after `after`, or from the first, ascending. Fewer only when there are no more.
    ///
    /// # Errors
    /// As [`KeyValue::get`].
    async fn keys(&self, bucket: &Bucket, after: Option<&str>, most: usize) -> Result<Vec<String>, KeyValueError>;
}

const _: fn(&dyn KeyValue) = |_| {};

/// Why a [`KeyValue`] store did not do what was asked. Nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyValueError {
    /// The key is empty or too long.
    #[error("a key of {size} bytes, where 1 to {limit} are allowed")]
    Key {
        /// Its size in bytes.
        size: usize,
        /// [`KeyValueLimits::key`].
        limit: usize,
    },
    /// The value is too long.
    #[error("a value of {size} bytes, where {limit} are allowed")]
    Value {
        /// Its size in bytes.
        size: usize,
        /// [`KeyValueLimits::value`].
        limit: usize,
    },
    /// The bucket would be too large.
    #[error("the bucket would have {size} bytes, where {limit} are allowed")]
    Full {
        /// What its size would be, in bytes.
        size: u64,
        /// [`KeyValueLimits::bucket`].
        limit: u64,
    },
    /// More changes at once than allowed.
    #[error("{changes} changes at once, where {limit} are allowed")]
    Changes {
        /// How many.
        changes: usize,
        /// [`KeyValueLimits::changes`].
        limit: usize,
    },
    /// Others changed the bucket each time that this was tried.
    #[error("the bucket is written to by too many at the same time")]
    Contended,
    /// The store cannot be reached, or cannot read or write.
    #[error("the key-value store failed")]
    Store {
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl KeyValueLimits {
    /// What an entry takes of its bucket, in bytes: key, value and 64 for keeping them.
    #[must_use]
    pub const fn size_of(key: &str, value: &[u8]) -> u64 {
        key.len() as u64 + value.len() as u64 + 64
    }

    /// Checks a key.
    ///
    /// # Errors
    /// [`KeyValueError::Key`].
    pub const fn check_key(&self, key: &str) -> Result<(), KeyValueError> {
        let (size, limit) = (key.len(), self.key);
        if size == 0 || size > limit { Err(KeyValueError::Key { size, limit }) } else { Ok(()) }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`KeyValueError::Value`].
    pub const fn check_value(&self, value: &[u8]) -> Result<(), KeyValueError> {
        let (size, limit) = (value.len(), self.value);
        if size > limit { Err(KeyValueError::Value { size, limit }) } else { Ok(()) }
    }

    /// Checks the number, keys and values of `changes`.
    ///
    /// # Errors
    /// [`KeyValueError::Changes`], [`KeyValueError::Key`], [`KeyValueError::Value`].
    pub fn check(&self, changes: &[Op]) -> Result<(), KeyValueError> {
        if changes.len() > self.changes {
            return Err(KeyValueError::Changes { changes: changes.len(), limit: self.changes });
        }
        for change in changes {
            match change {
                Op::Put { key, value, .. } => {
                    self.check_key(key)?;
                    self.check_value(value)?;
                }
                Op::Delete { key } => self.check_key(key)?,
                Op::Enqueue { .. } | Op::CancelTimer { .. } => {
                    let source = crate::StateError::Unsupported { what: "accept calls in a bucket".to_owned() };
                    return Err(KeyValueError::Store { source: Box::new(source) });
                }
            }
        }
        Ok(())
    }
}
