//! The factory of WebAssembly isolates.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{ByteSize, Code, Function, IsolateFactory, PrepareError, Prepared, Tenant, TenantName};
use tokio::task;
use wasmtime::component::{Component, InstancePre, Linker};

use super::{
    account::Accounts,
    artefact::{Hashed, Trust, is_artefact},
    engine::Machine,
    error::WasmError,
    isolate::{Guest, Program, WasmPrepared},
    profile::Profile,
    shelf::{Loaded, Shelf},
    signature::Signature,
    source::{self, Refusal, Sources},
    wasi,
};
#[cfg(feature = "wasm")]
use super::{compile::Compiler, screen::CodeLimits};
use crate::escape::escape;

/// Largest component, in bytes.
const CODE: ByteSize = ByteSize::from_mib(8);
/// What one memory can grow to where the builder does not say.
const MEMORY: ByteSize = ByteSize::from_mib(64);
/// How much larger the machine code of a component may be than a component.
const ARTEFACT: u64 = 4;
/// Up to this size, in bytes, what was compiled before is hashed, checked and loaded on the thread that asks:
/// handing it to another takes longer.
const SMALL: usize = 256 << 10;
/// Bytes of a page of WebAssembly memory.
const PAGE: u64 = 64 << 10;

/// Runs [`Code::Component`] in wasmtime. Cloning shares the engine, its pool and the cache.
///
/// Functions with the same code share what was compiled of it. Compiles on the blocking threads of the tokio
/// runtime that it is called on or in processes of their own, one component per core at a time. A thread of the factory's own interrupts guests; it ends with the last function of the factory.
#[derive(Clone, Debug)]
pub struct WasmFactory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    machine: Arc<Machine>,
    sources: Sources,
    shelf: Shelf,
    size: ByteSize,
}

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
    #[cfg(feature = "wasm")]
    limits: CodeLimits,
    #[cfg(feature = "wasm")]
    compiler: Compiler,
}

impl WasmBuilder {
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

    /// Memory that all isolates of a tenant may have at the same time; default 4 GiB.
    pub fn tenant_memory(self, tenant: TenantName, memory: ByteSize) -> Self {
        self.tenant(tenant, |tenant| tenant.memory(memory))
    }

    /// Share of the cores that a tenant's calls have beside those of other tenants, once they run for longer than
    /// a few milliseconds; default 1.
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
        Ok(WasmFactory { shared: Arc::new(Shared { machine, sources, shelf: Shelf::default(), size: self.size }) })
    }
}

/// How the components of a factory were made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WasmCounters {
    /// Compiled.
    pub compiled: u64,
    /// Loaded from the cache.
    pub loaded: u64,
    /// Artefacts whose signature was right, loaded.
    pub verified: u64,
    /// Times that machine code was given to the engine, whether it took it or not: after its hash or signature was
    /// found to be right, never before.
    pub deserialised: u64,
    /// Found in the cache, not trusted, compiled again. More than none means that somebody else writes there.
    pub refused: u64,
    /// Compiled and not written to the cache, because of an error that was logged.
    pub unsaved: u64,
}

impl WasmFactory {
    /// Describes a factory of the profile [`Profile::Gateway`]: 256 instances of 64 MiB, no cache, no trusted key.
    pub fn builder() -> WasmBuilder {
        WasmBuilder {
            profile: Profile::Gateway,
            instances: None,
            memory: None,
            fuel: None,
            tenants: HashMap::new(),
            cache: None,
            trusted: Vec::new(),
            size: CODE,
            #[cfg(feature = "wasm")]
            limits: CodeLimits::DEFAULT,
            #[cfg(feature = "wasm")]
            compiler: Compiler::InProcess,
        }
    }

    /// Calls that can run at the same time.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.shared.machine.instances
    }

    /// Memory that all isolates of a tenant have now, those that wait for their next call included.
    #[must_use]
    pub fn tenant_memory(&self, tenant: &TenantName) -> ByteSize {
        self.shared.machine.accounts.of(tenant).memory()
    }

    /// How components were made ready so far.
    #[must_use]
    pub fn counters(&self) -> WasmCounters {
        self.shared.sources.counters()
    }
}

