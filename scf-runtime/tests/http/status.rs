//! What goes wrong, as a client sees it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::stream;
use http::{Request, StatusCode};
use scf_core::{ByteSize, Function, MediaType, Name, TenantName};
use scf_runtime::http::{Ingress, RouteError};

use crate::support::{begin, fabric, get, ingress, ingress_with, limits, name, probe, problem, request, send};

fn upper() -> Function {
    Function::native(name("upper"), Name::new("upper").unwrap()).takes(MediaType::JSON).gives(MediaType::JSON)
}

#[tokio::test]
async fn a_function_of_bytes_is_given_the_body_and_its_type() {
    let ingress = ingress(upper()).await;
    let mut ask = request("POST", "/", r#""abc""#);
    ask.headers_mut().insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    let (status, headers, body) = send(&ingress, ask).await;
    assert_eq!((status, &*body), (StatusCode::OK, r#""ABC""#));
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_body_of_the_wrong_type_is_refused_by_name_and_field() {
    let ingress = ingress(upper()).await;
    let mut ask = request("POST", "/", "abc");
    ask.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    let (status, _, problem) = problem(&ingress, ask).await;
    assert_eq!((status, &problem["function"], &problem["field"]), (415, &"upper".into(), &"content-type".into()));
}

#[tokio::test]
async fn the_longest_prefix_leads_and_a_host_before_every_host() {
    let fabric = fabric(16).build().unwrap();
    for function in [upper(), probe()] {
        fabric.deploy(function).await.unwrap();
    }
    let builder = Ingress::builder(fabric).route("/seen", name("http-probe")).route("/up/", name("upper"));
    let ingress = builder.host("Other.example", "/", name("http-probe")).build().unwrap();
    assert_eq!(get(&ingress, "/seen").await, (200, "1".into()));
    assert_eq!(get(&ingress, "/seenx").await.0, 404, "a prefix is whole segments");
    assert_eq!(get(&ingress, "/up").await.0, 415, "no type was given");
    let ask = Request::get("/up/x").header("host", "other.example:8080").body(Body::empty()).unwrap();
    assert_eq!(send(&ingress, ask).await.2, "not found\n", "the guest saw it");
}

#[tokio::test]
async fn routes_that_cannot_be_are_refused() {
    let builder = || Ingress::builder(fabric(8).build().unwrap());
    let error = builder().route("x", name("a")).build().unwrap_err();
    assert_eq!(error, RouteError::Prefix { prefix: "x".into(), function: name("a") });
    let error = builder().route("/x", name("a")).route("/x/", name("b")).build().unwrap_err();
    assert_eq!(error, RouteError::Twice { prefix: "/x".into(), first: name("a"), second: name("b") });
}

#[tokio::test]
async fn a_function_that_is_not_deployed_is_not_found() {
    let ingress = Ingress::builder(fabric(8).build().unwrap()).route("/", name("absent")).build().unwrap();
    let (status, _, problem) = problem(&ingress, request("GET", "/", Body::empty())).await;
    assert_eq!((status, &problem["function"]), (404, &"absent".into()));
}

#[tokio::test]
async fn a_guest_that_fails_is_a_bad_gateway_that_is_named() {
    let ingress = ingress(probe()).await;
    for (path, says) in
        [("/trap", "unreachable"), ("/nothing", "without a response"), ("/error", "out of \\u{1b}[31mpaint")]
    {
        let (status, _, problem) = problem(&ingress, request("GET", path, Body::empty())).await;
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!((status, &problem["function"]), (502, &"http-probe".into()), "{path}");
        assert!(detail.contains(says), "{path}: {detail:?}");
    }
    assert_eq!(get(&ingress, "/status?418").await.0, 418, "a status that the guest gives is its own");
}

#[tokio::test]
async fn a_guest_that_takes_too_long_is_ended_and_named() {
    let ended = async |path: &str, limits| {
        let ingress = ingress(probe().limits(limits)).await;
        let (status, _, problem) = problem(&ingress, request("GET", path, Body::empty())).await;
        assert_eq!(get(&ingress, "/status?200").await.0, 200, "the next one is not harmed");
        (status, problem["detail"].as_str().unwrap().to_owned())
    };
    let long = Duration::from_secs(3600);
    let (status, detail) =
        ended("/spin", limits(|limits| (limits.cpu, limits.wall) = (Duration::from_millis(100), long))).await;
    assert!(status == 502 && detail.contains("Cpu"), "{status}: {detail}");
    let (status, detail) = ended("/wait", limits(|limits| limits.wall = Duration::from_secs(1))).await;
    assert!(status == 504 && detail.contains("Wall"), "{status}: {detail}");
    let (status, detail) = ended("/grow", limits(|limits| limits.memory = ByteSize::from_mib(8))).await;
    assert!(status == 502 && detail.contains("Memory"), "{status}: {detail}");
}

#[tokio::test]
async fn a_full_function_says_when_to_come_again() {
    let one = limits(|limits| (limits.concurrency, limits.queue) = (1, 0));
    let ingress = ingress(probe().limits(one)).await;
    let first = begin(&ingress, request("GET", "/drip", Body::empty())).await;
    let (status, headers, _) = problem(&ingress, request("GET", "/seen", Body::empty())).await;
    assert_eq!((status, &headers["retry-after"]), (429, &"1".parse().unwrap()));
    drop(first);
}

#[tokio::test]
async fn a_full_ingress_turns_requests_away() {
    let (_, ingress) = ingress_with(probe(), 16, |builder| builder.requests(1)).await;
    let first = begin(&ingress, request("GET", "/drip", Body::empty())).await;
    let (status, headers, _) = problem(&ingress, request("GET", "/seen", Body::empty())).await;
    assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()));
    drop(first);
    assert_eq!(get(&ingress, "/seen").await.0, 200);
}

#[tokio::test]
async fn heads_that_are_wrong_are_refused_by_field() {
    let (_, ingress) = ingress_with(probe(), 16, |builder| builder.headers(ByteSize::from_kib(1))).await;
    let mut ask = request("GET", "/seen", Body::empty());
    ask.headers_mut().insert("x-long", "x".repeat(2000).parse().unwrap());
    let (status, _, long) = problem(&ingress, ask).await;
    assert_eq!((status, &long["field"]), (431, &"headers".into()));
    let ask = Request::get("/seen").body(Body::empty()).unwrap();
    let (status, _, nowhere) = problem(&ingress, ask).await;
    assert_eq!((status, &nowhere["field"]), (400, &"host".into()));
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_given_up() {
    let (_, ingress) = ingress_with(upper(), 8, |builder| builder.patience(Duration::from_millis(50))).await;
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let (status, _, problem) = problem(&ingress, request("POST", "/", never)).await;
    assert_eq!((status, &problem["field"]), (408, &"body".into()));
}

#[tokio::test]
async fn the_tenant_comes_from_the_credential_and_is_billed() {
    let (_, ingress) = ingress_with(probe(), 8, |builder| {
        builder.server_timing().tenant(|head| match head.headers.get("authorization") {
            Some(token) if token == "Bearer a" => Ok(Some(TenantName::new("acme").unwrap())),
            _ => Err(StatusCode::UNAUTHORIZED),
        })
    })
    .await;
    let (status, _, refused) = problem(&ingress, request("GET", "/seen", Body::empty())).await;
    assert_eq!((status, &refused["function"]), (401, &"http-probe".into()));
    let mut ask = request("GET", "/seen", Body::empty());
    ask.headers_mut().insert("authorization", "Bearer a".parse().unwrap());
    let (status, headers, _) = send(&ingress, ask).await;
    assert_eq!(status, StatusCode::OK);
    let timing = headers["server-timing"].to_str().unwrap();
    assert!(timing.starts_with("cpu;dur=") && timing.ends_with(", cold"), "{timing}");
}
