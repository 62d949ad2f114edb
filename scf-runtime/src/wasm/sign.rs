//! Compiles and signs components for machines without a compiler.

use std::fmt;

use ed25519_dalek::SigningKey;
use scf_core::BoxError;
use thiserror::Error;

use super::{
    artefact::{self, Contract, Head},
    cache,
    compile::compiler,
    profile::Profile,
    screen::{CodeLimits, ScreenError},
    target::Target,
};

/// Which CPUs an artefact is for. All of the architecture and operating system that it is compiled on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cpu {
    /// Every one of the architecture.
    #[default]
    Baseline,
    /// Those with every extension that the compiling one has.
    Host,
}

/// Compiles components and signs what comes of it, so that factories that [trust](super::WasmBuilder::trust) the
/// key run it; also those that were built without a compiler.
///
/// Whoever has the secret decides what runs on every node that trusts it: keep it off the nodes.
pub struct ArtefactSigner {
    key: SigningKey,
    profile: Profile,
    cpu: Cpu,
    limits: CodeLimits,
    fuel: bool,
}

/// Why a component was not signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// The compiler does not start.
    #[error("the compiler does not start")]
    Engine {
        /// What wasmtime says.
        #[source]
        source: BoxError,
    },
    /// It is too large, or uses what no node runs.
    #[error(transparent)]
    Screen(#[from] ScreenError),
    /// It does not compile.
    #[error("the component is not valid")]
    Invalid {
        /// What the compiler says; may quote names that the component's author chose.
        #[source]
        source: BoxError,
    },
}

impl ArtefactSigner {
    /// A signer with the secret key, 32 random bytes; artefacts are for [`Profile::Gateway`] and every CPU of
    /// this architecture.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            key: SigningKey::from_bytes(secret),
            profile: Profile::default(),
            cpu: Cpu::default(),
            limits: CodeLimits::default(),
            fuel: false,
        }
    }

    /// The [profile](super::WasmBuilder::profile) of the nodes; default [`Profile::Gateway`].
    #[must_use]
    pub const fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The CPUs that artefacts run on; default all of the architecture.
    #[must_use]
    pub const fn cpu(mut self, cpu: Cpu) -> Self {
        self.cpu = cpu;
        self
    }

    /// Makes machine code that counts instructions, for nodes with [fuel](super::WasmBuilder::fuel); default not.
    #[must_use]
    pub const fn counting(mut self) -> Self {
        self.fuel = true;
        self
    }

    /// What components must keep to; default [`CodeLimits::default`].
    #[must_use]
    pub const fn code(mut self, limits: CodeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The public key, which nodes [trust](super::WasmBuilder::trust).
    #[must_use]
    pub fn verifying_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Compiles a component and signs the machine code. Takes milliseconds to seconds on the calling thread.
    ///
    /// # Errors
    /// [`SignError`] when it does not compile.
    pub fn sign(&self, component: &[u8]) -> Result<Vec<u8>, SignError> {
        self.limits.check(component)?;
        let failed = |error: wasmtime::Error| SignError::Engine { source: error.into() };
        let engine = compiler(self.profile, self.fuel, self.cpu).map_err(failed)?;
        let invalid = |error: wasmtime::Error| SignError::Invalid { source: error.into() };
        let code = engine.precompile_component(component).map_err(invalid)?;
        let head = Head {
            contract: Contract::new(self.profile, self.fuel),
            target: match self.cpu {
                Cpu::Baseline => Target::baseline(),
                Cpu::Host => Target::host(),
            },
            compatibility: cache::compatibility(&engine),
            source: blake3::hash(component).into(),
        };
        artefact::sign(&self.key, &head, &code).map_err(|error| SignError::Invalid { source: error.into() })
    }
}

impl fmt::Debug for ArtefactSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, cpu, .. } = self;
        f.debug_struct("ArtefactSigner").field("profile", profile).field("cpu", cpu).finish_non_exhaustive()
    }
}
