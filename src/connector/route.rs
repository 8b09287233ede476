//! The way to a service: resolve, check the addresses, connect.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::address;
use crate::service::{Network, Service};

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum RouteError {
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: std::io::Error },
    #[error("{host} leads to {address}, a private address; say `network: private` if that is meant")]
    Private { host: String, address: std::net::IpAddr },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {address}: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("cannot connect to {host} within {wait_ms} ms")]
    Slow { host: String, wait_ms: u128 },
}

#[derive(Debug, Clone)]
pub(super) struct Route {
    host: String,
    port: u16,
    network: Network,
    /// An address in the url is meant as written.
    written: bool,
    pub(super) timeout: Duration,
}

impl Route {
    pub(super) fn new(service: &Service) -> Self {
        let host = service.url.host().to_owned();
        Self {
            written: address::is_written(&host),
            host,
            port: service.url.port(),
            network: service.network,
            timeout: service.connect_timeout.to_std(),
        }
    }

    pub(super) fn slow(&self) -> RouteError {
        RouteError::Slow { host: self.host.clone(), wait_ms: self.timeout.as_millis() }
    }

    /// Refuses a name that leads to an address that it may not lead to: for a client that connects by itself.
    pub(super) async fn check(&self) -> Result<(), RouteError> {
        if self.written {
            return Ok(());
        }
        let all = self.resolved().await?;
        match all.into_iter().find(|address| !address::is_allowed(address.ip(), self.network)) {
            Some(address) => Err(RouteError::Private { host: self.host.clone(), address: address.ip() }),
            None => Ok(()),
        }
    }

    async fn resolved(&self) -> Result<Vec<SocketAddr>, RouteError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        Ok(found.map_err(|source| RouteError::Resolve { host: self.host.clone(), source })?.collect())
    }

    /// Connects to the first address that answers, of those that the service's name may lead to.
    pub(super) async fn connect(&self) -> Result<TcpStream, RouteError> {
        let resolved = self.resolved().await?;
        // An address that swallows packets must leave time for the others.
        let each = self.timeout / u32::try_from(resolved.len().max(1)).unwrap_or(u32::MAX);
        let mut refused = RouteError::NoAddress { host: self.host.clone() };
        for address in resolved {
            if !self.written && !address::is_allowed(address.ip(), self.network) {
                refused = RouteError::Private { host: self.host.clone(), address: address.ip() };
                continue;
            }
            match tokio::time::timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // Nagle's algorithm costs 40 ms on every call; without the option we still work.
                    let _ = tcp.set_nodelay(true);
                    return Ok(tcp);
                }
                Ok(Err(source)) => refused = RouteError::Connect { address, source },
                Err(_) => refused = RouteError::Slow { host: address.to_string(), wait_ms: each.as_millis() },
            }
        }
        Err(refused)
    }
}
