//! Loading machine code that somebody trusted compiled before.
#![expect(unsafe_code, reason = "loading machine code is running it; this is the one place that does")]

use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{Engine, component::Component};

use super::artefact::{self, ArtefactError, Contract, Hashed, Trust};

/// Machine code with proof that a trusted compiler made it.
#[derive(Debug)]
pub(super) struct Verified<'a>(&'a [u8]);

/// Bytes of a code.
#[cfg(feature = "wasm")]
pub(super) const MAC: usize = blake3::OUT_LEN;

/// The code that proves that `blob` is what was compiled under `name`.
#[cfg(feature = "wasm")]
pub(super) fn mac(key: &[u8; blake3::KEY_LEN], name: &[u8; blake3::OUT_LEN], blob: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(name).update(blob);
    hasher.finalize()
}

impl<'a> Verified<'a> {
    /// Checks the code that precedes the machine code in `file`.
    #[cfg(feature = "wasm")]
    pub(super) fn check(key: &[u8; blake3::KEY_LEN], name: &[u8; blake3::OUT_LEN], file: &'a [u8]) -> Option<Self> {
        let (written, blob) = file.split_at_checked(MAC)?;
        let written: [u8; MAC] = written.try_into().ok()?;
        // Comparing hashes of blake3 takes the same time wherever they differ.
        (mac(key, name, blob) == written).then_some(Self(blob))
    }

    /// Checks an artefact's signature, and that it is for this machine.
    pub(super) fn signed(artefact: &Hashed<'a>, trust: &Trust, here: &Contract) -> Result<Self, ArtefactError> {
        let (_, code) = artefact::verify(artefact, trust, here)?;
        Ok(Self(code))
    }

    /// Loads the machine code, and counts that it was tried.
    pub(super) fn load(self, engine: &Engine, attempts: &AtomicU64) -> wasmtime::Result<Component> {
        attempts.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `deserialize` requires bytes that `Component::serialize` or `Engine::precompile_component`
        // made. The constructors of `Verified` check one of: a keyed hash of these bytes, by a key that is a file
        // which only this user can read or that was made for one compilation and given to the process that was
        // started for it, where the only code that hashes with it hashes what those functions returned; a
        // signature of these bytes by a key that whoever assembled the runtime trusts to sign nothing else. The
        // bytes are in memory, so they cannot change between check and use. wasmtime itself checks that its
        // version and configuration are those that compiled them.
        unsafe { Component::deserialize(engine, self.0) }
    }
}
