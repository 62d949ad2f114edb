//! Where a fleet's broker is, and how it is joined.

use std::{fmt, io, path::PathBuf, time::Duration};

use async_nats::ConnectOptions;
use scf_core::Name;
use url::{Host, Url};

use super::{broker::Broker, error::NatsError, monitor::Monitor};

/// How long a connection may be silent before the broker is asked whether it is there; of three that are not answered the
/// connection is given up.
const PING: Duration = Duration::from_secs(2);
/// Between attempts to connect again: a node that was cut off is back soon after its link is.
const RETRY: Duration = Duration::from_millis(500);

/// Who joins.
#[derive(Clone)]
#[non_exhaustive]
pub enum NatsCredentials {
    /// The seed of an nkey, an Ed25519 key whose private half never leaves this machine.
    NKey {
        /// The seed, `SU…`.
        seed: String,
    },
    /// The content of a `.creds` file: a JWT and the seed that it was issued for.
    Creds(String),
    /// A `.creds` file.
    CredsFile(PathBuf),
    /// A user with a password.
    UserPassword {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl fmt::Debug for NatsCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NKey { .. } => "NKey(..)",
            Self::Creds(_) => "Creds(..)",
            Self::CredsFile(_) => "CredsFile(..)",
            Self::UserPassword { .. } => "UserPassword(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// How a fleet's broker is joined: NATS 2.14 or newer.
///
/// ```no_run
/// # async fn join() -> Result<(), scf_state::NatsError> {
/// use scf_state::{NatsCredentials, NatsOptions};
///
/// let broker = NatsOptions::new(["tls://hub.plant.example:4222"])
///     .fabric("plant-7")
///     .credentials(NatsCredentials::CredsFile("/etc/scf/edge.creds".into()))
///     .monitor("http://127.0.0.1:8222")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NatsOptions {
    urls: Vec<String>,
    fabric: String,
    credentials: Option<NatsCredentials>,
    roots: Vec<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    plaintext: bool,
    monitors: Vec<String>,
    patience: Duration,
}

impl NatsOptions {
    /// The broker at `urls`, `nats://host:port` or `tls://host:port`: the servers of one cluster, of which any will do.
    /// The fabric is named `scf`, without credentials, certificates by the machine's authorities, with 5 s of patience.
    pub fn new(urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            urls: urls.into_iter().map(Into::into).collect(),
            fabric: "scf".to_owned(),
            credentials: None,
            roots: Vec::new(),
            certificate: None,
            plaintext: false,
            monitors: Vec::new(),
            patience: Duration::from_secs(5),
        }
    }

    /// The fabric's name, a [`Name`]; default `scf`. Every subject and stream begins with it, so that fabrics share a
    /// broker, or an account of one, unseen by each other.
    pub fn fabric(mut self, name: impl Into<String>) -> Self {
        self.fabric = name.into();
        self
    }

    /// Who joins; default nobody in particular.
    pub fn credentials(mut self, credentials: NatsCredentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// A PEM file of certificate authorities that are trusted in place of the machine's.
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.roots.push(file.into());
        self
    }

    /// PEM files of the certificate that this node shows, and of its key; default none.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Lets `nats://` go to other machines, where whoever is on the way reads and changes what is sent. Default: it is
    /// refused.
    pub fn allow_plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    /// The monitoring endpoint of a server of the broker, `http://host:port`; one call for each server. It is the only
    /// place where a server says whether it syncs before it acknowledges, so without it nothing counts as durable.
    pub fn monitor(mut self, url: impl Into<String>) -> Self {
        self.monitors.push(url.into());
        self
    }

    /// How long a connection, and then each request, may take; default 5 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Connects, and checks the broker.
    ///
    /// # Errors
    /// [`NatsError`].
    pub async fn connect(self) -> Result<Broker, NatsError> {
        let Ready { options, urls, fabric, monitors, patience } = self.ready().await?;
        Broker::join(options.connect(urls).await?, fabric, monitors, patience).await
    }

    /// Does not wait for the broker, for a process that starts while it is away: the connection is made when it is
    /// there, and goes on being tried until then. What would be found out of the broker is not: its version is checked
    /// when state is opened there, and how it syncs stays unknown.
    ///
    /// # Errors
    /// [`NatsError`], of what is wrong here: addresses, names, credentials.
    pub async fn connect_in_background(self) -> Result<Broker, NatsError> {
        let Ready { options, urls, fabric, patience, .. } = self.ready().await?;
        let client = options.retry_on_initial_connect().connect(urls).await?;
        Ok(Broker::unchecked(client, fabric, patience))
    }