#[async_trait]
impl IsolateFactory for WasmFactory {
    fn name(&self) -> &'static str {
        "wasm"
    }

    fn accepts(&self, code: &Code) -> bool {
        matches!(code, Code::Component { .. })
    }

    async fn prepare(&self, function: &Function) -> Result<Arc<dyn Prepared>, PrepareError> {
        let Code::Component { bytes, export } = &function.code else {
            let (function, kind) = (function.name.clone(), function.code.kind());
            return Err(PrepareError::NoFactory { function, kind, hint: "this factory runs components" });
        };
        let size = bytes.len() as u64;
        let limit = self.shared.size.bytes().saturating_mul(if is_artefact(bytes) { ARTEFACT } else { 1 });
        if size > limit {
            return Err(PrepareError::TooLarge { function: function.name.clone(), size, limit });
        }
        #[cfg(not(feature = "wasi-http"))]
        if export.starts_with("wasi:http/") {
            let feature = format!("{export} (it is built without the feature `wasi-http` of scf-runtime)");
            return Err(PrepareError::Unsupported { function: function.name.clone(), feature });
        }
        let machine = &self.shared.machine;
        if function.limits.memory > machine.memory {
            let error = WasmError::MemoryLimit { limit: function.limits.memory, available: machine.memory };
            return Err(host(function, error));
        }
        let loaded = self.load(bytes).await.map_err(|refusal| refusal.of(function))?;
        let program = self.shared.program(function, export, loaded)?;
        Ok(Arc::new(WasmPrepared::new(program, function.reuse)))
    }
}

impl WasmFactory {
    /// What was made of the code before, or makes it.
    async fn load(&self, bytes: &Bytes) -> Result<Arc<Loaded>, Refusal> {
        if bytes.len() <= SMALL {
            let code = Hashed::new(bytes);
            if let Some(loaded) = self.shared.shelf.find(&code.id()) {
                return Ok(loaded);
            }
            if is_artefact(bytes) {
                return self.shared.make(&code);
            }
        }
        let permit = Arc::clone(&self.shared.machine.compilers).acquire_owned().await;
        let permit = permit.map_err(|error| Refusal::Host(error.into()))?;
        let (shared, bytes) = (Arc::clone(&self.shared), bytes.clone());
        let loaded = task::spawn_blocking(move || {
            let code = Hashed::new(&bytes);
            // Another function with this code may have been first.
            let loaded = shared.shelf.find(&code.id()).map_or_else(|| shared.make(&code), Ok);
            // Held by the thread: whoever asked may not wait any more.
            drop(permit);
            loaded
        });
        loaded.await.map_err(|error| Refusal::Host(error.into()))?
    }
}

impl Shared {
    /// Loads or compiles. Takes microseconds for what was compiled before, milliseconds to seconds otherwise.
    fn make(&self, code: &Hashed<'_>) -> Result<Arc<Loaded>, Refusal> {
        let component = self.sources.component(&self.machine, code)?;
        Ok(self.shelf.put(code.id(), component))
    }

    /// Checks and links a component.
    fn program(&self, function: &Function, export: &str, loaded: Arc<Loaded>) -> Result<Program, PrepareError> {
        let engine = &self.machine.engine;
        let component: &Component = &loaded.component;
        let signature = Signature::of(component, export, engine).map_err(|problem| PrepareError::Export {
            function: function.name.clone(),
            export: export.into(),
            problem,
        })?;
        let export = handler.as_deref().unwrap_or(export);
        let world = component.component_type();
        let imports = world.imports(engine).map(|(name, _)| name);
        let mut linker = Linker::new(engine);
        let mut imports_wasi = false;
        for import in imports {
            if !wasi::provides(import) {
                return Err(source::not_provided(function, import));
            }
            imports_wasi = true;
        }
        if imports_wasi {
            wasmtime_wasi::p2::add_to_linker_async::<Guest>(&mut linker).map_err(|error| host(function, error))?;
            #[cfg(feature = "wasi-http")]
            wasmtime_wasi_http::p2::add_only_http_to_linker_async::<Guest>(&mut linker)
                .map_err(|error| host(function, error))?;
        }
        let initial = component.resources_required().and_then(|needs| needs.max_initial_memory_size);
        let initial = ByteSize::from_bytes(initial.unwrap_or(0).saturating_mul(PAGE));
        if initial > function.limits.memory {
            return Err(host(function, WasmError::InitialMemory { initial, limit: function.limits.memory }));
        }
        let pre: InstancePre<Guest> = linker.instantiate_pre(component).map_err(|error| invalid(function, &error))?;
        let Some(index) = component.get_export_index(None, export) else {
            let problem = "is not there".into();
            return Err(PrepareError::Export { function: function.name.clone(), export: export.into(), problem });
        };
        Ok(Program {
            machine: Arc::clone(&self.machine),
            function: function.name.clone(),
            tenant: function.tenant.clone(),
            account: self.machine.accounts.of(&function.tenant),
            output: function.output.clone(),
            limits: function.limits,
            pre,
            export: index,
            signature,
            imports_wasi,
            loaded,
        })
    }
}

fn host(function: &Function, source: impl Into<scf_core::BoxError>) -> PrepareError {
    PrepareError::Host { function: function.name.clone(), source: source.into() }
}

fn invalid(function: &Function, error: &wasmtime::Error) -> PrepareError {
    PrepareError::InvalidCode { function: function.name.clone(), source: escape(&format!("{error:#}")).into() }
}
