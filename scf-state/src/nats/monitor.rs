//! What a server tells about itself over HTTP.

use std::{io, time::Duration};

use scf_core::BoxError;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::error::NatsError;

/// More than an answer to `/jsz` has without details of streams.
const LONGEST_ANSWER: u64 = 1 << 20;

/// The monitoring endpoint of one server.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    url: String,
    address: (String, u16),
}

/// How a server stores.
#[derive(Debug, Deserialize)]
pub(super) struct Storing {
    #[serde(rename = "server_id")]
    pub(super) server: String,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
    /// Nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

impl Storing {
    /// How often it syncs; `None`: before it acknowledges.
    pub(super) fn interval(&self) -> Option<Duration> {
        (!self.config.sync_always).then(|| Duration::from_nanos(self.config.sync_interval))
    }
}

impl Monitor {
    pub(super) fn at(text: &str) -> Result<Self, NatsError> {
        let refused = |why: &str| NatsError::Address { url: text.to_owned(), why: why.to_owned() };
        let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        let host = url.host_str().filter(|_| url.scheme() == "http").ok_or_else(|| refused("it is no http://host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { url: text.to_owned(), address: (host, url.port_or_known_default().unwrap_or(80)) })
    }

    /// Asks how the server stores.
    pub(super) async fn storing(&self, patience: Duration) -> Result<Storing, NatsError> {
        let answer = timeout(patience, self.get("/jsz")).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let told = answer.map_err(BoxError::from).and_then(|body| Ok(serde_json::from_slice(&body)?));
        told.map_err(|source| NatsError::Monitor { url: self.url.clone(), source })
    }

    async fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let (host, port) = &self.address;
        let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
        // HTTP 1.0: the answer ends where the connection does.
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        let body = answer.windows(4).position(|end| end == b"\r\n\r\n").map(|at| answer.split_off(at + 4));
        match body {
            Some(body) if answer.starts_with(b"HTTP/1.") && answer.get(9..12) == Some(b"200") => Ok(body),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not 200 with a body")),
        }
    }
}
