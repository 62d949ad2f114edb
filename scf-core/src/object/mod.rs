//! Large things that never change, named by what they are: models, images, snapshots.

mod blob;
mod digest;
mod error;
mod granted;
mod whole;

use std::{fmt::Debug, ops::Range, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::{
    blob::BlobStore,
    digest::{ChunkId, InvalidDigest, ObjectId},
    error::ObjectError,
    granted::GrantedObjects,
    whole::read_object,
};
use crate::{ByteSize, Timestamp};

/// Longest name of a reference, in bytes.
pub const MAX_REFERENCE: usize = 255;

/// Keeps objects under the hash of their content, and names that refer to them.
///
/// Used as `Arc<dyn ObjectStore>` by whoever keeps models, images and snapshots. Implementations pass
/// `conformance::object` (feature `conformance`).
///
/// # Contract
/// - An object is there whole or not at all, once [`ObjectWriter::finish`] said so as durably as the store is.
/// - What a reader is given is what was put: every chunk is checked whenever it is read, and damage is
///   [`ObjectError::Corrupt`].
/// - Equal chunks are stored once, whichever objects they are part of.
/// - An object goes only by [`ObjectStore::collect`], and never while a reference names it or it is written or read.
/// - Memory is bounded by a chunk or two per writer and reader, however large the object.
/// - Cancelling a future leaves the operation done or not done; one of a writer ends the writer.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync + 'static {
    /// Begins an object.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    async fn put(&self) -> Result<Box<dyn ObjectWriter>, ObjectError>;

    /// Stores `content`, which is at hand, as an object.
    ///
    /// # Errors
    /// As [`ObjectWriter::write`] and [`ObjectWriter::finish`].
    async fn put_bytes(&self, content: Bytes) -> Result<Stored, ObjectError> {
        let mut writer = self.put().await?;
        writer.write(content).await?;
        writer.finish().await
    }

    /// Opens an object from byte `range.start` to before `range.end`, or to its end where that comes first;
    /// `0..u64::MAX` is all of it. It is not collected while the reader lives.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`], [`ObjectError::Range`], [`ObjectError::Corrupt`], [`ObjectError::Unavailable`].
    async fn get(&self, object: ObjectId, range: Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError>;

    /// What is known about an object; `Ok(None)` when it is not there. Reads no content.
    ///
    /// # Errors
    /// [`ObjectError::Corrupt`], [`ObjectError::Unavailable`].
    async fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError>;

    /// Has the reference `name` refer to `object`, as durably as the store is, and answers what it referred to.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`], [`ObjectError::Name`], [`ObjectError::References`], [`ObjectError::Full`],
    /// [`ObjectError::Unavailable`].
    async fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError>;

    /// What the reference `name` refers to.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    async fn resolve(&self, name: &str) -> Result<Option<ObjectId>, ObjectError>;

    /// At most `limit` references whose names begin with `prefix`, ascending by name, from behind `after`.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, ObjectId)>, ObjectError>;

    /// Removes the reference `name` and answers what it referred to; nothing when there is none. The object stays
    /// until it is collected.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    async fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError>;

    /// Removes the objects that nobody needs: those that a collection at least `grace` before `now` found without
    /// reference, writer and reader, and that were neither referred to, read nor put again since. Called by the
    /// embedding program every few minutes; `grace` is how long it takes at most from an object's end to its
    /// reference. Time is the caller's and monotonic, so that a clock that is set removes nothing; with a restart
    /// the grace begins anew.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`]; what is not removed is found by the next collection.
    async fn collect(&self, now: Timestamp, grace: Duration) -> Result<Collected, ObjectError>;

    /// What the store holds.
    fn usage(&self) -> ObjectUsage;
}

const _: fn(&dyn ObjectStore) = |_| {};

/// Takes the content of one object, in order. Dropping it unfinished leaves nothing that the next collection does not
/// remove.
#[async_trait]
pub trait ObjectWriter: Debug + Send {
    /// Adds `content`, of any length.
    ///
    /// # Errors
    /// [`ObjectError::Quota`], [`ObjectError::Full`], [`ObjectError::Unavailable`]; the object will not come about
    /// then, and whatever is asked after is [`ObjectError::Abandoned`].
    async fn write(&mut self, content: Bytes) -> Result<(), ObjectError>;

    /// Ends the object and returns once it is stored.
    ///
    /// # Errors
    /// As [`ObjectWriter::write`].
    async fn finish(self: Box<Self>) -> Result<Stored, ObjectError>;
}

const _: fn(&dyn ObjectWriter) = |_| {};

/// Gives the content of one object, in order.
#[async_trait]
pub trait ObjectReader: Debug + Send {
    /// The next part, never empty and at most a chunk, checked; `None` at the end.
    ///
    /// # Errors
    /// [`ObjectError::Corrupt`], [`ObjectError::Unavailable`]; asking again asks for the same part.
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectError>;
}

const _: fn(&dyn ObjectReader) = |_| {};

/// What an object is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct ObjectManifest {
    /// The object.
    pub object: ObjectId,
    /// How large it is.
    pub size: ByteSize,
    /// Its chunks, in order; their sizes add up to its own.
    pub chunks: Vec<ObjectChunk>,
}

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct ObjectChunk {
    /// The chunk.
    pub chunk: ChunkId,
    /// How many bytes it has; never 0.
    pub size: u32,
}

/// What is known about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct ObjectStat {
    /// What it is made of.
    pub manifest: ObjectManifest,
    /// How many references name it.
    pub references: u64,
}

/// What became of an object that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct Stored {
    /// The object.
    pub object: ObjectId,
    /// How large it is.
    pub size: ByteSize,
    /// Bytes of its chunks that were not there before.
    pub added: ByteSize,
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct Collected {
    /// Objects.
    pub objects: u64,
    /// Chunks that were part of no other object.
    pub chunks: u64,
    /// Bytes of these chunks.
    pub bytes: ByteSize,
}

/// What an object store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "stores of integrators write it as a literal")]
pub struct ObjectUsage {
    /// Objects.
    pub objects: u64,
    /// Different chunks.
    pub chunks: u64,
    /// Bytes of these chunks and of those that are being written.
    pub bytes: ByteSize,
    /// What `bytes` may be.
    pub limit: ByteSize,
}
