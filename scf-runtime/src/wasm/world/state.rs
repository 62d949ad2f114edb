//! The state of a function and key, as a bucket of `wasi:keyvalue`.
//!
//! The session belongs to the call, which the host commits after the guest is done, and the guest's host functions
//! outlive no call but cannot borrow from one. So they ask whoever runs the guest, who has the call at hand and answers
//! while the guest waits.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Attached, Attachment, BoxError, Bucket, ByteSize, Call, Entry, InvokeError, KeyValue, KeyValueError,
    KeyValueLimits, Op, Payload, StateError, StateSession, Version,
};
use tokio::sync::{mpsc, oneshot};

/// The identifier that a stateful function opens its own state by. No bucket can have it as its name.
pub(super) const STATE: &str = "scf:state";

/// What a guest asks of the state.
enum Ask {
    Get(String, oneshot::Sender<Result<Option<Bytes>, StateError>>),
    /// Answered once it is noted, so that a later reading sees it.
    Change(Vec<Op>, oneshot::Sender<()>),
    Do(Deed, oneshot::Sender<Result<(), StateError>>),
}

/// What is done to the session on behalf of the guest, which is told how it went.
type Deed = Box<dyn FnOnce(&dyn StateSession) -> Result<(), StateError> + Send>;

/// The state of one call, for its guest. Goes with the call as its attachment.
#[derive(Clone, Debug)]
pub(super) struct OwnState {
    asks: mpsc::Sender<Ask>,
    /// Bytes that the call may still write: [`KeyValueLimits::bucket`] in all, since they wait in the host's memory
    /// until the call commits.
    left: Arc<AtomicU64>,
}

/// Made where the guest runs, for it alone: there is nothing in it that could travel.
#[async_trait]
impl Attached for OwnState {
    async fn pack(&self, _: ByteSize) -> Result<Payload, InvokeError> {
        Ok(Payload::default())
    }

    fn carried(&self) -> (ByteSize, ByteSize) {
        (ByteSize::ZERO, ByteSize::ZERO)
    }
}

impl OwnState {
    /// That of a call which [`Desk`] made.
    pub(super) fn of(call: &Call) -> Option<Self> {
        call.attachment.get::<Self>().cloned()
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, KeyValueError> {
        let (answer, answered) = oneshot::channel();
        let over = || KeyValueError::Store { source: "the call that it was the state of is over".into() };
        self.asks.send(ask(answer)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())
    }

    async fn change(&self, changes: Vec<Op>) -> Result<(), KeyValueError> {
        let size = changes.iter().map(|change| match change {
            Op::Put { key, value, .. } => KeyValueLimits::size_of(key, value),
            Op::Delete { key } => key.len() as u64,
            _ => 0,
        });
        self.spend(size.sum())?;
        self.ask(|answer| Ask::Change(changes, answer)).await
    }

    /// Takes `size` bytes of what the call may write.
    fn spend(&self, size: u64) -> Result<(), KeyValueError> {
        let limit = self.limits().bucket;
        let fits = |left: u64| left.checked_sub(size);
        match self.left.fetch_update(Relaxed, Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(left) => Err(KeyValueError::Full { size: limit - left + size, limit }),
        }
    }

    /// Has `deed` done, for which `size` bytes are kept until the call commits.
    pub(super) async fn act<F>(&self, size: u64, deed: F) -> Result<(), KeyValueError>
    where
        F: FnOnce(&dyn StateSession) -> Result<(), StateError> + Send + 'static,
    {
        self.spend(size)?;
        let done = self.ask(|answer| Ask::Do(Box::new(deed), answer)).await?;
        done.map_err(|error| KeyValueError::Store { source: error.into() })
    }
}

/// Within a call nobody else writes, so that a value's version is made of the value: a swap finds what was read.
fn version(value: &Bytes) -> Version {
    let hash = blake3::hash(value);
    Version::new(hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

#[async_trait]
impl KeyValue for OwnState {
    fn limits(&self) -> KeyValueLimits {
        KeyValueLimits::default()
    }

    async fn get(&self, _: &Bucket, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.limits().check_key(key)?;
        let value = self.ask(|answer| Ask::Get(key.to_owned(), answer)).await?;
        let value = value.map_err(|error| KeyValueError::Store { source: error.into() })?;
        Ok(value.map(|value| Entry { version: version(&value), value, expires: None }))
    }

    async fn write(&self, _: &Bucket, changes: Vec<Op>) -> Result<(), KeyValueError> {
        self.limits().check(&changes)?;
        self.change(changes).await
    }

    async fn swap(
        &self,
        bucket: &Bucket,
        key: &str,
        expect: Option<Version>,
        value: Bytes,
    ) -> Result<bool, KeyValueError> {
        let change = Op::Put { key: key.into(), value, expires: None };
        self.limits().check(std::slice::from_ref(&change))?;
        if self.get(bucket, key).await?.map(|entry| entry.version) != expect {
            return Ok(false);
        }
        self.change(vec![change]).await.map(|()| true)
    }

    /// Sessions read by key only.
    async fn keys(&self, _: &Bucket, _: Option<&str>, _: usize) -> Result<Vec<String>, KeyValueError> {
        let source: BoxError = "the keys of a function's state cannot be listed".into();
        Err(KeyValueError::Store { source })
    }
}

/// Where the guest of a stateful call is answered: the questions that it asks.
pub(in crate::wasm) struct Desk(mpsc::Receiver<Ask>);

impl Desk {
    /// For a guest of `call`, and the call as that is to have it.
    pub(in crate::wasm) fn open(call: &Call) -> (Self, Call) {
        // A guest waits for each answer, so that there is never a second question.
        let (asks, asked) = mpsc::channel(1);
        let left = Arc::new(AtomicU64::new(KeyValueLimits::default().bucket));
        let mut call = call.without_state();
        call.attachment = Attachment::new(Arc::new(OwnState { asks, left }));
        (Self(asked), call)
    }

    /// Answers from `session` until `work`, which is given the guest's call, is done. Says what kept the session from
    /// answering, if anything did: the guest's result then rests on less than its state.
    pub(in crate::wasm) async fn answer<F: Future>(
        &mut self,
        session: &dyn StateSession,
        mut work: Pin<&mut F>,
    ) -> (F::Output, Option<StateError>) {
        let mut failed = None;
        loop {
            let ask = tokio::select! {
                biased;
                done = &mut work => return (done, failed),
                // The call holds a sender, so that there is always a next one.
                Some(ask) = self.0.recv() => ask,
            };
            match ask {
                Ask::Get(key, answer) => {
                    let value = match session.try_get(&key) {
                        Some(value) => value,
                        None => session.get(&key).await,
                    };
                    if let Err(error) = &value {
                        failed.get_or_insert_with(|| error.clone());
                    }
                    // A guest that has gone does not need it.
                    let _ = answer.send(value);
                }
                Ask::Change(changes, answer) => {
                    for change in changes {
                        match change {
                            Op::Put { key, value, expires: None } => session.put(&key, value),
                            Op::Put { key, value, expires: Some(expires) } => {
                                if let Err(error) = session.put_until(&key, value, expires) {
                                    failed.get_or_insert(error);
                                }
                            }
                            Op::Delete { key } => session.delete(&key),
                            // Guests are given no others.
                            _ => {}
                        }
                    }
                    let _ = answer.send(());
                }
                Ask::Do(deed, answer) => {
                    let _ = answer.send(deed(session));
                }
            }
        }
    }
}
