//! HTTP requests of guests: where they may go, and what goes along.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use scf_core::{
    ByteSize, Function, Grants, Host, HttpGrant, InvokeError, IsolateFactory, Limits, PrepareError, TraceContext,
    TraceState,
};
use scf_runtime::{HttpClient, Resolver, WasmFactory};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, pki_types::PrivatePkcs8KeyDer},
};

use crate::{
    support::call,
    wasm::guest,
    world::{Ticking, builder},
};

/// A server on the loopback that gives every request the same answer and keeps what it was sent.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::start(answer.into(), None).await
    }

    async fn start(answer: Vec<u8>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(Mutex::default()), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn({
            let (requests, connections) = (Arc::clone(&requests), Arc::clone(&connections));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, Ordering::Relaxed);
                    let (requests, answer, tls) = (Arc::clone(&requests), answer.clone(), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => serve(stream, &requests, &answer).await,
                            Some(tls) => serve(tls.accept(stream).await?, &requests, &answer).await,
                        }
                    });
                }
            }
        });
        Self { address, requests, connections, task }
    }

    fn grant(&self, host: &str, private: bool) -> HttpGrant {
        HttpGrant { scheme: "http".into(), host: host.into(), port: Some(self.address.port()), private }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a request, its body too if it says how long it is, and answers.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: &Mutex<Vec<String>>,
    answer: &[u8],
) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            if body.len() >= length.unwrap_or(0) && (!head.contains("chunked") || body.ends_with("0\r\n\r\n")) {
                break;
            }
        }
        match stream.read(&mut buffer).await? {
            0 => break,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
    if answer.is_empty() {
        // Says nothing until the other side has had enough.
        while stream.read(&mut buffer).await? > 0 {}
        return Ok(());
    }
    stream.write_all(answer).await?;
    stream.shutdown().await
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Gives one answer after the other, the last one for good.
#[derive(Debug)]
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect());
        Arc::new(Self { answers: answers.collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[asked.min(self.answers.len() - 1)].clone())
    }
}

fn factory(client: HttpClient) -> WasmFactory {
    builder().http(client).build().unwrap()
}

fn fetch(http: impl IntoIterator<Item = HttpGrant>) -> Function {
    guest("fetch", "fetch").grants(Grants { http: http.into_iter().collect(), ..Grants::default() })
}

/// What the guest says of each request.
async fn fetched_by(client: HttpClient, function: &Function, requests: &[&str]) -> Vec<Result<String, String>> {
    let prepared = factory(client).prepare(function).await.unwrap();
    let mut answers = Vec::new();
    for request in requests {
        let call = call(function, Ticking::new());
        let reply = prepared.instantiate().await.unwrap().invoke(&call, (*request).to_owned().into()).await;
        answers.push(match reply {
            Ok(reply) => Ok(String::from_utf8_lossy(&reply.payload.bytes).into_owned()),
            Err(InvokeError::Refused { message, .. }) => Err(message),
            Err(other) => panic!("{other}"),
        });
    }
    answers
}

async fn fetched(function: &Function, request: &str) -> Result<String, String> {
    fetched_by(HttpClient::new(), function, &[request]).await.remove(0)
}

fn is(answer: &Result<String, String>, error: &str) -> bool {
    answer.as_ref().is_err_and(|message| message == error || message.starts_with(&format!("{error}(")))
}

#[tokio::test]
async fn a_request_belongs_to_the_trace_of_its_call_unless_the_guest_says_otherwise() {
    let server = Server::answering(ok("hello")).await;
    let function = fetch([server.grant("127.0.0.1", true)]);
    let prepared = factory(HttpClient::new()).prepare(&function).await.unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let other = parent.replace('4', "5");
    let mut call = call(&function, Ticking::new());
    call.trace = Some(parent.parse::<TraceContext>().unwrap().with_state(TraceState::of(["a=1"])));
    for (given, sent) in [
        ("", format!("traceparent: {parent}\r\ntracestate: a=1\r\n")),
        (&*format!(" traceparent={other}"), format!("traceparent: {other}\r\n")),
    ] {
        let request = format!("GET http 127.0.0.1:{} /{given}\n", server.port());
        prepared.instantiate().await.unwrap().invoke(&call, request.into()).await.unwrap();
        let request = server.requests().pop().unwrap();
        assert!(request.contains(&sent), "{request}");
        assert_eq!(
            (request.matches("traceparent").count(), request.matches("tracestate").count()),
            (1, sent.matches("tracestate").count())
        );
    }
}

