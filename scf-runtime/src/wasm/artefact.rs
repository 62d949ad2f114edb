//! Components that somebody trusted compiled and signed before.
//!
//! An artefact is
//! ```text
//! "SCFX" | version: u8 | key id: 8 bytes | signature: 64 bytes | length of the head: u32 LE | head | machine code
//! ```
//! The signature is Ed25519 over the blake3 hash of all of it but itself, under a context of its own: of what is behind
//! the signature, then of what is before it, so that the large part is hashed from the start of a chunk, all lanes
//! of the processor full. Nothing behind the signature is looked at before that is right.

use ed25519_dalek::{Signature, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use wasmtime::ModuleVersionStrategy;

use super::{
    profile::Profile,
    target::{Target, TargetError},
};

const MAGIC: &[u8; 4] = b"SCFX";
const VERSION: u8 = 1;
const SIGNATURE: usize = 64;
const KEY_ID: usize = 8;
/// Magic, version and key id.
const PREFIX: usize = 4 + 1 + KEY_ID;
/// What the hash is of besides the artefact, so that no other protocol signs the same.
const CONTEXT: &str = "scf 2026-11-21 signed artefact of a WebAssembly component";

/// Whether these bytes are an artefact, not a component.
pub(crate) fn is_artefact(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// What the engine that machine code was compiled for has in common with the one that runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contract {
    /// The versions of wasmtime whose machine code can be exchanged.
    pub(super) engine: String,
    /// The settings.
    pub(super) profile: String,
    /// Whether the machine code counts instructions.
    pub(super) fuel: bool,
}

impl Contract {
    /// What engines with these settings keep.
    pub(super) fn new(profile: Profile, fuel: bool) -> Self {
        let engine = ModuleVersionStrategy::WasmtimeVersion.as_str().into();
        Self { engine, profile: format!("{profile:?}"), fuel }
    }
}

/// What an artefact says about its machine code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) contract: Contract,
    pub(super) target: Target,
    /// Hash of the compiler's whole configuration, as wasmtime defines it.
    pub(super) compatibility: [u8; blake3::OUT_LEN],
    /// Hash of the component that was compiled.
    pub(super) source: [u8; blake3::OUT_LEN],
}

/// Why an artefact is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum ArtefactError {
    #[error("it ends before its signature does")]
    Truncated,
    #[error("it is of version {0}, this runtime reads version {VERSION}")]
    Version(u8),
    #[error("no key is trusted here; give one to WasmBuilder::trust")]
    NoKey,
    #[error("it was signed with key {0}, which is not trusted here")]
    UnknownKey(String),
    #[error("the signature is not of this artefact")]
    Signature,
    /// Signed, and so written by a signer that does not know the format.
    #[error("its head cannot be read")]
    Head,
    #[error("it was compiled for wasmtime {found}, this is {expected}")]
    Engine { found: String, expected: String },
    #[error("it was compiled for the profile {found}, this is {expected}")]
    Profile { found: String, expected: String },
    #[error("it was compiled {} counting instructions, here they are {}counted", with(*.0), if *.0 { "not " } else { "" })]
    Fuel(bool),
    #[error(transparent)]
    Target(#[from] TargetError),
}

const fn with(yes: bool) -> &'static str {
    if yes { "with" } else { "without" }
}

/// The keys whose artefacts are accepted.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Vec<VerifyingKey>);

impl Trust {
    /// Adds a key; gives back false, and does not add it, if it is not one or one that signs everything.
    pub(super) fn add(&mut self, key: &[u8; 32]) -> bool {
        match VerifyingKey::from_bytes(key) {
            Ok(key) if !key.is_weak() => {
                self.0.push(key);
                true
            }
            _ => false,
        }
    }

    fn find(&self, id: &[u8]) -> Result<&VerifyingKey, ArtefactError> {
        if self.0.is_empty() {
            return Err(ArtefactError::NoKey);
        }
        let unknown = || ArtefactError::UnknownKey(id.iter().map(|byte| format!("{byte:02x}")).collect());
        self.0.iter().find(|key| key_id(key) == id).ok_or_else(unknown)
    }
}

