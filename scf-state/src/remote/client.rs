//! The side that asks for state.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use scf_core::{
    Batch, Caps, Commit, Delta, Durability, Entry, Fence, Head, InvocationId, NodeId, Page, Scope, Snapshot,
    StateBackend, StateError, Subject, Timestamp, Transport, TransportError, Version, Watch, Watched,
};

use super::message::{Reply, Request, envelope, head};
use crate::limit::{MAX_BATCH, MAX_VALUE};

/// The state of another node, its home, over a [`Transport`].
///
/// Every call is one request; nothing is cached and nothing retried. When the home cannot be reached, or a
/// read gets no answer, that is [`StateError::Unavailable`]; when a change gets no answer it is
/// [`StateError::Unknown`]. The `now` of leases is not sent: the home measures them on its own clock.
#[derive(Clone, Debug)]
pub struct RemoteState {
    transport: Arc<dyn Transport>,
    node: NodeId,
    home: NodeId,
    caps: Caps,
    patience: Duration,
}

impl RemoteState {
    /// The state that `home` serves, asked for by `node`.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, node: NodeId, home: NodeId) -> Self {
        let caps = Caps::new(Durability::Durable).max_value(MAX_VALUE).max_batch(MAX_BATCH).with_expiry().with_watch();
        Self { transport, node, home, caps, patience: Duration::from_secs(2) }
    }

    /// What the home's backend can do, as its operator says; default what a [`RedbState`](crate::RedbState) can. A
    /// home that gives less refuses a commit that asks for more.
    #[must_use]
    pub const fn caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// How long an answer may take; default 2 s.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends `request`, which reads.
    async fn read(&self, request: &Request) -> Result<(Reply, Bytes), StateError> {
        self.ask(request).await.map_err(|silence| silence.of_read())
    }

    /// Sends `request`, which changes `scope`.
    async fn change(&self, scope: &Scope, request: &Request) -> Result<Reply, StateError> {
        self.ask(request).await.map(|(reply, _)| reply).map_err(|silence| silence.of_change(scope))
    }

    async fn ask(&self, request: &Request) -> Result<(Reply, Bytes), Silence> {
        let message = envelope(request, Bytes::new()).map_err(|error| Silence::Unsent(error.to_string()))?;
        let answer = self.transport.request(&self.node, &self.home, Subject::State, message, self.patience).await?;
        match head(&answer) {
            Ok(Reply::Failed(error)) => Err(Silence::Refused(error)),
            Ok(reply) => Ok((reply, answer.body)),
            Err(error) => Err(Silence::Unanswered(format!("the answer cannot be decoded: {error}"))),
        }
    }
}

/// Asks again and again for the next change; the home keeps nothing of it in between.
#[derive(Debug)]
struct RemoteWatch {
    asker: RemoteState,
    scope: Scope,
    prefix: String,
    from: Version,
}

#[async_trait]
impl Watch for RemoteWatch {
    async fn next(&mut self) -> Result<Watched, StateError> {
        loop {
            let wait = self.asker.patience / 2;
            let (scope, prefix, from) = (self.scope.clone(), self.prefix.clone(), self.from);
            match self.asker.read(&Request::Watch { scope, prefix, from, wait }).await? {
                (Reply::Watched(Some(watched)), _) => {
                    if let Watched::Change { version, .. } | Watched::Gap { version } = &watched {
                        self.from = *version;
                    }
                    return Ok(watched);
                }
                (Reply::Watched(None), _) => {}
                (other, _) => return Err(mismatch(&other)),
            }
        }
    }
}

/// Why there is no reply to a request.
enum Silence {
    /// The home answered with an error.
    Refused(StateError),
    /// It did not get the request.
    Unsent(String),
    /// It may have got it.
    Unanswered(String),
}

impl Silence {
    fn of_read(self) -> StateError {
        match self {
            Self::Refused(error) => error,
            Self::Unsent(reason) | Self::Unanswered(reason) => StateError::Unavailable { reason },
        }
    }

    fn of_change(self, scope: &Scope) -> StateError {
        match self {
            Self::Unanswered(_) => StateError::Unknown { scope: scope.clone() },
            other => other.of_read(),
        }
    }
}

