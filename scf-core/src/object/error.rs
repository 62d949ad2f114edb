//! Why an object is not to be had.

use thiserror::Error;

use super::{ChunkId, ObjectId};
use crate::{BoxError, ByteSize};

/// Why an object store did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// No such object is there.
    #[error("object {object} is not there")]
    NotFound {
        /// The object.
        object: ObjectId,
    },
    /// What is stored is not what was put; nothing of it was served. Putting the same content again mends it.
    #[error("object {object} is damaged{}", .chunk.map(|chunk| format!(": chunk {chunk}")).unwrap_or_default())]
    Corrupt {
        /// The object.
        object: ObjectId,
        /// The chunk that is damaged or missing; `None`: the list of its chunks is.
        chunk: Option<ChunkId>,
    },
    /// The object is larger than whoever asked takes; nothing of it was read, or nothing more.
    #[error("object {object} has {size}, and at most {limit} are taken")]
    TooLarge {
        /// The object.
        object: ObjectId,
        /// How large it is.
        size: ByteSize,
        /// What is taken at most.
        limit: ByteSize,
    },
    /// Whoever asked may not do it; nothing was done.
    #[error("it is not granted to {what} objects")]
    Denied {
        /// What was to be done: `write`.
        what: &'static str,
    },
    /// The range begins behind the object's end.
    #[error("object {object} has {size} bytes, and byte {start} was asked for")]
    Range {
        /// The object.
        object: ObjectId,
        /// Its size in bytes.
        size: u64,
        /// Where the range begins.
        start: u64,
    },
    /// The store may not hold so much; nothing was stored.
    #[error("{asked} more do not fit: {used} of {limit} are used")]
    Quota {
        /// What was to be added.
        asked: ByteSize,
        /// What is held, or being written.
        used: ByteSize,
        /// What may be.
        limit: ByteSize,
    },
    /// The store may not hold so many references; nothing was changed.
    #[error("reference {name:?} is one more than {limit}")]
    References {
        /// The reference.
        name: String,
        /// How many there may be.
        limit: usize,
    },
    /// The name cannot be a reference's: it is empty or longer than [`MAX_REFERENCE`](super::MAX_REFERENCE) bytes.
    #[error("{name:?} is no name of a reference: 1 to {} bytes", super::MAX_REFERENCE)]
    Name {
        /// What was given, shortened to 80 characters.
        name: String,
    },
    /// Nothing is left on the device; nothing was stored.
    #[error("the device of the object store is full")]
    Full,
    /// A write before this one failed or was cancelled, and the object will not come about: begin again.
    #[error("the object's writer has failed before")]
    Abandoned,
    /// The device failed. What was to be done may or may not have been: doing it again is safe.
    #[error("the object store could not {what}")]
    Unavailable {
        /// What was to be done.
        what: String,
        /// What the device reported.
        #[source]
        source: BoxError,
    },
}
