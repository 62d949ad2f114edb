//! The factory of WebAssembly isolates.

use std::sync::{Arc, atomic::AtomicBool};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{ByteSize, Code, Function, IsolateFactory, PrepareError, Prepared, Tenant, TenantName};
use tokio::task;
use wasmtime::component::{Component, InstancePre, Linker};

use super::{
    artefact::{Hashed, is_artefact},
    builder::WasmBuilder,
    checked::Checked,
    engine::Machine,
    error::WasmError,
    isolate::WasmPrepared,
    live::Guest,
    program::{Export, Program},
    shelf::{Loaded, Shelf},
    signature::Callable,
    source::{Refusal, Sources},
    world::{Plan, Services},
};
use crate::escape::escape;

/// How much larger the machine code of a component may be than a component.
const ARTEFACT: u64 = 4;
/// Up to this size, in bytes, what was compiled before is hashed, checked and loaded on the thread that asks:
/// handing it to another takes longer.
const SMALL: usize = 256 << 10;
/// Bytes of a page of WebAssembly memory.
pub(super) const PAGE: u64 = 64 << 10;

/// Runs [`Code::Component`] in wasmtime. Cloning shares the engine, its pool and the cache.
///
/// Functions with the same code share what was compiled of it. Compiles on the blocking threads of the tokio
/// runtime that it is called on or in processes of their own, one component per core at a time. A thread of the
/// factory's own interrupts guests; it ends with the last function of the factory.
///
/// A function on bytes, `func(list<u8>) -> list<u8>` or `-> result<list<u8>, string>`, is given the payload as it is.
/// Any other exported WIT function, of the component's world (`resize`) or of an interface of its
/// (`acme:image/codec@1.0.0#resize`, the version only where there are several), is called by its type:
///
/// | payload | is |
/// |---|---|
/// | [`MediaType::JSON`](scf_core::MediaType::JSON) | an object with the parameters by name, or the value of a single parameter |
/// | [`MediaType::VALUES`](scf_core::MediaType::VALUES) | a list of [`Value`](scf_core::Value)s: [`encode_values`](crate::encode_values) |
/// | any other | the bytes of the single parameter, a `list<u8>` or a `string` |
///
/// The result comes as the call went, or as the function is declared to give. Of `result<T, E>` it is the `T`; an `E`
/// is [`InvokeError::Refused`](scf_core::InvokeError::Refused). Input that is not of the type is
/// [`InvokeError::Input`](scf_core::InvokeError::Input) with the path of the field, before the guest runs its code.
/// Values take up to 16 times the payload limit of the host's memory while they are handed over: a `list<u8>` of
/// megabytes belongs in a function on bytes. As JSON, values are:
///
/// | WIT | JSON |
/// |---|---|
/// | integers | numbers, exact to 64 bits; `1.0` is none |
/// | `f32`, `f64` | numbers, and `"NaN"`, `"Infinity"`, `"-Infinity"` |
/// | `bool`, `string` | as they are |
/// | `char` | a string of one character |
/// | `list` | an array |
/// | `list<u8>` | a string in base64 (standard alphabet, padded); an array of numbers is taken too |
/// | `record` | an object with every field, named as in WIT |
/// | `tuple` | an array |
/// | `variant` | `{"case": value}`, or `"case"` when it has no value |
/// | `enum` | the case as a string |
/// | `option` | `null` or the value; of an option: `null` or `{"some": value}` |
/// | `result` | `{"ok": value}` or `{"err": value}`, the value `null` when there is none |
/// | `flags` | an array of those that are set |
#[derive(Clone, Debug)]
pub struct WasmFactory {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) machine: Arc<Machine>,
    pub(super) sources: Sources,
    pub(super) shelf: Shelf,
    pub(super) services: Services,
    /// The largest component.
    pub(super) size: ByteSize,
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
    /// Describes a factory of the profile [`Profile::Gateway`](super::Profile::Gateway): 256 instances of 64 MiB, no
    /// cache, no trusted key.
    pub fn builder() -> WasmBuilder {
        WasmBuilder::new()
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

    fn code_limit(&self) -> ByteSize {
        // Whether it is an artefact is seen once it is read.
        ByteSize::from_bytes(self.shared.size.bytes().saturating_mul(ARTEFACT))
    }

    fn tenants(&self, tenants: &[Tenant]) {
        self.shared.machine.accounts.describe(tenants);
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
        let services = &self.shared.services;
        let world = Plan::of(function, &loaded.component, &machine.engine, services).await?;
        let program = self.shared.program(function, export, loaded, world)?;
        Ok(Arc::new(WasmPrepared::new(program, function.reuse)))
    }
}

impl WasmFactory {
    /// What was made of the code before, or makes it.
    pub(super) async fn load(&self, bytes: &Bytes) -> Result<Arc<Loaded>, Refusal> {
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
    pub(super) fn program(
        &self,
        function: &Function,
        export: &str,
        loaded: Arc<Loaded>,
        world: Arc<Plan>,
    ) -> Result<Program, PrepareError> {
        let engine = &self.machine.engine;
        let component: &Component = &loaded.component;
        let mut linker = Linker::new(engine);
        world.link(component, &mut linker).map_err(|error| host(function, error))?;
        let initial = component.resources_required().and_then(|needs| needs.max_initial_memory_size);
        let initial = ByteSize::from_bytes(initial.unwrap_or(0).saturating_mul(PAGE));
        if initial > function.limits.memory {
            return Err(host(function, WasmError::InitialMemory { initial, limit: function.limits.memory }));
        }
        let pre: InstancePre<Guest> = linker.instantiate_pre(component).map_err(|error| invalid(function, &error))?;
        Ok(Program {
            machine: Arc::clone(&self.machine),
            function: function.name.clone(),
            tenant: function.tenant.clone(),
            account: self.machine.accounts.of(&function.tenant),
            output: function.output.clone(),
            limits: function.limits,
            export: self.export(function, export, component, &pre)?,
            pre,
            world,
            loaded,
            plain: Checked::default(),
            fallible: Checked::default(),
            was_long: AtomicBool::new(false),
        })
    }

    /// Finds what is called.
    fn export(
        &self,
        function: &Function,
        export: &str,
        component: &Component,
        pre: &InstancePre<Guest>,
    ) -> Result<Export, PrepareError> {
        let engine = &self.machine.engine;
        #[cfg(feature = "wasi-http")]
        if super::http::handler(component, engine, export).is_some() {
            let pre = wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre.clone());
            return Ok(Export::Handler(Box::new(pre.map_err(|error| invalid(function, &error))?)));
        }
        #[cfg(not(feature = "wasi-http"))]
        if export.starts_with("wasi:http/") {
            let feature = format!("{} (feature `wasi-http` of scf-runtime)", escape(export));
            return Err(PrepareError::Unsupported { function: function.name.clone(), feature });
        }
        let _ = pre;
        let callable = Callable::of(component, function, export, engine);
        callable.map(Export::Function).map_err(|problem| PrepareError::Export {
            function: function.name.clone(),
            export: escape(export),
            problem,
        })
    }
}

fn host(function: &Function, source: impl Into<scf_core::BoxError>) -> PrepareError {
    PrepareError::Host { function: function.name.clone(), source: source.into() }
}

fn invalid(function: &Function, error: &wasmtime::Error) -> PrepareError {
    PrepareError::InvalidCode { function: function.name.clone(), source: escape(&format!("{error:#}")).into() }
}
