//! What is known of a service that sagas call: its address, its limits, how we sign in. The words that
//! configuration and connectors share.

use std::sync::Arc;

use crate::openapi::OpenApi;
use crate::protobuf::Descriptors;
use crate::resilience::{CircuitPolicy, Limits, RatePolicy};
use crate::secret::Secret;
use crate::time::Span;

/// Sockets per service: enough for some thousand calls a second at 10 ms, few enough for any service.
pub const SOCKETS_MAX: u32 = 64;
/// An answer lies in the journal and in memory; 1 MiB is far beyond a domain answer.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// A host on any continent answers a SYN within a second; five cover two lost ones.
pub const CONNECT_TIMEOUT: Span = Span::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub url: ServiceUrl,
    pub protocol: Protocol,
    /// One attempt; none: the saga file's defaults.
    pub timeout: Option<Span>,
    pub connect_timeout: Span,
    pub circuit: Option<CircuitPolicy>,
    pub rate: Option<RatePolicy>,
    /// Calls in flight, below `sockets_max`.
    pub concurrency: Option<u32>,
    pub network: Network,
    pub auth: Option<Auth>,
    /// Sockets, and so calls in flight, as one call uses one.
    pub sockets_max: u32,
    pub answer_bytes_max: usize,
    /// Certificates (PEM) trusted beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// What its document says of its answers; only for what follows from it when a saga is loaded.
    pub openapi: Option<Arc<OpenApi>>,
    /// The messages of a gRPC service.
    pub descriptor: Option<Arc<Descriptors>>,
}

impl Service {
    /// Makes a service with every limit at its default.
    #[must_use]
    pub fn at(url: ServiceUrl) -> Self {
        Self {
            protocol: url.protocol(),
            url,
            timeout: None,
            connect_timeout: CONNECT_TIMEOUT,
            circuit: None,
            rate: None,
            concurrency: None,
            network: Network::Public,
            auth: None,
            sockets_max: SOCKETS_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
            ca: None,
            openapi: None,
            descriptor: None,
        }
    }

    /// Returns what the gate before it keeps.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let concurrency = self.concurrency.unwrap_or(self.sockets_max).min(self.sockets_max);
        Limits { circuit: self.circuit, rate: self.rate, concurrency }
    }
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Http,
    /// Documents posted over http, answered with `data` and `errors`.
    Graphql,
    /// Request and reply over NATS.
    Nats,
    Grpc,
    /// SOAP 1.1 over http.
    Soap,
}

impl Protocol {
    /// True where an address that means the other one by itself may have this one: GraphQL and SOAP are spoken over http.
    #[must_use]
    pub fn fits(self, meant: Self) -> bool {
        self == meant || (matches!(self, Self::Graphql | Self::Soap) && meant == Self::Http)
    }

    /// Returns the word of configuration and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Graphql => "graphql",
            Self::Nats => "nats",
            Self::Grpc => "grpc",
            Self::Soap => "soap",
        }
    }
}

/// Where a service's name may lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// To public addresses only. An address written as private is meant, and allowed.
    #[default]
    Public,
    /// To private and loopback addresses too.
    Private,
}

/// How we sign in to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    Bearer(Secret<String>),
    Basic {
        username: String,
        password: Secret<String>,
    },
    ApiKey {
        /// In lower case.
        header: String,
        value: Secret<String>,
    },
    /// A token that is fetched (RFC 6749, section 4.4).
    OAuth2(ClientCredentials),
}

/// Whom to ask for a token, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    pub token_url: ServiceUrl,
    pub client_id: String,
    pub client_secret: Secret<String>,
    pub scopes: Vec<String>,
}

/// An absolute `http`, `https`, `grpc`, `grpcs`, `nats` or `tls` address without user, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUrl {
    uri: http::Uri,
    /// The url's own path without a slash at its end: what a call's path is appended to.
    base: String,
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no address of a service: {reason}; write for example https://pay.example.com or http://127.0.0.1:9101/api"
)]
pub struct ServiceUrlError {
    pub text: String,
    pub reason: String,
}

