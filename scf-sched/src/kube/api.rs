//! What is asked of a cluster's API.

use std::{convert::Infallible, fs, io, path::PathBuf, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, HOST},
};
use hyper_util::rt::TokioIo;
use scf_core::{BoxError, Clock};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::node::{KubeNode, NodeEvent, NodeList};

/// Where a cluster tells its pods of itself.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Nodes of one page.
const PAGE: usize = 500;
/// Bytes of one page, and of one change.
const LARGEST_PAGE: usize = 64 << 20;
const LARGEST_CHANGE: usize = 4 << 20;
/// How long the API is asked to tell of changes; then it is asked again, which shows that it is there.
const WATCH: Duration = Duration::from_secs(25);
/// How long an answer may take, and a watch longer than it was asked for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts that fail: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A cluster's API, of which nodes are read: `list` and `watch` of `nodes`, nothing else.
#[derive(Clone)]
#[must_use]
pub struct KubeApi {
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    token: Option<PathBuf>,
}

/// Something that a cluster's API said, or that it says nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum KubeNews<'a> {
    /// All nodes that there are.
    Listed(&'a [KubeNode]),
    /// What changed since.
    Changed(&'a NodeEvent),
    /// It is there; what changes is heard.
    Heard,
    /// It is not heard; it is asked again after a rest.
    Lost(&'a KubeError),
}

/// Why a cluster's API was not heard.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubeError {
    /// What it is to be reached by can not be read.
    #[error("{path} can not be read")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// Without TLS only this machine is asked.
    #[error("{host} would be asked without TLS: give root certificates, or ask a proxy on this machine")]
    Plaintext {
        /// Where.
        host: String,
    },
    /// It can not be reached.
    #[error("{host}:{port} can not be reached")]
    Unreachable {
        /// Where.
        host: String,
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// It did not answer in time.
    #[error("the cluster's API said nothing for {0:?}")]
    TimedOut(Duration),
    /// It does not do what it is asked: an account that may not list and watch nodes gets 403.
    #[error("the cluster's API answered {status} to {path}")]
    Refused {
        /// What was asked.
        path: String,
        /// What it answered.
        status: u16,
    },
    /// What it said is no answer.
    #[error("the cluster's API said something else than nodes")]
    Unreadable(#[source] BoxError),
    /// What changed since the nodes were listed is not known any more.
    #[error("the cluster's API does not know any more what changed")]
    Expired,
}

impl KubeApi {
    /// The API at a port of this machine, as a proxy offers it that knows who asks: `kubectl proxy`.
    pub fn proxy(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port, tls: None, token: None }
    }

    /// The API at `host`, without certificates and token yet.
    pub fn at(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, tls: None, token: None }
    }

    /// The API of the cluster that this program is a pod of, by the pod's service account.
    ///
    /// # Errors
    /// [`KubeError::File`] where there is none.
    pub fn in_cluster() -> Result<Self, KubeError> {
        let api = Self::at("kubernetes.default.svc", 443).token_file(format!("{ACCOUNT}/token"));
        api.root_certificates(format!("{ACCOUNT}/ca.crt"))
    }

    /// A file with the token to show, read anew for every request, since tokens are renewed.
    pub fn token_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.token = Some(file.into());
        self
    }

    /// A PEM file of the certificate authorities that the API's certificate is of. From then on it is asked over TLS.
    ///
    /// # Errors
    /// [`KubeError::File`] where it has no certificate.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Result<Self, KubeError> {
        let path = file.into();
        let failed = |source: BoxError| KubeError::File { path: path.clone(), source };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&path).map_err(|error| failed(error.into()))? {
            roots.add(certificate.map_err(|error| failed(error.into()))?).map_err(|error| failed(error.into()))?;
        }
        if roots.is_empty() {
            return Err(failed("it has no certificate".into()));
        }
        let config = ClientConfig::builder_with_provider(default_provider().into());
        let config = config.with_safe_default_protocol_versions().map_err(|error| failed(error.into()))?;
        self.tls = Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()).into());
        Ok(self)
    }

    /// Tells `tell` of the cluster's nodes and of every change, until it is dropped. What fails is told and tried again.
    pub async fn follow(&self, clock: &dyn Clock, mut tell: impl FnMut(KubeNews<'_>)) -> Infallible {
        let mut rest = REST.0;
        loop {
            match self.listen(clock, &mut tell, &mut rest).await {
                // It is no failure: a cluster forgets what changed long ago.
                Err(KubeError::Expired) => {}
                Err(error) => tell(KubeNews::Lost(&error)),
                Ok(never) => match never {},
            }
            clock.sleep(rest).await;
            rest = (rest * 2).min(REST.1);
        }
    }

    /// Lists the nodes and hears of changes until something fails.
    async fn listen(
        &self,
        clock: &dyn Clock,
        tell: &mut impl FnMut(KubeNews<'_>),
        rest: &mut Duration,
    ) -> Result<Infallible, KubeError> {
        let (nodes, mut version) = within(clock, PATIENCE, self.list()).await?;
        tell(KubeNews::Listed(&nodes));
        loop {
            let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={}", WATCH.as_secs());
            let asked = self.ask(format!("/api/v1/nodes?{query}&resourceVersion={version}"));
            let (response, _connection) = within(clock, PATIENCE, asked).await?;
            tell(KubeNews::Heard);
            *rest = REST.0;
            let mut changes = Changes { body: response.into_body(), read: Vec::new() };
            while let Some(event) = within(clock, WATCH + PATIENCE, changes.next()).await? {
                match &event {
                    NodeEvent::Error(failure) if failure.code == 410 => return Err(KubeError::Expired),
                    NodeEvent::Error(failure) => return Err(KubeError::Unreadable(failure.message.clone().into())),
                    event => event.version().unwrap_or_default().clone_into(&mut version),
                }
                tell(KubeNews::Changed(&event));
            }
        }
    }

    /// All nodes, and from which version on changes are heard.
    async fn list(&self) -> Result<(Vec<KubeNode>, String), KubeError> {
        let (mut nodes, mut next) = (Vec::new(), String::new());
        loop {
            let (response, _connection) = self.ask(format!("/api/v1/nodes?limit={PAGE}{next}")).await?;
            let page = Limited::new(response.into_body(), LARGEST_PAGE).collect().await;
            let page: NodeList = read(&page.map_err(KubeError::Unreadable)?.to_bytes())?;
            nodes.extend(page.items.unwrap_or_default());
            match page.metadata.next.filter(|next| !next.is_empty()) {
                // It is the API's own word, of which only what a query has may be sent back.
                Some(token) if token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~%=".contains(&byte)) => {
                    next = format!("&continue={token}");
                }
                Some(token) => return Err(KubeError::Unreadable(format!("continue {token:?}").into())),
                None => return Ok((nodes, page.metadata.resource_version)),
            }
        }
    }

    async fn ask(&self, path: String) -> Result<(Response<Incoming>, Connection), KubeError> {
        let mut request = Request::get(&path).header(HOST, &self.host).header(ACCEPT, "application/json");
        if let Some(file) = &self.token {
            let failed = |source: io::Error| KubeError::File { path: file.clone(), source: source.into() };
            let token = fs::read_to_string(file).map_err(failed)?;
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| KubeError::Unreadable(error.into()))?;
        let unreachable =
            |source: BoxError| KubeError::Unreachable { host: self.host.clone(), port: self.port, source };
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.into()))?;
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(request).await.map_err(|error| unreachable(error.into()))?;
        match response.status() {
            StatusCode::OK => Ok((response, connection)),
            StatusCode::GONE => Err(KubeError::Expired),
            status => Err(KubeError::Refused { path, status: status.as_u16() }),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, KubeError> {
        let unreachable =
            |source: BoxError| KubeError::Unreachable { host: self.host.clone(), port: self.port, source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| unreachable(error.into()))?;
        let Some(tls) = &self.tls else {
            // Whoever is on the way would see the token, and change what is said.
            let is_near = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            return if is_near { Ok(Box::new(stream)) } else { Err(KubeError::Plaintext { host: self.host.clone() }) };
        };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| unreachable(error.into()))?;
        Ok(Box::new(tls.connect(name, stream).await.map_err(|error| unreachable(error.into()))?))
    }
}

/// A connection, which ends when it is dropped.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The changes of a watch, a line each.
struct Changes {
    body: Incoming,
    read: Vec<u8>,
}

impl Changes {
    /// The next one; none once the watch is over.
    async fn next(&mut self) -> Result<Option<NodeEvent>, KubeError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return read(&line).map(Some);
            }
            if self.read.len() > LARGEST_CHANGE {
                return Err(KubeError::Unreadable("a change is too large".into()));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| KubeError::Unreadable(error.into()))?;
            self.read.extend(frame.data_ref().map_or(&[][..], |data| data));
        }
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, KubeError> {
    serde_json::from_slice(bytes).map_err(|error| KubeError::Unreadable(error.into()))
}

/// What `asked` gives, if that does not take too long.
async fn within<T>(
    clock: &dyn Clock,
    patience: Duration,
    asked: impl Future<Output = Result<T, KubeError>>,
) -> Result<T, KubeError> {
    tokio::select! {
        biased;
        answer = asked => answer,
        () = clock.sleep(patience) => Err(KubeError::TimedOut(patience)),
    }
}

impl std::fmt::Debug for KubeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, .. } = self;
        f.debug_struct("KubeApi").field("host", host).field("port", port).finish_non_exhaustive()
    }
}
