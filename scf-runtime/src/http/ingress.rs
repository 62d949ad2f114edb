//! Where HTTP requests enter a fabric.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use http::{Request, Response, StatusCode, request::Parts};
use scf_core::{BoxError, ByteSize, FunctionName, TenantName};
use thiserror::Error;
use tower_service::Service;

use super::{
    answer::{self, AnswerBody},
    traffic::{Drained, Traffic},
};
use crate::fabric::Fabric;

/// Says on whose behalf a request is made, by its credential.
type TenantOf = dyn Fn(&Parts) -> Result<Option<TenantName>, StatusCode> + Send + Sync;
/// Says whose state a request is about.
type KeyOf = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// Answers HTTP requests by calls of functions. Clones are one ingress.
///
/// It is a [`Service`] of requests, to be given to any server of the tower family, and becomes an axum router by
/// [`Ingress::into_router`]. Without a function for a request it answers 404.
///
/// | what happens | status |
/// |---|---|
/// | no such function, revision or alias | 404 |
/// | the function refuses its input, a stateful one is called without a key | 400 |
/// | the caller's credential is not accepted | what the integrator says, such as 401 |
/// | the body does not arrive in time | 408 |
/// | the body, or the headers, are too long | 413, 431 |
/// | the body is of a type that the function does not take | 415 |
/// | the function is overloaded | 429 with `Retry-After` |
/// | the function traps, breaks a limit, gives no response | 502 |
/// | no node is reachable or fits, the ingress is full or shuts down | 503 |
/// | the function takes too long | 504 |
///
/// The body of such an answer is a problem of RFC 9457, which names the function, and what of the request is wrong.
#[derive(Clone)]
pub struct Ingress {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) fabric: Fabric,
    routes: Vec<Route>,
    pub(super) options: Options,
    pub(super) traffic: Traffic,
}

pub(super) struct Options {
    pub(super) tenant_of: Option<Box<TenantOf>>,
    pub(super) key_of: Option<Box<KeyOf>>,
    pub(super) patience: Option<Duration>,
    pub(super) headers: ByteSize,
    pub(super) requests: u32,
    pub(super) connections: u32,
    pub(super) idle: Duration,
    pub(super) server_timing: bool,
}

/// What leads to a function.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    /// In lower case; none: every host.
    host: Option<String>,
    /// Whole segments, without a slash at the end.
    prefix: String,
    function: FunctionName,
}

/// Describes an [`Ingress`].
#[must_use = "a builder does nothing until build is called"]
pub struct IngressBuilder {
    fabric: Fabric,
    routes: Vec<Route>,
    options: Options,
}

/// Why an ingress was not built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A path prefix has to begin with a slash.
    #[error("the path prefix {prefix:?} of function {function} does not begin with a slash")]
    Prefix {
        /// The prefix.
        prefix: String,
        /// The function it leads to.
        function: FunctionName,
    },
    /// The same host and prefix lead to two functions.
    #[error("{prefix:?} leads to function {first} and to function {second}")]
    Twice {
        /// The prefix.
        prefix: String,
        /// The function it leads to.
        first: FunctionName,
        /// The function it leads to as well.
        second: FunctionName,
    },
}

impl Ingress {
    /// Begins an ingress to the functions of `fabric`.
    pub const fn builder(fabric: Fabric) -> IngressBuilder {
        let options = Options {
            tenant_of: None,
            key_of: None,
            patience: None,
            headers: ByteSize::from_kib(32),
            requests: 4096,
            connections: 8192,
            idle: Duration::from_secs(60),
            server_timing: false,
        };
        IngressBuilder { fabric, routes: Vec::new(), options }
    }

    /// An axum router that brings every request here, to be merged with or nested in others.
    pub fn into_router(self) -> Router {
        Router::new().fallback_service(self)
    }

    /// Answers no further requests, with 503, and returns when every response has been sent or given up.
    ///
    /// Cancel safe: no further requests are answered however long it was awaited, so that a server that gives
    /// requests only so much time puts a timeout around it.
    pub async fn drain(&self) -> Drained {
        self.shared.traffic.drain().await
    }

    /// Requests that are being answered now.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.shared.traffic.requests()
    }
}

