//! An object that is being written.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use fastcdc::v2020::FastCDC;
use scf_core::{ByteSize, ChunkId, ObjectChunk, ObjectError, ObjectId, ObjectManifest, Stored};

use super::engine::{Engine, Staged};

/// Sizes of chunks in bytes. They end where the content says (FastCDC: Xia et al., "The Design of Fast Content-Defined
/// Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020), not after so many bytes: a model
/// whose header has grown, or an image with a file more, shares what follows with the one before it. 256 KiB keep the
/// list of a gigabyte's chunks at 150 KiB, and what a range reads in vain at half a chunk.
const MIN_CHUNK: usize = 64 << 10;
const AVERAGE_CHUNK: usize = 256 << 10;
pub(super) const MAX_CHUNK: usize = 1 << 20;

/// Content in, chunks out. Dropping it leaves its chunks to be swept.
pub(super) struct Draft {
    engine: Arc<Engine>,
    hasher: Box<blake3::Hasher>,
    /// What is no chunk yet; shorter than the largest chunk between calls.
    buffer: Vec<u8>,
    size: u64,
    chunks: Vec<ObjectChunk>,
    staged: HashMap<ChunkId, Staged>,
    /// Chunks that are there already, and this is a user of.
    pinned: Vec<ChunkId>,
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("size", &self.size).field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl Draft {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let hasher = Box::default();
        let (buffer, chunks, staged, pinned) = (Vec::new(), Vec::new(), HashMap::new(), Vec::new());
        Self { engine, hasher, buffer, size: 0, chunks, staged, pinned }
    }

    pub(super) fn write(&mut self, content: &Bytes) -> Result<(), ObjectError> {
        self.hasher.update(content);
        self.size += content.len() as u64;
        let mut content = &content[..];
        while !content.is_empty() {
            let room = MAX_CHUNK - self.buffer.len();
            let (now, later) = content.split_at(content.len().min(room));
            self.buffer.extend_from_slice(now);
            content = later;
            if self.buffer.len() == MAX_CHUNK {
                self.cut()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Stored, ObjectError> {
        while !self.buffer.is_empty() {
            self.cut()?;
        }
        let mut staged: Vec<(ChunkId, Staged)> = self.staged.drain().collect();
        let chunks: Vec<ChunkId> = staged.iter().map(|(chunk, _)| *chunk).collect();
        let settled = self.engine.settle(&mut staged);
        self.staged.extend(staged);
        let added = settled?;
        self.pinned.extend(chunks);
        let object = ObjectId::from_bytes(*self.hasher.finalize().as_bytes());
        let (size, chunks) = (ByteSize::from_bytes(self.size), std::mem::take(&mut self.chunks));
        self.engine.complete(ObjectManifest { object, size, chunks }, added)
    }

    /// Takes the first chunk off the buffer, which is full or the end of the content.
    fn cut(&mut self) -> Result<(), ObjectError> {
        let chunker = FastCDC::new(&self.buffer, MIN_CHUNK, AVERAGE_CHUNK, MAX_CHUNK);
        let (_, end) = chunker.cut(0, self.buffer.len());
        let content = &self.buffer[..end];
        let (chunk, size) = (ChunkId::from_bytes(*blake3::hash(content).as_bytes()), content.len() as u32);
        if !self.staged.contains_key(&chunk) {
            if self.engine.index().pin(&chunk) {
                self.pinned.push(chunk);
            } else {
                self.staged.insert(chunk, self.engine.stage(content)?);
            }
        }
        self.chunks.push(ObjectChunk { chunk, size });
        self.buffer.drain(..end);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut index = self.engine.index();
        self.pinned.iter().for_each(|chunk| index.unpin(chunk));
        index.abandoned.extend(self.staged.drain().map(|(_, file)| (file.path, u64::from(file.size))));
    }
}