/// What an artefact names the key by that signed it.
fn key_id(key: &VerifyingKey) -> [u8; KEY_ID] {
    let mut id = [0; KEY_ID];
    blake3::Hasher::new_derive_key(CONTEXT).update(key.as_bytes()).finalize_xof().fill(&mut id);
    id
}

/// What is signed.
fn digest(prefix: &[u8], rest: &[u8]) -> blake3::Hash {
    // The prefix is of one length, so that no other pair makes the same.
    blake3::Hasher::new_derive_key(CONTEXT).update(rest).update(prefix).finalize()
}

/// Code and what it hashes to, computed once.
pub(super) struct Hashed<'a> {
    pub(super) bytes: &'a [u8],
    /// Of an artefact: of what is signed; of a component: of all of it.
    digest: blake3::Hash,
}

impl<'a> Hashed<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let digest = match split(bytes) {
            Ok(Parts { prefix, rest, .. }) if is_artefact(bytes) => digest(prefix, rest),
            _ => blake3::hash(bytes),
        };
        Self { bytes, digest }
    }

    /// The hash of a component.
    #[cfg(feature = "wasm")]
    pub(super) const fn source(&self) -> &blake3::Hash {
        &self.digest
    }

    /// A hash that no other code has, nor the same with another signature.
    pub(super) fn id(&self) -> blake3::Hash {
        match split(self.bytes) {
            Ok(Parts { prefix, signature, .. }) if is_artefact(self.bytes) => {
                blake3::Hasher::new().update(prefix).update(signature).update(self.digest.as_bytes()).finalize()
            }
            _ => self.digest,
        }
    }
}

/// The parts of an artefact, none of them looked at.
struct Parts<'a> {
    prefix: &'a [u8],
    signature: &'a [u8; SIGNATURE],
    rest: &'a [u8],
}

fn split(bytes: &[u8]) -> Result<Parts<'_>, ArtefactError> {
    let (prefix, signed) = bytes.split_at_checked(PREFIX).ok_or(ArtefactError::Truncated)?;
    let (signature, rest) = signed.split_first_chunk::<SIGNATURE>().ok_or(ArtefactError::Truncated)?;
    Ok(Parts { prefix, signature, rest })
}

/// Checks the signature, then that machine and engine are those that the machine code is for. Gives the head and
/// the machine code.
pub(super) fn verify<'a>(code: &Hashed<'a>, trust: &Trust, here: &Contract) -> Result<(Head, &'a [u8]), ArtefactError> {
    let Parts { prefix, signature, rest } = split(code.bytes)?;
    let version = prefix[MAGIC.len()];
    if version != VERSION {
        return Err(ArtefactError::Version(version));
    }
    let key = trust.find(&prefix[PREFIX - KEY_ID..])?;
    let signature = Signature::from_bytes(signature);
    // The strict check would also refuse an R of small order, which only a weak key could have signed; those are not
    // trusted.
    key.verify(code.digest.as_bytes(), &signature).map_err(|_| ArtefactError::Signature)?;
    let (head, code) = read(rest).ok_or(ArtefactError::Head)?;
    let Contract { engine, profile, fuel } = &head.contract;
    if *engine != here.engine {
        return Err(ArtefactError::Engine { found: engine.clone(), expected: here.engine.clone() });
    }
    if *profile != here.profile {
        return Err(ArtefactError::Profile { found: profile.clone(), expected: here.profile.clone() });
    }
    if *fuel != here.fuel {
        return Err(ArtefactError::Fuel(*fuel));
    }
    head.target.check()?;
    Ok((head, code))
}

fn read(rest: &[u8]) -> Option<(Head, &[u8])> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (head, code) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    Some((postcard::from_bytes(head).ok()?, code))
}

