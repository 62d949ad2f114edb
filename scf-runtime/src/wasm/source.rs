//! Where the machine code of a component comes from: a signed artefact, the cache, the compiler.

use std::sync::atomic::{AtomicU64, Ordering};

use scf_core::{BoxError, Function, PrepareError};
use wasmtime::component::Component;

use super::{
    artefact::{ArtefactError, Contract, Hashed, Trust, is_artefact},
    engine::Machine,
    factory::WasmCounters,
    precompiled::Verified,
    profile::Profile,
};
#[cfg(feature = "wasm")]
use super::{
    cache::{Cache, Entry, Found},
    compile::{CompileError, Compiler},
    error::WasmError,
    screen::{CodeLimits, ScreenError},
    trim::trim,
};
use crate::escape::escape;

/// Why code did not become a component.
#[derive(Debug)]
pub(super) enum Refusal {
    Artefact(ArtefactError),
    /// What the engine says of machine code that was signed.
    NotLoaded(wasmtime::Error),
    #[cfg(not(feature = "wasm"))]
    NoCompiler,
    #[cfg(feature = "wasm")]
    Screen(ScreenError),
    #[cfg(feature = "wasm")]
    Compile(CompileError),
    Host(BoxError),
}

impl Refusal {
    /// The refusal of a function. Quotes what guests chose escaped.
    pub(super) fn of(self, function: &Function) -> PrepareError {
        let function = function.name.clone();
        match self {
            Self::Artefact(error) => PrepareError::Artefact { function, problem: escape(&error.to_string()) },
            Self::NotLoaded(error) => PrepareError::Artefact { function, problem: escape(&format!("{error:#}")) },
            #[cfg(not(feature = "wasm"))]
            Self::NoCompiler => PrepareError::NoFactory {
                function,
                kind: "component",
                hint: "this build has no compiler: enable the feature `wasm` of scf-runtime, or compile and sign the \
                       component elsewhere with its ArtefactSigner and deploy the artefact",
            },
            #[cfg(feature = "wasm")]
            Self::Screen(ScreenError::Unsupported { feature }) => PrepareError::Unsupported { function, feature },
            #[cfg(feature = "wasm")]
            Self::Screen(ScreenError::Malformed { problem }) => {
                let source = ScreenError::Malformed { problem: escape(&problem) }.into();
                PrepareError::InvalidCode { function, source }
            }
            #[cfg(feature = "wasm")]
            Self::Screen(error) => PrepareError::InvalidCode { function, source: error.into() },
            #[cfg(feature = "wasm")]
            Self::Compile(error) => match error {
                CompileError::Invalid { problem } => {
                    let source = CompileError::Invalid { problem: escape(&problem) }.into();
                    PrepareError::InvalidCode { function, source }
                }
                CompileError::Start { .. } | CompileError::NoCompiler | CompileError::Forged => {
                    PrepareError::Host { function, source: error.into() }
                }
                error => PrepareError::InvalidCode { function, source: error.into() },
            },
            Self::Host(source) => PrepareError::Host { function, source },
        }
    }
}

/// What components are made from.
#[derive(Debug)]
pub(super) struct Sources {
    trust: Trust,
    contract: Contract,
    #[cfg(feature = "wasm")]
    profile: Profile,
    #[cfg(feature = "wasm")]
    fuel: bool,
    #[cfg(feature = "wasm")]
    cache: Option<Cache>,
    #[cfg(feature = "wasm")]
    limits: CodeLimits,
    #[cfg(feature = "wasm")]
    compiler: Compiler,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    compiled: AtomicU64,
    loaded: AtomicU64,
    verified: AtomicU64,
    deserialised: AtomicU64,
    refused: AtomicU64,
    unsaved: AtomicU64,
}

impl Sources {
    #[cfg(feature = "wasm")]
    pub(super) fn new(
        trust: Trust,
        profile: Profile,
        fuel: bool,
        cache: Option<std::path::PathBuf>,
        limits: CodeLimits,
        compiler: Compiler,
    ) -> Result<Self, WasmError> {
        let cache = cache.map(Cache::open).transpose()?;
        let contract = Contract::new(profile, fuel);
        Ok(Self { trust, contract, profile, fuel, cache, limits, compiler, counters: Counters::default() })
    }

    #[cfg(not(feature = "wasm"))]
    pub(super) fn new(trust: Trust, profile: Profile, fuel: bool) -> Self {
        Self { trust, contract: Contract::new(profile, fuel), counters: Counters::default() }
    }

    pub(super) fn counters(&self) -> WasmCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { compiled, loaded, verified, deserialised, refused, unsaved } = &self.counters;
        WasmCounters {
            compiled: read(compiled),
            loaded: read(loaded),
            verified: read(verified),
            deserialised: read(deserialised),
            refused: read(refused),
            unsaved: read(unsaved),
        }
    }

    /// Loads an artefact, or loads or compiles a component.
    pub(super) fn component(&self, machine: &Machine, code: &Hashed<'_>) -> Result<Component, Refusal> {
        if !is_artefact(code.bytes) {
            return self.compiled(machine, code);
        }
        let verified = Verified::signed(code, &self.trust, &self.contract).map_err(Refusal::Artefact)?;
        let component = verified.load(&machine.engine, &self.counters.deserialised).map_err(Refusal::NotLoaded)?;
        count(&self.counters.verified);
        Ok(component)
    }

    /// Holds a component to the limits and the features that components may have.
    #[cfg(feature = "snapshot")]
    pub(super) fn screen(&self, component: &[u8]) -> Result<(), Refusal> {
        self.limits.check(component).map_err(Refusal::Screen)
    }

    #[cfg(not(feature = "wasm"))]
    #[expect(clippy::unused_self, reason = "stands in for the compiler")]
    fn compiled(&self, _: &Machine, _: &Hashed<'_>) -> Result<Component, Refusal> {
        Err(Refusal::NoCompiler)
    }

    #[cfg(feature = "wasm")]
    fn compiled(&self, machine: &Machine, code: &Hashed<'_>) -> Result<Component, Refusal> {
        let bytes = code.bytes;
        let entry = Entry::of(&machine.engine, code.source());
        if let Some(cache) = &self.cache {
            match cache.load(&machine.engine, entry, &self.counters.deserialised) {
                Found::Component(component) => {
                    count(&self.counters.loaded);
                    return Ok(*component);
                }
                Found::Nothing => {}
                Found::Refused => count(&self.counters.refused),
            }
        }
        self.limits.check(bytes).map_err(Refusal::Screen)?;
        let component = match &self.compiler {
            Compiler::InProcess => {
                let compiled = Component::from_binary(&machine.engine, bytes);
                trim();
                let invalid =
                    |error: wasmtime::Error| Refusal::Compile(CompileError::Invalid { problem: format!("{error:#}") });
                compiled.map_err(invalid)?
            }
            Compiler::Child(command) => {
                let mut key = [0; blake3::KEY_LEN];
                getrandom::fill(&mut key).map_err(|error| Refusal::Host(error.into()))?;
                let file = command.compile(&key, self.profile, self.fuel, bytes).map_err(Refusal::Compile)?;
                let verified = Verified::check(&key, entry.as_bytes(), &file);
                let verified = verified.ok_or(Refusal::Compile(CompileError::Forged))?;
                let loaded = verified.load(&machine.engine, &self.counters.deserialised);
                loaded.map_err(|error| Refusal::Host(error.into()))?
            }
        };
        count(&self.counters.compiled);
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.store(entry, &component)) {
            count(&self.counters.unsaved);
            tracing::warn!(%error, "a compiled component was not written to the cache");
        }
        Ok(component)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
