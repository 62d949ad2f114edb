//! How a factory of WebAssembly isolates is described.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

#[cfg(feature = "wasi-nn")]
use scf_core::Inference;
use scf_core::{ByteSize, KeyValue, Secrets, Tenant, TenantName};

use super::{
    account::Accounts,
    artefact::Trust,
    engine::Machine,
    error::WasmError,
    factory::{PAGE, Shared, WasmFactory},
    profile::Profile,
    shelf::Shelf,
    source::Sources,
    world::Services,
};
#[cfg(feature = "wasm")]
use super::{compile::Compiler, screen::CodeLimits};

/// Largest component, in bytes.
const CODE: ByteSize = ByteSize::from_mib(8);
/// What one memory can grow to where the builder does not say.
const MEMORY: ByteSize = ByteSize::from_mib(64);

/// Describes a [`WasmFactory`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WasmBuilder {
    profile: Profile,
    instances: Option<u32>,
    memory: Option<ByteSize>,
    fuel: Option<u64>,
    tenants: HashMap<TenantName, Tenant>,
    cache: Option<PathBuf>,
    trusted: Vec<[u8; 32]>,
    size: ByteSize,
    services: Services,
    #[cfg(feature = "wasm")]
    limits: CodeLimits,
    #[cfg(feature = "wasm")]
    compiler: Compiler,
}

impl WasmBuilder {
    /// [`Profile::Gateway`]: 256 instances of 64 MiB, no cache, no trusted key.
    pub(super) fn new() -> Self {
        Self {
            profile: Profile::Gateway,
            instances: None,
            memory: None,
            fuel: None,
            tenants: HashMap::new(),
            cache: None,
            trusted: Vec::new(),
            size: CODE,
            services: Services::NONE,
            #[cfg(feature = "wasm")]
            limits: CodeLimits::DEFAULT,
            #[cfg(feature = "wasm")]
            compiler: Compiler::InProcess,
        }
    }

    /// What components are compiled for; default [`Profile::Gateway`].
    pub const fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Calls that can run at the same time, over all functions; more are refused as overload. Default 256, of
    /// [`Profile::Server`] 1000, of [`Profile::Tiny`] 16. Fewer, and a warning, where the device has no room for
    /// so many: see [`WasmFactory::instances`].
    pub const fn instances(mut self, instances: u32) -> Self {
        self.instances = Some(instances);
        self
    }

    /// What one memory can grow to, and so the highest memory limit that a function can have. Default 64 MiB, of
    /// [`Profile::Tiny`] 16 MiB, each also the most but with [`Profile::Server`], which has 4 GiB. Rounded up to
    /// 64 KiB. A bulk memory operation cannot be interrupted: one over 64 MiB takes some 20 ms, one over 1 GiB up
    /// to a second.
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = Some(memory);
        self
    }

    /// Counts the instructions of every call and ends a call at `fuel` of them, wherever it runs and whatever else
    /// runs there; the receipt says how many it took. Default: not counted, since numeric code takes up to two and
    /// a half times as long then.
    pub const fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = Some(fuel);
        self
    }

    /// Memory that all isolates of a tenant may have at the same time; default what the fabric was given for the
    /// tenant, or 4 GiB.
    pub fn tenant_memory(self, tenant: TenantName, memory: ByteSize) -> Self {
        self.tenant(tenant, |tenant| tenant.memory(memory))
    }

    /// Share of the cores that a tenant's calls have beside those of other tenants, once they run for longer than
    /// a few milliseconds; default what the fabric was given for the tenant, or 1.
    pub fn tenant_weight(self, tenant: TenantName, weight: u32) -> Self {
        self.tenant(tenant, |tenant| tenant.weight(weight))
    }

    fn tenant(mut self, name: TenantName, change: impl FnOnce(Tenant) -> Tenant) -> Self {
        let before = self.tenants.remove(&name).unwrap_or_else(|| Tenant::new(name.clone()));
        self.tenants.insert(name, change(before));
        self
    }

    /// Keeps compiled components in this directory, made if it is not there. Default: nowhere.
    ///
    /// Nobody else must be able to write there; entries are checked all the same before they are loaded.
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// Runs artefacts that the holder of this Ed25519 key signed; can be called for several keys. Default: none.
    ///
    /// An artefact is machine code: who has the secret key can do here whatever this process can.
    pub fn trust(mut self, key: [u8; 32]) -> Self {
        self.trusted.push(key);
        self
    }

    /// Size of the largest component; artefacts may be four times as large. Default 8 MiB, which is enough for
    /// components of languages that compile to machine code; interpreters in components take 10 to 40.
    pub const fn code_size(mut self, size: ByteSize) -> Self {
        self.size = size;
        self
    }

    /// What components must keep to before they are compiled, the size excepted, which is [that](Self::code_size)
    /// of this builder. Default [`CodeLimits::default`].
    #[cfg(feature = "wasm")]
    pub const fn code_limits(mut self, limits: CodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Where components are compiled. Default [`Compiler::InProcess`].
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// The store behind `wasi:keyvalue`. Default: none, and functions that are granted buckets are not deployed.
    pub fn keyvalue(mut self, store: Arc<dyn KeyValue>) -> Self {
        self.services.keyvalue = Some(store);
        self
    }

    /// The secrets that functions may be granted, which they read through `wasi:config` by the key `secret:NAME`.
    /// Default: none, and functions that are granted secrets are not deployed.
    pub fn secrets(mut self, secrets: Arc<dyn Secrets>) -> Self {
        self.services.secrets = Some(secrets);
        self
    }

    /// Who sends the HTTP requests of functions that are granted origins. Default
    /// [`HttpClient::new`](crate::HttpClient::new).
    #[cfg(feature = "wasi-http")]
    pub fn http(mut self, client: crate::outbound::HttpClient) -> Self {
        self.services.http = Some(client);
        self
    }

    /// The models that functions may be granted, which they ask through `wasi:nn`; they are resident and shared by all
    /// isolates. Default: none, and functions that are granted models are not deployed.
    #[cfg(feature = "wasi-nn")]
    pub fn inference(mut self, inference: Arc<dyn Inference>) -> Self {
        self.services.inference = Some(inference);
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// [`WasmError`] when it does not start, the cache cannot be used or a key is none.
    pub fn build(self) -> Result<WasmFactory, WasmError> {
        let memory = self.memory.map_or_else(|| self.profile.memory().min(MEMORY.bytes()), ByteSize::bytes);
        let memory = ByteSize::from_bytes(memory.next_multiple_of(PAGE).max(PAGE));
        let mut trust = Trust::default();
        for key in &self.trusted {
            if !trust.add(key) {
                return Err(WasmError::TrustedKey { key: *key });
            }
        }
        #[cfg(not(feature = "wasm"))]
        if self.cache.is_some() {
            return Err(WasmError::NotBuiltIn { part: "the cache of compiled components", feature: "wasm" });
        }
        let instances = self.instances.unwrap_or_else(|| self.profile.instances()).max(1);
        let machine = Machine::start(self.profile, instances, memory, self.fuel, Accounts::new(self.tenants))?;
        let fuel = self.fuel.is_some();
        #[cfg(feature = "wasm")]
        let sources = {
            let limits = CodeLimits { size: self.size, ..self.limits };
            Sources::new(trust, self.profile, fuel, self.cache, limits, self.compiler)?
        };
        #[cfg(not(feature = "wasm"))]
        let sources = Sources::new(trust, self.profile, fuel);
        let (shelf, services) = (Shelf::default(), self.services);
        Ok(WasmFactory { shared: Arc::new(Shared { machine, sources, shelf, services, size: self.size }) })
    }
}
