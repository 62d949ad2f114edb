//! A request and the response to it, attached to a call.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use http::{Request, Response};
#[cfg(feature = "wasi-http")]
use http_body_util::Full;
use http_body_util::{BodyExt, Empty};
use scf_core::{Attached, BoxError, ByteSize, FunctionName, InvokeError, LimitKind, MediaType, Payload};
use tokio::sync::{OnceCell, oneshot};

use super::{
    body::{Body, Metered, Relay},
    message,
};

/// What goes with a call that answers an HTTP request.
///
/// The isolate takes the request when its instance is there, so that a call that is refused for want of room can be
/// tried elsewhere with it.
pub(crate) struct Exchange {
    function: FunctionName,
    limit: u64,
    request: Mutex<Option<Request<Body>>>,
    packed: OnceCell<Payload>,
    progress: Arc<Progress>,
}

/// What is known of an exchange while it goes on; shared with the request's body. The response's is in it, and so
/// knows nothing of it.
#[derive(Default)]
pub(crate) struct Progress {
    read: AtomicU64,
    input_is_too_long: AtomicBool,
    response: Mutex<Option<oneshot::Sender<Response<Relay>>>>,
    /// The response's body, or what the guest said instead of one.
    answer: OnceLock<Result<Relay, String>>,
}

impl Exchange {
    /// An exchange for a call of `function`, whose bodies have at most `limit` bytes each, and where its response
    /// will be.
    pub(crate) fn new<B>(
        function: FunctionName,
        limit: ByteSize,
        request: Request<B>,
    ) -> (Arc<Self>, oneshot::Receiver<Response<Relay>>)
    where
        B: http_body::Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (sender, receiver) = oneshot::channel();
        let progress = Progress { response: Mutex::new(Some(sender)), ..Progress::default() };
        let (limit, progress) = (limit.bytes(), Arc::new(progress));
        let request = request.map(|body| {
            if body.is_end_stream() {
                Empty::new().map_err(|never| match never {}).boxed_unsync()
            } else {
                Metered::new(body, limit, Arc::clone(&progress)).boxed_unsync()
            }
        });
        let request = Mutex::new(Some(request));
        (Arc::new(Self { function, limit, request, packed: OnceCell::new(), progress }), receiver)
    }

    /// The same for a request that came as a message from another node.
    #[cfg(feature = "wasi-http")]
    pub(crate) fn unpack(
        function: &FunctionName,
        limit: ByteSize,
        payload: &Payload,
    ) -> Result<(Arc<Self>, oneshot::Receiver<Response<Relay>>), InvokeError> {
        let given = || InvokeError::Media {
            function: function.clone(),
            takes: MediaType::HTTP.to_string(),
            given: payload.media.to_string(),
        };
        let request = message::read_request(&payload.bytes).ok_or_else(given)?;
        Ok(Self::new(function.clone(), limit, request.map(Full::new)))
    }

    /// The request; none when it was taken before.
    #[cfg(feature = "wasi-http")]
    pub(crate) fn take(&self) -> Option<Request<Body>> {
        if let Some(packed) = self.packed.get() {
            let request = message::read_request(&packed.bytes)?;
            self.progress.read(request.body().len() as u64);
            return Some(request.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()));
        }
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Bytes that the response's body has at most.
    #[cfg(feature = "wasi-http")]
    pub(crate) const fn limit(&self) -> u64 {
        self.limit
    }

    #[cfg(feature = "wasi-http")]
    pub(crate) const fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

#[async_trait]
impl Attached for Exchange {
    async fn pack(&self, limit: ByteSize) -> Result<Payload, InvokeError> {
        let function = || self.function.clone();
        let pack = async {
            let request = self.request.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A call whose isolate took the request has begun, and is not tried anywhere else.
            let message = "the request was taken before".to_owned();
            let request = request.ok_or_else(|| InvokeError::Host { function: function(), message })?;
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| {
                if self.progress.is_input_too_long() {
                    return InvokeError::Limit { function: function(), limit: LimitKind::Input };
                }
                let message = format!("the request's body broke off: {error}");
                InvokeError::Refused { function: function(), message }
            })?;
            // From here on the payload is what is counted.
            self.progress.read.store(0, Relaxed);
            let payload = Payload::new(message::request(&parts, body)).with_media(MediaType::HTTP);
            if payload.size() > limit {
                return Err(InvokeError::Limit { function: function(), limit: LimitKind::Input });
            }
            Ok(payload)
        };
        self.packed.get_or_try_init(|| pack).await.cloned()
    }

    fn carried(&self) -> (ByteSize, ByteSize) {
        self.progress.carried()
    }
}

