//! The side that has the state.

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use scf_core::{Clock, Envelope, Handler, NodeId, StateBackend, StateError};

use super::message::{Reply, Request, envelope, head};

/// How long a watcher is let wait for a change before it is told that there is none.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Serves a backend to other nodes: attach it to [`Subject::State`](scf_core::Subject) of the node that is
/// their home.
///
/// Leases are measured on its own clock. It keeps nothing between two requests and bounds nothing: the
/// transport bounds the requests that are under way.
#[derive(Debug)]
pub struct StateServer {
    backend: Arc<dyn StateBackend>,
    clock: Arc<dyn Clock>,
}

impl StateServer {
    /// Serves `backend`, with the leases on `clock`.
    #[must_use]
    pub fn new(backend: Arc<dyn StateBackend>, clock: Arc<dyn Clock>) -> Self {
        Self { backend, clock }
    }

    async fn answer(&self, request: Request) -> Result<(Reply, Bytes), StateError> {
        let backend = &self.backend;
        let done = |()| (Reply::Done, Bytes::new());
        Ok(match request {
            Request::Get { scope, key } => {
                let entry = match backend.try_get(&scope, &key) {
                    Some(entry) => entry?,
                    None => backend.get(&scope, &key).await?,
                };
                entry.map_or((Reply::Absent, Bytes::new()), |entry| {
                    (Reply::Entry { version: entry.version, expires: entry.expires }, entry.value)
                })
            }
            Request::Head { scope } => (Reply::Head(backend.head(&scope, self.clock.now()).await?), Bytes::new()),
            Request::ResultOf { scope, invocation } => {
                let result = backend.result_of(&scope, invocation).await?;
                result.map_or((Reply::Absent, Bytes::new()), |result| (Reply::Result, result))
            }
            Request::Commit(batch) => (Reply::Commit(backend.commit(batch).await?), Bytes::new()),
            Request::Acquire { scope, owner, lease } => {
                (Reply::Fence(backend.acquire(&scope, &owner, lease, self.clock.now()).await?), Bytes::new())
            }
            Request::Renew { scope, fence, lease } => {
                backend.renew(&scope, fence, lease, self.clock.now()).await.map(done)?
            }
            Request::Release { scope, fence } => backend.release(&scope, fence).await.map(done)?,
            Request::Export { scope } => (Reply::Snapshot(backend.export(&scope).await?), Bytes::new()),
            Request::Import { scope, fence, snapshot } => backend.import(&scope, fence, snapshot).await.map(done)?,
            Request::Scan { scope, prefix, after, limit } => {
                (Reply::Page(backend.scan(&scope, &prefix, after.as_deref(), limit).await?), Bytes::new())
            }
            Request::Watch { scope, prefix, from, wait } => {
                let mut watch = backend.watch(&scope, &prefix, from).await?;
                let (next, time) = (pin!(watch.next()), pin!(self.clock.sleep(wait.min(LONGEST_WAIT))));
                let watched = match select(next, time).await {
                    Either::Left((watched, _)) => Some(watched?),
                    Either::Right(_) => None,
                };
                (Reply::Watched(watched), Bytes::new())
            }
            Request::ExportSince { scope, since } => {
                (Reply::Delta(backend.export_since(&scope, since).await?), Bytes::new())
            }
            Request::ImportSince { scope, fence, delta } => {
                backend.import_since(&scope, fence, delta).await.map(done)?
            }
        })
    }
}

#[async_trait]
impl Handler for StateServer {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        let answer = match head(&request) {
            Ok(request) => self.answer(request).await,
            Err(error) => {
                tracing::warn!(%from, %error, "a state request cannot be decoded");
                Err(StateError::Unavailable { reason: format!("the request cannot be decoded: {error}") })
            }
        };
        let (reply, body) = answer.unwrap_or_else(|error| (Reply::Failed(error), Bytes::new()));
        // An empty head is no reply; the other side then treats the outcome as unknown.
        envelope(&reply, body).unwrap_or_else(|error| {
            tracing::error!(%from, %error, "a state reply cannot be encoded");
            Envelope::default()
        })
    }
}
