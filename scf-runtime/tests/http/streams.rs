//! Bodies that come and go while the function runs, and callers that go away.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::{SinkExt, channel::mpsc};
use http_body_util::BodyExt;
use scf_core::{Function, Reuse};
use scf_runtime::http::AnswerBody;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{begin, get, ingress, ingress_with, limits, probe, request, warm};

/// The function with all the time that a busy machine takes.
fn patient(function: Function) -> Function {
    function.limits(limits(|limits| limits.wall = Duration::from_secs(600)))
}

async fn next(body: &mut AnswerBody) -> Option<Bytes> {
    body.frame().await.map(|frame| frame.unwrap().into_data().unwrap())
}

#[tokio::test]
async fn what_a_guest_writes_comes_before_it_has_read_everything() {
    let ingress = ingress(probe()).await;
    let (mut sender, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(0);
    let response = begin(&ingress, request("POST", "/echo", Body::from_stream(pieces))).await;
    let mut body = response.into_body();
    for piece in ["one", "two", "three"] {
        sender.send(Ok(piece.into())).await.unwrap();
        assert_eq!(next(&mut body).await.unwrap(), piece);
    }
    drop(sender);
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn a_large_response_comes_whole_however_slowly_it_is_read() {
    let ingress = ingress(probe()).await;
    let mut body = begin(&ingress, request("GET", "/large?1000003", Body::empty())).await.into_body();
    let mut length = 0;
    while let Some(piece) = next(&mut body).await {
        length += piece.len();
        tokio::task::yield_now().await;
    }
    assert_eq!(length, 1_000_003);
}

#[tokio::test]
async fn a_response_that_is_written_before_it_is_sent_comes_whole() {
    for reuse in [Reuse::Fresh, warm(1, 100)] {
        let ingress = ingress(patient(probe()).reuse(reuse)).await;
        for bytes in [150_000, 2 << 20] {
            let (status, body) = get(&ingress, &format!("/late?{bytes}")).await;
            assert_eq!((status, body.len()), (200, bytes));
        }
    }
}

#[tokio::test]
async fn what_a_guest_writes_to_responses_that_it_never_sends_is_bounded() {
    let ingress = ingress(patient(probe()).reuse(warm(1, 100))).await;
    for responses in [1, 400, 400] {
        let (status, hoarded) = get(&ingress, &format!("/hoard?{responses}")).await;
        assert_eq!(status, 200);
        let hoarded: u64 = hoarded.parse().unwrap();
        assert!(((2 << 20)..=(24 << 20)).contains(&hoarded), "{hoarded} bytes of {responses}");
    }
}

#[tokio::test]
async fn a_trap_after_the_response_began_breaks_it_off() {
    let ingress = ingress(probe()).await;
    let response = begin(&ingress, request("GET", "/trap-later", Body::empty())).await;
    // The guest had trapped before anything was sent, or it had not.
    if response.status() == 200 {
        assert!(response.into_body().collect().await.is_err());
    } else {
        assert_eq!(response.status(), 502);
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_ends_the_call_and_frees_its_instance() {
    let (_, ingress) = ingress_with(probe(), 1, |builder| builder).await;
    let mut body = begin(&ingress, request("GET", "/drip", Body::empty())).await.into_body();
    assert_eq!(next(&mut body).await.unwrap(), "drip\n");
    let (status, _) = get(&ingress, "/seen").await;
    assert_eq!(status, 429, "the only instance is taken");
    drop(body);
    while get(&ingress, "/seen").await.0 != 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ingress.requests(), 0);
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_keep_a_call_from_its_deadline() {
    let soon = limits(|limits| limits.wall = Duration::from_secs(1));
    let (fabric, ingress) = ingress_with(probe().limits(soon), 1, |builder| builder).await;
    let response = begin(&ingress, request("GET", "/large?16000000", Body::empty())).await;
    while fabric.bills()[0].1.failures == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(get(&ingress, "/seen").await.0, 200);
}

/// Serves `ingress` on a port of this machine.
async fn serve(ingress: scf_runtime::http::Ingress) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, ingress.into_router()).into_future());
    address
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_call() {
    let long = limits(|limits| (limits.cpu, limits.wall) = (Duration::from_secs(3600), Duration::from_secs(3600)));
    for path in ["/wait", "/drip", "/spin"] {
        let (_, ingress) = ingress_with(probe().limits(long), 1, |builder| builder).await;
        let address = serve(ingress.clone()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        while ingress.requests() == 0 {
            tokio::task::yield_now().await;
        }
        drop(client);
        while ingress.requests() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while get(&ingress, "/seen").await.0 != 200 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_short_response_says_how_long_it_is() {
    let address = serve(ingress(probe()).await).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /seen HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.contains("\r\ncontent-length: 1\r\n") && response.ends_with("\r\n\r\n1"), "{response}");
}

#[tokio::test]
async fn draining_waits_for_what_is_answered_and_lets_nothing_else_in() {
    let ingress = ingress(probe()).await;
    let (mut sender, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(0);
    let mut body = begin(&ingress, request("POST", "/echo", Body::from_stream(pieces))).await.into_body();
    let drain = tokio::spawn({
        let ingress = ingress.clone();
        async move { ingress.drain().await }
    });
    while get(&ingress, "/seen").await.0 != 503 {
        tokio::task::yield_now().await;
    }
    sender.send(Ok("late".into())).await.unwrap();
    assert_eq!(next(&mut body).await.unwrap(), "late");
    assert!(!drain.is_finished());
    drop(sender);
    assert_eq!(next(&mut body).await, None);
    drop(body);
    assert!(drain.await.unwrap().requests >= 1);
}
