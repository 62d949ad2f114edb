//! What is seen of calls from outside: spans, and with the feature `metrics` counters and histograms.

#[cfg(feature = "metrics")]
mod encode;
#[cfg(feature = "metrics")]
mod histogram;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "metrics")]
mod series;

use scf_core::{Invocation, InvokeError, LimitKind, NodeId, Receipt, Revision, TenantName, TraceContext};
use tracing::{
    Span,
    field::{self, Empty},
};

use crate::controller::Ready;

#[cfg(feature = "metrics")]
pub use self::metrics::Metrics;
#[cfg(feature = "metrics")]
pub(crate) use self::{metrics::Seen, series::Series};

/// Where calls are counted. Without the feature `metrics`: nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observer {
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Metrics>,
}

/// The span of one call on the node that runs it. Costs a look at a static where nobody listens.
pub(crate) fn span(invocation: &Invocation, revision: Revision, tenant: &TenantName, node: &NodeId) -> Span {
    tracing::debug_span!(
        "faas.invoke",
        faas.name = %invocation.function,
        faas.version = %revision,
        faas.invocation_id = %invocation.id,
        faas.tenant = %tenant,
        node = %node,
        trace_id = invocation.trace.as_ref().map(|trace| field::display(format!("{:032x}", trace.trace_id()))),
        span_id = trace_of(invocation, node).map(|trace| field::display(format!("{:016x}", trace.span_id()))),
        parent_span_id = invocation.trace.as_ref().map(|trace| field::display(format!("{:016x}", trace.span_id()))),
        faas.coldstart = Empty,
        error.type = Empty,
    )
}

/// The context that a call on `node` makes calls in: behind a span that follows from the attempt and the node.
pub(crate) fn trace_of(invocation: &Invocation, node: &NodeId) -> Option<TraceContext> {
    invocation.trace.as_ref().map(|trace| {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let attempt = invocation.id.child(u64::from(invocation.attempt));
        let span = node.as_str().as_bytes().chunks(8).fold(attempt, |id, bytes| id.child(word(bytes)));
        // Half of the bits, as many as a span's id has.
        trace.clone().at(span.bits() as u64)
    })
}

/// What a call came to, for its span and its series. Given up, unless it is said otherwise.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    span: &'a Span,
    is_over: bool,
    #[cfg(feature = "metrics")]
    series: Option<series::Held<'a>>,
    #[cfg(not(feature = "metrics"))]
    _series: std::marker::PhantomData<&'a ()>,
}

impl Observer {
    /// Begins to observe a call; `span` is its span.
    #[cfg(feature = "metrics")]
    pub(crate) fn begin<'a>(&self, span: &'a Span, ready: &'a Ready, tenant: &TenantName) -> Observed<'a> {
        let series = ready.seen.as_ref().filter(|_| self.metrics.is_some()).map(|seen| seen.series(tenant));
        Observed { span, is_over: false, series }
    }

    /// Begins to observe a call; `span` is its span.
    #[cfg(not(feature = "metrics"))]
    pub(crate) fn begin<'a>(&self, span: &'a Span, _: &'a Ready, _: &TenantName) -> Observed<'a> {
        Observed { span, is_over: false, _series: std::marker::PhantomData }
    }
}

impl Observed<'_> {
    /// The call is over.
    pub(crate) fn finish(mut self, result: Result<&Receipt, &InvokeError>) {
        self.is_over = true;
        match result {
            Ok(receipt) => {
                self.span.record("faas.coldstart", receipt.cold);
                #[cfg(feature = "metrics")]
                if let Some(series) = &self.series {
                    series.succeeded(receipt);
                }
            }
            Err(error) => self.fail(ErrorKind::of(error)),
        }
    }

    fn fail(&self, kind: ErrorKind) {
        self.span.record("error.type", kind.name());
        #[cfg(feature = "metrics")]
        if let Some(series) = &self.series {
            series.failed(kind);
        }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.fail(ErrorKind::GivenUp);
        }
    }
}

/// Errors as series and spans tell them apart: a fixed set of names, whatever guests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    Refused,
    Media,
    Trapped,
    Timeout,
    Limit,
    NoKey,
    Overloaded,
    Unreachable,
    State,
    Host,
    GivenUp,
    Other,
}

impl ErrorKind {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 12] = [
        Self::Refused,
        Self::Media,
        Self::Trapped,
        Self::Timeout,
        Self::Limit,
        Self::NoKey,
        Self::Overloaded,
        Self::Unreachable,
        Self::State,
        Self::Host,
        Self::GivenUp,
        Self::Other,
    ];

    fn of(error: &InvokeError) -> Self {
        match error {
            InvokeError::Refused { .. } => Self::Refused,
            InvokeError::Media { .. } => Self::Media,
            InvokeError::Trapped { .. } => Self::Trapped,
            InvokeError::Limit { limit: LimitKind::Wall, .. } => Self::Timeout,
            InvokeError::Limit { .. } => Self::Limit,
            InvokeError::NoKey { .. } => Self::NoKey,
            InvokeError::Overloaded { .. } => Self::Overloaded,
            InvokeError::Unreachable { .. } | InvokeError::Interrupted { .. } => Self::Unreachable,
            InvokeError::State { .. } => Self::State,
            InvokeError::Host { .. } => Self::Host,
            _ => Self::Other,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Media => "media",
            Self::Trapped => "trapped",
            Self::Timeout => "timeout",
            Self::Limit => "limit",
            Self::NoKey => "no_key",
            Self::Overloaded => "overloaded",
            Self::Unreachable => "unreachable",
            Self::State => "state",
            Self::Host => "host",
            Self::GivenUp => "given_up",
            Self::Other => "other",
        }
    }
}
