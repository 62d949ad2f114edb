//! Content that many processes share, by its hash.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ObjectError, ObjectId, ObjectStore, read_object};
use crate::ByteSize;

/// Where the processes of a fleet leave code and models for each other: write once, read whole.
///
/// Used as `Arc<dyn BlobStore>`. It promises less than an [`ObjectStore`], every one of which is one: nothing is
/// counted or collected, so that no process has to know what the others read. Implementations pass `conformance::blob`
/// (feature `conformance`).
///
/// # Contract
/// - A blob is there whole or not at all, once [`BlobStore::put_blob`] said so as durably as the store is.
/// - What a reader is given hashes to the name; anything else is [`ObjectError::Corrupt`].
/// - Cancelling a future leaves the blob there or not there; doing it again is safe.
#[async_trait]
pub trait BlobStore: Debug + Send + Sync + 'static {
    /// Stores `content` under its hash, where it is not there already.
    ///
    /// # Errors
    /// [`ObjectError::Quota`], [`ObjectError::Full`], [`ObjectError::Unavailable`].
    async fn put_blob(&self, content: Bytes) -> Result<ObjectId, ObjectError>;

    /// Reads all of a blob, at most `limit`.
    ///
    /// # Errors
    /// [`ObjectError::NotFound`], [`ObjectError::TooLarge`], [`ObjectError::Corrupt`], [`ObjectError::Unavailable`].
    async fn get_blob(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError>;
}

const _: fn(&dyn BlobStore) = |_| {};

/// Blobs are objects under a reference of their own, `blob/OBJECT`, so that a collection keeps them.
#[async_trait]
impl<S: ObjectStore> BlobStore for S {
    async fn put_blob(&self, content: Bytes) -> Result<ObjectId, ObjectError> {
        let object = self.put_bytes(content).await?.object;
        self.refer(&format!("blob/{object}"), object).await?;
        Ok(object)
    }

    async fn get_blob(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
        read_object(self, object, limit).await
    }
}
