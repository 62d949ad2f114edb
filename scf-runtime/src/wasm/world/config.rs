//! `wasi:config` in both versions: the manifest's configuration and, by `secret:NAME`, secrets.

use scf_core::Name;

use super::{
    World,
    bindings::wasi::{config0_2_0_draft_2024_09_27::store as draft, config0_2_0_rc_1::store as rc1},
};

/// What the keys of secrets begin with. The rest is the secret's name.
pub(super) const SECRET: &str = "secret:";

impl World {
    /// The value of a key; none when there is none; an error says why a secret cannot be had.
    async fn configured(&mut self, key: &str) -> Result<Option<String>, String> {
        let Some(name) = key.strip_prefix(SECRET) else {
            let found = self.plan.grants.config.iter().find(|(found, _)| found == key);
            return Ok(found.map(|(_, value)| value.clone()));
        };
        let name = Name::new(name).ok().filter(|name| self.plan.grants.secrets.contains(name));
        let (Some(name), Some(secrets)) = (name, &self.plan.services.secrets) else {
            return Err("the secret is not granted".into());
        };
        match secrets.get(&self.plan.tenant, &name).await {
            Ok(secret) => Ok(secret.map(|secret| secret.reveal().to_owned())),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(faas.name = %self.plan.function, error, "a secret was not read");
                Err("secrets cannot be read".into())
            }
        }
    }
}

impl rc1::Host for World {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, rc1::Error>> {
        Ok(self.configured(&key).await.map_err(rc1::Error::Upstream))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, rc1::Error>> {
        Ok(Ok(self.plan.grants.config.clone()))
    }
}

impl draft::Host for World {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, draft::Error>> {
        Ok(self.configured(&key).await.map_err(draft::Error::Upstream))
    }

    async fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, draft::Error>> {
        Ok(Ok(self.plan.grants.config.clone()))
    }
}
