//! Sends the requests of functions.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use scf_core::BoxError;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName},
    },
};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, RequestOptions, WasiBody, io::TokioIo};

use super::{
    Allow, Resolver, SystemResolver, address,
    allow::Reach,
    body,
    origin::{Host, Origin, Scheme},
};

/// Connections that are open at the same time where the embedder does not say.
const CONNECTIONS: usize = 256;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;
/// Bytes of the head of a response after which no more of it is read; what was on its way may be as much again.
/// And headers in it.
const HEAD: usize = 64 << 10;
const HEADERS: usize = 100;
/// Longest time that the calls of embedders without a deadline wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sends the HTTP requests of functions. Cloning shares its connections' bound.
///
/// Default: the system's resolver, the root certificates of the web, 256 connections at the same time.
#[derive(Clone)]
#[must_use]
pub struct HttpClient {
    resolver: Arc<dyn Resolver>,
    roots: Arc<RootCertStore>,
    connections: Arc<Semaphore>,
}

/// A root certificate is none.
#[derive(Debug, Error)]
#[error("the root certificate is not one")]
#[non_exhaustive]
pub struct TrustError {
    /// What is wrong with it.
    #[source]
    pub source: BoxError,
}

impl HttpClient {
    /// A client with the defaults.
    pub fn new() -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Self { resolver: Arc::new(SystemResolver), roots: Arc::new(roots), connections }
    }

    /// Who resolves names; default the operating system.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Connections that are open at the same time, over all functions; more are refused. Default 256.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        self
    }

    /// Trusts the DER-encoded root certificate `der` in addition to those of the web, as for a site's own servers.
    ///
    /// # Errors
    /// [`TrustError`] when it is not one.
    pub fn trust(mut self, der: impl Into<Vec<u8>>) -> Result<Self, TrustError> {
        let added = Arc::make_mut(&mut self.roots).add(CertificateDer::from(der.into()));
        added.map_err(|error| TrustError { source: error.into() })?;
        Ok(self)
    }

    /// What requests over TLS are sent by: made once for a function.
    pub(crate) fn tls(&self) -> Result<TlsConnector, TrustError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TrustError { source: error.into() })?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

/// A response, and what goes on until its body has come.
pub(crate) type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), HttpError>> + Send>);

/// On what terms a function's requests are sent.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) client: HttpClient,
    pub(crate) tls: TlsConnector,
    pub(crate) allow: Arc<Allow>,
    /// Bytes that the body of a request and of a response have at most, each.
    pub(crate) limit: u64,
}

impl Terms {
    /// Sends `request`, if it is granted, for a call that waits for `patience`. `slot` is held until the
    /// connection is closed.
    pub(crate) async fn send(
        self,
        request: Request<WasiBody>,
        options: RequestOptions,
        patience: Duration,
        slot: OwnedSemaphorePermit,
    ) -> Result<Sent, HttpError> {
        let origin = Origin::of(request.uri()).ok_or(HttpError::HttpRequestUriInvalid)?;
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(HttpError::HttpRequestMethodInvalid);
        }
        let reach = self.allow.reach(&origin).ok_or(HttpError::HttpRequestDenied)?;
        let too_long = Arc::new(AtomicBool::new(false));
        let request = self.clean(request, &origin, &too_long)?;
        let connection = Arc::clone(&self.client.connections).try_acquire_owned();
        let connection = connection.map_err(|_| HttpError::ConnectionLimitReached)?;

        let until = Instant::now() + patience.min(PATIENCE);
        let by =
            |wait: Option<Duration>| wait.and_then(|wait| Instant::now().checked_add(wait)).unwrap_or(until).min(until);
        let connecting = by(options.connect_timeout);
        let addresses = timeout_at(connecting, self.resolve(&origin, reach));
        let addresses = addresses.await.map_err(|_| HttpError::DnsTimeout)??;
        let connected = timeout_at(connecting, self.connect(&origin, &addresses));
        let stream = connected.await.map_err(|_| HttpError::ConnectionTimeout)??;

