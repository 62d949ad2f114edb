//! Bodies with a bound.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body of a request that breaks off where it is too long.
pub(super) struct Request {
    body: WasiBody,
    left: u64,
    /// Says so to whoever sees the connection fail for it.
    too_long: Arc<AtomicBool>,
}

impl Request {
    pub(super) const fn new(body: WasiBody, limit: u64, too_long: Arc<AtomicBool>) -> Self {
        Self { body, left: limit, too_long }
    }
}

impl Body for Request {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let Poll::Ready(Some(Ok(frame))) = &polled else { return polled };
        match self.left.checked_sub(size_of(frame)) {
            Some(left) => self.left = left,
            None => {
                self.too_long.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of a response that breaks off where it is too long, or late.
pub(super) struct Response {
    body: Incoming,
    left: u64,
    /// Longest time between two parts, and when all must have come.
    between: Duration,
    until: Instant,
    wait: Pin<Box<Sleep>>,
}

impl Response {
    pub(super) fn new(body: Incoming, limit: u64, between: Duration, until: Instant) -> Self {
        let wait = Box::pin(sleep_until(next(between, until)));
        Self { body, left: limit, between, until, wait }
    }
}

impl Body for Response {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => match self.wait.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Some(Err(Error::ConnectionReadTimeout))),
            },
            Poll::Ready(Some(Ok(frame))) => {
                let Some(left) = self.left.checked_sub(size_of(&frame)) else {
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
                };
                self.left = left;
                let next = next(self.between, self.until);
                self.wait.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(end) => Poll::Ready(end.map(|end| end.map_err(Error::from))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// When the next part must have come.
fn next(between: Duration, until: Instant) -> Instant {
    Instant::now().checked_add(between).map_or(until, |next| next.min(until))
}

/// Trailers count with what their names and values take.
fn size_of(frame: &Frame<Bytes>) -> u64 {
    let data = frame.data_ref().map_or(0, Bytes::len);
    let trailers = frame
        .trailers_ref()
        .map_or(0, |trailers| trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>());
    (data + trailers) as u64
}
