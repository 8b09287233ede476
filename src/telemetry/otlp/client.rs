//! Sends export requests to a collector: gRPC (one message each way, HTTP/2) or protocol buffers over HTTP.
//! One connection, kept open; what is not taken comes back as an error and is the caller's to repeat.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::Protocol;

/// A collector says nothing longer than a line.
const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// A collector that does not take a connection at once is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    const fn path(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::Traces, Protocol::Grpc) => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            (Self::Metrics, Protocol::Grpc) => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            (Self::Metrics, Protocol::Http) => "/v1/metrics",
            (Self::Traces, Protocol::Http) => "/v1/traces",
        }
    }
}

/// A collector's address and the connection to it.
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without a slash at its end.
    endpoint: String,
    protocol: Protocol,
}

impl Client {
    /// Makes a client; connects when it is first used.
    ///
    /// # Errors
    /// One line: why the endpoint is none.
    pub fn new(endpoint: &str, protocol: Protocol) -> Result<Self, String> {
        let uri: Uri = endpoint.parse().map_err(|error| format!("{error}"))?;
        if uri.authority().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("it is no http or https address".to_owned());
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http();
        let (connector, http2) = match protocol {
            Protocol::Grpc => (builder.enable_http2().wrap_connector(connector), true),
            Protocol::Http => (builder.enable_http1().wrap_connector(connector), false),
        };
        let mut pool = Pool::builder(TokioExecutor::new());
        pool.pool_timer(TokioTimer::new()).pool_max_idle_per_host(1);
        if http2 {
            pool.http2_only(true);
        }
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Ok(Self { pool: pool.build(connector), endpoint, protocol })
    }

    /// Returns the collector's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends one export request and waits for its answer.
    ///
    /// # Errors
    /// One line: what the collector or the network said.
    pub async fn send(&self, signal: Signal, message: &[u8]) -> Result<(), String> {
        let uri: Uri =
            format!("{}{}", self.endpoint, signal.path(self.protocol)).parse().map_err(|error| format!("{error}"))?;
        let mut request = Request::new(Full::new(self.framed(message)));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        match self.protocol {
            Protocol::Grpc => {
                *request.version_mut() = http::Version::HTTP_2;
                let headers = request.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
            Protocol::Http => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            }
        }
        let answer = self.pool.request(request).await.map_err(|error| chain(&error))?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| error.to_string())?;
        match self.protocol {
            Protocol::Http => Ok(()),
            Protocol::Grpc => {
                // An answer without a message has its status among the headers.
                let trailers = body.trailers().cloned().unwrap_or_default();
                let find = |name: &str| {
                    trailers.get(name).or_else(|| head.headers.get(name)).and_then(|value| value.to_str().ok())
                };
                match find("grpc-status") {
                    Some("0") => Ok(()),
                    Some(code) => Err(format!("gRPC status {code} {}", find("grpc-message").unwrap_or_default())),
                    None => Err("an answer without a gRPC status".to_owned()),
                }
            }
        }
    }

    /// gRPC puts a flag (not compressed) and the length before a message.
    fn framed(&self, message: &[u8]) -> Bytes {
        let mut body = BytesMut::with_capacity(message.len() + 5);
        if self.protocol == Protocol::Grpc {
            body.put_u8(0);
            body.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        }
        body.extend_from_slice(message);
        body.freeze()
    }
}

/// An error with its causes, of which the last says most.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
