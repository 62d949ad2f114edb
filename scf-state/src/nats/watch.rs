//! Word of changes, from the heads that are stored.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::{
    DeliverPolicy,
    pull::{Ordered, OrderedConfig},
};
use async_trait::async_trait;
use futures::StreamExt as _;
use scf_core::{StateError, Version, Watch, Watched};
use tokio::time::timeout;

use super::{
    link::unavailable,
    record::{Record, decode},
    shared::Shared,
    subject::Place,
};

/// How long nothing is heard before the head is read all the same: a reader of the stream may fall silent for good
/// (nats.go 1094, nats.rs 1596).
const SILENCE: Duration = Duration::from_secs(5);

/// A watcher of one scope.
pub(super) struct HeadWatch {
    shared: Arc<Shared>,
    place: Place,
    prefix: String,
    heads: Ordered,
    /// What has been told.
    last: Version,
    generation: u64,
    /// What happened before it began.
    first: Option<Watched>,
}

impl std::fmt::Debug for HeadWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadWatch").field("scope", &self.place.scope).field("last", &self.last).finish_non_exhaustive()
    }
}

impl HeadWatch {
    /// A watcher that has seen everything up to `from`.
    pub(super) async fn begin(
        shared: Arc<Shared>,
        place: Place,
        prefix: &str,
        from: Version,
    ) -> Result<Self, StateError> {
        let config = OrderedConfig {
            filter_subject: place.head(),
            deliver_policy: DeliverPolicy::New,
            ..OrderedConfig::default()
        };
        let stream = &shared.link.streams[place.shard as usize];
        let consumer = stream.create_consumer(config).await.map_err(|error| unavailable(&error))?;
        let heads = consumer.messages().await.map_err(|error| unavailable(&error))?;
        // Read after the heads begin to come, so that none is missed between.
        let (_, record) = shared.link.head(&place).await?;
        let (last, generation) = (from, record.generation);
        let mut watch = Self { shared, place, prefix: prefix.to_owned(), heads, last, generation, first: None };
        watch.first = watch.see(&record);
        Ok(watch)
    }

    /// What `record` says that was not told yet.
    fn see(&mut self, record: &Record) -> Option<Watched> {
        let version = record.head.version;
        let is_replaced = std::mem::replace(&mut self.generation, record.generation) != record.generation;
        if version == self.last && !is_replaced {
            return None;
        }
        let since = std::mem::replace(&mut self.last, version);
        match record.since(since, |_| true) {
            Some(delta) if !is_replaced => {
                let keys = delta.entries.into_iter().map(|(key, _)| key);
                let keys: Vec<String> = keys.filter(|key| key.starts_with(&self.prefix)).collect();
                (!keys.is_empty()).then_some(Watched::Change { version, keys })
            }
            _ => Some(Watched::Gap { version }),
        }
    }
}

#[async_trait]
impl Watch for HeadWatch {
    async fn next(&mut self) -> Result<Watched, StateError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            let heard = timeout(SILENCE, self.heads.next()).await;
            let record = match heard {
                Ok(Some(Ok(message))) => decode(&message.payload)
                    .map_err(|what| StateError::Corrupt { scope: self.place.scope.clone(), what })?,
                Ok(Some(Err(error))) => {
                    tracing::debug!(scope = %self.place.scope, %error, "a watch goes on by reading");
                    self.shared.link.head(&self.place).await?.1
                }
                Ok(None) => {
                    let reason = "the scope is watched no more; watch it again".to_owned();
                    return Err(StateError::Unavailable { reason });
                }
                Err(_) => self.shared.link.head(&self.place).await?.1,
            };
            if let Some(watched) = self.see(&record) {
                return Ok(watched);
            }
        }
    }
}
