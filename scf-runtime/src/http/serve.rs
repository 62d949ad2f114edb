//! An ingress that serves its connections itself.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Drained, Ingress, answer::answer};

/// How long none is accepted after the system could not give a connection, as where a process has too many files open.
const PAUSE: Duration = Duration::from_secs(1);

/// What goes on over a connection.
#[derive(Debug, Default)]
struct Activity {
    /// Requests that began.
    begun: AtomicU32,
    /// Those of them that are being answered.
    running: AtomicU32,
}

/// A request that is being answered over a connection, until the end of its response.
#[derive(Debug)]
pub(super) struct Busy(Arc<Activity>);

impl Ingress {
    /// Answers what is asked over the connections of `listener`, by HTTP/1.1, until `stop` is done: then it accepts no
    /// more, and returns when every response has been sent or given up.
    ///
    /// What `axum::serve` does with [`Ingress::into_router`], for a fabric that has the port to itself: nothing lies
    /// between a connection and the function. Other routes, layers, TLS and HTTP/2 need that or another server.
    ///
    /// Further connections than [`IngressBuilder::connections`](super::IngressBuilder::connections) wait in the
    /// listener's queue, and one over which nothing is asked for
    /// [`IngressBuilder::idle`](super::IngressBuilder::idle) is closed.
    ///
    /// Cancel safe: dropping the future closes the connections, and ends the calls that they wait for.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Drained {
        let most = self.shared.options.connections as usize;
        let stopping = watch::Sender::new(());
        let mut open = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = open.join_next() => {}
                stream = accept(&listener), if open.len() < most => {
                    open.spawn(connection(self.clone(), stream, stopping.subscribe()));
                }
            }
        }
        drop(listener);
        stopping.send_replace(());
        let drained = self.drain().await;
        while open.join_next().await.is_some() {}
        drained
    }
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // It was gone before it was accepted.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted now");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection to its end, or until nothing has been asked for long.
async fn connection(ingress: Ingress, stream: TcpStream, mut stopping: watch::Receiver<()>) {
    // Small responses are not held back for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection may be slower");
    }
    let (activity, idle) = (Arc::new(Activity::default()), ingress.shared.options.idle);
    let answers = service_fn(|request| {
        let (busy, shared) = (Busy::begin(&activity), Arc::clone(&ingress.shared));
        async move {
            let mut response = answer(&shared, request).await;
            response.body_mut().hold(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answers));
    // One timer for all requests of a connection, which none of them sets.
    let mut look = pin!(sleep(idle));
    let (mut begun, mut is_stopping) = (0, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                }
                return;
            }
            _ = stopping.changed(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut() => {
                if activity.has_rested(&mut begun) {
                    return;
                }
                look.as_mut().reset(Instant::now() + idle);
            }
        }
    }
}

impl Activity {
    /// Whether nothing goes on, and no request began since as many had as `begun` says; notes how many have now.
    fn has_rested(&self, begun: &mut u32) -> bool {
        let now = self.begun.load(Relaxed);
        std::mem::replace(begun, now) == now && self.running.load(Relaxed) == 0
    }
}

impl Busy {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.begun.fetch_add(1, Relaxed);
        activity.running.fetch_add(1, Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_when_nothing_was_asked_between_two_looks_and_nothing_is_being_answered() {
        let (activity, mut begun) = (Arc::new(Activity::default()), 0);
        assert!(activity.has_rested(&mut begun));
        drop(Busy::begin(&activity));
        assert!(!activity.has_rested(&mut begun), "something was asked");
        let busy = Busy::begin(&activity);
        for _ in 0..3 {
            assert!(!activity.has_rested(&mut begun), "something is being answered");
        }
        drop(busy);
        assert!(activity.has_rested(&mut begun));
    }
}
