//! Names of hosts to addresses.

use std::{fmt::Debug, io, net::IpAddr};

use async_trait::async_trait;

/// Resolves the names of the hosts that functions send requests to: the system's resolver, a site's own, DNS over
/// HTTPS.
#[async_trait]
pub trait Resolver: Debug + Send + Sync + 'static {
    /// The addresses of `host`, which is a name in lower case and no address. Called once for each request;
    /// which of the addresses are connected to is checked after it. An empty answer: there is no such host.
    ///
    /// # Errors
    /// When it cannot be said.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

const _: fn(&dyn Resolver) = |_| {};

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing in it")]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}
