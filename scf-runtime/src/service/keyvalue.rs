//! The key-value store over a state backend.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, Bucket, Commit, Entry, KeyValue, KeyValueError, KeyValueLimits, Op, Scope, StateBackend, StateError,
    Timestamp, Version,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How often a change is tried again because another node changed the bucket meanwhile.
const TRIES: u32 = 32;
/// Buckets that are changed at the same time by this store.
const LANES: usize = 64;
/// Where the size of a bucket lies. Keys of functions have a prefix, so that none is this one.
const SIZE: &str = "#";
const PREFIX: char = '=';

/// Keeps buckets in a [`StateBackend`], each as one scope of it: see [`Bucket::scope`].
///
/// A change of a bucket rests on the bucket's version, so that changes of several nodes do not get lost;
/// changes of one node take turns and so do not get into each other's way. Listing keys reads the whole bucket,
/// of which [`KeyValueLimits::bucket`] bounds the size. Cloning shares the backend.
#[derive(Clone)]
pub struct StateKeyValue(Arc<Shared>);

struct Shared {
    backend: Arc<dyn StateBackend>,
    limits: KeyValueLimits,
    lanes: [Semaphore; LANES],
}

impl StateKeyValue {
    /// Buckets in `backend`, with the default limits.
    #[must_use]
    pub fn new(backend: Arc<dyn StateBackend>) -> Self {
        Self::with_limits(backend, KeyValueLimits::default())
    }

    /// Buckets in `backend`.
    #[must_use]
    pub fn with_limits(backend: Arc<dyn StateBackend>, limits: KeyValueLimits) -> Self {
        let lanes = std::array::from_fn(|_| Semaphore::new(1));
        Self(Arc::new(Shared { backend, limits, lanes }))
    }

    /// Applies `changes`, if `expect` says that a key is of a version, only then. Answers whether it did.
    async fn apply(
        &self,
        bucket: &Bucket,
        expect: Option<(&str, Option<Version>)>,
        changes: &[Op],
    ) -> Result<bool, KeyValueError> {
        let Shared { backend, limits, .. } = &*self.0;
        let scope = bucket.scope();
        let _turn = self.turn(bucket).await?;
        for _ in 0..TRIES {
            let head = backend.head(&scope, Timestamp::default()).await.map_err(store)?;
            if let Some((key, version)) = expect
                && self.entry(&scope, key).await?.map(|entry| entry.version) != version
            {
                return Ok(false);
            }
            let before = backend.get(&scope, SIZE).await.map_err(store)?;
            let mut size = before.map_or(Ok(0), |entry| size_of(&scope, &entry.value))?;
            // What each changed key takes after the changes; reading it once serves several changes of it.
            let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
            let mut batch = Batch::new(scope.clone()).expect(head.version).durability(backend.caps().durability);
            for change in changes {
                let (key, takes) = match change {
                    Op::Put { key, value, expires: None } => (key, KeyValueLimits::size_of(key, value)),
                    Op::Delete { key } => (key, 0),
                    other => return Err(unknown(other)),
                };
                let took = match taken.get(key.as_str()) {
                    Some(took) => *took,
                    None => {
                        let entry = self.entry(&scope, key).await?;
                        entry.map_or(0, |entry| KeyValueLimits::size_of(key, &entry.value))
                    }
                };
                size = (size + takes).saturating_sub(took);
                taken.insert(key, takes);
                batch = match change {
                    Op::Put { value, .. } => batch.put(stored(key), value.clone()),
                    _ => batch.delete(stored(key)),
                };
            }
            let grows = taken.values().any(|takes| *takes > 0);
            if grows && size > limits.bucket {
                return Err(KeyValueError::Full { size, limit: limits.bucket });
            }
            batch = batch.put(SIZE, size.to_le_bytes().to_vec());
            match backend.commit(batch).await {
                Ok(Commit::Applied { .. }) => return Ok(true),
                Ok(other) => return Err(unknown(&other)),
                Err(StateError::Conflict { .. }) => {}
                Err(error) => return Err(store(error)),
            }
        }
        Err(KeyValueError::Contended)
    }

    async fn entry(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.0.backend.get(scope, &stored(key)).await.map_err(store)
    }

    async fn turn(&self, bucket: &Bucket) -> Result<SemaphorePermit<'_>, KeyValueError> {
        let mut hasher = DefaultHasher::new();
        bucket.hash(&mut hasher);
        self.0.lanes[hasher.finish() as usize % LANES].acquire().await.map_err(store)
    }
}

#[async_trait]
impl KeyValue for StateKeyValue {
    fn limits(&self) -> KeyValueLimits {
        self.0.limits
    }

    async fn get(&self, bucket: &Bucket, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.0.limits.check_key(key)?;
        self.entry(&bucket.scope(), key).await
    }

    async fn write(&self, bucket: &Bucket, changes: Vec<Op>) -> Result<(), KeyValueError> {
        self.0.limits.check(&changes)?;
        self.apply(bucket, None, &changes).await.map(drop)
    }

    async fn swap(
        &self,
        bucket: &Bucket,
        key: &str,
        expect: Option<Version>,
        value: Bytes,
    ) -> Result<bool, KeyValueError> {
        let change = [Op::Put { key: key.into(), value, expires: None }];
        self.0.limits.check(&change)?;
        self.apply(bucket, Some((key, expect)), &change).await
    }

    async fn keys(&self, bucket: &Bucket, after: Option<&str>, most: usize) -> Result<Vec<String>, KeyValueError> {
        let snapshot = self.0.backend.export(&bucket.scope()).await.map_err(store)?;
        let keys = snapshot.entries.iter().filter_map(|(key, _)| key.strip_prefix(PREFIX));
        let mut keys: Vec<_> = keys.filter(|key| after.is_none_or(|after| *key > after)).collect();
        keys.sort_unstable();
        Ok(keys.into_iter().take(most).map(Into::into).collect())
    }
}

impl fmt::Debug for StateKeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateKeyValue").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

fn stored(key: &str) -> String {
    format!("{PREFIX}{key}")
}

fn size_of(scope: &Scope, bytes: &Bytes) -> Result<u64, KeyValueError> {
    let bytes = <[u8; 8]>::try_from(&bytes[..]).map_err(|_| {
        let what = "the size of a bucket".into();
        store(StateError::Corrupt { scope: scope.clone(), what })
    })?;
    Ok(u64::from_le_bytes(bytes))
}

fn store(error: impl std::error::Error + Send + Sync + 'static) -> KeyValueError {
    KeyValueError::Store { source: error.into() }
}

fn unknown(what: &impl fmt::Debug) -> KeyValueError {
    KeyValueError::Store {
        source: format!("the state backend's part is newer than the key-value store: {what:?}").into(),
    }
}
