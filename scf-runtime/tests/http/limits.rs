//! Bodies that are too long, before they are held in memory.

use axum::body::{Body, Bytes};
use futures::stream;
use http_body_util::BodyExt;
use scf_core::{ByteSize, Function, Name};

use crate::support::{begin, get, ingress, ingress_with, limits, name, probe, problem, request, send};

const LIMIT: u64 = 10_000;

fn short(function: Function) -> Function {
    function.limits(limits(|limits| limits.payload = ByteSize::from_bytes(LIMIT)))
}

/// A body of so many kilobytes of which the length is not known beforehand.
fn unmeasured(kilobytes: usize) -> Body {
    Body::from_stream(stream::iter((0..kilobytes).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1000])))))
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_first_byte() {
    let (fabric, ingress) = ingress_with(short(probe()), 8, |builder| builder).await;
    // It fails the test when it is read.
    let unread = Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, std::io::Error>>> {
        panic!("the body was read")
    }));
    let mut ask = request("POST", "/length", unread);
    ask.headers_mut().insert("content-length", (LIMIT + 1).to_string().parse().unwrap());
    let (status, _, problem) = problem(&ingress, ask).await;
    assert_eq!((status, &problem["field"]), (413, &"body".into()));
    assert_eq!(fabric.bills()[0].1.calls, 0, "no call was made");
}

#[tokio::test]
async fn a_stream_is_cut_off_at_the_limit() {
    let upper = Function::native(name("upper"), Name::new("upper").unwrap());
    for function in [short(probe()), short(upper)] {
        let ingress = ingress(function).await;
        let (status, _, body) = send(&ingress, request("POST", "/length", unmeasured(10))).await;
        assert_eq!(status.as_u16(), 200, "{body}");
        let (status, _, problem) = problem(&ingress, request("POST", "/length", unmeasured(11))).await;
        assert_eq!((status, &problem["field"]), (413, &"body".into()));
    }
}

#[tokio::test]
async fn a_response_over_the_limit_is_cut_off() {
    let ingress = ingress(short(probe())).await;
    assert_eq!(get(&ingress, "/large?10000").await, (200, "x".repeat(10_000)));
    let response = begin(&ingress, request("GET", "/large?1000000", Body::empty())).await;
    // It had begun before it was known to be too long, or it had not.
    if response.status() == 200 {
        assert!(response.into_body().collect().await.is_err());
    } else {
        assert_eq!(response.status(), 502);
    }
}

#[tokio::test]
async fn what_went_through_is_on_the_bill() {
    let (fabric, ingress) = ingress_with(probe(), 8, |builder| builder).await;
    let (_, _, body) = send(&ingress, request("POST", "/length", unmeasured(5))).await;
    assert_eq!(body, "5000");
    let bill = fabric.bills()[0].1;
    assert_eq!((bill.calls, bill.bytes_in, bill.bytes_out), (1, ByteSize::from_bytes(5000), ByteSize::from_bytes(4)));
    assert!(!bill.cpu.is_zero());
}
