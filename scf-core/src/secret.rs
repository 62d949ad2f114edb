//! What functions must know and nobody else may see.

use std::{fmt, fmt::Debug};

use async_trait::async_trait;
use thiserror::Error;

use crate::{BoxError, Name, TenantName};

/// A text that is not shown: neither its `Debug` nor anything else prints it, and it cannot be serialised.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// A secret.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever was granted it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Keeps secrets: an embedding program's own, a file's, a vault's.
///
/// Used as `Arc<dyn Secrets>` by the services that isolates offer to guests. Who may read which secret is
/// checked before it is asked.
#[async_trait]
pub trait Secrets: Debug + Send + Sync + 'static {
    /// The secret `name` of `tenant`, the one whose the function is; `Ok(None)` when there is none.
    ///
    /// Called when a function is deployed, to see that there is one, and whenever a guest asks for it.
    ///
    /// # Errors
    /// [`SecretsError`].
    async fn get(&self, tenant: &TenantName, name: &Name) -> Result<Option<Secret>, SecretsError>;
}

const _: fn(&dyn Secrets) = |_| {};

/// The keeper of secrets does not answer.
#[derive(Debug, Error)]
#[error("secrets cannot be read")]
#[non_exhaustive]
pub struct SecretsError {
    /// Why; must not have a secret in it.
    #[source]
    pub source: BoxError,
}

impl SecretsError {
    /// Secrets cannot be read because of `source`, which must not have a secret in it.
    #[must_use]
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self { source: source.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