/// Signs machine code.
#[cfg(feature = "wasm")]
pub(super) fn sign(key: &ed25519_dalek::SigningKey, head: &Head, code: &[u8]) -> Result<Vec<u8>, postcard::Error> {
    use ed25519_dalek::Signer;
    let head = postcard::to_stdvec(head)?;
    let length = u32::try_from(head.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
    let prefix = [&MAGIC[..], &[VERSION], &key_id(&key.verifying_key())].concat();
    let rest = [&length.to_le_bytes()[..], &head, code].concat();
    let signature = key.sign(digest(&prefix, &rest).as_bytes());
    Ok([&prefix[..], &signature.to_bytes(), &rest].concat())
}

#[cfg(feature = "wasm")]
#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn here() -> Contract {
        Contract::new(Profile::Server, false)
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn trusting(key: &SigningKey) -> Trust {
        let mut trust = Trust::default();
        assert!(trust.add(key.verifying_key().as_bytes()));
        trust
    }

    fn head() -> Head {
        Head { contract: here(), target: Target::host(), compatibility: [1; 32], source: [2; 32] }
    }

    fn refused(head: &Head) -> ArtefactError {
        let bytes = sign(&key(1), head, b"code").unwrap();
        verify(&Hashed::new(&bytes), &trusting(&key(1)), &here()).unwrap_err()
    }

    #[test]
    fn what_was_signed_is_what_is_read() {
        let bytes = sign(&key(1), &head(), b"code").unwrap();
        let (read, code) = verify(&Hashed::new(&bytes), &trusting(&key(1)), &here()).unwrap();
        assert_eq!((read, code), (head(), &b"code"[..]));
    }

    #[test]
    fn a_key_that_is_not_trusted_is_named() {
        let bytes = sign(&key(2), &head(), b"code").unwrap();
        let id: String = key_id(&key(2).verifying_key()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(verify(&Hashed::new(&bytes), &trusting(&key(1)), &here()), Err(ArtefactError::UnknownKey(id)));
        assert_eq!(verify(&Hashed::new(&bytes), &Trust::default(), &here()), Err(ArtefactError::NoKey));
    }

    #[test]
    fn a_trusted_keys_id_does_not_help_who_lacks_the_key() {
        let mut bytes = sign(&key(2), &head(), b"code").unwrap();
        bytes[5..PREFIX].copy_from_slice(&key_id(&key(1).verifying_key()));
        let error = verify(&Hashed::new(&bytes), &trusting(&key(1)), &here()).unwrap_err();
        assert_eq!(error, ArtefactError::Signature);
    }

    #[test]
    fn another_engine_profile_memory_or_machine_is_named() {
        let with = |change: &dyn Fn(&mut Head)| {
            let mut head = head();
            change(&mut head);
            refused(&head)
        };
        assert_eq!(
            with(&|head| head.contract.engine = "47".into()),
            ArtefactError::Engine { found: "47".into(), expected: here().engine }
        );
        assert_eq!(
            with(&|head| head.contract.profile = "Tiny".into()),
            ArtefactError::Profile { found: "Tiny".into(), expected: "Server".into() }
        );
        assert_eq!(with(&|head| head.contract.fuel = true), ArtefactError::Fuel(true));
        assert_eq!(
            with(&|head| head.target.extensions.push("avx9".into())),
            ArtefactError::Target(TargetError::Extension("avx9".into()))
        );
        assert!(matches!(
            with(&|head| head.target.arch = "pdp11".into()),
            ArtefactError::Target(TargetError::Machine { .. })
        ));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused() {
        let trust = trusting(&key(1));
        let bytes = sign(&key(1), &head(), b"code").unwrap();
        for length in 0..bytes.len() {
            let error = verify(&Hashed::new(&bytes[..length]), &trust, &here()).unwrap_err();
            let expected =
                if length < PREFIX + SIGNATURE { ArtefactError::Truncated } else { ArtefactError::Signature };
            assert_eq!(error, expected, "cut off at {length}");
        }
    }

    #[test]
    fn a_key_that_would_verify_anything_is_not_taken() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(!Trust::default().add(&identity));
    }
}