        let mut http1 = http1::Builder::new();
        http1.max_buf_size(HEAD).max_headers(HEADERS);
        let (mut sender, driver) = http1.handshake(TokioIo::new(stream)).await?;
        let driver: AbortOnDropJoinHandle<Result<(), HttpError>> = spawn(async move {
            let _held = (slot, connection);
            driver.await.map_err(HttpError::from)
        });
        let response = timeout_at(by(options.first_byte_timeout), sender.send_request(request));
        let response = response.await.map_err(|_| HttpError::ConnectionReadTimeout)?.map_err(|error| {
            if too_long.load(Ordering::Relaxed) { HttpError::HttpRequestBodySize(None) } else { error.into() }
        })?;
        let size = http_body::Body::size_hint(response.body()).lower();
        if size > self.limit {
            return Err(HttpError::HttpResponseBodySize(Some(size)));
        }
        let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
        let response = response.map(|body| body::Response::new(body, self.limit, between, until).boxed_unsync());
        Ok((response, Box::new(driver)))
    }

    /// The request as it goes out: to a path of the origin, with the host's own `host`, without what is between
    /// a client and its next hop, and of one length.
    fn clean(
        &self,
        request: Request<WasiBody>,
        origin: &Origin,
        too_long: &Arc<AtomicBool>,
    ) -> Result<Request<body::Request>, HttpError> {
        let (mut parts, body) = request.into_parts();
        for name in &DEFAULT_FORBIDDEN_HEADERS {
            while parts.headers.remove(name).is_some() {}
        }
        for name in [header::TE, header::TRAILER, header::EXPECT] {
            while parts.headers.remove(&name).is_some() {}
        }
        let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
        if let Some(length) = lengths.next() {
            let length = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            let length: u64 = length.and_then(|text| text.parse().ok()).ok_or(HttpError::HttpProtocolError)?;
            if lengths.next().is_some() {
                return Err(HttpError::HttpProtocolError);
            }
            if length > self.limit {
                return Err(HttpError::HttpRequestBodySize(Some(length)));
            }
        }
        let host = HeaderValue::try_from(origin.authority()).map_err(|_| HttpError::HttpRequestUriInvalid)?;
        parts.headers.insert(header::HOST, host);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri =
            Uri::try_from(if path.is_empty() { "/" } else { path }).map_err(|_| HttpError::HttpRequestUriInvalid)?;
        Ok(Request::from_parts(parts, body::Request::new(body, self.limit, Arc::clone(too_long))))
    }

    /// The addresses of the origin that it may be connected to by.
    async fn resolve(&self, origin: &Origin, reach: Reach) -> Result<Vec<IpAddr>, HttpError> {
        let mut addresses = match &origin.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.client.resolver.resolve(name).await.map_err(|error| {
                tracing::debug!(%error, "a name was not resolved");
                HttpError::DnsError { rcode: None, info_code: None }
            })?,
        };
        if addresses.is_empty() {
            return Err(HttpError::DestinationNotFound);
        }
        addresses.iter_mut().for_each(|address| *address = address.to_canonical());
        addresses.retain(|address| reach == Reach::Everywhere || address::is_public(*address));
        addresses.truncate(ADDRESSES);
        if addresses.is_empty() { Err(HttpError::DestinationIpProhibited) } else { Ok(addresses) }
    }

    async fn connect(&self, origin: &Origin, addresses: &[IpAddr]) -> Result<Box<dyn Stream>, HttpError> {
        let mut failed = HttpError::DestinationUnavailable;
        for address in addresses {
            let stream = match TcpStream::connect(SocketAddr::new(*address, origin.port)).await {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failed = HttpError::ConnectionRefused;
                    continue;
                }
                Err(error) => {
                    failed = HttpError::Connect(error);
                    continue;
                }
            };
            // A request is written as a whole; waiting for more gains nothing.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection may be slower");
            }
            if origin.scheme == Scheme::Http {
                return Ok(Box::new(stream));
            }
            let name = match &origin.host {
                Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| HttpError::HttpRequestUriInvalid)?,
                Host::Address(address) => ServerName::IpAddress((*address).into()),
            };
            return match self.tls.connect(name, stream).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(explain_tls(&error)),
            };
        }
        Err(failed)
    }
}

/// What a connection is made of, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

fn explain_tls(error: &io::Error) -> HttpError {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(_)) => HttpError::TlsCertificateError,
        _ => HttpError::TlsProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Mixed;

    #[async_trait::async_trait]
    impl Resolver for Mixed {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(MIXED.map(|address| address.parse().unwrap()).into())
        }
    }

    const MIXED: [&str; 6] = ["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "::1", "2606:4700::1111", "1.1.1.1"];

    #[tokio::test]
    async fn of_the_addresses_of_a_name_only_those_that_are_allowed_are_connected_to() {
        let client = HttpClient::new().resolver(Arc::new(Mixed));
        let tls = client.tls().unwrap();
        let terms = Terms { client, tls, allow: Arc::default(), limit: 0 };
        let origin = Origin::of(&"http://site.example/".parse().unwrap()).unwrap();
        let resolved = async |reach| {
            let addresses = terms.resolve(&origin, reach).await.unwrap();
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(resolved(Reach::Public).await, ["8.8.8.8", "2606:4700::1111", "1.1.1.1"]);
        assert_eq!(resolved(Reach::Everywhere).await, ["127.0.0.1", "8.8.8.8", "10.0.0.1", "::1"]);
    }
}