#[tokio::test]
async fn a_granted_origin_is_reached() {
    let server = Server::answering(ok("hello")).await;
    let function = fetch([server.grant("127.0.0.1", true)]);
    let request = format!("POST http 127.0.0.1:{} /path?q=1 x-mark=7\nbody", server.port());
    assert_eq!(fetched(&function, &request).await.as_deref(), Ok("200 hello"));
    let request = server.requests().remove(0).to_lowercase();
    assert!(request.starts_with("post /path?q=1 http/1.1\r\n"), "{request}");
    for part in [&format!("host: 127.0.0.1:{}\r\n", server.port()), "x-mark: 7\r\n", "body"] {
        assert!(request.contains(part), "{request}");
    }
    assert_eq!(request.matches("host:").count(), 1);
}

#[tokio::test]
async fn an_origin_that_is_not_granted_is_denied_and_not_connected_to() {
    let server = Server::answering(ok("hello")).await;
    let port = server.port();
    let granted = fetch([server.grant("example.org", true)]);
    for request in [
        format!("GET http 127.0.0.1:{port} /"),
        "GET http example.org /".into(),
        format!("GET https example.org:{port} /"),
        format!("GET http www.example.org:{port} /"),
    ] {
        let answer = fetched(&granted, &request).await;
        assert!(is(&answer, "ErrorCode::HttpRequestDenied"), "{request}: {answer:?}");
    }
    let answer = fetched(&fetch([]), &format!("GET http 127.0.0.1:{port} /")).await;
    assert!(
        is(&answer, "ErrorCode::HttpRequestDenied"),
        "a component that is granted nothing is deployed all the same: {answer:?}"
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn private_addresses_are_not_reached_unless_the_grant_says_so() {
    let server = Server::answering(ok("hello")).await;
    let port = server.port();
    let grants = || ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254"].map(|host| server.grant(host, false));
    for host in ["127.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "[::1]", "10.0.0.1", "169.254.169.254"] {
        let answer = fetched(&fetch(grants()), &format!("GET http {host}:{port} /")).await;
        assert!(is(&answer, "ErrorCode::DestinationIpProhibited"), "{host}: {answer:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_can_be_read_as_another_host_is_no_host() {
    let server = Server::answering(ok("hello")).await;
    let port = server.port();
    let function = fetch([server.grant("127.0.0.1", true), server.grant("*.example", true)]);
    for authority in ["2130706433", "0x7f.0.0.1", "127.1", "0177.0.0.1", "user@127.0.0.1", "a.example@127.0.0.1"] {
        let answer = fetched(&function, &format!("GET http {authority}:{port} /")).await;
        assert!(is(&answer, "ErrorCode::HttpRequestUriInvalid"), "{authority}: {answer:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_name_is_resolved_once_for_a_request_and_that_address_is_what_is_checked() {
    let server = Server::answering(ok("hello")).await;
    let request = format!("GET http site.example:{} /", server.port());
    // As an attacker who is asked twice would have it: first an address that is checked, then another.
    let rebinding = Scripted::new(&[&["8.8.8.8"], &["127.0.0.1"]]);
    rebinding.resolve("").await.unwrap();
    let client = || HttpClient::new().resolver(Arc::clone(&rebinding) as Arc<dyn Resolver>);
    let answers = fetched_by(client(), &fetch([server.grant("site.example", false)]), &[&request, &request]).await;
    assert!(answers.iter().all(|answer| is(answer, "ErrorCode::DestinationIpProhibited")), "{answers:?}");
    assert_eq!((server.connections(), rebinding.asked.load(Ordering::Relaxed)), (0, 3));
    let answers = fetched_by(client(), &fetch([server.grant("site.example", true)]), &[&request]).await;
    assert_eq!(answers, [Ok("200 hello".into())]);
    assert_eq!((server.connections(), rebinding.asked.load(Ordering::Relaxed)), (1, 4));
    let host = format!("host: site.example:{}\r\n", server.port());
    assert!(server.requests()[0].to_lowercase().contains(&host), "{:?}", server.requests());
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_an_error_of_its_own() {
    let server = Server::answering(ok("hello")).await;
    let request = format!("GET http site.example:{} /", server.port());
    let client = HttpClient::new().resolver(Scripted::new(&[&[]]));
    let answers = fetched_by(client, &fetch([server.grant("site.example", true)]), &[&request]).await;
    assert!(is(&answers[0], "ErrorCode::DestinationNotFound"), "{answers:?}");
}

#[tokio::test]
async fn a_redirect_is_the_guests_to_follow_and_checked_again() {
    let secret = Server::answering(ok("secret")).await;
    let location = format!("http://127.0.0.1:{}/", secret.port());
    let server =
        Server::answering(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")).await;
    let function = fetch([server.grant("127.0.0.1", true)]);
    let first = fetched(&function, &format!("GET http 127.0.0.1:{} /", server.port())).await;
    assert_eq!(first.as_deref(), Ok("302 "));
    let second = fetched(&function, &format!("GET http 127.0.0.1:{} /", secret.port())).await;
    assert!(is(&second, "ErrorCode::HttpRequestDenied"), "{second:?}");
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn headers_that_decide_where_a_message_ends_or_goes_are_not_the_guests() {
    let server = Server::answering(ok("hello")).await;
    let (function, port) = (fetch([server.grant("127.0.0.1", true)]), server.port());
    for header in ["host=evil.example", "transfer-encoding=chunked", "connection=upgrade", "upgrade=x"] {
        let answer = fetched(&function, &format!("GET http 127.0.0.1:{port} / {header}")).await;
        assert!(is(&answer, "header HeaderError::Forbidden"), "{header}: {answer:?}");
    }
    for (request, error) in [
        ("POST http HOST / content-length=5 content-length=6\nhello", ""),
        ("GET http HOST / content-length=5", "ErrorCode::HttpRequestBodySize"),
        ("CONNECT http HOST /", "ErrorCode::HttpRequestMethodInvalid"),
        ("TRACE http HOST /", "ErrorCode::HttpRequestMethodInvalid"),
    ] {
        let request = request.replace("HOST", &format!("127.0.0.1:{port}"));
        let answer = fetched(&function, &request).await;
        assert!(answer.is_err() && (error.is_empty() || is(&answer, error)), "{request}: {answer:?}");
    }
    assert_eq!(server.connections(), 0);
    let answer = fetched(&function, &format!("GET http 127.0.0.1:{port} / te=trailers expect=100-continue")).await;
    assert_eq!(answer.as_deref(), Ok("200 hello"));
    let sent = server.requests().remove(0).to_lowercase();
    assert!(!sent.contains("te:") && !sent.contains("expect:"), "{sent}");
}

#[tokio::test]
async fn a_body_over_the_payload_limit_breaks_off() {
    let limits = Limits { payload: ByteSize::from_kib(64), ..Limits::default() };
    let long = "x".repeat((64 << 10) + 1);
    let chunked =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    for answer in [ok(&long), chunked] {
        let server = Server::answering(answer).await;
        let function = fetch([server.grant("127.0.0.1", true)]).limits(limits);
        let answer = fetched(&function, &format!("GET http 127.0.0.1:{} /", server.port())).await;
        // wasmtime gives a body's error as text.
        let as_text = Err("HTTP response body size exceeds limit".to_owned());
        assert!(is(&answer, "ErrorCode::HttpResponseBodySize") || answer == as_text, "{answer:?}");
    }
    let server = Server::answering(ok("hello")).await;
    let function = fetch([server.grant("127.0.0.1", true)]).limits(limits);
    for header in ["", " content-length=65537"] {
        let answer = fetched(&function, &format!("POST http 127.0.0.1:{} /{header}\n{long}", server.port())).await;
        assert!(is(&answer, "ErrorCode::HttpRequestBodySize"), "{answer:?}");
    }
    let fits = &long[1..];
    let answer = fetched(&function, &format!("POST http 127.0.0.1:{} /\n{fits}", server.port())).await;
    assert_eq!(answer.as_deref(), Ok("200 hello"));
}

#[tokio::test]
async fn a_head_of_a_response_over_the_bound_is_refused() {
    let headers: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(300 << 10));
    for headers in [headers, long] {
        let server = Server::answering(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n")).await;
        let function = fetch([server.grant("127.0.0.1", true)]);
        let answer = fetched(&function, &format!("GET http 127.0.0.1:{} /", server.port())).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_waited_for_until_the_deadline() {
    let server = Server::answering("").await;
    let function = fetch([server.grant("127.0.0.1", true)]);
    let prepared = factory(HttpClient::new()).prepare(&function).await.unwrap();
    let host = Ticking::new();
    let mut call = call(&function, Arc::clone(&host) as Arc<dyn Host>);
    call.deadline = host.now() + Duration::from_millis(50);
    let request = format!("GET http 127.0.0.1:{} /", server.port());
    let ended = prepared.instantiate().await.unwrap().invoke(&call, request.into()).await.unwrap_err();
    assert!(
        matches!(&ended, InvokeError::Refused { message, .. } if message == "ErrorCode::ConnectionReadTimeout"),
        "{ended}"
    );
}

#[tokio::test]
async fn connections_are_bounded_over_all_functions() {
    let server = Server::answering(ok("hello")).await;
    let request = format!("GET http 127.0.0.1:{} /", server.port());
    let function = fetch([server.grant("127.0.0.1", true)]);
    let none = fetched_by(HttpClient::new().connections(0), &function, &[&request]).await;
    assert!(is(&none[0], "ErrorCode::ConnectionLimitReached"), "{none:?}");
    let one = fetched_by(HttpClient::new().connections(1), &function, &[request.as_str(); 5]).await;
    assert_eq!(one, vec![Ok("200 hello".to_owned()); 5], "a connection that is closed makes room");
}

#[tokio::test]
async fn a_server_that_refuses_the_connection_is_named() {
    let server = Server::answering(ok("hello")).await;
    let (function, request) =
        (fetch([server.grant("127.0.0.1", true)]), format!("GET http 127.0.0.1:{} /", server.port()));
    let listening = server.address;
    drop(server);
    // The listener goes with its task.
    while tokio::net::TcpStream::connect(listening).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(is(&fetched(&function, &request).await, "ErrorCode::ConnectionRefused"));
}

#[tokio::test]
async fn a_server_over_tls_must_prove_its_name() {
    let certified = rcgen::generate_simple_self_signed(["site.example".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    let server = Server::start(ok("hello").into(), Some(TlsAcceptor::from(Arc::new(config)))).await;
    let grant = |host| HttpGrant { scheme: "https".into(), ..server.grant(host, true) };
    let function = fetch([grant("site.example"), grant("other.example")]);
    let client = || HttpClient::new().resolver(Scripted::new(&[&["127.0.0.1"]]));
    let trusting = || client().trust(certified.cert.der().to_vec()).unwrap();
    let request = |host| format!("GET https {host}:{} /", server.port());
    let answers = fetched_by(trusting(), &function, &[&request("site.example"), &request("other.example")]).await;
    assert_eq!(answers[0].as_deref(), Ok("200 hello"));
    assert!(is(&answers[1], "ErrorCode::TlsCertificateError"), "{answers:?}");
    let answers = fetched_by(client(), &function, &[&request("site.example")]).await;
    assert!(is(&answers[0], "ErrorCode::TlsCertificateError"), "{answers:?}");
    assert!(client().trust(b"no certificate".to_vec()).is_err());
}

#[tokio::test]
async fn a_grant_that_is_no_origin_is_refused_when_deployed() {
    for (scheme, host) in [("ftp", "example.org"), ("http", "2130706433"), ("http", "a/b"), ("http", "*")] {
        let grant = HttpGrant { scheme: scheme.into(), host: host.into(), port: None, private: false };
        let refused = factory(HttpClient::new()).prepare(&fetch([grant])).await.unwrap_err();
        assert!(
            matches!(&refused, PrepareError::Grant { grant, .. } if *grant == format!("http {host:?}")),
            "{refused}"
        );
    }
}