    async fn ready(self) -> Result<Ready, NatsError> {
        let fabric = Name::new(&self.fabric)?;
        if self.urls.is_empty() {
            return Err(NatsError::NoAddress);
        }
        let addresses = self.urls.iter().map(|url| address(url)).collect::<Result<Vec<_>, _>>()?;
        let encrypted = addresses.iter().all(|url| url.scheme() == "tls");
        if !self.plaintext
            && let Some(open) = addresses.iter().find(|url| url.scheme() != "tls" && !is_loopback(url))
        {
            return Err(NatsError::Plaintext { host: open.host_str().unwrap_or_default().to_owned() });
        }
        let monitors = self.monitors.iter().map(|url| Monitor::at(url)).collect::<Result<Vec<_>, _>>()?;
        let mut options = ConnectOptions::new()
            .name("scf")
            .connection_timeout(self.patience)
            .request_timeout(Some(self.patience))
            .ping_interval(PING)
            .reconnect_delay_callback(|attempts| if attempts > 1 { RETRY } else { Duration::ZERO })
            .require_tls(encrypted);
        if !encrypted && !self.plaintext {
            // They would be told of in plain text, and be anywhere.
            options = options.ignore_discovered_servers();
        }
        for file in self.roots {
            options = options.add_root_certificates(file);
        }
        if let Some((certificate, key)) = self.certificate {
            options = options.add_client_certificate(certificate, key);
        }
        let options = match self.credentials {
            Some(credentials) => authenticated(options, credentials).await.map_err(unreadable)?,
            None => options,
        };
        let urls: Vec<String> = addresses.into_iter().map(String::from).collect();
        Ok(Ready { options, urls, fabric, monitors, patience: self.patience })
    }
}

/// What was asked for, checked.
struct Ready {
    options: ConnectOptions,
    urls: Vec<String>,
    fabric: Name,
    monitors: Vec<Monitor>,
    patience: Duration,
}

fn unreadable(error: io::Error) -> NatsError {
    NatsError::Credentials(error.into())
}

async fn authenticated(options: ConnectOptions, credentials: NatsCredentials) -> io::Result<ConnectOptions> {
    Ok(match credentials {
        NatsCredentials::NKey { seed } => options.nkey(seed),
        NatsCredentials::Creds(text) => options.credentials(&text)?,
        NatsCredentials::CredsFile(path) => options.credentials_file(path).await?,
        NatsCredentials::UserPassword { user, password } => options.user_and_password(user, password),
        NatsCredentials::Token(token) => options.token(token),
    })
}

/// Takes an address that has a scheme of ours and a host, and no credentials.
fn address(text: &str) -> Result<Url, NatsError> {
    let shown = text.rsplit('@').next().unwrap_or_default().to_owned();
    let refused = |why: &str| NatsError::Address { url: shown.clone(), why: why.to_owned() };
    let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
    if !["nats", "tls"].contains(&url.scheme()) {
        return Err(refused("it begins with neither nats:// nor tls://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refused("it names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it has credentials; give them to NatsOptions::credentials"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // The parser takes the hosts of schemes that are not of the web for names, addresses among them.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_a_host_and_no_credentials() {
        for url in
            ["", "hub", "hub:4222", "http://hub", "ws://hub", "nats://", "nats://edge:secret@hub", "nats://edge@hub"]
        {
            let error = address(url).unwrap_err();
            assert!(matches!(error, NatsError::Address { .. }), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let near = ["nats://127.0.0.1:4222", "nats://127.8.8.8", "nats://localhost", "nats://[::1]:1"];
        assert!(near.iter().all(|url| is_loopback(&address(url).unwrap())));
        let far =
            ["nats://10.0.0.1", "nats://hub", "nats://127.0.0.1.example.com", "nats://[fe80::1]", "nats://0.0.0.0"];
        assert!(!far.iter().any(|url| is_loopback(&address(url).unwrap())));
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = NatsCredentials::UserPassword { user: "edge".into(), password: "secret".into() };
        let printed = format!("{:?}", NatsOptions::new(["nats://hub"]).credentials(credentials));
        assert!(printed.contains("UserPassword(..)") && !printed.contains("secret"), "{printed}");
    }
}
