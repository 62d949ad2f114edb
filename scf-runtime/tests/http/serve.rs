//! An ingress that serves its connections itself.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use scf_core::{Function, Name};
use scf_runtime::{
    Fabric, NativeFactory,
    http::{Drained, Ingress, IngressBuilder},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{First, name};

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(60);
const ASK: &[u8] = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nhi";

/// A server of one function, which says when it has begun and ends when it is let go.
struct Server {
    address: SocketAddr,
    begun: Arc<Notify>,
    go: Arc<Notify>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

impl Server {
    async fn new(with: impl FnOnce(IngressBuilder) -> IngressBuilder) -> Self {
        let (begun, go): (Arc<Notify>, Arc<Notify>) = Default::default();
        let (tells, waits) = (Arc::clone(&begun), Arc::clone(&go));
        let native = NativeFactory::new().with("echo", move |_, input| {
            let (tells, waits) = (Arc::clone(&tells), Arc::clone(&waits));
            Box::pin(async move {
                tells.notify_one();
                waits.notified().await;
                Ok(input)
            })
        });
        let fabric = Fabric::builder().scheduler(Arc::new(First)).isolates(Arc::new(native.unwrap())).build().unwrap();
        fabric.deploy(Function::native(name("echo"), Name::new("echo").unwrap())).await.unwrap();
        let ingress = with(Ingress::builder(fabric).route("/", name("echo"))).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(ingress.serve(listener, async move { stopped.await.unwrap() }));
        Self { address, begun, go, stop, serving }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Asks over `connection` and lets the function go at once.
    async fn echo(&self, connection: &mut TcpStream) {
        connection.write_all(ASK).await.unwrap();
        self.go.notify_one();
        answered(connection).await;
    }
}

/// Reads a whole answer.
async fn answered(connection: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nhi") {
        let more = timeout(LONG, connection.read_buf(&mut read)).await.unwrap().unwrap();
        assert!(more > 0, "{}", String::from_utf8_lossy(&read));
    }
    assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&read));
}

/// Waits until the other side closes `connection`.
async fn closed(mut connection: TcpStream) {
    let mut rest = Vec::new();
    // A connection with something unread is reset.
    drop(timeout(LONG, connection.read_to_end(&mut rest)).await.unwrap());
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn one_connection_answers_many_requests_and_ends_when_the_server_is_told_to_stop() {
    let server = Server::new(|ingress| ingress).await;
    let mut connection = server.connect().await;
    for _ in 0..3 {
        server.echo(&mut connection).await;
    }
    server.stop.send(()).unwrap();
    closed(connection).await;
    assert_eq!(timeout(LONG, server.serving).await.unwrap().unwrap().requests, 0);
}

#[tokio::test]
async fn what_is_being_answered_when_the_server_is_told_to_stop_is_answered() {
    let server = Server::new(|ingress| ingress).await;
    let mut connection = server.connect().await;
    connection.write_all(ASK).await.unwrap();
    timeout(LONG, server.begun.notified()).await.unwrap();
    server.stop.send(()).unwrap();
    server.go.notify_one();
    answered(&mut connection).await;
    closed(connection).await;
    timeout(LONG, server.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_over_which_nothing_is_asked_is_closed() {
    let server = Server::new(|ingress| ingress.idle(Duration::from_millis(1))).await;
    closed(server.connect().await).await;
    let mut slow = server.connect().await;
    // It may be closed before this.
    drop(slow.write_all(&ASK[..20]).await);
    closed(slow).await;
}

#[tokio::test]
async fn further_connections_than_there_may_be_wait_until_one_is_closed() {
    let server = Server::new(|ingress| ingress.connections(1)).await;
    let mut first = server.connect().await;
    server.echo(&mut first).await;
    let mut second = server.connect().await;
    second.write_all(ASK).await.unwrap();
    server.echo(&mut first).await;
    drop(first);
    server.go.notify_one();
    answered(&mut second).await;
}
