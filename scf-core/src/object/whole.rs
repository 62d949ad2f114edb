//! Objects read whole.

use bytes::{Bytes, BytesMut};

use super::{ObjectError, ObjectId, ObjectStore};
use crate::ByteSize;

/// Reads all of `object`, at most `limit`, and holds it against its name while it is read: what this gives is what the
/// name says, whatever `store` is. For code and models, which must be in memory anyway; what need not be is read in
/// parts by [`ObjectStore::get`].
///
/// # Errors
/// [`ObjectError::NotFound`], [`ObjectError::TooLarge`], [`ObjectError::Corrupt`], [`ObjectError::Unavailable`].
pub async fn read_object(store: &dyn ObjectStore, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
    let stat = store.stat(object).await?.ok_or(ObjectError::NotFound { object })?;
    let size = stat.manifest.size;
    if size > limit {
        return Err(ObjectError::TooLarge { object, size, limit });
    }
    let corrupt = || ObjectError::Corrupt { object, chunk: None };
    let size = usize::try_from(size.bytes()).map_err(|_| ObjectError::TooLarge { object, size, limit })?;
    let mut reader = store.get(object, 0..u64::MAX).await?;
    let (mut content, mut hasher) = (BytesMut::with_capacity(size), blake3::Hasher::new());
    while let Some(part) = reader.next().await? {
        if part.len() > size - content.len() {
            return Err(corrupt());
        }
        hasher.update(&part);
        content.extend_from_slice(&part);
    }
    if hasher.finalize().as_bytes() != object.as_bytes() {
        return Err(corrupt());
    }
    Ok(content.freeze())
}
