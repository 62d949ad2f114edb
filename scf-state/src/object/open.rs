//! What is there when a store is opened.

use std::{collections::HashMap, io, sync::Arc};

use scf_core::{ChunkId, ObjectError, ObjectId, ObjectManifest};

use super::{
    files::Files,
    index::{Held, Index, Object},
    record::{NAMES, OBJECTS, STAGE, chunk_folders, chunk_path, fault, is_manifest_of, unseal},
};

/// Reads what is stored, and removes what a crash left of objects that did not come about.
pub(super) fn load(files: &dyn Files) -> Result<Index, ObjectError> {
    let unreadable = fault("open the store");
    for (staged, _) in files.list(STAGE).map_err(&unreadable)? {
        files.remove(&format!("{STAGE}/{staged}")).map_err(&unreadable)?;
    }
    let mut index = Index::default();
    for folder in chunk_folders() {
        for (name, size) in files.list(&folder).map_err(&unreadable)? {
            if let (Ok(chunk), Ok(size)) = (name.parse::<ChunkId>(), u32::try_from(size)) {
                index.bytes += u64::from(size);
                index.chunks.insert(chunk, Held { size, users: 0, damaged: false });
            }
        }
    }
    for (name, _) in files.list(OBJECTS).map_err(&unreadable)? {
        if let Ok(object) = name.parse::<ObjectId>() {
            let manifest = record::<ObjectManifest>(files, &format!("{OBJECTS}/{name}"))?;
            let manifest = manifest.filter(|manifest| is_manifest_of(manifest, object));
            take_up(&mut index, object, manifest);
        }
    }
    for (name, _) in files.list(NAMES).map_err(&unreadable)? {
        let path = format!("{NAMES}/{name}");
        match record::<(String, ObjectId)>(files, &path)? {
            Some((name, object)) if super::record::name_path(&name) == path => {
                // An object that is named and not there was removed by somebody else; asking for it says so.
                index.rename(&name, Some(object));
            }
            _ => index.lost_names.push(path),
        }
    }
    for (chunk, _) in index.take_idle_chunks() {
        files.remove(&chunk_path(&chunk)).map_err(&unreadable)?;
    }
    Ok(index)
}

fn take_up(index: &mut Index, object: ObjectId, manifest: Option<ObjectManifest>) {
    let sizes: HashMap<ChunkId, u32> =
        manifest.iter().flat_map(|manifest| &manifest.chunks).map(|part| (part.chunk, part.size)).collect();
    for (chunk, size) in sizes {
        let held = index.chunks.entry(chunk).or_insert_with(|| {
            index.bytes += u64::from(size);
            Held { size, users: 0, damaged: true }
        });
        if held.size != size {
            index.bytes = index.bytes - u64::from(held.size) + u64::from(size);
            (held.size, held.damaged) = (size, true);
        }
    }
    let manifest = manifest.map(Arc::new);
    manifest.iter().flat_map(|manifest| &manifest.chunks).for_each(|part| index.need(&part.chunk));
    index.objects.insert(object, Object::new(manifest, true));
}

/// A record, or nothing where it is damaged.
fn record<T: serde::de::DeserializeOwned>(files: &dyn Files, path: &str) -> Result<Option<T>, ObjectError> {
    match files.read(path) {
        Ok(bytes) => Ok(unseal(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(fault("open the store")(error)),
    }
}
