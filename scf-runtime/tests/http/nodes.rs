//! Requests whose function runs on another node than the one they came to.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures::stream;
use scf_core::{Bandwidth, ByteSize, Link, NodeId};
use scf_runtime::{Fabric, SystemClock, http::Ingress, transport::InProcess};

use crate::support::{fabric, limits, node, probe, problem, request, send};

/// A gate where requests come in and a node beside it where the function runs.
async fn two() -> (Fabric, Ingress) {
    let [gate, beside] = ["gate", "beside"].map(|id| NodeId::new(id).unwrap());
    let link = Link { latency: std::time::Duration::from_micros(10), bandwidth: Bandwidth::from_mbit_per_s(10_000) };
    let network = InProcess::builder().node(gate.clone()).node(beside.clone()).link(gate, beside.clone(), link);
    let network = network.build(Arc::new(SystemClock::new())).unwrap();
    let fabric = fabric(8).node(node("gate")).node(node("beside")).transport(Arc::new(network)).build().unwrap();
    fabric.ready().await;
    let short = limits(|limits| limits.payload = ByteSize::from_kib(64));
    fabric.deploy(probe().limits(short).on([beside])).await.unwrap();
    let ingress = Ingress::builder(fabric.clone()).route("/", probe().name).build().unwrap();
    (fabric, ingress)
}

fn pieces(count: usize) -> Body {
    Body::from_stream(stream::iter((0..count).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(&[b'y'; 1000])))))
}

#[tokio::test]
async fn a_request_and_its_response_travel_whole() {
    let (fabric, ingress) = two().await;
    let (status, _, body) = send(&ingress, request("POST", "/echo", pieces(20))).await;
    assert_eq!((status.as_u16(), body), (200, "y".repeat(20_000)));
    let mut ask = request("GET", "/header?x-what", Body::empty());
    ask.headers_mut().insert("x-what", "this".parse().unwrap());
    assert_eq!(send(&ingress, ask).await.2, "this");
    let bill = fabric.bills()[0].1;
    assert_eq!(bill.calls, 2);
    assert!(bill.on_wire > ByteSize::from_bytes(40_000) && bill.bytes_in > ByteSize::from_bytes(20_000), "{bill:?}");
}

#[tokio::test]
async fn what_is_too_long_or_fails_there_is_answered_as_here() {
    let (_, ingress) = two().await;
    let (status, _, long) = problem(&ingress, request("POST", "/length", pieces(70))).await;
    assert_eq!((status, &long["field"]), (413, &"body".into()));
    for path in ["/trap", "/nothing", "/trap-later", "/large?100000"] {
        let (status, _, failed) = problem(&ingress, request("GET", path, Body::empty())).await;
        assert_eq!((status, &failed["function"]), (502, &"http-probe".into()), "{path}: {failed}");
    }
}
