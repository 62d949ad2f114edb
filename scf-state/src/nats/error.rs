//! Why a broker cannot be used.

use std::error::Error as _;

use async_nats::{ConnectErrorKind, rustls};
use scf_core::{BoxError, Durability, InvalidName};
use thiserror::Error;

/// Why a broker is not joined, or no state is kept there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// No address was given.
    #[error("no broker address is given")]
    NoAddress,
    /// An address that cannot be used.
    #[error("{url:?} is no address of a broker: {why}")]
    Address {
        /// What was given, without what stands before an `@`.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The fabric's name would not be a token of a subject.
    #[error("the fabric cannot be named so")]
    Fabric(#[from] InvalidName),
    /// The broker is on another machine and the way to it is not encrypted.
    #[error("{host} is not this machine: give its address as tls://, or call allow_plaintext")]
    Plaintext {
        /// The host.
        host: String,
    },
    /// The credentials cannot be read, or are none.
    #[error("the credentials for the broker cannot be used")]
    Credentials(#[source] BoxError),
    /// The broker does not accept the credentials.
    #[error("the broker refuses the credentials")]
    Refused(#[source] async_nats::ConnectError),
    /// No trusted encrypted way was agreed on: another certificate authority, another name, no client certificate, no
    /// TLS on the other side.
    #[error("no TLS connection to the broker is made")]
    Tls(#[source] async_nats::ConnectError),
    /// Nobody answers there.
    #[error("the broker cannot be reached")]
    Unreachable(#[source] async_nats::ConnectError),
    /// The connection that is made in the background is not there yet, or is lost.
    #[error("the broker is not connected to: try again once it is")]
    Away,
    /// The server is older than what SCF rests on.
    #[error("the broker {server} is version {found}, at least {oldest} is needed")]
    TooOld {
        /// Its name.
        server: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        oldest: &'static str,
    },
    /// A monitoring endpoint does not tell what it is asked.
    #[error("the monitoring endpoint {url} does not tell how the broker stores")]
    Monitor {
        /// The endpoint.
        url: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The broker acknowledges before what it stores is on the disk.
    #[error(
        "the broker {server} syncs every {interval:?}: set sync_interval to always, or ask for {:?}",
        Durability::OsBuffered
    )]
    SyncInterval {
        /// Its name.
        server: String,
        /// How often it syncs.
        interval: std::time::Duration,
    },
    /// Whether the broker syncs before it acknowledges is not known.
    #[error(
        "how the broker syncs is not known: name its monitoring endpoints, or ask for {:?}",
        Durability::OsBuffered
    )]
    SyncUnknown,
    /// The broker's messages are too small.
    #[error("the broker takes messages of {found} bytes, at least {least} are needed: set max_payload")]
    SmallPayload {
        /// What it takes.
        found: usize,
        /// What it must take.
        least: usize,
    },
    /// JetStream is off, or not for this account.
    #[error("the broker stores nothing for this account")]
    NoStore(#[source] BoxError),
    /// The stream that is there is not one that this program made.
    #[error("stream {stream} has {what} {found}, not {wanted}")]
    Stream {
        /// The stream.
        stream: String,
        /// Which of its settings.
        what: &'static str,
        /// How it is.
        found: String,
        /// How it should be.
        wanted: String,
    },
    /// A stream cannot be made.
    #[error("stream {stream} cannot be made")]
    Create {
        /// The stream.
        stream: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
}

impl From<async_nats::ConnectError> for NatsError {
    fn from(error: async_nats::ConnectError) -> Self {
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => Self::Refused(error),
            ConnectErrorKind::Authentication => Self::Credentials(error.into()),
            ConnectErrorKind::Tls => Self::Tls(error),
            _ if is_tls(&error) => Self::Tls(error),
            _ => Self::Unreachable(error),
        }
    }
}

/// Whether a handshake failed, which the client reports as one of the socket's errors.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        cause = error.source();
    }
    false
}
