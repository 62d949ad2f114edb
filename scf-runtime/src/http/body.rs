//! Bodies on their way through a call.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use scf_core::BoxError;
use thiserror::Error;

use super::exchange::Progress;

/// A body of whatever origin.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why a body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BodyError {
    /// It is longer than the function takes or may give.
    #[error("the body is longer than the function's payload limit")]
    TooLong,
    /// What makes it ended.
    #[error("the function ended before its response was complete")]
    BrokenOff,
}

/// The request's body: counts what is read and ends it with an error when that is too much.
pub(crate) struct Metered<B> {
    inner: B,
    limit: u64,
    progress: Arc<Progress>,
}

impl<B> Metered<B> {
    pub(crate) const fn new(inner: B, limit: u64, progress: Arc<Progress>) -> Self {
        Self { inner, limit, progress }
    }
}

impl<B> http_body::Body for Metered<B>
where
    B: http_body::Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        let read = self.progress.read(frame.data_ref().map_or(0, Bytes::len) as u64);
        if read > self.limit {
            self.progress.input_is_too_long();
            return Poll::Ready(Some(Err(BodyError::TooLong.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The response's body, held by the isolate that makes it and by the server that sends it.
///
/// The isolate says how it ended: what a guest wrote and nobody has sent by then is taken over from the guest, so
/// that its instance can go, and the length of a short response is known before its first byte is sent.
#[derive(Clone)]
pub(crate) struct Relay(Arc<Mutex<Flow>>);

struct Flow {
    /// Where frames come from, until that has ended.
    source: Option<Body>,
    /// Frames that were taken over.
    ready: VecDeque<Frame<Bytes>>,
    /// Why it ends before its end.
    broken: Option<BodyError>,
    /// Bytes that came of the source, and that may come.
    written: u64,
    limit: u64,
    /// Who waits for the next frame.
    waiting: Option<Waker>,
}

impl Relay {
    pub(crate) fn new(source: Body, limit: u64) -> Self {
        let (ready, broken, written, waiting) = (VecDeque::new(), None, 0, None);
        Self(Arc::new(Mutex::new(Flow { source: Some(source), ready, broken, written, limit, waiting })))
    }

    /// Bytes that the guest has written so far and somebody took.
    pub(crate) fn written(&self) -> u64 {
        self.flow().written
    }

    /// Takes over what there is. `true` when that was all of it, up to its end.
    pub(crate) fn settle(&self) -> bool {
        let mut flow = self.flow();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = flow.next(&mut context) {
            flow.ready.push_back(frame);
        }
        flow.wake();
        flow.source.is_none()
    }

    /// Ends it: what was not taken over does not come any more.
    pub(crate) fn end(&self, broken: Option<BodyError>) {
        let mut flow = self.flow();
        flow.source = None;
        flow.broken = flow.broken.or(broken);
        flow.wake();
    }

    /// Whether it was longer than its limit.
    pub(crate) fn is_too_long(&self) -> bool {
        self.flow().broken == Some(BodyError::TooLong)
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    /// The next frame of the source; none when it has ended, well or not.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let Some(source) = &mut self.source else { return Poll::Ready(None) };
        match http_body::Body::poll_frame(Pin::new(source), cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.written += frame.data_ref().map_or(0, Bytes::len) as u64;
                if self.written > self.limit {
                    self.broken = Some(BodyError::TooLong);
                    self.source = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(frame))
            }
            Poll::Ready(Some(Err(_))) => {
                self.broken = Some(BodyError::BrokenOff);
                self.source = None;
                Poll::Ready(None)
            }
            Poll::Ready(None) => {
                self.source = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut flow = self.flow();
        if let Some(frame) = flow.ready.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match flow.next(cx) {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(flow.broken.map(|broken| Err(broken.into()))),
            Poll::Pending => {
                flow.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let flow = self.flow();
        flow.source.is_none() && flow.ready.is_empty() && flow.broken.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let flow = self.flow();
        let known = flow.ready.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        if flow.source.is_none() && flow.broken.is_none() {
            SizeHint::with_exact(known)
        } else {
            let mut hint = SizeHint::new();
            hint.set_lower(known);
            hint
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use http_body::Body as _;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    type Frames = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

    fn relay(limit: u64) -> (Frames, Relay) {
        let (sender, receiver) = mpsc::channel(8);
        (sender, Relay::new(StreamBody::new(receiver).boxed_unsync(), limit))
    }

    fn send(sender: &mut Frames, bytes: &'static [u8]) {
        sender.try_send(Ok(Frame::data(Bytes::from_static(bytes)))).unwrap();
    }

    #[tokio::test]
    async fn the_length_of_what_was_taken_over_whole_is_known() {
        let (mut sender, relay) = relay(100);
        send(&mut sender, b"hello, ");
        assert!(!relay.settle());
        assert_eq!(relay.size_hint().exact(), None);
        send(&mut sender, b"world");
        drop(sender);
        assert!(relay.settle());
        assert_eq!(relay.size_hint().exact(), Some(12));
        assert_eq!(relay.written(), 12);
        assert_eq!(relay.collect().await.unwrap().to_bytes(), "hello, world");
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_the_end() {
        let (mut sender, relay) = relay(100);
        let reading = tokio::spawn(relay.clone().collect());
        send(&mut sender, b"some");
        tokio::task::yield_now().await;
        relay.settle();
        relay.end(Some(BodyError::BrokenOff));
        let error = reading.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&BodyError::BrokenOff));
    }

    #[tokio::test]
    async fn what_goes_over_the_limit_is_cut_off_and_the_source_let_go() {
        let (mut sender, relay) = relay(5);
        send(&mut sender, b"1234");
        send(&mut sender, b"56");
        assert!(relay.settle());
        assert!(relay.is_too_long() && sender.is_closed());
        let error = relay.collect().await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&BodyError::TooLong));
    }

    #[tokio::test]
    async fn a_request_is_read_up_to_its_limit() {
        for (limit, is_read) in [(5, true), (4, false)] {
            let progress = Arc::new(Progress::default());
            let body = Metered::new(Full::new(Bytes::from_static(b"12345")), limit, Arc::clone(&progress));
            assert_eq!(body.collect().await.is_ok(), is_read);
            assert_eq!(progress.is_input_too_long(), !is_read);
        }
    }
}
