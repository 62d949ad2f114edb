//! Secrets that the embedding program knows.

use std::collections::HashMap;

use async_trait::async_trait;
use scf_core::{Name, Secret, Secrets, SecretsError, TenantName};

/// Secrets in the memory of this process.
#[derive(Debug, Default)]
#[must_use]
pub struct MemorySecrets {
    secrets: HashMap<(TenantName, Name), Secret>,
}

impl MemorySecrets {
    /// No secrets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a secret of `tenant`'s functions, in place of an earlier one of that name.
    pub fn with(mut self, tenant: TenantName, name: Name, secret: Secret) -> Self {
        self.secrets.insert((tenant, name), secret);
        self
    }
}

#[async_trait]
impl Secrets for MemorySecrets {
    async fn get(&self, tenant: &TenantName, name: &Name) -> Result<Option<Secret>, SecretsError> {
        Ok(self.secrets.get(&(tenant.clone(), name.clone())).cloned())
    }
}
