//! What an object store knows about its files.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use scf_core::{ByteSize, ChunkId, ObjectError, ObjectId, ObjectManifest, ObjectUsage, Timestamp};

/// Everything but content; one lock guards it and is never held across a call of the device.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) objects: HashMap<ObjectId, Object>,
    pub(super) chunks: HashMap<ChunkId, Held>,
    pub(super) names: BTreeMap<String, ObjectId>,
    /// Files of references that cannot be read.
    pub(super) lost_names: Vec<String>,
    /// Bytes of chunks.
    pub(super) bytes: u64,
    /// Bytes of files in the stage, and of those that are on their way there.
    pub(super) staged: u64,
    /// Files in the stage, with their sizes, whose writers have gone.
    pub(super) abandoned: Vec<(String, u64)>,
}

#[derive(Debug)]
pub(super) struct Object {
    /// `None`: it cannot be read.
    pub(super) manifest: Option<Arc<ObjectManifest>>,
    pub(super) references: u64,
    /// Readers, and doubts about which object a name refers to on the disk.
    pub(super) pins: u64,
    /// The collection that first found it without either.
    pub(super) idle_since: Option<Timestamp>,
    /// Whether its manifest is known to be durable.
    pub(super) durable: bool,
}

impl Object {
    pub(super) const fn new(manifest: Option<Arc<ObjectManifest>>, durable: bool) -> Self {
        Self { manifest, references: 0, pins: 0, idle_since: None, durable }
    }
}

/// A chunk whose file is durable.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) size: u32,
    /// How often objects and writers need it.
    pub(super) users: u64,
    /// Whether a read found it missing or other than it was.
    pub(super) damaged: bool,
}

impl Index {
    pub(super) fn object(&mut self, object: ObjectId) -> Result<(&mut Object, Arc<ObjectManifest>), ObjectError> {
        let held = self.objects.get_mut(&object).ok_or(ObjectError::NotFound { object })?;
        let manifest = held.manifest.clone().ok_or(ObjectError::Corrupt { object, chunk: None })?;
        Ok((held, manifest))
    }

    /// Adds a user to a chunk that is there and undamaged.
    pub(super) fn pin(&mut self, chunk: &ChunkId) -> bool {
        match self.chunks.get_mut(chunk) {
            Some(held) if !held.damaged => {
                held.users += 1;
                true
            }
            _ => false,
        }
    }

    /// Adds a user to a chunk, damaged or not.
    pub(super) fn need(&mut self, chunk: &ChunkId) {
        if let Some(held) = self.chunks.get_mut(chunk) {
            held.users += 1;
        }
    }

    pub(super) fn unpin(&mut self, chunk: &ChunkId) {
        if let Some(held) = self.chunks.get_mut(chunk) {
            held.users = held.users.saturating_sub(1);
        }
    }

    /// Takes up a chunk that has become durable, with one user more.
    pub(super) fn hold(&mut self, chunk: ChunkId, size: u32) {
        let held = self.chunks.entry(chunk).or_insert_with(|| {
            self.bytes += u64::from(size);
            Held { size, users: 0, damaged: false }
        });
        held.users += 1;
        held.damaged = false;
    }

    /// Has `name` refer to `object`, or to nothing, and answers what it referred to.
    pub(super) fn rename(&mut self, name: &str, object: Option<ObjectId>) -> Option<ObjectId> {
        if let Some(held) = object.and_then(|object| self.objects.get_mut(&object)) {
            held.references += 1;
            held.idle_since = None;
        }
        let before = match object {
            Some(object) => self.names.insert(name.to_owned(), object),
            None => self.names.remove(name),
        };
        if let Some(held) = before.and_then(|object| self.objects.get_mut(&object)) {
            held.references = held.references.saturating_sub(1);
        }
        before
    }

    /// Keeps an object for as long as the process lives.
    pub(super) fn keep(&mut self, object: Option<ObjectId>) {
        if let Some(held) = object.and_then(|object| self.objects.get_mut(&object)) {
            held.pins += 1;
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.objects.values().any(|object| object.manifest.is_none())
    }

    /// The chunks that nothing needs, taken out; none while an object cannot be read, since they may be its.
    pub(super) fn take_idle_chunks(&mut self) -> Vec<(ChunkId, u32)> {
        if self.is_damaged() {
            return Vec::new();
        }
        let idle = self.chunks.extract_if(|_, held| held.users == 0);
        let idle: Vec<(ChunkId, u32)> = idle.map(|(chunk, held)| (chunk, held.size)).collect();
        self.bytes -= idle.iter().map(|(_, size)| u64::from(*size)).sum::<u64>();
        idle
    }

    pub(super) fn usage(&self, limit: ByteSize) -> ObjectUsage {
        ObjectUsage {
            objects: self.objects.len() as u64,
            chunks: self.chunks.len() as u64,
            bytes: ByteSize::from_bytes(self.bytes + self.staged),
            limit,
        }
    }
}
