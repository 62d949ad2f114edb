//! A broker that was joined.

use std::time::Duration;

use async_nats::{Client, ServerInfo, connection::State};
use scf_core::Name;

use super::{error::NatsError, monitor::Monitor};

/// What SCF rests on: lossless sourcing between leaf nodes, per-message TTL and atomic batches.
pub(super) const OLDEST: (u32, u32, &str) = (2, 14, "2.14");

/// A connection to a fleet's broker, and what was found out about it. Cloning shares the connection.
///
/// What carries calls and what keeps state use the same one: give [`Broker::client`] to the one and the broker itself
/// to [`NatsState`](super::NatsState).
#[derive(Clone, Debug)]
pub struct Broker {
    client: Client,
    fabric: Name,
    syncing: Syncing,
    patience: Duration,
}

/// When the broker's servers sync.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Syncing {
    /// Before they acknowledge, all of those whose monitoring endpoints were named.
    Always,
    /// One of them, at the longest, in intervals.
    Every {
        /// Its name.
        server: String,
        /// How often.
        interval: Duration,
    },
    /// No monitoring endpoint was named, or the broker was not waited for.
    Unknown,
}

impl Broker {
    /// Checks what `client` is connected to.
    pub(super) async fn join(
        client: Client,
        fabric: Name,
        monitors: Vec<Monitor>,
        patience: Duration,
    ) -> Result<Self, NatsError> {
        check_version(&client.server_info())?;
        let mut syncing = if monitors.is_empty() { Syncing::Unknown } else { Syncing::Always };
        for monitor in monitors {
            let storing = monitor.storing(patience).await?;
            let Some(interval) = storing.interval() else { continue };
            if !matches!(&syncing, Syncing::Every { interval: longer, .. } if *longer >= interval) {
                syncing = Syncing::Every { server: storing.server, interval };
            }
        }
        Ok(Self { client, fabric, syncing, patience })
    }

    /// What `client` will be connected to some time.
    pub(super) const fn unchecked(client: Client, fabric: Name, patience: Duration) -> Self {
        Self { client, fabric, syncing: Syncing::Unknown, patience }
    }

    /// Checks the version of the server that it is connected to.
    pub(super) fn check(&self) -> Result<(), NatsError> {
        if self.is_connected() { check_version(&self.client.server_info()) } else { Err(NatsError::Away) }
    }

    /// The connection, for what carries calls.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The fabric's name, with which every subject begins.
    #[must_use]
    pub const fn fabric(&self) -> &Name {
        &self.fabric
    }

    /// When its servers sync, as far as they were asked.
    #[must_use]
    pub const fn syncing(&self) -> &Syncing {
        &self.syncing
    }

    /// How long a request may take.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether it can be reached as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

fn check_version(server: &ServerInfo) -> Result<(), NatsError> {
    let mut parts = server.version.trim_start_matches('v').split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found >= (OLDEST.0, OLDEST.1) {
        return Ok(());
    }
    let (server, found) = (server.server_name.clone(), server.version.clone());
    Err(NatsError::TooOld { server, found, oldest: OLDEST.2 })
}
