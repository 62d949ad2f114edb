//! An object store on [`Files`], as calls that block.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use scf_core::{
    ByteSize, ChunkId, Collected, MAX_REFERENCE, ObjectChunk, ObjectError, ObjectId, ObjectManifest, ObjectStat,
    Stored, Timestamp,
};

use super::{
    ObjectConfig,
    files::Files,
    index::{Index, Object},
    record::{NAMES, OBJECTS, STAGE, chunk_path, fault, name_path, object_path, seal},
};

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) files: Box<dyn Files>,
    pub(super) config: ObjectConfig,
    index: Mutex<Index>,
    /// Held while names of files other than those in the stage change.
    publishing: Mutex<()>,
    next_staged: AtomicU64,
}

/// A chunk in the stage.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) path: String,
    pub(super) size: u32,
}

/// Keeps an object from being collected.
#[derive(Debug)]
pub(super) struct Pin {
    engine: Arc<Engine>,
    object: ObjectId,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(held) = self.engine.index().objects.get_mut(&self.object) {
            held.pins = held.pins.saturating_sub(1);
        }
    }
}

impl Engine {
    pub(super) fn new(files: Box<dyn Files>, config: ObjectConfig, index: Index) -> Self {
        Self { files, config, index: Mutex::new(index), publishing: Mutex::new(()), next_staged: AtomicU64::new(0) }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what writers left in the stage.
    pub(super) fn sweep(&self) {
        let abandoned = std::mem::take(&mut self.index().abandoned);
        for (path, size) in abandoned {
            let removed = self.files.remove(&path);
            let mut index = self.index();
            match removed {
                Ok(()) => index.staged -= size,
                // Its bytes count until it is gone; tried again with the next write or collection.
                Err(_) => index.abandoned.push((path, size)),
            }
        }
    }

    /// Puts a chunk that is not there yet into the stage.
    pub(super) fn stage(&self, content: &[u8]) -> Result<Staged, ObjectError> {
        self.sweep();
        let size = content.len() as u64;
        let path = format!("{STAGE}/{}", self.next_staged.fetch_add(1, Ordering::Relaxed));
        {
            let mut index = self.index();
            let used = index.bytes + index.staged;
            if used + size > self.config.quota.bytes() {
                let (asked, used) = (ByteSize::from_bytes(size), ByteSize::from_bytes(used));
                return Err(ObjectError::Quota { asked, used, limit: self.config.quota });
            }
            index.staged += size;
        }
        if let Err(error) = self.files.create(&path, content) {
            self.index().abandoned.push((path, size));
            return Err(fault("write a chunk")(error));
        }
        Ok(Staged { path, size: content.len() as u32 })
    }

    /// Makes chunks of the stage durable and their names known; each has one user more then. What remains in `staged`
    /// on an error is still in the stage.
    pub(super) fn settle(&self, staged: &mut Vec<(ChunkId, Staged)>) -> Result<u64, ObjectError> {
        for (_, chunk) in &*staged {
            self.files.sync(&chunk.path).map_err(fault("sync a chunk"))?;
        }
        let _publishing = self.publish();
        let (mut renamed, mut folders) = (Vec::new(), BTreeSet::new());
        let mut moved = || -> Result<(), ObjectError> {
            while let Some((chunk, file)) = staged.pop() {
                let size = u64::from(file.size);
                if self.index().pin(&chunk) {
                    // Another writer was faster.
                    self.index().abandoned.push((file.path, size));
                    renamed.push((chunk, None));
                    continue;
                }
                let path = chunk_path(&chunk);
                if let Err(error) = self.files.rename(&file.path, &path) {
                    staged.push((chunk, file));
                    return Err(fault("name a chunk")(error));
                }
                self.index().staged -= size;
                folders.insert(super::record::chunk_folder(chunk.as_bytes()[0]));
                renamed.push((chunk, Some(file.size)));
            }
            folders.iter().try_for_each(|folder| self.files.sync_folder(folder)).map_err(fault("sync chunks"))
        };
        let outcome = moved();
        let mut added = 0;
        for (chunk, new) in renamed {
            match (new, &outcome) {
                (Some(size), Ok(())) => {
                    let mut index = self.index();
                    let before = index.bytes;
                    index.hold(chunk, size);
                    added += index.bytes - before;
                }
                (Some(_), Err(_)) => {
                    // One that was damaged stays, whichever of the two it is after a crash.
                    if !self.index().chunks.contains_key(&chunk) {
                        // Where it cannot be removed it is no part of any object, and gone when the store is opened.
                        drop(self.files.remove(&chunk_path(&chunk)));
                    }
                }
                (None, Ok(())) => {}
                (None, Err(_)) => self.index().unpin(&chunk),
            }
        }
        self.sweep();
        outcome.map(|()| added)
    }

    /// Makes an object of durable chunks that its writer has as a user of.
    pub(super) fn complete(&self, manifest: ObjectManifest, added: u64) -> Result<Stored, ObjectError> {
        let object = manifest.object;
        let stored = Stored { object, size: manifest.size, added: ByteSize::from_bytes(added) };
        let _publishing = self.publish();
        if let Some(held) = self.index().objects.get_mut(&object)
            && held.manifest.is_some()
            && held.durable
        {
            held.idle_since = None;
            return Ok(stored);
        }
        let synced = self.replace(&object_path(&object), OBJECTS, &seal(&manifest)?)?;
        let mut index = self.index();
        let held = index.objects.entry(object).or_insert_with(|| Object::new(None, false));
        held.durable = synced.is_ok();
        held.idle_since = None;
        if held.manifest.is_none() {
            let manifest = Arc::new(manifest);
            held.manifest = Some(Arc::clone(&manifest));
            manifest.chunks.iter().for_each(|part| index.need(&part.chunk));
        }
        synced.map(|()| stored)
    }

    /// Writes a file whole in place of what is there. The outer error: nothing has changed; the inner one: what is there
    /// after a crash may be either.
    fn replace(&self, path: &str, folder: &str, record: &[u8]) -> Result<Result<(), ObjectError>, ObjectError> {
        let staged = format!("{STAGE}/{}", self.next_staged.fetch_add(1, Ordering::Relaxed));
        let written = self.files.create(&staged, record).and_then(|()| self.files.sync(&staged));
        if let Err(error) = written.and_then(|()| self.files.rename(&staged, path)) {
            self.index().abandoned.push((staged, 0));
            return Err(fault("write a record")(error));
        }
        Ok(self.files.sync_folder(folder).map_err(fault("sync a record")))
    }

    pub(super) fn stat(&self, object: ObjectId) -> Result<Option<ObjectStat>, ObjectError> {
        let mut index = self.index();
        if !index.objects.contains_key(&object) {
            return Ok(None);
        }
        let (held, manifest) = index.object(object)?;
        let references = held.references;
        drop(index);
        Ok(Some(ObjectStat { manifest: ObjectManifest::clone(&manifest), references }))
    }

    /// Keeps an object for a reader of `range`.
    pub(super) fn open(
        self: &Arc<Self>,
        object: ObjectId,
        range: &Range<u64>,
    ) -> Result<(Pin, Arc<ObjectManifest>), ObjectError> {
        let mut index = self.index();
        let (held, manifest) = index.object(object)?;
        let (size, start) = (manifest.size.bytes(), range.start);
        if start > size {
            return Err(ObjectError::Range { object, size, start });
        }
        held.pins += 1;
        held.idle_since = None;
        drop(index);
        Ok((Pin { engine: Arc::clone(self), object }, manifest))
    }

    /// A chunk of `object`, checked.
    pub(super) fn read(&self, object: ObjectId, part: ObjectChunk) -> Result<Bytes, ObjectError> {
        let read = self.files.read(&chunk_path(&part.chunk));
        let corrupt = || {
            if let Some(held) = self.index().chunks.get_mut(&part.chunk) {
                held.damaged = true;
            }
            ObjectError::Corrupt { object, chunk: Some(part.chunk) }
        };
        match read {
            Ok(content) if blake3::hash(&content) == *part.chunk.as_bytes() => Ok(content.into()),
            Ok(_) => Err(corrupt()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(corrupt()),
            Err(error) => Err(fault("read a chunk")(error)),
        }
    }

    pub(super) fn refer(&self, name: &str, object: ObjectId) -> Result<Option<ObjectId>, ObjectError> {
        if name.is_empty() || name.len() > MAX_REFERENCE {
            return Err(ObjectError::Name { name: name.chars().take(80).collect() });
        }
        let path = name_path(name);
        let _publishing = self.publish();
        let before = {
            let mut index = self.index();
            index.object(object)?;
            let before = index.names.get(name).copied();
            let limit = self.config.references;
            if before.is_none() && index.names.len() + index.lost_names.len() >= limit {
                return Err(ObjectError::References { name: name.to_owned(), limit });
            }
            before
        };
        let synced = self.replace(&path, NAMES, &seal(&(name, object))?)?;
        let mut index = self.index();
        if synced.is_err() {
            index.keep(before);
            index.keep(Some(object));
        }
        index.lost_names.retain(|lost| *lost != path);
        index.rename(name, Some(object));
        synced.map(|()| before)
    }

    pub(super) fn unrefer(&self, name: &str) -> Result<Option<ObjectId>, ObjectError> {
        let _publishing = self.publish();
        let Some(before) = self.index().names.get(name).copied() else { return Ok(None) };
        self.files.remove(&name_path(name)).map_err(fault("remove a reference"))?;
        let synced = self.files.sync_folder(NAMES).map_err(fault("sync a reference"));
        let mut index = self.index();
        if synced.is_err() {
            index.keep(Some(before));
        }
        index.rename(name, None);
        synced.map(|()| Some(before))
    }

    pub(super) fn collect(&self, now: Timestamp, grace: Duration) -> Result<Collected, ObjectError> {
        self.sweep();
        let _publishing = self.publish();
        if let Some(lost) = self.index().lost_names.first() {
            let what = format!("collect while the reference in {lost} is damaged");
            let source = std::io::Error::from(std::io::ErrorKind::InvalidData).into();
            return Err(ObjectError::Unavailable { what, source });
        }
        let removed = self.take_idle(now, grace);
        let gone = removed.iter().try_for_each(|(object, _)| self.files.remove(&object_path(object)));
        let synced = if removed.is_empty() { Ok(()) } else { gone.and_then(|()| self.files.sync_folder(OBJECTS)) };
        let idle = {
            let mut index = self.index();
            if let Err(error) = synced {
                // They may be there after a crash, so that their chunks must be.
                for (object, mut held) in removed {
                    held.durable = false;
                    index.objects.insert(object, held);
                }
                return Err(fault("remove an object")(error));
            }
            let manifests = removed.iter().filter_map(|(_, held)| held.manifest.as_ref());
            manifests.flat_map(|manifest| &manifest.chunks).for_each(|part| index.unpin(&part.chunk));
            index.take_idle_chunks()
        };
        let mut collected = Collected { objects: removed.len() as u64, ..Collected::default() };
        let mut outcome = Ok(collected);
        for (chunk, size) in idle {
            if let Err(error) = self.files.remove(&chunk_path(&chunk)) {
                let mut index = self.index();
                index.hold(chunk, size);
                index.unpin(&chunk);
                outcome = Err(fault("remove a chunk")(error));
                continue;
            }
            collected.chunks += 1;
            collected.bytes += ByteSize::from_bytes(u64::from(size));
            outcome = outcome.map(|_| collected);
        }
        outcome
    }

    /// Takes out what has been without reference and reader for `grace`, and notes what is so from `now` on.
    fn take_idle(&self, now: Timestamp, grace: Duration) -> Vec<(ObjectId, Object)> {
        let over = |_: &ObjectId, held: &mut Object| {
            if held.references > 0 || held.pins > 0 {
                held.idle_since = None;
                return false;
            }
            now.since(*held.idle_since.get_or_insert(now)) >= grace
        };
        self.index().objects.extract_if(over).collect()
    }
}
