//! Blobs in a fleet's broker: one stream, and of each blob a message per part and one that says that all are there.
//!
//! | subject under `FABRIC.blob.OBJECT` | what |
//! |---|---|
//! | `.NUMBER` | a part, of [`PART`] bytes but for the last |
//! | `.head` | the size, stored last |
//!
//! A name of a fabric is a token and an object's is 64 digits, so no text reaches a subject.

use async_nats::{
    Request,
    jetstream::{
        self,
        stream::{Config, DirectGetErrorKind, DiscardPolicy, StorageType, Stream},
    },
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use scf_core::{BlobStore, BoxError, ByteSize, ObjectError, ObjectId, StateError};
use tokio::sync::OnceCell;

use super::{
    broker::Broker,
    error::NatsError,
    link::{Stored, acknowledged},
};

/// Bytes of a part. It is the same for everybody, so that equal blobs are equal messages.
const PART: usize = 64 << 10;
/// What a part's message is beside it, at most.
const REST: usize = 1 << 10;
/// Parts that are on their way at the same time: 1 MiB.
const AT_ONCE: usize = 16;

/// What a [`NatsBlobs`] is opened with.
#[derive(Debug)]
#[must_use]
pub struct NatsBlobsBuilder {
    broker: Broker,
    replicas: u8,
    quota: ByteSize,
    domain: Option<String>,
}

impl NatsBlobsBuilder {
    /// Servers that store each message: 1, 3 or 5; default 1. It counts where the stream is made.
    pub const fn replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// What the stream may take; default 1 GiB. One blob more is [`ObjectError::Full`]. It counts where the stream is
    /// made.
    pub const fn quota(mut self, quota: ByteSize) -> Self {
        self.quota = quota;
        self
    }

    /// The JetStream domain where the stream is, if it is not that of the server.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Opens the store, and makes its stream where it is missing.
    ///
    /// # Errors
    /// [`NatsError::Away`], [`NatsError::TooOld`], [`NatsError::SmallPayload`], [`NatsError::Create`], [`NatsError::Stream`] where the stream keeps several
    /// messages of a subject, and so is none that this program makes.
    pub async fn open(self) -> Result<NatsBlobs, NatsError> {
        let blobs = self.open_later();
        blobs.stream().await?;
        Ok(blobs)
    }

    /// Opens the store when it is first used, for a broker that is [connected to in the
    /// background](super::NatsOptions::connect_in_background). While that can not be done, what is asked is
    /// [`ObjectError::Unavailable`].
    #[must_use]
    pub fn open_later(self) -> NatsBlobs {
        let prefix = format!("{}.blob", self.broker.fabric());
        NatsBlobs { described: self, stream: OnceCell::new(), prefix }
    }

    fn wanted(&self, name: &str) -> Config {
        Config {
            name: name.to_owned(),
            subjects: vec![format!("{}.blob.>", self.broker.fabric())],
            storage: StorageType::File,
            num_replicas: self.replicas.into(),
            max_bytes: i64::try_from(self.quota.bytes()).unwrap_or(i64::MAX),
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            // What never changes any replica may answer.
            allow_direct: true,
            ..Config::default()
        }
    }

    async fn stream(&self) -> Result<Stream<()>, NatsError> {
        self.broker.check()?;
        let client = self.broker.client();
        let (found, least) = (client.max_payload(), PART + REST);
        if found < least {
            return Err(NatsError::SmallPayload { found, least });
        }
        let builder = jetstream::context::ContextBuilder::new().timeout(self.broker.patience());
        let context = match &self.domain {
            Some(domain) => builder.domain(domain).build(client),
            None => builder.build(client),
        };
        let name = format!("SCF_BLOBS_{}", self.broker.fabric());
        let stream = context.get_or_create_stream(self.wanted(&name)).await;
        let stream = stream.map_err(|source| NatsError::Create { stream: name.clone(), source: source.into() })?;
        let config = &stream.cached_info().config;
        for (what, found, wanted) in [
            ("messages per subject", config.max_messages_per_subject.to_string(), "1"),
            ("direct reads", config.allow_direct.to_string(), "true"),
        ] {
            if found != wanted {
                return Err(NatsError::Stream { stream: name, what, found, wanted: wanted.to_owned() });
            }
        }
        let stream = context.get_stream_no_info(&name).await;
        stream.map_err(|source| NatsError::Create { stream: name, source: source.into() })
    }
}

/// A [`BlobStore`] in NATS JetStream: code and models that the processes of a fleet leave for each other.
///
/// A blob stays until it is [removed](Self::remove). Everybody who may publish under the fabric's subjects may write
/// there; what is not what its name says is found when it is read, and never served. Without a connection everything is
/// [`ObjectError::Unavailable`] at once.
#[derive(Debug)]
pub struct NatsBlobs {
    described: NatsBlobsBuilder,
    stream: OnceCell<Stream<()>>,
    prefix: String,
}

impl NatsBlobs {
    /// Blobs at `broker`, yet to be opened.
    pub const fn at(broker: Broker) -> NatsBlobsBuilder {
        NatsBlobsBuilder { broker, replicas: 1, quota: ByteSize::from_mib(1024), domain: None }
    }

    pub(super) async fn stream(&self) -> Result<&Stream<()>, NatsError> {
        self.stream.get_or_try_init(|| self.described.stream()).await
    }

    /// The stream, for what is to be done with a blob.
    async fn opened(&self, object: ObjectId) -> Result<&Stream<()>, ObjectError> {
        let stream = self.stream().await.map_err(|error| unavailable(format!("reach blob {object}"), error))?;
        if self.described.broker.is_connected() {
            return Ok(stream);
        }
        // The client would keep what is asked of a broker that it has lost, and ask it some time.
        Err(unavailable(format!("reach blob {object}"), NatsError::Away))
    }

    /// Removes a blob, whole or damaged; nothing where it is not there.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn remove(&self, object: ObjectId) -> Result<(), ObjectError> {
        // Without a head there is no blob, whatever is left of it.
        for subject in [self.head(object), format!("{}.{object}.>", self.prefix)] {
            let purged = self.opened(object).await?.purge().filter(subject).await;
            purged.map_err(|error| unavailable(format!("remove blob {object}"), error))?;
        }
        Ok(())
    }

    fn head(&self, object: ObjectId) -> String {
        format!("{}.{object}.head", self.prefix)
    }

    fn part(&self, object: ObjectId, number: usize) -> String {
        format!("{}.{object}.{number}", self.prefix)
    }

    /// How large a blob is, if it is there.
    async fn size(&self, object: ObjectId) -> Result<Option<ByteSize>, ObjectError> {
        let Some(head) = self.read(object, self.head(object)).await? else { return Ok(None) };
        let size = <[u8; 8]>::try_from(&head[..]).map_err(|_| corrupt(object))?;
        Ok(Some(ByteSize::from_bytes(u64::from_le_bytes(size))))
    }

    async fn read(&self, object: ObjectId, subject: String) -> Result<Option<Bytes>, ObjectError> {
        match self.opened(object).await?.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(format!("read blob {object}"), error)),
        }
    }

    pub(super) async fn write(&self, object: ObjectId, subject: String, content: Bytes) -> Result<(), ObjectError> {
        self.opened(object).await?;
        let broker = &self.described.broker;
        let request = Request::new().payload(content).timeout(Some(broker.patience()));
        let answer = broker.client().send_request(subject, request).await;
        let what = format!("write blob {object}");
        match answer.map(|answer| acknowledged(&answer)) {
            Ok(Stored::Until(_)) => Ok(()),
            Ok(Stored::Refused(StateError::Full { .. })) => Err(ObjectError::Full),
            Ok(Stored::Refused(source)) => Err(unavailable(what, source)),
            Ok(Stored::Stale | Stored::Unknown) => Err(unavailable(what, "the broker's answer is no acknowledgement")),
            Err(error) => Err(unavailable(what, error)),
        }
    }
}

