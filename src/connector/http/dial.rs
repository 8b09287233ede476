//! Opens one connection: route, TLS, HTTP handshake.

use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::super::route::{Route, RouteError};
use super::pool::Sender;
use crate::service::Service;
use crate::trust;

/// Headers of an answer go into `$result`, so into the journal: 64 KiB is far beyond any honest answer.
const ANSWER_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("TLS with {host} failed: {source}")]
    Tls { host: String, source: std::io::Error },
    #[error("HTTP with {host} failed: {source}")]
    Handshake { host: String, source: hyper::Error },
}

pub(super) struct Dialer {
    host: String,
    route: Route,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialer {
    pub(super) fn new(service: &Service) -> Result<Self, String> {
        let host = service.url.host().to_owned();
        let tls = match service.url.is_https() {
            false => None,
            true => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| format!("`{host}` cannot be a certificate's name: {error}"))?;
                Some((TlsConnector::from(Arc::new(trust::client(service.ca.as_deref(), &[b"http/1.1"])?)), name))
            }
        };
        Ok(Self { host, route: Route::new(service), tls })
    }

    /// Opens a connection, its driver in a task of its own that ends with it.
    pub(super) async fn dial(&self) -> Result<Sender, DialError> {
        tokio::time::timeout(self.route.timeout, self.open()).await.map_err(|_| self.route.slow())?
    }

    async fn open(&self) -> Result<Sender, DialError> {
        let tcp = self.route.connect().await?;
        match &self.tls {
            None => self.handshake(tcp).await,
            Some((tls, name)) => {
                let stream = tls
                    .connect(name.clone(), tcp)
                    .await
                    .map_err(|source| DialError::Tls { host: self.host.clone(), source })?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Sender, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .max_header_size(ANSWER_HEADER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| DialError::Handshake { host: self.host.clone(), source })?;
        // Its error reaches the call that used it; an idle connection's end is no news.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Sender::new(sender))
    }
}
