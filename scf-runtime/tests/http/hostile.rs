//! Requests that mean harm.

use std::{future::pending, io, time::Duration};

use axum::body::{Body, Bytes};
use futures::{FutureExt, StreamExt, stream};
use scf_core::{ByteSize, Function, Name};

use crate::support::{begin, get, ingress, ingress_with, limits, name, probe, problem, request, send};

type Piece = Result<Bytes, io::Error>;

fn upper() -> Function {
    Function::native(name("upper"), Name::new("upper").unwrap())
}

fn bounded(function: Function) -> Function {
    function.limits(limits(|limits| {
        limits.payload = ByteSize::from_kib(64);
        limits.wall = Duration::from_secs(30);
    }))
}

fn pieces() -> impl futures::Stream<Item = Piece> + Send + 'static {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 1000])))
}

#[tokio::test]
async fn a_body_without_an_end_is_refused_at_the_limit() {
    for function in [probe(), upper()] {
        let ingress = ingress(bounded(function)).await;
        let (status, _, problem) = problem(&ingress, request("POST", "/length", Body::from_stream(pieces()))).await;
        assert_eq!((status, &problem["field"]), (413, &"body".into()));
    }
}

#[tokio::test]
async fn a_body_that_stops_midway_without_an_end_costs_its_deadline_and_no_slot() {
    for function in [probe(), upper()] {
        let one = function.limits(limits(|limits| {
            limits.wall = Duration::from_secs(2);
            limits.concurrency = 1;
        }));
        let ingress = ingress(one).await;
        let stuck = pieces().take(3).chain(stream::once(pending()));
        let (status, ..) = problem(&ingress, request("POST", "/length", Body::from_stream(stuck))).await;
        assert!((400..600).contains(&status), "{status}");
        assert_eq!(send(&ingress, request("POST", "/length", "abc")).await.0.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_input_of_a_function_on_bytes_and_the_next_request_is_served() {
    for (function, streams) in [(probe(), true), (upper(), false)] {
        let ingress = ingress(bounded(function)).await;
        let broken = pieces().take(2).chain(stream::once(async { Err(io::ErrorKind::ConnectionReset.into()) }));
        let (status, _, body) = send(&ingress, request("POST", "/length", Body::from_stream(broken))).await;
        // A handler is told where it reads, and what it answers is its own to say.
        assert!(streams || !status.is_success(), "{status} {body}");
        assert_eq!(send(&ingress, request("POST", "/length", "abc")).await.0.as_u16(), 200);
    }
}

#[tokio::test]
async fn a_length_that_is_a_lie_helps_nobody_over_the_limit() {
    let ingress = ingress(bounded(upper())).await;
    let mut lie = request("POST", "/", Body::from_stream(pieces()));
    lie.headers_mut().insert("content-length", "5".parse().unwrap());
    let (status, ..) = problem(&ingress, lie).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn headers_by_the_thousand_reach_a_guest_or_are_refused_and_harm_nobody() {
    let ingress = ingress(probe()).await;
    let mut bomb = request("POST", "/length", "abc");
    for at in 0..20_000 {
        let header: http::HeaderName = format!("x-bomb-{at}").parse().unwrap();
        bomb.headers_mut().insert(header, "y".repeat(100).parse().unwrap());
    }
    let (status, ..) = send(&ingress, bomb).await;
    assert!(status.as_u16() == 200 || (400..600).contains(&status.as_u16()), "{status}");
    assert_eq!(send(&ingress, request("POST", "/length", "abc")).await.0.as_u16(), 200);
}

#[tokio::test]
async fn a_path_of_sixty_kilobytes_is_served_or_refused_and_harms_nobody() {
    let ingress = ingress(probe()).await;
    let path = format!("/length?{}", "a".repeat(60_000));
    let (status, _) = get(&ingress, &path).await;
    assert!(status == 200 || (400..600).contains(&status), "{status}");
    assert_eq!(send(&ingress, request("POST", "/length", "abc")).await.0.as_u16(), 200);
}

#[tokio::test]
async fn json_that_nests_without_end_is_the_clients_error() {
    let components = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/components/frames.wasm");
    let frames = Function::component(name("frames"), std::fs::read(components).unwrap(), "scf:frames/select#largest");
    let ingress = ingress(frames).await;
    let mut deep = request("POST", "/", "[".repeat(200_000));
    deep.headers_mut().insert("content-type", "application/json".parse().unwrap());
    let (status, ..) = problem(&ingress, deep).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn requests_that_are_given_up_midway_leave_every_slot_free() {
    let one = probe().limits(limits(|limits| limits.concurrency = 1));
    let (_fabric, ingress) = ingress_with(one, 4, |builder| builder).await;
    for _ in 0..50 {
        let stuck = Body::from_stream(pieces().take(1).chain(stream::once(pending())));
        // It has begun, as far as it can, and is dropped.
        assert!(begin(&ingress, request("POST", "/length", stuck)).now_or_never().is_none());
    }
    assert_eq!(send(&ingress, request("POST", "/length", "abc")).await.0.as_u16(), 200);
}
