//! Drains an invocation queue.

use std::{
    fmt,
    num::NonZeroU128,
    sync::{Arc, Weak},
    time::Duration,
};

use scf_core::{
    Delivery, FunctionName, InvocationQueue, Lease, LeaseAsk, QueueError, QueuedCall, Settle, TraceContext,
};
use tokio::{sync::watch, task::JoinSet};
use tracing::{Instrument, Span};

use super::{
    DispatchConfig, Watched,
    forward::{Arrivals, Couriers},
    verdict::verdict,
};
use crate::{fabric::Inner, route::Route};

/// How much longer a lease lasts than any attempt may take: an attempt ends by its own deadline, and its lease only
/// when nobody ends it.
const MARGIN: Duration = Duration::from_secs(10);
/// Wait before a queue that cannot be reached is asked again.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs queued calls through the fabric, as many at a time as it is configured for.
///
/// It costs nothing while nothing is due. When the fabric is dropped it stops where it is; what it had leased is
/// delivered again.
pub(crate) struct Dispatcher {
    pub(crate) queue: Arc<dyn InvocationQueue>,
    config: DispatchConfig,
    settled: watch::Sender<u64>,
    /// Counts deployments.
    deployed: watch::Sender<u64>,
    arrivals: watch::Sender<Arrivals>,
    stopping: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
}

impl Dispatcher {
    pub(crate) fn new(queue: Arc<dyn InvocationQueue>, config: DispatchConfig) -> Self {
        let config =
            DispatchConfig { concurrency: config.concurrency.max(1), per_function: config.per_function.max(1) };
        let counter = || watch::Sender::new(0);
        let flag = || watch::Sender::new(false);
        let arrivals = watch::Sender::default();
        Self { queue, config, settled: counter(), deployed: counter(), arrivals, stopping: flag(), stopped: flag() }
    }

    /// Looks again: there is a function that there was not.
    pub(crate) fn wake(&self) {
        self.deployed.send_modify(|deployed| *deployed += 1);
    }

