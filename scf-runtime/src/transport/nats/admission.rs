//! How a process joins: at once, or when its broker is there.

use std::{net::IpAddr, sync::Arc, time::Duration};

use async_nats::{ServerInfo, connection::State};
use tokio::{sync::watch, task::JoinSet};

use super::{NatsError, joined::Joined};

/// How often is looked whether the broker is there, or has become one that will do.
const LOOK: Duration = Duration::from_millis(100);

/// Whether a process has joined the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// It has; whether it reaches the broker now the [`Presence`](super::Presence) of the others says.
    Joined,
    /// Not yet: it goes on trying.
    NotJoined {
        /// Why the broker that was reached last will not do; `None`: none was reached.
        why: Option<Arc<NatsError>>,
    },
}

impl Standing {
    /// Whether it has.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        matches!(self, Self::Joined)
    }
}

/// Takes the messages for this process's nodes from the broker that it is connected to, if that will do.
pub(super) async fn admit(joined: &Arc<Joined>, allows_plaintext: bool) -> Result<JoinSet<()>, NatsError> {
    let post = &joined.post;
    if post.client().connection_state() != State::Connected {
        return Err(NatsError::Disconnected);
    }
    let server = post.client().server_info();
    if !allows_plaintext && !server.tls_required && !is_near(&server) {
        return Err(NatsError::PlaintextBroker { server: server.server_name });
    }
    // From here on messages may be said to it.
    post.set_heard(true);
    let first = joined.locals.keys().next().cloned().ok_or(NatsError::NoNode)?;
    let answers = post.answers().await.map_err(|source| NatsError::Subscribe { node: first, source })?;
    // What is dropped with it ends what it started.
    let mut serving = JoinSet::new();
    serving.spawn(Arc::clone(post).deliver(answers));
    for (node, local) in &joined.locals {
        let messages = post.client().subscribe(post.subjects().node(node)).await;
        let messages = messages.map_err(|source| NatsError::Subscribe { node: node.clone(), source })?;
        serving.spawn(Arc::clone(joined).serve(Arc::clone(local), messages));
    }
    for node in joined.locals.keys() {
        // The broker takes what a connection says in order: what comes back was subscribed to.
        joined.confirm(node).await.map_err(|source| NatsError::Unconfirmed { source })?;
    }
    Ok(serving)
}

/// Joins once there is a broker that will do, and serves from then on.
pub(super) async fn admit_later(joined: Arc<Joined>, allows_plaintext: bool, standing: watch::Sender<Standing>) {
    loop {
        if joined.post.client().connection_state() == State::Connected {
            match admit(&joined, allows_plaintext).await {
                Ok(serving) => {
                    standing.send_replace(Standing::Joined);
                    tracing::info!("scf.joined");
                    serving.join_all().await;
                    return;
                }
                Err(error) => {
                    // Nothing is said to it meanwhile.
                    joined.post.set_heard(false);
                    tracing::warn!(%error, "not joined yet");
                    standing.send_replace(Standing::NotJoined { why: Some(Arc::new(error)) });
                }
            }
        }
        joined.clock.sleep(LOOK).await;
    }
}

/// Whether a broker is on this machine: it sees where a connection comes from.
fn is_near(server: &ServerInfo) -> bool {
    server.client_ip.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use scf_core::NodeId;

    use super::*;
    use crate::transport::nats::Nats;

    #[test]
    fn a_broker_is_near_that_sees_its_client_on_the_loopback() {
        let seen = |client_ip: &str| ServerInfo { client_ip: client_ip.to_owned(), ..ServerInfo::default() };
        assert!(["127.0.0.1", "127.8.8.8", "::1"].iter().all(|ip| is_near(&seen(ip))));
        assert!(!["10.0.0.1", "192.168.1.2", "fe80::1", "0.0.0.0", ""].iter().any(|ip| is_near(&seen(ip))));
    }

    #[tokio::test]
    async fn a_client_that_has_not_reached_its_broker_is_told_apart_from_one_in_the_clear() {
        // Nobody listens on the first port.
        let client = async_nats::ConnectOptions::new().retry_on_initial_connect().connect("127.0.0.1:1").await.unwrap();
        let error = Nats::builder(client).node(NodeId::new("a").unwrap()).join().await.unwrap_err();
        assert!(matches!(error, NatsError::Disconnected), "{error}");
    }
}
