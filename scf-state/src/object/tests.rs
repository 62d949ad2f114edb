use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use bytes::Bytes;
use scf_core::{BlobStore, ChunkId, Stored, conformance};

use super::{
    crash::{CrashFiles, Fault},
    files::Files as _,
    *,
};

const ALL: Range<u64> = 0..u64::MAX;

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut noise = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    move || {
        let mut roll = [0; 8];
        stream.fill(&mut roll);
        u64::from_le_bytes(roll)
    }
}

async fn put(store: &Store, content: impl Into<Bytes>) -> Result<Stored, ObjectError> {
    let mut writer = store.put();
    writer.write(content.into()).await?;
    writer.finish().await
}

async fn read(store: &Store, object: ObjectId) -> Result<Vec<u8>, ObjectError> {
    let (mut reader, mut content) = (store.get(object, &ALL)?, Vec::new());
    while let Some(part) = reader.next().await? {
        content.extend_from_slice(&part);
    }
    Ok(content)
}

#[tokio::test]
async fn both_pass_the_suite() {
    let config = ObjectConfig::new().quota(ByteSize::from_mib(64)).references(16);
    let memory = || async move { Arc::new(MemoryObjects::new(config)) as Arc<dyn ObjectStore> };
    conformance::object::object_store(memory).await;
    let parent = tempfile::tempdir().unwrap();
    let (parent, next) = (parent.path(), std::cell::Cell::new(0));
    let folder = || async {
        next.set(next.get() + 1);
        let store = FolderObjects::open(parent.join(next.get().to_string()), config).unwrap();
        Arc::new(store) as Arc<dyn ObjectStore>
    };
    conformance::object::object_store(folder).await;
    let blobs = || async { Arc::new(MemoryObjects::new(ObjectConfig::new())) as Arc<dyn BlobStore> };
    conformance::blob::blob_store(blobs).await;
}

/// What callers were told before the first failure.
#[derive(Debug, Default)]
struct Told {
    named: Option<ObjectId>,
    removing: bool,
    removed: bool,
}

/// Puts two objects that share chunks under one name after the other, collects, and removes the name.
async fn work(store: &Store, told: &mut Told) -> Result<(), ObjectError> {
    let first = noise(1, 500_000);
    let second = [&first[..], &noise(2, 200_000)].concat();
    for content in [first, second] {
        let object = put(store, content).await?.object;
        store.refer("latest", object).await?;
        told.named = Some(object);
    }
    store.collect(Timestamp::default(), Duration::ZERO).await?;
    told.removing = true;
    store.unrefer("latest").await?;
    told.removed = true;
    store.collect(Timestamp::default(), Duration::ZERO).await.map(drop)
}

