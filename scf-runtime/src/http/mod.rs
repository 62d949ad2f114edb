//! HTTP requests as calls of functions.
//!
//! [`Ingress`] is a tower service, and by [`Ingress::into_router`] an axum router, that an integrator mounts in a
//! server of their own. It finds the function of a request by host and path, makes an invocation of it as any other
//! caller does, and answers with what comes back:
//!
//! - A component that exports `wasi:http/incoming-handler` is given the request itself. Both bodies are streams: the
//!   function may answer while it still reads, and what it writes goes out while it still runs. Where the call is
//!   placed on another node, request and response travel whole, each within the function's payload limit.
//! - Every other function is given the request's body as its payload, of the type that `Content-Type` says, and
//!   the body of the response is what it gave.
//!
//! A caller that goes away ends its call.

#[cfg_attr(not(feature = "wasi-http"), expect(dead_code, reason = "only components take requests as they are"))]
mod body;
#[cfg_attr(not(feature = "wasi-http"), expect(dead_code, reason = "only components take requests as they are"))]
mod exchange;
#[cfg_attr(not(feature = "wasi-http"), expect(dead_code, reason = "only components take requests as they are"))]
mod message;

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod ingress;
#[cfg(feature = "http")]
mod problem;
#[cfg(feature = "http")]
mod serve;
#[cfg(any(feature = "http", feature = "wasi-http"))]
mod trace;
#[cfg(feature = "http")]
mod traffic;

#[cfg(feature = "http")]
pub use self::{
    answer::AnswerBody,
    ingress::{Ingress, IngressBuilder, RouteError},
    traffic::Drained,
};
#[cfg(feature = "wasi-http")]
pub(crate) use self::{
    body::{BodyError, Relay},
    exchange::{Exchange, Progress},
    message::response as pack_response,
    trace::write as write_trace,
};

/// The interface that makes a component one that handles HTTP requests.
pub(crate) const HANDLER: &str = "wasi:http/incoming-handler";
