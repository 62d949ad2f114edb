//! The factory of WebAssembly isolates.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{ByteSize, Code, Function, IsolateFactory, PrepareError, Prepared};
use tokio::task;
use wasmtime::component::{Component, InstancePre, Linker};

use super::{
    cache::{Cache, Entry, Found},
    engine::Machine,
    error::WasmError,
    isolate::{Guest, Program, WasmPrepared},
    signature::Signature,
    wasi,
};
use crate::escape::escape;

/// Largest component, in bytes.
const CODE: ByteSize = ByteSize::from_mib(8);
/// Bytes of a page of WebAssembly memory.
const PAGE: u64 = 64 << 10;

/// Runs [`Code::Component`] in wasmtime. Cloning shares the engine, its pool and the cache.
///
/// Compiles on the blocking threads of the tokio runtime that it is called on, one component per core at a
/// time. A thread of the factory's own interrupts guests; it ends with the last function of the factory.
#[derive(Clone, Debug)]
pub struct WasmFactory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    machine: Arc<Machine>,
    cache: Option<Cache>,
    compiled: AtomicU64,
    loaded: AtomicU64,
    refused: AtomicU64,
    unsaved: AtomicU64,
}

/// Describes a [`WasmFactory`].
#[derive(Clone, Debug)]
#[must_use]
pub struct WasmBuilder {
    instances: u32,
    memory: ByteSize,
    cache: Option<PathBuf>,
}

impl WasmBuilder {
    /// Calls that can run at the same time, over all functions; more are refused as overload. Default 256.
    /// Fewer when the system does not give address space for so many: see [`WasmFactory::instances`].
    pub const fn instances(mut self, instances: u32) -> Self {
        self.instances = instances;
        self
    }

    /// What one memory can grow to, and so the highest memory limit that a function can have. Default 64 MiB.
    /// Rounded up to 64 KiB. A bulk memory operation cannot be interrupted: one over 64 MiB takes some 20 ms,
    /// one over 1 GiB up to a second.
    pub const fn memory(mut self, memory: ByteSize) -> Self {
        self.memory = memory;
        self
    }

    /// Keeps compiled components in this directory, made if it is not there. Default: nowhere.
    ///
    /// Nobody else must be able to write there; entries are checked all the same before they are loaded.
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// [`WasmError`] when it does not start or the cache cannot be used.
    pub fn build(self) -> Result<WasmFactory, WasmError> {
        let memory = ByteSize::from_bytes(self.memory.bytes().next_multiple_of(PAGE).max(PAGE));
        let machine = Machine::start(self.instances, memory)?;
        let cache = self.cache.map(Cache::open).transpose()?;
        let zero = AtomicU64::default;
        Ok(WasmFactory {
            shared: Arc::new(Shared {
                machine,
                cache,
                compiled: zero(),
                loaded: zero(),
                refused: zero(),
                unsaved: zero(),
            }),
        })
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
    /// Found in the cache, not trusted, compiled again. More than none means that somebody else writes there.
    pub refused: u64,
    /// Compiled and not written to the cache, because of an error that was logged.
    pub unsaved: u64,
}

impl WasmFactory {
    /// 256 instances of 64 MiB, no cache.
    pub const fn builder() -> WasmBuilder {
        WasmBuilder { instances: 256, memory: ByteSize::from_mib(64), cache: None }
    }

    /// Calls that can run at the same time.
    #[must_use]
    pub fn instances(&self) -> u32 {
        self.shared.machine.instances
    }

