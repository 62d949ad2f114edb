//! Large bodies beside the broker.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
    },
};

use async_nats::Statistics;
use async_trait::async_trait;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use scf_core::{Bytes, Envelope, Handler, NodeId, Subject, Transport, TransportError};
use scf_runtime::transport::{DataPlane, Nats, NatsError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{
    nats_server::NatsServer,
    silent::Silent,
    support::{Echo, ask, body, node, process_beside},
};

/// A tensor.
const LARGE: usize = 5_000_000;
/// What agreeing on a connection may take of the broker.
const TALK: u64 = 4096;

fn loopback() -> DataPlane {
    DataPlane::new(SocketAddr::from(([127, 0, 0, 1], 0)))
}

struct Pair {
    a: Nats,
    b: Nats,
    /// Of `a` with the broker.
    traffic: Arc<Statistics>,
}

impl Pair {
    async fn new(server: &NatsServer, planes: [DataPlane; 2], handler: Arc<dyn Handler>) -> Self {
        let [near, far] = planes;
        let (a, traffic) = process_beside(server, "a", near).await;
        let (b, _) = process_beside(server, "b", far).await;
        b.attach(&node("b"), Subject::Invoke, handler).unwrap();
        Self { a, b, traffic }
    }

    async fn echo(&self, bytes: usize) {
        let answer = ask(&self.a, "a", "b", body(bytes)).await;
        assert!(answer == Ok(body(bytes)), "a body of {bytes} bytes was changed: {:?}", answer.map(|body| body.len()));
    }

    fn through_broker(&self) -> u64 {
        self.traffic.in_bytes.load(SeqCst) + self.traffic.out_bytes.load(SeqCst)
    }
}

/// Gives as many bytes as it is asked for.
#[derive(Debug)]
struct Gives;

#[async_trait]
impl Handler for Gives {
    async fn handle(&self, _: &NodeId, request: Envelope) -> Envelope {
        let bytes = String::from_utf8(request.body.to_vec()).unwrap().parse().unwrap();
        Envelope { head: request.head, body: body(bytes) }
    }
}

#[tokio::test]
async fn large_bodies_go_beside_the_broker_and_small_ones_through_it() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::new(&server, [loopback(), loopback()], Arc::new(Echo)).await;
    pair.echo(LARGE).await;
    assert!(pair.through_broker() < TALK, "{} bytes went through the broker", pair.through_broker());
    pair.echo(50_000).await;
    assert!(pair.through_broker() > 100_000);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_message() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::new(&server, [loopback(), loopback()], Arc::new(Echo)).await;
    pair.echo(LARGE).await;
    let agreed = pair.traffic.out_messages.load(Relaxed);
    pair.echo(LARGE).await;
    pair.echo(100_000).await;
    assert_eq!(pair.traffic.out_messages.load(Relaxed), agreed);
}

#[tokio::test]
async fn a_large_answer_to_a_small_request_goes_beside_the_broker_too() {
    let Some(server) = NatsServer::start("") else { return };
    let pair = Pair::new(&server, [loopback(), loopback()], Arc::new(Gives)).await;
    let answer = ask(&pair.a, "a", "b", Bytes::from(LARGE.to_string())).await;
    assert!(answer == Ok(body(LARGE)));
    assert!(pair.through_broker() < TALK, "{} bytes went through the broker", pair.through_broker());
}

#[tokio::test]
async fn where_no_connection_can_be_made_bodies_go_through_the_broker() {
    let Some(server) = NatsServer::start("") else { return };
    // A port that nobody listens on any more.
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let plane = || loopback().address(closed.to_string());
    let pair = Pair::new(&server, [plane(), plane()], Arc::new(Echo)).await;
    pair.echo(LARGE).await;
    assert!(pair.through_broker() > 2 * LARGE as u64);
}

