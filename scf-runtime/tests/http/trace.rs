//! Traces that requests belong to.

use axum::body::Body;
use http::HeaderValue;
use scf_core::Function;
use scf_runtime::http::Ingress;

use crate::support::{ingress, name, request, send};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A function that answers with what it is told of the call.
async fn told() -> Ingress {
    let bytes = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/services.wasm"));
    ingress(Function::component(name("told"), bytes.to_vec(), "run")).await
}

/// The `traceparent` that the function is told of a request with these.
async fn told_of(ingress: &Ingress, given: &[&[u8]]) -> String {
    let mut ask = request("POST", "/", Body::from("2 current"));
    for value in given {
        ask.headers_mut().append("traceparent", HeaderValue::from_bytes(value).unwrap());
    }
    let (_, _, answer) = send(ingress, ask).await;
    answer.split(' ').nth(3).unwrap().to_owned()
}

#[tokio::test]
async fn a_request_takes_its_trace_along_to_the_function() {
    let ingress = told().await;
    let told = told_of(&ingress, &[TRACE.as_bytes()]).await;
    let (trace, parent) = (&TRACE[..35], &TRACE[36..52]);
    assert!(told.starts_with(trace) && told.ends_with("-01") && told.len() == TRACE.len(), "{told}");
    assert!(!told.contains(parent), "the function is behind a span of its own: {told}");
}

#[tokio::test]
async fn a_request_without_a_trace_that_can_be_read_has_none() {
    let ingress = told().await;
    let upper = TRACE.to_ascii_uppercase();
    for given in [&[][..], &[&TRACE.as_bytes()[1..]], &[upper.as_bytes()], &[b"\xff"], &[TRACE.as_bytes(); 2]] {
        assert_eq!(told_of(&ingress, given).await, "none", "{given:?}");
    }
}