    /// How components were made ready so far.
    #[must_use]
    pub fn counters(&self) -> WasmCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { compiled, loaded, refused, unsaved, .. } = &*self.shared;
        WasmCounters { compiled: read(compiled), loaded: read(loaded), refused: read(refused), unsaved: read(unsaved) }
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
        if size > CODE.bytes() {
            return Err(PrepareError::TooLarge { function: function.name.clone(), size, limit: CODE.bytes() });
        }
        let machine = &self.shared.machine;
        if function.limits.memory > machine.memory {
            let error = WasmError::MemoryLimit { limit: function.limits.memory, available: machine.memory };
            return Err(host(function, error));
        }
        let permit = machine.compilers.acquire().await.map_err(|error| host(function, error))?;
        let component = task::spawn_blocking({
            let (shared, bytes) = (Arc::clone(&self.shared), bytes.clone());
            move || shared.component(&bytes)
        });
        let component = component.await.map_err(|error| host(function, error))?;
        drop(permit);
        // The compiler quotes names that the guest chose.
        let component = component.map_err(|error| invalid(function, &error))?;
        let program = self.shared.program(function, export, &component)?;
        Ok(Arc::new(WasmPrepared(Arc::new(program))))
    }
}

impl Shared {
    /// Loads or compiles a component. Takes milliseconds to seconds.
    fn component(&self, bytes: &Bytes) -> wasmtime::Result<Component> {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let engine = &self.machine.engine;
        let compile = || {
            let component = Component::from_binary(engine, bytes)?;
            count(&self.compiled);
            wasmtime::Result::Ok(component)
        };
        let Some(cache) = &self.cache else { return compile() };
        let entry = Entry::of(engine, bytes);
        match cache.load(engine, entry) {
            Found::Component(component) => {
                count(&self.loaded);
                return Ok(*component);
            }
            Found::Nothing => {}
            Found::Refused => {
                count(&self.refused);
            }
        }
        let component = compile()?;
        if let Err(error) = cache.store(entry, &component) {
            count(&self.unsaved);
            tracing::warn!(%error, "a compiled component was not written to the cache");
        }
        Ok(component)
    }

    /// Checks and links a component.
    fn program(&self, function: &Function, export: &str, component: &Component) -> Result<Program, PrepareError> {
        let engine = &self.machine.engine;
        let signature = Signature::of(component, export, engine).map_err(|problem| PrepareError::Export {
            function: function.name.clone(),
            export: escape(export),
            problem,
        })?;
        let world = component.component_type();
        let imports = world.imports(engine).map(|(name, _)| name);
        let mut linker = Linker::new(engine);
        let mut imports_wasi = false;
        for import in imports {
            if !wasi::provides(import) {
                return Err(PrepareError::Import { function: function.name.clone(), import: escape(import) });
            }
            imports_wasi = true;
        }
        if imports_wasi {
            wasmtime_wasi::p2::add_to_linker_async::<Guest>(&mut linker).map_err(|error| host(function, error))?;
        }
        let initial = component.resources_required().and_then(|needs| needs.max_initial_memory_size);
        let initial = ByteSize::from_bytes(initial.unwrap_or(0).saturating_mul(PAGE));
        if initial > function.limits.memory {
            return Err(host(function, WasmError::InitialMemory { initial, limit: function.limits.memory }));
        }
        let pre: InstancePre<Guest> = linker.instantiate_pre(component).map_err(|error| invalid(function, &error))?;
        let Some(index) = component.get_export_index(None, export) else {
            let problem = "is not there".into();
            return Err(PrepareError::Export { function: function.name.clone(), export: escape(export), problem });
        };
        Ok(Program {
            machine: Arc::clone(&self.machine),
            function: function.name.clone(),
            output: function.output.clone(),
            limits: function.limits,
            pre,
            export: index,
            signature,
            imports_wasi,
            was_long: AtomicBool::new(false),
        })
    }
}

fn host(function: &Function, source: impl Into<scf_core::BoxError>) -> PrepareError {
    PrepareError::Host { function: function.name.clone(), source: source.into() }
}

fn invalid(function: &Function, error: &wasmtime::Error) -> PrepareError {
    PrepareError::InvalidCode { function: function.name.clone(), source: escape(&format!("{error:#}")).into() }
}
