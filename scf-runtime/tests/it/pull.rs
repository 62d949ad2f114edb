//! Code and models by their hash, out of a cache and the store that a fleet shares.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use futures::future::join_all;
use scf_core::{BlobStore, ByteSize, Bytes, ObjectError, ObjectId};
use scf_runtime::Puller;
use scf_state::{FolderObjects, MemoryObjects, ObjectConfig};
use tempfile::TempDir;

const LIMIT: ByteSize = ByteSize::from_mib(4);

/// A store of a fleet that counts what is read of it.
#[derive(Debug)]
struct Counted {
    store: MemoryObjects,
    reads: AtomicU32,
}

#[async_trait]
impl BlobStore for Counted {
    async fn put_blob(&self, content: Bytes) -> Result<ObjectId, ObjectError> {
        self.store.put_blob(content).await
    }

    async fn get_blob(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
        self.reads.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        self.store.get_blob(object, limit).await
    }
}

fn store() -> Arc<Counted> {
    Arc::new(Counted { store: MemoryObjects::new(ObjectConfig::new()), reads: AtomicU32::new(0) })
}

fn puller(store: &Arc<Counted>, folder: &Path, quota: ByteSize) -> Puller {
    let cache = FolderObjects::open(folder, ObjectConfig::new().quota(quota)).unwrap();
    Puller::new(Arc::clone(store) as Arc<dyn BlobStore>).cache(Arc::new(cache))
}

/// 100 000 bytes that are different ones for each `seed`.
fn content(seed: u8) -> Bytes {
    let mut content = vec![0; 100_000];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut content);
    content.into()
}

#[tokio::test]
async fn what_is_pulled_at_the_same_time_is_pulled_once_and_found_in_the_cache_after_a_restart() {
    let (store, folder) = (store(), TempDir::new().unwrap());
    let first = puller(&store, folder.path(), LIMIT);
    let object = first.publish(content(1)).await.unwrap();
    for pulled in join_all((0..16).map(|_| first.pull(object, LIMIT))).await {
        assert_eq!(pulled.unwrap(), content(1));
    }
    assert_eq!(store.reads.load(Relaxed), 1);
    drop(first);
    let again = puller(&store, folder.path(), LIMIT);
    assert_eq!(again.pull(object, LIMIT).await.unwrap(), content(1));
    assert_eq!((store.reads.load(Relaxed), again.counters().found), (1, 1));
    let refused = again.pull(object, ByteSize::from_bytes(99_999)).await;
    assert!(matches!(refused, Err(ObjectError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn what_was_pulled_longest_ago_makes_room_and_what_never_fits_is_not_kept() {
    let (store, folder) = (store(), TempDir::new().unwrap());
    let puller = puller(&store, folder.path(), ByteSize::from_bytes(250_000));
    let mut objects = Vec::new();
    for seed in 0..5 {
        let object = puller.publish(content(seed)).await.unwrap();
        assert_eq!(puller.pull(object, LIMIT).await.unwrap(), content(seed));
        objects.push(object);
    }
    assert_eq!(puller.counters().evicted, 3, "two of five fit");
    let whole = Bytes::from((0..5).flat_map(content).collect::<Vec<_>>());
    let large = puller.publish(whole.clone()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(puller.pull(large, LIMIT).await.unwrap(), whole);
    }
    assert_eq!((puller.counters().pulled, puller.counters().evicted), (7, 3));
    assert_eq!(puller.pull(objects[4], LIMIT).await.unwrap(), content(4));
    assert_eq!((puller.counters().pulled, puller.counters().found), (7, 1), "the last is still there");
}

#[tokio::test]
async fn what_is_damaged_in_the_cache_is_pulled_again_and_kept_whole() {
    let (store, folder) = (store(), TempDir::new().unwrap());
    let puller = puller(&store, folder.path(), LIMIT);
    let object = puller.publish(content(1)).await.unwrap();
    puller.pull(object, LIMIT).await.unwrap();
    assert!(twist(folder.path()), "a chunk is in the folder");
    for reads in [2, 2] {
        assert_eq!(puller.pull(object, LIMIT).await.unwrap(), content(1));
        assert_eq!(store.reads.load(Relaxed), reads);
    }
}

/// Turns a byte of every large file under `folder` round; whether there was one.
fn twist(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().map(Result::unwrap).fold(false, |twisted, entry| {
        let path = entry.path();
        if path.is_dir() {
            return twist(&path) || twisted;
        }
        let mut bytes = fs::read(&path).unwrap();
        let is_chunk = bytes.len() > 1000;
        if is_chunk {
            bytes[500] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
        is_chunk || twisted
    })
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_again_by_the_next() {
    let (store, folder) = (store(), TempDir::new().unwrap());
    let puller = puller(&store, folder.path(), LIMIT);
    let object = ObjectId::of(&content(9));
    let missing = puller.pull(object, LIMIT).await;
    assert!(matches!(missing, Err(ObjectError::NotFound { object: of }) if of == object), "{missing:?}");
    puller.publish(content(9)).await.unwrap();
    assert_eq!(puller.pull(object, LIMIT).await.unwrap(), content(9));
}
