//! Instances that answer more than one request, and neighbours.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use scf_core::ByteSize;

use crate::support::{begin, get, ingress, ingress_with, limits, probe, problem, request, warm};

async fn seen(ingress: &scf_runtime::http::Ingress) -> String {
    get(ingress, "/seen").await.1
}

/// Asks until one instance has answered so often. Beside the executor a call may go on for a moment after its response;
/// meanwhile another instance answers.
async fn seen_often(ingress: &scf_runtime::http::Ingress, times: u32) {
    while seen(ingress).await != times.to_string() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_request_has_an_instance_of_its_own_by_default() {
    let ingress = ingress(probe()).await;
    assert_eq!((seen(&ingress).await, seen(&ingress).await), ("1".into(), "1".into()));
}

#[tokio::test]
async fn a_warm_instance_answers_as_many_requests_as_it_may() {
    let ingress = ingress(probe().reuse(warm(1, 3))).await;
    for _ in 0..3 {
        seen_often(&ingress, 3).await;
        assert_ne!(seen(&ingress).await, "4");
    }
}

#[tokio::test]
async fn an_instance_that_failed_is_not_used_again() {
    let few = limits(|limits| (limits.cpu, limits.memory) = (Duration::from_millis(20), ByteSize::from_mib(8)));
    let ingress = ingress(probe().limits(few).reuse(warm(1, 100))).await;
    for path in ["/trap", "/nothing", "/error", "/spin", "/grow"] {
        seen_often(&ingress, 5).await;
        assert_eq!(get(&ingress, path).await.0, 502);
        assert_ne!(seen(&ingress).await, "6", "{path}");
    }
}

#[tokio::test]
async fn an_instance_whose_caller_went_away_is_not_used_again() {
    let (_, ingress) = ingress_with(probe().reuse(warm(1, 100)), 1, |builder| builder).await;
    assert_eq!(seen(&ingress).await, "1");
    let mut body = begin(&ingress, request("GET", "/drip", Body::empty())).await.into_body();
    assert!(body.frame().await.is_some());
    drop(body);
    let again = loop {
        match get(&ingress, "/seen").await {
            (200, again) => break again,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(again, "1");
}

#[tokio::test]
async fn a_streamed_response_leaves_a_warm_instance() {
    let (_, ingress) = ingress_with(probe().reuse(warm(1, 100)), 1, |builder| builder).await;
    let (_, body) = get(&ingress, "/large?1000000").await;
    assert_eq!(body.len(), 1_000_000);
    // The call goes on for a moment after the end of its response; until then nothing is free.
    let again = loop {
        match get(&ingress, "/seen").await {
            (200, again) => break again,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(again, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_callers_of_one_function_only_the_one_that_spins_is_ended() {
    let budget = limits(|limits| limits.cpu = Duration::from_millis(300));
    let ingress = ingress(probe().limits(budget)).await;
    let spinner = tokio::spawn({
        let ingress = ingress.clone();
        async move { problem(&ingress, request("GET", "/spin", Body::empty())).await }
    });
    let mut answered = 0;
    while !spinner.is_finished() {
        assert_eq!(get(&ingress, "/large?100000").await, (200, "x".repeat(100_000)));
        answered += 1;
    }
    let (status, _, problem) = spinner.await.unwrap();
    assert_eq!(status, 502, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("Cpu"), "{problem}");
    assert!(answered > 0);
}