impl Shared {
    /// The function that a request is for.
    pub(super) fn find(&self, host: Option<&str>, path: &str) -> Option<&FunctionName> {
        let leads = |route: &&Route| {
            route.host.is_none() || route.host.as_deref().zip(host).is_some_and(|(a, b)| b.eq_ignore_ascii_case(a))
        };
        let holds = |route: &&Route| {
            path.strip_prefix(&*route.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // They are sorted: the most special one first.
        self.routes.iter().filter(leads).find(holds).map(|route| &route.function)
    }
}

impl IngressBuilder {
    /// Leads requests of every host whose path is `prefix` or below it to `function`. Of several prefixes the
    /// longest counts. The function sees the whole path.
    pub fn route(self, prefix: impl Into<String>, function: FunctionName) -> Self {
        self.lead(None, prefix.into(), function)
    }

    /// Leads requests of `host` whose path is `prefix` or below it to `function`, before what is said for every host.
    /// The request's port does not count.
    pub fn host(self, host: impl Into<String>, prefix: impl Into<String>, function: FunctionName) -> Self {
        self.lead(Some(host.into().to_ascii_lowercase()), prefix.into(), function)
    }

    /// Asks `tenant_of` on whose behalf a request is made; it decides by a credential in the head, checked by whoever
    /// put it there, and gives the status to refuse others with. Default: the function's own tenant.
    pub fn tenant(
        mut self,
        tenant_of: impl Fn(&Parts) -> Result<Option<TenantName>, StatusCode> + Send + Sync + 'static,
    ) -> Self {
        self.options.tenant_of = Some(Box::new(tenant_of));
        self
    }

    /// Asks `key_of` whose state a request is about, for stateful functions. Default: nobody's.
    pub fn key(mut self, key_of: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.options.key_of = Some(Box::new(key_of));
        self
    }

    /// How long a request may take from its head to the end of its response; the function's own wall limit where
    /// that is shorter. Default: that limit.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.options.patience = Some(patience);
        self
    }

    /// Names and values of a request's headers in all. Default 32 KiB.
    pub const fn headers(mut self, headers: ByteSize) -> Self {
        self.options.headers = headers;
        self
    }

    /// Requests that are answered at the same time; more get 503. Default 4096.
    pub const fn requests(mut self, requests: u32) -> Self {
        self.options.requests = requests;
        self
    }

    /// Connections that [`Ingress::serve`] has open at the same time; more wait. Default 8192.
    pub const fn connections(mut self, connections: u32) -> Self {
        self.options.connections = connections;
        self
    }

    /// After how long [`Ingress::serve`] closes a connection over which no request has come and none is being answered;
    /// it may take twice as long. Default one minute.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.options.idle = idle;
        self
    }

    /// Sends a summary of the receipt with every response that is complete when it begins, as `Server-Timing` of
    /// W3C: CPU, queue and wall time in milliseconds. Default: not, since it tells strangers what a call costs.
    pub const fn server_timing(mut self) -> Self {
        self.options.server_timing = true;
        self
    }

    /// Checks the routes.
    ///
    /// # Errors
    /// [`RouteError`] naming the prefix and the function.
    pub fn build(mut self) -> Result<Ingress, RouteError> {
        // Of equal prefixes the one with a host first, which `None < Some` reversed gives.
        self.routes.sort_by(|a, b| {
            let special = |route: &Route| (route.host.is_some(), route.prefix.len());
            special(b).cmp(&special(a)).then_with(|| (&a.host, &a.prefix).cmp(&(&b.host, &b.prefix)))
        });
        for route in &self.routes {
            if !(route.prefix.is_empty() || route.prefix.starts_with('/')) {
                let (prefix, function) = (route.prefix.clone(), route.function.clone());
                return Err(RouteError::Prefix { prefix, function });
            }
        }
        for pair in self.routes.windows(2) {
            if let [first, second] = pair
                && (&first.host, &first.prefix) == (&second.host, &second.prefix)
            {
                let (first, second) = (first.function.clone(), second.function.clone());
                return Err(RouteError::Twice { prefix: pair[0].prefix.clone(), first, second });
            }
        }
        let Self { fabric, routes, options } = self;
        Ok(Ingress { shared: Arc::new(Shared { fabric, routes, options, traffic: Traffic::new() }) })
    }

    fn lead(mut self, host: Option<String>, mut prefix: String, function: FunctionName) -> Self {
        if prefix.ends_with('/') {
            prefix.pop();
        }
        self.routes.push(Route { host, prefix, function });
        self
    }
}

impl<B> Service<Request<B>> for Ingress
where
    B: http_body::Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { Ok(answer::answer(&shared, request).await) })
    }
}

impl fmt::Debug for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { routes, traffic, .. } = &*self.shared;
        f.debug_struct("Ingress").field("routes", routes).field("traffic", traffic).finish_non_exhaustive()
    }
}

impl fmt::Debug for IngressBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngressBuilder").field("routes", &self.routes).finish_non_exhaustive()
    }
}