#[async_trait]
impl BlobStore for NatsBlobs {
    async fn put_blob(&self, content: Bytes) -> Result<ObjectId, ObjectError> {
        let (object, size) = (ObjectId::of(&content), content.len());
        if self.size(object).await? == Some(ByteSize::from_bytes(size as u64)) {
            return Ok(object);
        }
        let part = |number: usize| {
            let part = content.slice(number * PART..size.min((number + 1) * PART));
            self.write(object, self.part(object, number), part)
        };
        stream::iter(0..size.div_ceil(PART)).map(part).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let head = Bytes::copy_from_slice(&(size as u64).to_le_bytes());
        self.write(object, self.head(object), head).await?;
        Ok(object)
    }

    async fn get_blob(&self, object: ObjectId, limit: ByteSize) -> Result<Bytes, ObjectError> {
        let size = self.size(object).await?.ok_or(ObjectError::NotFound { object })?;
        let too_large = || ObjectError::TooLarge { object, size, limit };
        let total = usize::try_from(size.bytes()).ok().filter(|_| size <= limit).ok_or_else(too_large)?;
        let part = |number: usize| self.read(object, self.part(object, number));
        let mut parts = stream::iter(0..total.div_ceil(PART)).map(part).buffered(AT_ONCE);
        // Grows with what is there: the size is what somebody said.
        let mut content = BytesMut::new();
        while let Some(part) = parts.next().await {
            let part = part?.ok_or_else(|| corrupt(object))?;
            if part.len() != PART.min(total - content.len()) {
                return Err(corrupt(object));
            }
            content.extend_from_slice(&part);
        }
        let content = content.freeze();
        if ObjectId::of(&content) == object { Ok(content) } else { Err(corrupt(object)) }
    }
}

const fn corrupt(object: ObjectId) -> ObjectError {
    ObjectError::Corrupt { object, chunk: None }
}

fn unavailable(what: String, source: impl Into<BoxError>) -> ObjectError {
    ObjectError::Unavailable { what, source: source.into() }
}
