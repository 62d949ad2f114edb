//! What can be wrong with the factory itself.

use std::{io, path::PathBuf};

use scf_core::{BoxError, ByteSize};
use thiserror::Error;

use super::profile::Profile;

/// Why components cannot be run here, or a function not with these limits.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WasmError {
    /// There is no memory for even the smallest pool, or the machine is not supported.
    #[error("the WebAssembly engine does not start")]
    Engine {
        /// What wasmtime says.
        #[source]
        source: BoxError,
    },
    /// The cache of compiled components cannot be used.
    #[error("the cache of compiled components in {}", .dir.display())]
    Cache {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cache's key is not one, or others can read it and so forge entries.
    #[error("the key {} is not 32 bytes that only its owner can read; remove it to have a new one made", .file.display())]
    Key {
        /// The key's file.
        file: PathBuf,
    },
    /// The factory is to give instances more memory than its profile has addresses for.
    #[error("instances of up to {memory} where profile {profile:?} has at most {available}")]
    ProfileMemory {
        /// The profile.
        profile: Profile,
        /// What was asked for.
        memory: ByteSize,
        /// What the profile has.
        available: ByteSize,
    },
    /// The function is deployed with more memory than instances of this factory can have.
    #[error("a memory limit of {limit} where an instance has at most {available}")]
    MemoryLimit {
        /// The function's limit.
        limit: ByteSize,
        /// What the factory was built with.
        available: ByteSize,
    },
    /// The component begins with more memory than the function may use.
    #[error("the component begins with {initial} of memory where {limit} is the limit")]
    InitialMemory {
        /// What it begins with.
        initial: ByteSize,
        /// The function's limit.
        limit: ByteSize,
    },
}
