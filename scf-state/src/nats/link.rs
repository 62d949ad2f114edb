//! What is asked of the broker, and what it answers.

use std::time::Duration;

use async_nats::{
    HeaderMap, Message as Answer, Request,
    client::RequestErrorKind,
    header,
    jetstream::{
        self, ErrorCode,
        consumer::{AckPolicy, PullConsumer, pull},
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures::StreamExt as _;
use scf_core::StateError;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    broker::Broker,
    record::{Gathered, Kept, Message, Record, decode, encode},
    subject::{Layout, Place},
};

/// The most messages that the server takes in one atomic batch.
pub(super) const BATCH: usize = 1000;
/// Messages that a reader of a whole scope asks for at once.
const FETCHED: usize = 256;
/// When the server forgets a reader that went away.
const READER: Duration = Duration::from_secs(30);

const STALE: [ErrorCode; 5] = [
    ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
    ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
    // Some of a batch's messages are missing, or too many others were under way at that moment.
    ErrorCode::ATOMIC_PUBLISH_MISSING_SEQ,
    ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH,
    ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT,
];
const FULL: [ErrorCode; 6] = [
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_STORE_FAILED,
    ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED,
];

/// A connection and the streams of one fabric.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) broker: Broker,
    pub(super) layout: Layout,
    /// By shard.
    pub(super) streams: Vec<Stream<()>>,
}

/// What became of messages.
#[derive(Clone, Debug)]
pub(super) enum Stored {
    /// They are stored, the last under this number, those before it under those before.
    Until(u64),
    /// The head is not the one that was expected, or the batch came apart on its way: nothing is stored.
    Stale,
    /// Nothing is stored.
    Refused(StateError),
    /// No answer came.
    Unknown,
}

impl Stored {
    /// What became of each of the last `count` messages.
    pub(super) fn of_each(self, count: usize) -> Vec<Self> {
        match self {
            Self::Until(last) => (last + 1 - count as u64..=last).map(Self::Until).collect(),
            other => vec![other; count],
        }
    }
}

/// A head to store in the place of the one with that number; 0: of none.
#[derive(Debug)]
pub(super) struct NewHead<'a> {
    pub(super) place: &'a Place,
    pub(super) record: &'a Record,
    pub(super) after: u64,
}

#[derive(Debug, Deserialize)]
struct Ack {
    error: Option<jetstream::Error>,
    #[serde(default)]
    seq: u64,
}

impl Link {
    /// The head of a scope and its number; a new one and 0 where there is none.
    pub(super) async fn head(&self, place: &Place) -> Result<(u64, Record), StateError> {
        let Some((number, body)) = self.last(place.shard, place.head()).await? else {
            return Ok((0, Record::new(place.scope.clone())));
        };
        let record: Record = self.decode(place, &body)?;
        if record.scope == place.scope { Ok((number, record)) } else { Err(other(place)) }
    }

    /// What became of an entry, if that was moved out of the head.
    pub(super) async fn entry(
        &self,
        place: &Place,
        record: &Record,
        key: &str,
    ) -> Result<Option<Gathered>, StateError> {
        if record.moves == 0 {
            return Ok(None);
        }
        let Some((_, body)) = self.last(place.shard, place.entry(record.generation, key)).await? else {
            return Ok(None);
        };
        let found: Gathered = self.decode(place, &body)?;
        if found.key == key { Ok(Some(found)) } else { Err(other(place)) }
    }

    /// The result in a slot of a generation.
    pub(super) async fn result(&self, place: &Place, generation: u64, slot: u64) -> Result<Option<Kept>, StateError> {
        let found = self.last(place.shard, place.result(generation, slot)).await?;
        found.map(|(_, body)| self.decode(place, &body)).transpose()
    }

    fn decode<T: DeserializeOwned>(&self, place: &Place, body: &[u8]) -> Result<T, StateError> {
        decode(body).map_err(|what| StateError::Corrupt { scope: place.scope.clone(), what })
    }

