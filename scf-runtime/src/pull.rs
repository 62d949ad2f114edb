//! Code and models of other processes, by their hash.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use scf_core::{BlobStore, ByteSize, Clock as _, ObjectError, ObjectId, ObjectStore, Timestamp, read_object};

use crate::{clock::SystemClock, flight::Flights};

/// Under which the objects are kept that were pulled: with when that was, so that the oldest come first.
const PULLED: &str = "pulled/";
/// How often an object is put that a collection takes before it is referred to.
const PUTS: usize = 4;

/// Pulls code and models by the hash of their content: out of a cache on this node's disk, or else out of the store
/// that the fleet shares. Given to a fabric ([`FabricBuilder::pull`](crate::FabricBuilder::pull)), and used as
/// `Arc<Puller>` by whoever loads models.
///
/// What it gives is what the hash says. Who pulls the same at the same time waits for one pull; who gives up, or
/// fails, leaves it to the next of them. Nothing half-written is ever read.
#[derive(Debug)]
pub struct Puller {
    store: Arc<dyn BlobStore>,
    cache: Option<Arc<dyn ObjectStore>>,
    pulls: Flights<ObjectId, Bytes>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    pulled: AtomicU64,
    found: AtomicU64,
    evicted: AtomicU64,
}

/// What a [`Puller`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PullCounters {
    /// Blobs read out of the store of the fleet.
    pub pulled: u64,
    /// Blobs found in the cache.
    pub found: u64,
    /// Collections of the cache that made room.
    pub evicted: u64,
}

impl Puller {
    /// Pulls out of `store` each time.
    #[must_use]
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store, cache: None, pulls: Flights::default(), counts: Counts::default() }
    }

    /// Keeps what it pulled in `cache`, which is for it alone: when its quota is used up, what was pulled longest ago
    /// goes. What is larger than the quota is not kept. Default: nothing is.
    #[must_use]
    pub fn cache(mut self, cache: Arc<dyn ObjectStore>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Leaves `content` in the store of the fleet, where it is not there yet.
    ///
    /// # Errors
    /// As [`BlobStore::put_blob`].
    pub async fn publish(&self, content: Bytes) -> Result<ObjectId, ObjectError> {
        self.store.put_blob(content).await
    }

    /// The content that hashes to `object`, at most `limit`.
    ///
    /// # Errors
    /// As [`BlobStore::get_blob`]. What the cache says is not an error: what is damaged there is pulled.
    pub async fn pull(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
        let content = self.pulls.once(&object, self.find(object, limit)).await?;
        let size = ByteSize::from_bytes(content.len() as u64);
        // Who else pulled it may take more.
        if size > limit { Err(ObjectError::TooLarge { object, size, limit }) } else { Ok(content) }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> PullCounters {
        let Counts { pulled, found, evicted } = &self.counts;
        PullCounters { pulled: pulled.load(Relaxed), found: found.load(Relaxed), evicted: evicted.load(Relaxed) }
    }

    async fn find(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
        if let Some(cache) = &self.cache {
            match read_object(&**cache, object, limit).await {
                Ok(content) => {
                    self.counts.found.fetch_add(1, Relaxed);
                    return Ok(content);
                }
                Err(error @ ObjectError::TooLarge { .. }) => return Err(error),
                Err(ObjectError::NotFound { .. }) => {}
                Err(error) => tracing::warn!(%error, "what was pulled before is pulled again"),
            }
        }
        let content = self.store.get_blob(object, limit).await?;
        self.counts.pulled.fetch_add(1, Relaxed);
        tracing::info!(%object, bytes = content.len(), "scf.pull");
        if let Some(cache) = self.cache.as_deref().filter(|cache| content.len() as u64 <= cache.usage().limit.bytes())
            && let Err(error) = self.keep(cache, object, &content).await
        {
            tracing::warn!(%error, "what was pulled is not kept: it is pulled again after a restart");
        }
        Ok(content)
    }

    async fn keep(&self, cache: &dyn ObjectStore, object: ObjectId, content: &Bytes) -> Result<(), ObjectError> {
        // Only the order of what is kept rests on it.
        let now = SystemClock::new().wall().millis();
        let name = format!("{PULLED}{now:016x}/{object}");
        let mut puts = PUTS;
        loop {
            let kept = match cache.put_bytes(content.clone()).await {
                Ok(_) => cache.refer(&name, object).await.map(drop),
                Err(error) => Err(error),
            };
            match kept {
                Err(error @ (ObjectError::Quota { .. } | ObjectError::Full | ObjectError::References { .. })) => {
                    if !self.evict(cache).await? {
                        return Err(error);
                    }
                }
                // Another pull made room before this one referred to it.
                Err(ObjectError::NotFound { .. }) if puts > 1 => puts -= 1,
                kept => return kept,
            }
        }
    }

    /// Lets go what was pulled longest ago; whether there was something.
    async fn evict(&self, cache: &dyn ObjectStore) -> Result<bool, ObjectError> {
        let oldest = cache.references(PULLED, None, 1).await?;
        let Some((name, _)) = oldest.first() else { return Ok(false) };
        cache.unrefer(name).await?;
        cache.collect(Timestamp::default(), Duration::ZERO).await?;
        self.counts.evicted.fetch_add(1, Relaxed);
        Ok(true)
    }
}