    /// A node of another process is there, for the first time or again: what is for it need not wait any longer.
    #[cfg(feature = "nats")]
    pub(crate) fn arrived(&self, node: &scf_core::NodeId) {
        self.arrivals.send_modify(|arrivals| *arrivals.entry(node.clone()).or_default() += 1);
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<Arrivals> {
        self.arrivals.subscribe()
    }

    /// The queue, and what changes with every call that is settled.
    pub(super) fn watched(&self) -> Watched {
        Watched { queue: Arc::clone(&self.queue), settled: self.settled.subscribe() }
    }

    /// What changes with every call that is settled.
    pub(super) fn settles(&self) -> watch::Sender<u64> {
        self.settled.clone()
    }

    /// Leases nothing more and returns once what runs has ended.
    pub(crate) async fn stop(&self) {
        self.stopping.send_replace(true);
        // Its sender lives as long as this.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    async fn settle(&self, lease: Lease, settle: Settle) {
        match self.queue.settle(lease, settle).await {
            Ok(()) => self.settled.send_modify(|settled| *settled += 1),
            Err(QueueError::NotLeased { id }) => tracing::debug!(%id, "a call was settled that somebody else has"),
            Err(error) => tracing::warn!(id = %lease.id, %error, "a call could not be settled and will come again"),
        }
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("queue", &self.queue).field("config", &self.config).finish_non_exhaustive()
    }
}

/// What to do next.
enum Next {
    Look,
    Pause,
}

/// Drains the queue of a fabric until it is told to stop.
pub(crate) async fn drain(fabric: Weak<Inner>) {
    let (mut running, mut couriers) = (JoinSet::new(), Couriers::default());
    loop {
        let Some(inner) = fabric.upgrade() else { return };
        let Some(dispatcher) = &inner.dispatcher else { return };
        // From here on: what is deployed while calls are leased is looked for again.
        let woken = wait_for_wake(dispatcher);
        if *dispatcher.stopping.borrow() {
            while running.join_next().await.is_some() {}
            dispatcher.stopped.send_replace(true);
            return;
        }
        while running.try_join_next().is_some() {}
        let (functions, longest) = inner.served();
        let calls = dispatcher.config.concurrency - running.len();
        let per_function = dispatcher.config.per_function;
        let ask = LeaseAsk { calls, functions: Some(functions), per_function, lease: longest + MARGIN };
        let next = match dispatcher.queue.lease(ask).await {
            Ok(leased) => {
                for delivery in leased {
                    running.spawn(attempt(Weak::clone(&fabric), delivery));
                }
                Next::Look
            }
            Err(error) => {
                tracing::warn!(%error, "the invocation queue cannot be drained now");
                Next::Pause
            }
        };
        couriers.start(&fabric, &inner, &*dispatcher.queue);
        // The queue outlives the fabric as long as this waits for it, and the fabric does not.
        let (queue, clock) = (Arc::clone(&dispatcher.queue), inner.clock.clone());
        drop(inner);
        match next {
            Next::Pause => clock.sleep(PAUSE).await,
            Next::Look => {
                tokio::select! {
                    () = queue.changed() => {}
                    () = woken => {}
                    Some(_) = running.join_next() => {}
                    Some(()) = couriers.done() => {}
                }
            }
        }
    }
}

/// Ends when a function is deployed or a node comes from now on, when the dispatcher is to stop, or when it is gone.
fn wait_for_wake(dispatcher: &Dispatcher) -> impl Future<Output = ()> + Send + use<> {
    let (mut stopping, mut deployed) = (dispatcher.stopping.subscribe(), dispatcher.deployed.subscribe());
    let mut arrivals = dispatcher.arrivals();
    async move {
        tokio::select! {
            _ = stopping.changed() => {}
            _ = deployed.changed() => {}
            _ = arrivals.changed() => {}
        }
    }
}

/// Runs a call once and settles it.
async fn attempt(fabric: Weak<Inner>, delivery: Delivery) {
    let Some(inner) = fabric.upgrade() else { return };
    let Delivery { mut call, attempt, lease } = delivery;
    let span = remind(&mut call, attempt);
    let result = inner.route(0, call.into_invocation().attempt(attempt), false).instrument(span).await;
    let settle = match result {
        Ok(outcome) => Settle::Completed(outcome.payload),
        Err(error) => verdict(&error),
    };
    if let Some(dispatcher) = &inner.dispatcher {
        dispatcher.settle(lease, settle).await;
    }
}

/// Gives the call of a reminder a trace of its own, and a span that links it to the call that set the reminder.
///
/// What is enqueued once is a child of what enqueued it, as OpenTelemetry's conventions for messaging allow where one
/// message is processed at a time. A reminder comes without end, and so would a trace that all of its calls were in:
/// these have the link that the conventions prefer.
fn remind(call: &mut QueuedCall, attempt: u32) -> Span {
    let Some(setter) = call.trace.take_if(|_| call.every.is_some()) else { return Span::none() };
    // The same at every attempt, and another each time that the reminder comes.
    let trace = NonZeroU128::new(call.id.bits()).unwrap_or(NonZeroU128::MIN);
    let own = TraceContext::new(trace, setter.span_id()).sampled(setter.is_sampled());
    let own = own.at(call.id.child(u64::from(attempt)).bits() as u64);
    let span = tracing::debug_span!(
        "scf.reminder",
        trace_id = %format_args!("{:032x}", own.trace_id()),
        span_id = %format_args!("{:016x}", own.span_id()),
        linked_trace_id = %format_args!("{:032x}", setter.trace_id()),
        linked_span_id = %format_args!("{:016x}", setter.span_id()),
    );
    call.trace = Some(own);
    span
}

impl Inner {
    /// The functions that are deployed and can run somewhere now, and the longest that a call of one may take. Calls of
    /// those that only nodes can run that are not there are let be until one comes.
    fn served(&self) -> (Vec<FunctionName>, Duration) {
        let mut longest = Duration::ZERO;
        let functions = self.functions(|name, deployment| {
            let revisions = deployment.revisions();
            let walls = revisions.iter().map(|route| route.function.limits.wall);
            longest = walls.max()?.max(longest);
            let is_here = |route: &Arc<Route>| route.ready.iter().any(Option::is_some);
            let can_run = revisions.iter().any(|route| is_here(route) || self.peers.can_run(&route.function));
            can_run.then(|| name.clone())
        });
        (functions, longest)
    }
}