    async fn last(&self, shard: u32, subject: String) -> Result<Option<(u64, Bytes)>, StateError> {
        match self.streams[shard as usize].raw_message_builder().last_by_subject(subject).send().await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Every message of a generation: entries, and results by their place.
    pub(super) async fn generation(
        &self,
        place: &Place,
        generation: u64,
    ) -> Result<(Vec<Gathered>, Vec<Kept>), StateError> {
        let config = pull::Config {
            filter_subject: place.generation(generation),
            ack_policy: AckPolicy::None,
            inactive_threshold: READER,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let stream = &self.streams[place.shard as usize];
        let consumer = stream.create_consumer(config).await.map_err(|error| unavailable(&error))?;
        let name = consumer.cached_info().name.clone();
        let there = consumer.cached_info().num_pending as usize;
        let read = self.read(place, &consumer, there).await;
        // Where that fails, the server forgets the reader by itself.
        if let Err(error) = stream.delete_consumer(&name).await {
            tracing::debug!(%error, "a reader of a scope stays until the server forgets it");
        }
        read
    }

    async fn read(
        &self,
        place: &Place,
        consumer: &PullConsumer,
        there: usize,
    ) -> Result<(Vec<Gathered>, Vec<Kept>), StateError> {
        let (mut entries, mut results, mut count) = (Vec::new(), Vec::new(), 0);
        while count < there {
            let fetched = consumer.fetch().max_messages(FETCHED.min(there - count)).messages().await;
            let mut messages = fetched.map_err(|error| unavailable(&error))?;
            let before = count;
            while let Some(message) = messages.next().await {
                let message = message.map_err(|error| StateError::Unavailable { reason: error.to_string() })?;
                count += 1;
                // The last token but one says which it is; see `subject`.
                match message.subject.rsplit('.').nth(1) {
                    Some("e") => entries.push(self.decode(place, &message.payload)?),
                    _ => results.push(self.decode(place, &message.payload)?),
                }
            }
            if count == before {
                // Their time was over, or the generation is.
                break;
            }
        }
        Ok((entries, results))
    }

    /// Stores `messages` and then `heads`, all of one shard, all or none of them; at least one head.
    pub(super) async fn store(&self, messages: Vec<Message>, heads: &[NewHead<'_>]) -> Stored {
        let heads = heads.iter().map(|head| {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, head.after.to_string());
            (head.place.head(), headers, encode(head.record))
        });
        self.publish(messages.into_iter().map(parts).chain(heads).collect()).await
    }

    /// Stores `messages` that nobody reads yet, all or none of them.
    pub(super) async fn store_unseen(&self, messages: &[Message]) -> Stored {
        self.publish(messages.iter().cloned().map(parts).collect()).await
    }

    async fn publish(&self, mut messages: Vec<Parts>) -> Stored {
        if !self.broker.is_connected() {
            // Otherwise the client would keep them and send them some time.
            return Stored::Refused(StateError::Unavailable { reason: "the broker cannot be reached".to_owned() });
        }
        let client = self.broker.client();
        let count = messages.len();
        if count > 1 {
            let batch = client.new_inbox().rsplit('.').next().unwrap_or_default().to_owned();
            for (number, (_, headers, _)) in (1u32..).zip(&mut messages) {
                headers.insert(header::NATS_BATCH_ID, batch.as_str());
                headers.insert(header::NATS_BATCH_SEQUENCE, number.to_string());
            }
        }
        let Some((subject, mut headers, body)) = messages.pop() else { return Stored::Until(0) };
        for (subject, headers, body) in messages {
            if let Err(error) = client.publish_with_headers(subject, headers, body).await {
                return Stored::Refused(unavailable(&error));
            }
        }
        if count > 1 {
            headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
        }
        let request = Request::new().headers(headers).payload(body).timeout(Some(self.broker.patience()));
        match client.send_request(subject, request).await {
            Ok(answer) => acknowledged(&answer),
            Err(error) => match error.kind() {
                RequestErrorKind::TimedOut | RequestErrorKind::Other => Stored::Unknown,
                _ => Stored::Refused(unavailable(&error)),
            },
        }
    }

    /// Removes a generation. What is not removed is never read; it only takes space.
    pub(super) async fn purge(&self, place: &Place, generation: u64) {
        let purge = self.streams[place.shard as usize].purge().filter(place.generation(generation));
        if let Err(error) = purge.await {
            tracing::warn!(scope = %place.scope, %error, "what a scope has left behind is not removed");
        }
    }
}

/// Longer ones are for good: the server counts nanoseconds in 63 bits.
const LONGEST_TTL: u64 = 100 * 365 * 24 * 3600;

/// Subject, headers and body of a message.
type Parts = (String, HeaderMap, Bytes);

fn parts(message: Message) -> Parts {
    let mut headers = HeaderMap::new();
    if let Some(stays) = message.stays.filter(|stays| stays.as_secs() < LONGEST_TTL) {
        headers.insert(header::NATS_MESSAGE_TTL, format!("{}s", stays.as_secs().max(1)));
    }
    (message.subject, headers, message.body)
}

pub(super) fn acknowledged(answer: &Answer) -> Stored {
    let Ok(ack) = serde_json::from_slice::<Ack>(&answer.payload) else { return Stored::Unknown };
    let Some(error) = ack.error else { return Stored::Until(ack.seq) };
    let (code, reason) = (error.error_code(), error.to_string());
    if STALE.contains(&code) {
        Stored::Stale
    } else if FULL.contains(&code) {
        Stored::Refused(StateError::Full { reason })
    } else {
        Stored::Refused(StateError::Unavailable { reason })
    }
}

pub(super) fn unavailable(error: &dyn std::error::Error) -> StateError {
    StateError::Unavailable { reason: error.to_string() }
}

/// Two texts have one digest, or somebody else writes to the stream.
fn other(place: &Place) -> StateError {
    StateError::Corrupt { scope: place.scope.clone(), what: "a message is that of another scope or key".to_owned() }
}
