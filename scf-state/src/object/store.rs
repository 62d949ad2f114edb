//! An object store as its callers see it.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Collected, ObjectError, ObjectId, ObjectManifest, ObjectReader, ObjectStat, ObjectUsage, ObjectWriter, Stored,
    Timestamp,
};

use super::{
    ObjectConfig,
    draft::Draft,
    engine::{Engine, Pin},
    files::Files,
    index::Index,
    open::load,
    worker::Worker,
};

/// Bytes that one call takes to a thread.
const STEP: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) struct Store {
    engine: Arc<Engine>,
    worker: Worker,
}

impl Store {
    pub(super) fn new(files: Box<dyn Files>, config: ObjectConfig, worker: Worker) -> Result<Self, ObjectError> {
        let index = load(&*files)?;
        Ok(Self::with(files, config, index, worker))
    }

    /// On files that `index` describes.
    pub(super) fn with(files: Box<dyn Files>, config: ObjectConfig, index: Index, worker: Worker) -> Self {
        Self { engine: Arc::new(Engine::new(files, config, index)), worker }
    }

    pub(super) fn put(&self) -> Box<dyn ObjectWriter> {
        Box::new(Writer { draft: Some(Draft::new(Arc::clone(&self.engine))), worker: self.worker.clone() })
    }

    pub(super) fn get(&self, object: ObjectId, range: &Range<u64>) -> Result<Box<dyn ObjectReader>, ObjectError> {
        let (pin, manifest) = self.engine.open(object, range)?;
        let (engine, worker) = (Arc::clone(&self.engine), self.worker.clone());
        let mut reader = Reader { engine, worker, manifest, next: 0, at: 0, range: range.clone(), _pin: pin };
        while let Some(part) = reader.manifest.chunks.get(reader.next)
            && reader.at + u64::from(part.size) <= range.start
        {
            reader.at += u64::from(part.size);
            reader.next += 1;
        }
        Ok(Box::new(reader))
    }

    pub(super) fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
        self.engine.stat(object)
    }

    pub(super) async fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
        let (engine, name) = (Arc::clone(&self.engine), name.to_owned());
        self.worker.run(move || engine.refer(&name, object)).await
    }

    pub(super) fn resolve(&self, name: &str) -> Option<ObjectId> {
        self.engine.index().names.get(name).copied()
    }

    pub(super) fn references(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, ObjectId)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = after.filter(|after| *after >= prefix).map_or(Included(prefix), Excluded);
        let index = self.engine.index();
        let under = index.names.range::<str, _>((from, Unbounded)).take_while(|(name, _)| name.starts_with(prefix));
        under.take(limit).map(|(name, object)| (name.clone(), *object)).collect()
    }

    pub(super) async fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        let (engine, name) = (Arc::clone(&self.engine), name.to_owned());
        self.worker.run(move || engine.unrefer(&name)).await
    }

    pub(super) async fn collect(&self, now: Timestamp, grace: Duration) -> Result<Collected, ObjectError> {
        let engine = Arc::clone(&self.engine);
        self.worker.run(move || engine.collect(now, grace)).await
    }

    pub(super) fn usage(&self) -> ObjectUsage {
        self.engine.index().usage(self.engine.config.quota)
    }
}

#[derive(Debug)]
struct Writer {
    /// `None` while a thread has it, and when that failed.
    draft: Option<Draft>,
    worker: Worker,
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn write(&mut self, mut content: Bytes) -> Result<(), ObjectError> {
        while !content.is_empty() {
            let now = content.split_to(content.len().min(STEP));
            let mut draft = self.draft.take().ok_or(ObjectError::Abandoned)?;
            let written = self.worker.run(move || draft.write(&now).map(|()| draft)).await?;
            self.draft = Some(written);
        }
        if self.draft.is_some() { Ok(()) } else { Err(ObjectError::Abandoned) }
    }

    async fn finish(mut self: Box<Self>) -> Result<Stored, ObjectError> {
        let draft = self.draft.take().ok_or(ObjectError::Abandoned)?;
        self.worker.run(move || draft.finish()).await
    }
}

#[derive(Debug)]
struct Reader {
    engine: Arc<Engine>,
    worker: Worker,
    manifest: Arc<ObjectManifest>,
    /// The chunk that comes next, and where in the object it begins.
    next: usize,
    at: u64,
    range: Range<u64>,
    _pin: Pin,
}

#[async_trait]
impl ObjectReader for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let Some(part) = self.manifest.chunks.get(self.next).copied() else { return Ok(None) };
        let (begin, size) = (self.at, u64::from(part.size));
        let from = self.range.start.max(begin) - begin;
        let to = self.range.end.min(begin + size).saturating_sub(begin);
        if from >= to {
            return Ok(None);
        }
        let (engine, object) = (Arc::clone(&self.engine), self.manifest.object);
        let content = self.worker.run(move || engine.read(object, part)).await?;
        self.at += size;
        self.next += 1;
        Ok(Some(content.slice(from as usize..to as usize)))
    }
}
