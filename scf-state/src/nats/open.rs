//! How state at a broker is opened.

use std::{collections::HashMap, sync::Arc};

use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy, PersistenceMode, StorageType},
};
use scf_core::{Clock, Durability};

use super::{
    NatsState,
    broker::{Broker, Syncing},
    caps,
    error::NatsError,
    lease::Leases,
    link::Link,
    room,
    shared::Shared,
    subject::Layout,
    writer::Writer,
};
use crate::wall::Wall;

/// Of a stream's metadata: how many results are kept of each scope, which decides where they are.
const RESULTS: &str = "scf.results";
/// The smallest message that a broker must take.
const LEAST_PAYLOAD: usize = 128 << 10;

/// What a [`NatsState`] is opened with.
#[derive(Debug)]
#[must_use]
pub struct NatsStateBuilder {
    broker: Broker,
    shards: u32,
    replicas: u8,
    results_per_scope: usize,
    durability: Durability,
    domain: Option<String>,
    wall: Wall,
}

impl NatsStateBuilder {
    pub(super) fn new(broker: Broker) -> Self {
        Self {
            broker,
            shards: 8,
            replicas: 1,
            results_per_scope: 256,
            durability: Durability::Durable,
            domain: None,
            wall: Wall::default(),
        }
    }

    /// Streams over which scopes are spread, each with a writer of its own; at least 1, default 8. The same on every
    /// node of a fabric, and for good.
    pub fn shards(mut self, shards: u32) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Servers that store each message: 1, 3 or 5; default 1. The streams that are there must have been made so.
    pub const fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// How many results of past invocations are kept per scope, at least 1; default 256. Every reader of a scope reads
    /// 4 bytes for each. The same on every node of a fabric, and for good.
    pub fn results_per_scope(mut self, results: usize) -> Self {
        self.results_per_scope = results.max(1);
        self
    }

    /// The least durability that will do; default [`Durability::Durable`]. Opening fails where the broker gives less, and
    /// [`StateBackend::caps`](scf_core::StateBackend::caps) says what it gives.
    pub const fn durability(mut self, least: Durability) -> Self {
        self.durability = least;
        self
    }

    /// The JetStream domain where the streams are, if it is not that of the server.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// The clock by which values expire; default the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.wall = Wall::Given(clock);
        self
    }

    /// Opens the state, and makes the streams that are missing.
    ///
    /// # Errors
    /// [`NatsError::SyncInterval`] and [`NatsError::SyncUnknown`] where the broker gives less durability than is asked,
    /// [`NatsError::Away`], [`NatsError::TooOld`], [`NatsError::NoStore`], [`NatsError::Stream`] where streams are others than this program makes,
    /// [`NatsError::Create`].
    pub async fn open(self) -> Result<NatsState, NatsError> {
        self.broker.check()?;
        let durability = self.given()?;
        let client = self.broker.client();
        let payload = client.max_payload();
        if payload < LEAST_PAYLOAD {
            return Err(NatsError::SmallPayload { found: payload, least: LEAST_PAYLOAD });
        }
        let builder = jetstream::context::ContextBuilder::new().timeout(self.broker.patience());
        let context = match &self.domain {
            Some(domain) => builder.domain(domain).build(client),
            None => builder.build(client),
        };
        context.query_account().await.map_err(|error| NatsError::NoStore(error.into()))?;
        let layout = Layout { fabric: self.broker.fabric().clone(), shards: self.shards };
        let mut streams = Vec::new();
        for shard in 0..self.shards {
            let wanted = self.stream(&layout, shard);
            let name = wanted.name.clone();
            let create = |source: jetstream::context::CreateStreamError| NatsError::Create {
                stream: name.clone(),
                source: source.into(),
            };
            let stream = context.get_or_create_stream(wanted.clone()).await.map_err(create)?;
            check(&stream.cached_info().config, &wanted)?;
            let stream = context.get_stream_no_info(&name).await;
            streams.push(stream.map_err(|source| NatsError::Create { stream: name, source: source.into() })?);
        }
        let kept = self.results_per_scope;
        let room = room(payload, kept);
        let link = Link { broker: self.broker, layout, streams };
        let leases = Leases::default();
        let shared = Arc::new(Shared { link, leases, wall: self.wall, durability, kept, room });
        let writers = (0..self.shards).map(|_| Writer::start(Arc::clone(&shared))).collect();
        Ok(NatsState { writers, shared, caps: caps(durability, self.replicas, room, kept) })
    }

    /// What the broker gives, if that is enough.
    fn given(&self) -> Result<Durability, NatsError> {
        match self.broker.syncing() {
            Syncing::Always if self.replicas > 1 => Ok(Durability::Replicated(self.replicas)),
            Syncing::Always => Ok(Durability::Durable),
            _ if self.durability <= Durability::OsBuffered => Ok(Durability::OsBuffered),
            Syncing::Every { server, interval } => {
                Err(NatsError::SyncInterval { server: server.clone(), interval: *interval })
            }
            Syncing::Unknown => Err(NatsError::SyncUnknown),
        }
    }

    fn stream(&self, layout: &Layout, shard: u32) -> Config {
        Config {
            name: layout.stream(shard),
            subjects: vec![layout.subjects(shard)],
            storage: StorageType::File,
            num_replicas: self.replicas.into(),
            max_bytes: -1,
            max_messages: -1,
            max_messages_per_subject: 1,
            // A full store refuses; it never drops what was acknowledged.
            discard: DiscardPolicy::New,
            // Direct reads are answered by replicas that may be behind.
            allow_direct: false,
            allow_atomic_publish: true,
            allow_message_ttl: true,
            metadata: HashMap::from([(RESULTS.to_owned(), self.results_per_scope.to_string())]),
            ..Config::default()
        }
    }
}

/// Passes a stream that is as this program makes it in all that state rests on.
fn check(found: &Config, wanted: &Config) -> Result<(), NatsError> {
    let results = |config: &Config| config.metadata.get(RESULTS).cloned().unwrap_or_default();
    let settings = |config: &Config| {
        [
            ("subjects", format!("{:?}", config.subjects)),
            ("storage", format!("{:?}", config.storage)),
            ("replicas", config.num_replicas.to_string()),
            ("messages per subject", config.max_messages_per_subject.to_string()),
            ("discard", format!("{:?}", config.discard)),
            ("max age", format!("{:?}", config.max_age)),
            ("direct reads", config.allow_direct.to_string()),
            ("atomic batches", config.allow_atomic_publish.to_string()),
            ("message TTL", config.allow_message_ttl.to_string()),
            ("results per scope", results(config)),
            // It would let the stream acknowledge before it syncs, whatever the server's settings say (NATS ADR-56).
            ("asynchronous persistence", (config.persist_mode == Some(PersistenceMode::Async)).to_string()),
        ]
    };
    for ((what, found_is), (_, wanted_is)) in settings(found).into_iter().zip(settings(wanted)) {
        if found_is != wanted_is {
            return Err(NatsError::Stream { stream: found.name.clone(), what, found: found_is, wanted: wanted_is });
        }
    }
    Ok(())
}
