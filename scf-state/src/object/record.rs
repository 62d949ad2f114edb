//! What an object store writes about objects, and where.

use scf_core::{ChunkId, ObjectChunk, ObjectError, ObjectId, ObjectManifest};
use serde::{Serialize, de::DeserializeOwned};
use std::io;

/// Manifests of objects, by object.
pub(super) const OBJECTS: &str = "objects";
/// References, by the hash of their names.
pub(super) const NAMES: &str = "names";
/// What is being written; whatever is there when the store is opened is of a crash.
pub(super) const STAGE: &str = "stage";

/// All folders; chunks are spread over 256, so that none grows too large to list.
pub(super) fn folders() -> impl Iterator<Item = String> {
    chunk_folders().chain([OBJECTS, NAMES, STAGE].map(str::to_owned))
}

pub(super) fn chunk_folders() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(chunk_folder)
}

pub(super) fn chunk_folder(first: u8) -> String {
    format!("chunks/{first:02x}")
}

pub(super) fn chunk_path(chunk: &ChunkId) -> String {
    format!("{}/{chunk}", chunk_folder(chunk.as_bytes()[0]))
}

pub(super) fn object_path(object: &ObjectId) -> String {
    format!("{OBJECTS}/{object}")
}

pub(super) fn name_path(name: &str) -> String {
    format!("{NAMES}/{}", blake3::hash(name.as_bytes()).to_hex())
}

/// `record` with a checksum behind it.
pub(super) fn seal(record: &impl Serialize) -> Result<Vec<u8>, ObjectError> {
    let mut bytes = postcard::to_stdvec(record)
        .map_err(|error| ObjectError::Unavailable { what: "encode a record".to_owned(), source: error.into() })?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    Ok(bytes)
}

/// The record that was sealed, unless it is damaged.
pub(super) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (record, checksum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(record) != *checksum {
        return None;
    }
    postcard::from_bytes(record).ok()
}

/// Whether a manifest is that of `object` and its chunks make it up.
pub(super) fn is_manifest_of(manifest: &ObjectManifest, object: ObjectId) -> bool {
    let size = |chunk: &ObjectChunk| u64::from(chunk.size);
    manifest.object == object && manifest.chunks.iter().map(size).sum::<u64>() == manifest.size.bytes()
}

/// The error of a device that could not do `what`.
pub(super) fn fault(what: &'static str) -> impl Fn(io::Error) -> ObjectError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ObjectError::Full,
        _ => ObjectError::Unavailable { what: what.to_owned(), source: error.into() },
    }
}