impl ServiceUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// [`ServiceUrlError`] with the reason.
    pub fn parse(text: &str) -> Result<Self, ServiceUrlError> {
        let refused = |reason: &str| ServiceUrlError { text: text.to_owned(), reason: reason.to_owned() };
        let uri: http::Uri = text.parse().map_err(|error: http::uri::InvalidUri| refused(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http" | "https" | "nats" | "tls" | "grpc" | "grpcs") => {}
            Some(_) => return Err(refused("its scheme is none of http, https, grpc, grpcs, nats and tls")),
            None => return Err(refused("it has no scheme")),
        }
        let authority = uri.authority().ok_or_else(|| refused("it has no host"))?;
        if authority.as_str().contains('@') {
            // Repeats nothing: what stands before the `@` is likely a password.
            return Err(ServiceUrlError {
                text: "…@…".to_owned(),
                reason: "it holds a user or password; use `auth` instead".to_owned(),
            });
        }
        if authority.host().is_empty() {
            return Err(refused("it has no host"));
        }
        if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(refused("its port is not a number from 1 to 65535"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(refused("it has a query or fragment"));
        }
        let base = uri.path().trim_end_matches('/').to_owned();
        if matches!(uri.scheme_str(), Some("nats" | "tls" | "grpc" | "grpcs")) && !base.is_empty() {
            return Err(refused("an address of this scheme has no path"));
        }
        Ok(Self { uri, base })
    }

    /// Returns the path and query of a whole address that has this service's own scheme, host and port.
    #[must_use]
    pub fn own_link(&self, link: &str) -> Option<String> {
        let uri: http::Uri = link.parse().ok()?;
        let port = |uri: &http::Uri| uri.port_u16().unwrap_or_else(|| scheme_port(uri));
        let same = uri.scheme_str()? == self.uri.scheme_str()?
            && uri.host()?.eq_ignore_ascii_case(self.uri.host()?)
            && port(&uri) == port(&self.uri)
            && !uri.authority()?.as_str().contains('@');
        same.then(|| uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned())
    }

    /// Returns the protocol that the scheme stands for, where nothing else is said.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.uri.scheme_str() {
            // As NATS clients write it.
            Some("nats" | "tls") => Protocol::Nats,
            Some("grpc" | "grpcs") => Protocol::Grpc,
            _ => Protocol::Http,
        }
    }

    /// True where it is spoken to over TLS: https, grpcs, tls.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("https" | "grpcs" | "tls"))
    }

    /// True for https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Returns the host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Returns the port, the scheme's own when none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or_else(|| scheme_port(&self.uri))
    }

    /// Returns host and port as written: the `Host` header.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", http::uri::Authority::as_str)
    }

    /// Returns the url's own path, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }
}

fn scheme_port(uri: &http::Uri) -> u16 {
    match uri.scheme_str() {
        Some("https" | "grpcs") => 443,
        Some("nats" | "tls") => 4222,
        _ => 80,
    }
}

impl std::fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.uri.scheme_str().unwrap_or("http"), self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let rows = [
            ("plain", "http://127.0.0.1:9101", Some(("127.0.0.1", 9101, ""))),
            ("own path", "https://pay.example.com/v1/", Some(("pay.example.com", 443, "/v1"))),
            ("IPv6", "http://[::1]:80", Some(("::1", 80, ""))),
            ("IPv6, no port", "http://[::1]", Some(("::1", 80, ""))),
            ("nats", "nats://127.0.0.1", Some(("127.0.0.1", 4222, ""))),
            ("nats with a path", "nats://127.0.0.1/a", None),
            ("no scheme", "pay.example.com", None),
            ("other scheme", "ftp://pay.example.com", None),
            ("password", "http://user:hunter2@pay", None),
            ("query", "http://pay?x=1", None),
            ("fragment", "http://pay/#x", None),
            ("no host", "http://", None),
            ("port out of range", "http://pay:99999", None),
            ("port zero", "http://pay:0", None),
            ("empty", "", None),
        ];
        for (why, text, expected) in rows {
            let got = ServiceUrl::parse(text);
            let seen = got.as_ref().ok().map(|url| (url.host(), url.port(), url.base()));
            assert_eq!(seen, expected, "{why}: {got:?}");
            assert!(!format!("{got:?}").contains("hunter2"), "{why}");
        }
    }
}
