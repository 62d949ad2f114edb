//! Errors as responses.

use std::{borrow::Cow, fmt::Display, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use scf_core::{FunctionName, InvokeError, LimitKind};
use serde::Serialize;

use crate::escape::escape;

/// Why a request is answered with an error; its body is a problem of RFC 9457.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    function: Option<FunctionName>,
    /// What of the request is wrong.
    field: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Body<'a> {
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Display) -> Self {
        Self { status, detail: escape(&detail.to_string()), function: None, field: None, retry_after: None }
    }

    pub(super) fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field.into());
        self
    }

    pub(super) const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub(super) fn of(mut self, function: &FunctionName) -> Self {
        self.function = Some(function.clone());
        self
    }

    /// What a failed call of `function` is to an HTTP client.
    pub(super) fn failed(function: &FunctionName, error: &InvokeError) -> Self {
        use InvokeError as E;
        let (status, field) = match error {
            E::NotFound { .. } | E::NoRevision { .. } => (StatusCode::NOT_FOUND, None),
            E::Refused { .. } => (StatusCode::BAD_REQUEST, None),
            E::Input { path, .. } => (StatusCode::BAD_REQUEST, Some(Cow::Owned(path.clone()))),
            E::NoKey { .. } => (StatusCode::BAD_REQUEST, Some("key".into())),
            E::Media { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("content-type".into())),
            E::Limit { limit: LimitKind::Input, .. } => (StatusCode::PAYLOAD_TOO_LARGE, Some("body".into())),
            E::Limit { limit: LimitKind::Wall, .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            E::Trapped { .. } | E::Limit { .. } | E::Interrupted { .. } => (StatusCode::BAD_GATEWAY, None),
            E::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, None),
            E::Unreachable { .. } | E::Unplaceable { .. } => (StatusCode::SERVICE_UNAVAILABLE, None),
            E::State { source, .. } if source.is_retryable() => (StatusCode::SERVICE_UNAVAILABLE, None),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        let retry_after = match error {
            E::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => None,
        };
        Self { field, retry_after, ..Self::new(status, error).of(function) }
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        let body = Body {
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            function: self.function.as_ref().map(FunctionName::as_str),
            field: self.field.as_deref(),
        };
        let body = serde_json::to_vec(&body).expect("texts and numbers are always JSON");
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            // The header counts whole seconds.
            let seconds = after.as_millis().div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use scf_core::NodeId;

    use super::*;

    fn read(problem: Problem) -> (u16, Option<String>, serde_json::Value) {
        let response = problem.into_response();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry_after, serde_json::from_slice(response.body()).unwrap())
    }

    #[test]
    fn a_problem_names_the_function_and_the_field() {
        let function = FunctionName::new("resize").unwrap();
        let (takes, given) = ("application/json".into(), "text/plain".into());
        let error = InvokeError::Media { function: function.clone(), takes, given };
        let (status, _, body) = read(Problem::failed(&function, &error));
        assert_eq!(status, 415);
        assert_eq!((&body["function"], &body["field"]), (&"resize".into(), &"content-type".into()));
        assert_eq!(body["detail"], "function resize takes application/json, not text/plain");
    }

    #[test]
    fn a_value_that_does_not_fit_is_the_clients_error_and_its_path_the_field() {
        let function = FunctionName::new("f").unwrap();
        let (path, problem) = ("frames[3].width".to_owned(), "expected u32, found \"abc\"".to_owned());
        let error = InvokeError::Input { function: function.clone(), path, problem };
        let (status, _, body) = read(Problem::failed(&function, &error));
        assert_eq!((status, &body["field"]), (400, &"frames[3].width".into()));
    }

    #[test]
    fn what_a_guest_says_does_not_reach_a_terminal() {
        let function = FunctionName::new("f").unwrap();
        let error = InvokeError::Refused { function: function.clone(), message: "no\u{1b}[2J\n\"quoted\"".into() };
        let (status, _, body) = read(Problem::failed(&function, &error));
        assert_eq!(status, 400);
        assert_eq!(body["detail"], "function f refused its input: no\\u{1b}[2J\\n\"quoted\"");
    }

    #[test]
    fn overload_says_when_to_come_again_in_whole_seconds() {
        let (function, node) = (FunctionName::new("f").unwrap(), NodeId::new("n").unwrap());
        let retry_after = Duration::from_millis(1200);
        let error = InvokeError::Overloaded { function: function.clone(), node, retry_after };
        let (status, retry_after, _) = read(Problem::failed(&function, &error));
        assert_eq!((status, retry_after.as_deref()), (429, Some("2")));
    }
}