impl Progress {
    /// Adds what was read of the request; gives what it comes to.
    pub(crate) fn read(&self, bytes: u64) -> u64 {
        self.read.fetch_add(bytes, Relaxed) + bytes
    }

    pub(crate) fn input_is_too_long(&self) {
        self.input_is_too_long.store(true, Relaxed);
    }

    pub(crate) fn is_input_too_long(&self) -> bool {
        self.input_is_too_long.load(Relaxed)
    }

    pub(crate) fn carried(&self) -> (ByteSize, ByteSize) {
        let written = self.relay().map_or(0, Relay::written);
        (ByteSize::from_bytes(self.read.load(Relaxed)), ByteSize::from_bytes(written))
    }

    /// Hands the response over, or says why there is none. Only the first counts. What a guest answers to a request
    /// that was too long is not sent, also while it runs on: the caller is told by the call's error.
    #[cfg(feature = "wasi-http")]
    pub(crate) fn respond(&self, response: Result<Response<Relay>, String>) {
        let Some(sender) = self.close() else { return };
        let answer = response.as_ref().map(|response| response.body().clone()).map_err(String::clone);
        if self.answer.set(answer).is_ok()
            && let Ok(response) = response
            && !self.is_input_too_long()
        {
            // Nobody waits for it where the caller has gone.
            drop(sender.send(response));
        }
    }

    /// What [`Progress::respond`] was given first.
    #[cfg(feature = "wasi-http")]
    pub(crate) fn answer(&self) -> Option<&Result<Relay, String>> {
        self.answer.get()
    }

    /// The response's body.
    pub(crate) fn relay(&self) -> Option<&Relay> {
        self.answer.get()?.as_ref().ok()
    }

    /// No response is taken any more.
    #[cfg(feature = "wasi-http")]
    pub(crate) fn close(&self) -> Option<oneshot::Sender<Response<Relay>>> {
        self.response.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("function", &self.function).finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "wasi-http"))]
mod tests {
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn what_is_answered_to_a_request_that_was_too_long_is_not_sent_though_the_call_goes_on() {
        for (limit, is_sent) in [(3, true), (2, false)] {
            let pieces = futures::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"abc")))]);
            let request = Request::new(StreamBody::new(pieces));
            let function = FunctionName::new("f").unwrap();
            let (exchange, response) = Exchange::new(function, ByteSize::from_bytes(limit), request);
            let read = exchange.take().unwrap().into_body().collect().await;
            assert_eq!(read.is_ok(), is_sent);
            let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let progress = exchange.progress();
            progress.respond(Ok(Response::new(Relay::new(empty, limit))));
            // The exchange is still there, as it is while the guest runs on.
            assert_eq!(response.await.is_ok(), is_sent);
        }
    }

    #[tokio::test]
    async fn of_an_exchange_that_is_over_nothing_is_left() {
        let request = Request::new(Full::new(Bytes::from_static(b"abc")));
        let (exchange, response) = Exchange::new(FunctionName::new("f").unwrap(), ByteSize::from_bytes(3), request);
        let read = exchange.take().unwrap().into_body().collect().await.unwrap();
        let whole = Full::new(read.to_bytes()).map_err(|never| match never {}).boxed_unsync();
        let left = Arc::downgrade(exchange.progress());
        exchange.progress().respond(Ok(Response::new(Relay::new(whole, 3))));
        let answered = response.await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            (&answered[..], exchange.carried()),
            (&b"abc"[..], (ByteSize::from_bytes(3), ByteSize::from_bytes(3)))
        );
        drop(exchange);
        assert_eq!(left.strong_count(), 0);
    }
}