#[tokio::test]
async fn a_node_that_was_started_anew_is_connected_to_again() {
    let Some(server) = NatsServer::start("") else { return };
    let mut pair = Pair::new(&server, [loopback(), loopback()], Arc::new(Echo)).await;
    pair.echo(LARGE).await;
    drop(pair.b);
    pair.b = process_beside(&server, "b", loopback()).await.0;
    pair.b.attach(&node("b"), Subject::Invoke, Arc::new(Echo)).unwrap();
    pair.echo(LARGE).await;
    assert!(pair.through_broker() < 2 * TALK, "{} bytes went through the broker", pair.through_broker());
}

#[tokio::test]
async fn the_handler_of_an_impatient_caller_of_a_large_body_is_dropped() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let pair = Pair::new(&server, [loopback(), loopback()], silent.clone()).await;
    {
        let asked = std::pin::pin!(ask(&pair.a, "a", "b", body(LARGE)));
        tokio::select! {
            answer = asked => panic!("it answered {answer:?}"),
            () = silent.begun(1) => {}
        }
    }
    silent.dropped(1).await;
}

#[tokio::test]
async fn a_node_that_is_detached_interrupts_what_came_beside_the_broker() {
    let Some(server) = NatsServer::start("") else { return };
    let silent = Arc::new(Silent::default());
    let pair = Pair::new(&server, [loopback(), loopback()], silent.clone()).await;
    let detached = async {
        silent.begun(1).await;
        pair.b.detach(&node("b"));
    };
    let (answer, ()) = tokio::join!(ask(&pair.a, "a", "b", body(LARGE)), detached);
    assert_eq!(answer, Err(TransportError::Interrupted { node: node("b") }));
    let refused = ask(&pair.a, "a", "b", body(LARGE)).await;
    assert_eq!(refused, Err(TransportError::Unreachable { node: node("b") }));
}

#[tokio::test]
async fn who_has_no_ticket_is_not_let_in() {
    let Some(server) = NatsServer::start("") else { return };
    let address = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let _a = process_beside(&server, "a", DataPlane::new(address)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&[0; 16]).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn plaintext_beyond_the_loopback_is_refused_unless_it_is_allowed() {
    let Some(server) = NatsServer::start("") else { return };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let join = async |plane| {
        let client = async_nats::connect(server.url()).await.unwrap();
        Nats::builder(client).node(node("a")).data_plane(plane).join().await
    };
    let refused = join(DataPlane::new(everywhere)).await;
    assert!(matches!(refused, Err(NatsError::Plaintext { address }) if address == everywhere));
    join(DataPlane::new(everywhere).allow_plaintext()).await.unwrap();
}

#[tokio::test]
async fn connections_are_encrypted_for_the_names_of_nodes() {
    let Some(server) = NatsServer::start("") else { return };
    let authority = Authority::new();
    let planes = [authority.plane("a", &authority), authority.plane("b", &authority)];
    let pair = Pair::new(&server, planes, Arc::new(Echo)).await;
    pair.echo(LARGE).await;
    assert!(pair.through_broker() < TALK, "{} bytes went through the broker", pair.through_broker());
}

#[tokio::test]
async fn no_connection_is_made_to_who_is_not_who_it_should_be() {
    let Some(server) = NatsServer::start("") else { return };
    let (authority, other) = (Authority::new(), Authority::new());
    for far in [other.plane("b", &authority), authority.plane("c", &authority), loopback()] {
        let pair = Pair::new(&server, [authority.plane("a", &authority), far], Arc::new(Echo)).await;
        pair.echo(LARGE).await;
        // The answer, which `a` does not fetch over a connection to the wrong one.
        assert!(pair.through_broker() > LARGE as u64);
    }
}

/// Signs the certificates of nodes.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The data plane of node `name`, which trusts `trusted`.
    fn plane(&self, name: &str, trusted: &Self) -> DataPlane {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.0.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        loopback().tls(server.into(), client.into())
    }
}