impl From<TransportError> for Silence {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::UnknownNode { .. }
            | TransportError::Unreachable { .. }
            | TransportError::Overloaded { .. } => Self::Unsent(error.to_string()),
            other => Self::Unanswered(other.to_string()),
        }
    }
}

fn mismatch(reply: &Reply) -> StateError {
    StateError::Unavailable { reason: format!("the home answered with {reply:?}") }
}

#[async_trait]
impl StateBackend for RemoteState {
    fn caps(&self) -> Caps {
        self.caps
    }

    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Entry>, StateError> {
        match self.read(&Request::Get { scope: scope.clone(), key: key.to_owned() }).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Entry { version, expires }, value) => Ok(Some(Entry { value, version, expires })),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn head(&self, scope: &Scope, _: Timestamp) -> Result<Head, StateError> {
        match self.read(&Request::Head { scope: scope.clone() }).await? {
            (Reply::Head(head), _) => Ok(head),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn result_of(&self, scope: &Scope, invocation: InvocationId) -> Result<Option<Bytes>, StateError> {
        match self.read(&Request::ResultOf { scope: scope.clone(), invocation }).await? {
            (Reply::Absent, _) => Ok(None),
            (Reply::Result, result) => Ok(Some(result)),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn commit(&self, batch: Batch) -> Result<Commit, StateError> {
        self.caps.check(&batch)?;
        let scope = batch.scope.clone();
        match self.change(&scope, &Request::Commit(batch)).await? {
            Reply::Commit(commit) => Ok(commit),
            _ => Err(StateError::Unknown { scope }),
        }
    }

    async fn acquire(&self, scope: &Scope, owner: &NodeId, lease: Duration, _: Timestamp) -> Result<Fence, StateError> {
        let request = Request::Acquire { scope: scope.clone(), owner: owner.clone(), lease };
        match self.change(scope, &request).await? {
            Reply::Fence(fence) => Ok(fence),
            _ => Err(StateError::Unknown { scope: scope.clone() }),
        }
    }

    async fn renew(&self, scope: &Scope, fence: Fence, lease: Duration, _: Timestamp) -> Result<(), StateError> {
        self.change(scope, &Request::Renew { scope: scope.clone(), fence, lease }).await.map(drop)
    }

    async fn release(&self, scope: &Scope, fence: Fence) -> Result<(), StateError> {
        self.change(scope, &Request::Release { scope: scope.clone(), fence }).await.map(drop)
    }

    async fn export(&self, scope: &Scope) -> Result<Snapshot, StateError> {
        match self.read(&Request::Export { scope: scope.clone() }).await? {
            (Reply::Snapshot(snapshot), _) => Ok(snapshot),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn import(&self, scope: &Scope, fence: Fence, snapshot: Snapshot) -> Result<(), StateError> {
        self.change(scope, &Request::Import { scope: scope.clone(), fence, snapshot }).await.map(drop)
    }

    async fn scan(&self, scope: &Scope, prefix: &str, after: Option<&str>, limit: usize) -> Result<Page, StateError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.read(&Request::Scan { scope: scope.clone(), prefix, after, limit }).await? {
            (Reply::Page(page), _) => Ok(page),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn watch(&self, scope: &Scope, prefix: &str, from: Version) -> Result<Box<dyn Watch>, StateError> {
        if !self.caps.watch {
            return Err(StateError::Unsupported { what: "watch".to_owned() });
        }
        let (asker, scope, prefix) = (self.clone(), scope.clone(), prefix.to_owned());
        Ok(Box::new(RemoteWatch { asker, scope, prefix, from }))
    }

    async fn export_since(&self, scope: &Scope, since: Version) -> Result<Option<Delta>, StateError> {
        match self.read(&Request::ExportSince { scope: scope.clone(), since }).await? {
            (Reply::Delta(delta), _) => Ok(delta),
            (other, _) => Err(mismatch(&other)),
        }
    }

    async fn import_since(&self, scope: &Scope, fence: Fence, delta: Delta) -> Result<(), StateError> {
        self.change(scope, &Request::ImportSince { scope: scope.clone(), fence, delta }).await.map(drop)
    }
}
