//! Objects: content-addressed chunks in a folder or in memory.

#[cfg(test)]
mod crash;
mod draft;
mod engine;
mod files;
mod index;
mod memory;
mod open;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod worker;

use std::{ops::Range, path::Path, time::Duration};

use async_trait::async_trait;
use scf_core::{
    ByteSize, Collected, ObjectError, ObjectId, ObjectReader, ObjectStat, ObjectStore, ObjectUsage, ObjectWriter,
    Timestamp,
};

use self::{files::OsFiles, index::Index, memory::MemoryFiles, record::fault, store::Store, worker::Worker};

/// What an object store may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ObjectConfig {
    quota: ByteSize,
    references: usize,
}

impl Default for ObjectConfig {
    fn default() -> Self {
        Self { quota: ByteSize::from_mib(8 << 10), references: 1 << 16 }
    }
}

impl ObjectConfig {
    /// 8 GiB and 65 536 references.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of chunks, those that are being written included; default 8 GiB. One more is [`ObjectError::Quota`].
    /// The store keeps some 120 bytes of memory per chunk, of 256 KiB on average.
    pub const fn quota(mut self, quota: ByteSize) -> Self {
        self.quota = quota;
        self
    }

    /// References; default 65 536. One more is [`ObjectError::References`].
    pub const fn references(mut self, references: usize) -> Self {
        self.references = references;
        self
    }
}

/// Objects in a folder.
///
/// Chunks, lists of chunks and references are files of their own; each is written aside, synced and named, and its
/// folder synced, before anything that rests on it, so that a crash leaves every object whole or absent. What else it
/// leaves is removed when the folder is opened. A writer takes chunks that are there for undamaged and does not read them
/// again; a read does not, and after it found damage, putting the content again mends it. Two threads make the calls that block; dropping the store and its
/// readers and writers ends them.
#[derive(Debug)]
pub struct FolderObjects(Store);

impl FolderObjects {
    /// Opens the folder at `path`, or makes it, for this process alone. Reads the lists of chunks, not the chunks. Blocks.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`], with `WouldBlock` when another process has it open; [`ObjectError::Full`].
    pub fn open(path: impl AsRef<Path>, config: ObjectConfig) -> Result<Self, ObjectError> {
        let files = OsFiles::open(path.as_ref().to_owned(), record::folders()).map_err(fault("open the folder"))?;
        let worker = Worker::threads(2).map_err(fault("start a thread"))?;
        Store::new(Box::new(files), config, worker).map(Self)
    }
}

/// Objects that are lost with the process.
#[derive(Debug)]
pub struct MemoryObjects(Store);

impl MemoryObjects {
    /// No objects.
    #[must_use]
    pub fn new(config: ObjectConfig) -> Self {
        Self(Store::with(Box::<MemoryFiles>::default(), config, Index::default(), Worker::Here))
    }
}

macro_rules! object_store {
    ($($store:ty),*) => {$(
        #[async_trait]
        impl ObjectStore for $store {
            async fn put(&self) -> Result<Box<dyn ObjectWriter>, ObjectError> {
                Ok(self.0.put())
            }

            async fn get(&self, object: ObjectId, range: Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError> {
                self.0.get(object, &range)
            }

            async fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
                self.0.stat(object)
            }

            async fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
                self.0.refer(name, object).await
            }

            async fn resolve(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
                Ok(self.0.resolve(name))
            }

            async fn references(
                &self,
                prefix: &str,
                after: Option<&str>,
                limit: usize,
            ) -> Result<Vec<(String, ObjectId)>, ObjectError> {
                Ok(self.0.references(prefix, after, limit))
            }

            async fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
                self.0.unrefer(name).await
            }

            async fn collect(&self, now: Timestamp, grace: Duration) -> Result<Collected, ObjectError> {
                self.0.collect(now, grace).await
            }

            fn usage(&self) -> ObjectUsage {
                self.0.usage()
            }
        }
    )*};
}

object_store!(FolderObjects, MemoryObjects);
