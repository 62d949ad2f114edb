//! Loading machine code that this host compiled before.
#![expect(unsafe_code, reason = "loading machine code is running it; this is the one place that does")]

use wasmtime::{Engine, component::Component};

/// Machine code with proof that it was written by somebody who holds the cache's key.
#[derive(Debug)]
pub(super) struct Verified<'a>(&'a [u8]);

/// Bytes of a code.
pub(super) const MAC: usize = blake3::OUT_LEN;

/// The code that proves that `blob` is what was compiled under `name`.
pub(super) fn mac(key: &[u8; blake3::KEY_LEN], name: &[u8; blake3::OUT_LEN], blob: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(name).update(blob);
    hasher.finalize()
}

impl<'a> Verified<'a> {
    /// Checks the code that precedes the machine code in `file`.
    pub(super) fn check(key: &[u8; blake3::KEY_LEN], name: &[u8; blake3::OUT_LEN], file: &'a [u8]) -> Option<Self> {
        let (written, blob) = file.split_at_checked(MAC)?;
        let written: [u8; MAC] = written.try_into().ok()?;
        // Comparing hashes of blake3 takes the same time wherever they differ.
        (mac(key, name, blob) == written).then_some(Self(blob))
    }

    /// Loads the machine code.
    pub(super) fn load(self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `deserialize` requires bytes that `Component::serialize` or `Engine::precompile_component`
        // made. The only constructor of `Verified` checks a keyed hash of these bytes; the key is a file that
        // only this user can read, and the only code that hashes with it hashes what `serialize` returned. The
        // bytes are in memory, so they cannot change between check and use. wasmtime itself checks that its
        // version and configuration are those that compiled them.
        unsafe { Component::deserialize(engine, self.0) }
    }
}