async fn is_sound(files: CrashFiles, told: &Told, what: &str) {
    let store = Store::new(Box::new(files.clone()), ObjectConfig::new(), Worker::Here).unwrap();
    assert_eq!(files.list(record::STAGE).unwrap(), [], "{what}: the stage is empty");
    let named = store.resolve("latest");
    if told.removed {
        assert_eq!(named, None, "{what}: what was removed is gone");
    }
    for (object, _) in files.list(record::OBJECTS).unwrap() {
        let object: ObjectId = object.parse().unwrap();
        let content = read(&store, object).await.unwrap_or_else(|error| panic!("{what}: half an object: {error}"));
        assert_eq!(object.as_bytes(), blake3::hash(&content).as_bytes(), "{what}: an object is what it is named");
    }
    if let Some(named) = named {
        assert!(store.stat(named).unwrap().is_some(), "{what}: a name names what is there");
    } else {
        assert!(told.removing || told.named.is_none(), "{what}: a name that was given is there");
    }
    store.unrefer("latest").await.unwrap();
    store.collect(Timestamp::default(), Duration::ZERO).await.unwrap();
    let left: u64 = record::folders().map(|folder| files.list(&folder).unwrap().len() as u64).sum();
    assert_eq!((left, store.usage().bytes), (0, ByteSize::ZERO), "{what}: nothing is left over");
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_every_object_whole_or_absent() {
    let whole = CrashFiles::default();
    let store = Store::new(Box::new(whole.clone()), ObjectConfig::new(), Worker::Here).unwrap();
    work(&store, &mut Told::default()).await.unwrap();
    for step in 1..=whole.steps() + 1 {
        let files = CrashFiles::default();
        files.fail_at(step, Fault::Power);
        let mut told = Told::default();
        let store = Store::new(Box::new(files.clone()), ObjectConfig::new(), Worker::Here).unwrap();
        let worked = work(&store, &mut told).await;
        assert_eq!(worked.is_ok(), step > whole.steps());
        for seed in 0..4 {
            is_sound(files.power_cut(dice(step << 8 | seed)), &told, &format!("step {step}, seed {seed}")).await;
        }
    }
}

#[tokio::test]
async fn an_error_at_any_step_is_told_and_doing_it_again_mends_it() {
    let whole = CrashFiles::default();
    let store = Store::new(Box::new(whole.clone()), ObjectConfig::new(), Worker::Here).unwrap();
    work(&store, &mut Told::default()).await.unwrap();
    for (step, kind) in (1..=whole.steps()).flat_map(|step| [(step, ErrorKind::StorageFull), (step, ErrorKind::Other)])
    {
        let files = CrashFiles::default();
        files.fail_at(step, Fault::Error(kind));
        let store = Store::new(Box::new(files.clone()), ObjectConfig::new(), Worker::Here).unwrap();
        let mut told = Told::default();
        if let Err(error) = work(&store, &mut told).await {
            let full = matches!(error, ObjectError::Full);
            assert_eq!(full, kind == ErrorKind::StorageFull, "step {step}: {error}");
            is_sound(files.power_cut(dice(step)), &told, &format!("{kind} at step {step}")).await;
            told = Told::default();
            work(&store, &mut told).await.unwrap_or_else(|error| panic!("step {step}, again: {error}"));
        }
        assert!(told.removed);
        is_sound(files.power_cut(dice(step)), &told, &format!("{kind} at step {step}, mended")).await;
    }
}

#[tokio::test]
async fn a_byte_more_at_the_front_leaves_most_chunks_as_they_are() {
    let store = Store::new(Box::new(MemoryFiles::default()), ObjectConfig::new(), Worker::Here).unwrap();
    let content = noise(3, 8 << 20);
    assert_eq!(put(&store, content.clone()).await.unwrap().added.bytes(), 8 << 20);
    let shifted = put(&store, [&[0][..], &content].concat()).await.unwrap();
    assert!(shifted.added < ByteSize::from_mib(2), "{} were added", shifted.added);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let config = ObjectConfig::new().quota(ByteSize::from_mib(3)).references(1);
    let store = Store::new(Box::new(MemoryFiles::default()), config, Worker::Here).unwrap();
    let object = put(&store, noise(4, 2 << 20)).await.unwrap().object;
    let mut writer = store.put();
    let mut refused = Ok(());
    for part in 0..8 {
        refused = writer.write(noise(100 + part, 1 << 20).into()).await;
        if refused.is_err() {
            break;
        }
    }
    let limit = ByteSize::from_mib(3);
    assert!(matches!(refused, Err(ObjectError::Quota { limit: told, .. }) if told == limit), "{refused:?}");
    assert!(matches!(writer.finish().await, Err(ObjectError::Abandoned)));
    put(&store, noise(5, 1 << 20)).await.unwrap();
    store.refer("a", object).await.unwrap();
    let refused = store.refer("b", object).await;
    assert!(matches!(refused, Err(ObjectError::References { limit: 1, .. })), "{refused:?}");
}

fn flip(path: PathBuf) {
    let mut content = std::fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn a_flipped_bit_is_named_and_never_served_and_putting_again_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let open = || FolderObjects::open(folder.path(), ObjectConfig::new()).unwrap();
    let content = Bytes::from(noise(6, 2 << 20));
    let store = open();
    let object = store.put_bytes(content.clone()).await.unwrap().object;
    store.refer("kept", object).await.unwrap();
    let chunks = store.stat(object).await.unwrap().unwrap().manifest.chunks;
    let path = |chunk: &ChunkId| folder.path().join(record::chunk_path(chunk));
    for part in &chunks {
        flip(path(&part.chunk));
        let found = read(&store.0, object).await;
        let named =
            matches!(found, Err(ObjectError::Corrupt { object: o, chunk }) if o == object && chunk == Some(part.chunk));
        assert!(named, "the damaged chunk is named: {:?}", found.map(drop));
        store.put_bytes(content.clone()).await.unwrap();
        assert!(read(&store.0, object).await.unwrap() == content);
    }
    drop(store);
    std::fs::remove_file(path(&chunks[0].chunk)).unwrap();
    flip(folder.path().join(record::name_path("kept")));
    let store = open();
    let missing = read(&store.0, object).await;
    assert!(matches!(missing, Err(ObjectError::Corrupt { chunk, .. }) if chunk == Some(chunks[0].chunk)));
    let refused = store.collect(Timestamp::default(), Duration::ZERO).await;
    assert!(matches!(refused, Err(ObjectError::Unavailable { .. })), "nothing is collected meanwhile: {refused:?}");
    drop(store);
    flip(folder.path().join(record::object_path(&object)));
    let store = open();
    let unknown = store.stat(object).await;
    assert!(matches!(unknown, Err(ObjectError::Corrupt { chunk: None, .. })), "{unknown:?}");
    store.put_bytes(content.clone()).await.unwrap();
    store.refer("kept", object).await.unwrap();
    drop(store);
    let store = open();
    assert!(read(&store.0, object).await.unwrap() == content);
    assert_eq!(store.collect(Timestamp::default(), Duration::ZERO).await.unwrap(), Collected::default());
    assert!(FolderObjects::open(folder.path(), ObjectConfig::new()).is_err(), "it is open already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_the_same_content_beside_readers_and_collections_store_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FolderObjects::open(folder.path(), ObjectConfig::new()).unwrap());
    let content = Bytes::from(noise(7, 2 << 20));
    let writers = (0..4).map(|_| {
        let (store, content) = (Arc::clone(&store), content.clone());
        tokio::spawn(async move {
            for _ in 0..4 {
                let object = store.put_bytes(content.clone()).await.unwrap().object;
                match read(&store.0, object).await {
                    Ok(found) => assert!(found == content),
                    // Collected before it was opened; it is never collected while it is read.
                    Err(error) => assert!(matches!(error, ObjectError::NotFound { .. }), "{error}"),
                }
                store.collect(Timestamp::default(), Duration::ZERO).await.unwrap();
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let object = store.put_bytes(content.clone()).await.unwrap().object;
    assert_eq!(store.usage().bytes.bytes(), content.len() as u64);
    store.refer("kept", object).await.unwrap();
    store.collect(Timestamp::default(), Duration::ZERO).await.unwrap();
    assert!(read(&store.0, object).await.unwrap() == content);
}
