//! Builds the request: our own headers, the author's, the service's sign-in. Every value is parsed,
//! none is inserted raw.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::soap;
use crate::connector::Call;
use crate::connector::sign_in::basic;
use crate::payload::Payload;
use crate::planted;
use crate::service::{Auth, Protocol, Service};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
const CORRELATION_ID: HeaderName = HeaderName::from_static("correlation-id");
const SAGA_RUN: HeaderName = HeaderName::from_static("saga-run");
const SAGA_STEP: HeaderName = HeaderName::from_static("saga-step");
const SAGA_DIRECTION: HeaderName = HeaderName::from_static("saga-direction");
const SAGA_FORWARD_KEY: HeaderName = HeaderName::from_static("saga-forward-key");

/// What frames a message on the wire; an author's value would let one request look like two.
const FRAMING: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "expect",
    "accept-encoding",
];

/// The parts of a message that are the same for every call to a service.
pub(super) struct Head {
    host: HeaderValue,
    auth: Option<(HeaderName, HeaderValue)>,
    accept: &'static str,
    content: &'static str,
}

impl Head {
    pub(super) fn new(service: &Service) -> Result<Self, String> {
        let host = service.url.authority().parse().map_err(|_| "its url's host cannot be sent".to_owned())?;
        let auth = service.auth.as_ref().map(sign_in).transpose()?.flatten();
        let accept = match service.protocol {
            Protocol::Graphql => "application/graphql-response+json, application/json;q=0.9",
            Protocol::Soap => "text/xml",
            Protocol::Http | Protocol::Nats | Protocol::Grpc => "application/json",
        };
        let content = match service.protocol {
            Protocol::Soap => "text/xml; charset=utf-8",
            _ => "application/json",
        };
        Ok(Self { host, auth, accept, content })
    }

    /// Builds the request of one attempt.
    ///
    /// # Errors
    /// One line that says which part cannot be sent. Nothing was.
    pub(super) fn message(&self, service: &Service, call: &Call) -> Result<Request<Full<Bytes>>, String> {
        let mut message = self.plain(service, &call.request)?;
        self.own_headers(message.headers_mut(), call)?;
        Ok(message)
    }

    /// Builds a request that is no call of a saga's.
    ///
    /// # Errors
    /// As [`Self::message`].
    pub(super) fn plain(
        &self,
        service: &Service,
        request: &crate::request::Request,
    ) -> Result<Request<Full<Bytes>>, String> {
        let method = Method::from_bytes(request.method.as_bytes())
            .ok()
            .filter(|method| *method != Method::CONNECT && *method != Method::TRACE)
            .ok_or_else(|| format!("`{}` is no method that a step can use", request.method.escape_debug()))?;
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(ACCEPT, HeaderValue::from_static(self.accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("backstitch/", env!("CARGO_PKG_VERSION"))));
        if request.body.is_some() || service.protocol == Protocol::Soap {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content));
        }
        for (name, value) in &request.headers {
            author_header(&mut headers, name, value)?;
        }
        self.sign_in(&mut headers);
        let body = match &request.body {
            body if service.protocol == Protocol::Soap => Bytes::from(soap::envelope(body.as_ref())?),
            Some(body) => Bytes::from_owner(Text(body.clone())),
            None => Bytes::new(),
        };
        let mut message = Request::new(Full::new(body));
        *message.method_mut() = method;
        *message.uri_mut() = if request.target.starts_with("http") {
            // A link that the service gave, to its next page.
            let shown = request.target.escape_debug();
            let own = service.url.own_link(&request.target);
            target("", &own.ok_or_else(|| format!("the link `{shown}` leads to another server than the service's"))?)?
        } else {
            target(service.url.base(), &request.target)?
        };
        *message.headers_mut() = headers;
        Ok(message)
    }

    /// Inserted last: they stand, whatever the author wrote.
    fn own_headers(&self, headers: &mut HeaderMap, call: &Call) -> Result<(), String> {
        let ours = &call.headers;
        if let Some(key) = &ours.idempotency_key {
            headers.insert(IDEMPOTENCY_KEY, value("Idempotency-Key", key)?);
        }
        headers.insert(TRACEPARENT, value("traceparent", &ours.trace.traceparent())?);
        headers.remove(TRACESTATE);
        // Others wrote it: one that cannot be sent is left out, the trace goes on without it.
        if let Some(state) = ours.trace.tracestate.as_deref().and_then(ascii) {
            headers.insert(TRACESTATE, state);
        }
        // An author's own `baggage` stands unless the trace brings one.
        if let Some(baggage) = ours.trace.baggage.as_deref().and_then(ascii) {
            headers.insert(BAGGAGE, baggage);
        }
        headers.insert(CORRELATION_ID, lenient(&ours.correlation_id));
        headers.insert(SAGA_RUN, value("Saga-Run", &ours.run)?);
        headers.insert(SAGA_STEP, value("Saga-Step", &ours.step)?);
        headers.insert(SAGA_DIRECTION, HeaderValue::from_static(ours.direction.as_str()));
        headers.remove(SAGA_FORWARD_KEY);
        if let Some(key) = &ours.forward_key {
            headers.insert(SAGA_FORWARD_KEY, value("Saga-Forward-Key", key)?);
        }
        self.sign_in(headers);
        Ok(())
    }

    fn sign_in(&self, headers: &mut HeaderMap) {
        if let Some((name, value)) = &self.auth {
            if planted::is("sign_in_is_logged") {
                tracing::debug!(?name, value = ?value.to_str(), "signs in");
            }
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(HOST, self.host.clone());
    }
}

/// Returns what never changes; none where a token is fetched.
fn sign_in(auth: &Auth) -> Result<Option<(HeaderName, HeaderValue)>, String> {
    let (name, text) = match auth {
        Auth::Bearer(token) => (AUTHORIZATION, format!("Bearer {}", token.expose())),
        Auth::Basic { username, password } => (AUTHORIZATION, basic(username, password)?),
        Auth::ApiKey { header, value } => {
            let name = HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| format!("`auth.api_key.header`: `{header}` is no header name"))?;
            (name, value.expose().clone())
        }
        Auth::OAuth2(_) => return Ok(None),
    };
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| "its secret holds characters that no header can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(Some((name, value)))
}

fn author_header(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{}` is no header name", name.escape_debug()))?;
    if FRAMING.contains(&parsed.as_str()) {
        return Err(format!("the header `{name}` is not a step's to set"));
    }
    headers.insert(parsed, value(name, text)?);
    Ok(())
}

fn value(name: &str, text: &str) -> Result<HeaderValue, String> {
    ascii(text).ok_or_else(|| format!("the header `{name}` holds a character that cannot be sent; percent-encode it"))
}

/// Makes a value of any text, percent-encoding what cannot be sent: a publisher's correlation id must
/// not stop a call.
fn lenient(text: &str) -> HeaderValue {
    const REST: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    ascii(text)
        .or_else(|| ascii(&percent_encoding::utf8_percent_encode(text, REST).to_string()))
        .unwrap_or_else(|| HeaderValue::from_static(""))
}

/// Visible ASCII, space and tab: what every server reads alike.
fn ascii(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|_| text.is_ascii())
}

/// Appends a call's path to the service's own.
fn target(base: &str, target: &str) -> Result<Uri, String> {
    // Shown with its control characters escaped: a message is one line.
    let shown = target.escape_debug();
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if !(target.is_empty() || target.starts_with(['/', '?'])) {
        return Err(format!("the path `{shown}` must begin with `/`"));
    }
    if target.contains('#') {
        return Err(format!("the path `{shown}` holds a `#`; write %23"));
    }
    let dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if path.split('/').any(dots) {
        // A value from data must not climb out of the path that the author wrote.
        return Err(format!("the path `{shown}` holds a `.` or `..` segment"));
    }
    let slash = if base.is_empty() && path.is_empty() { "/" } else { "" };
    let whole = format!("{base}{slash}{target}");
    whole.parse().map_err(|error| format!("the path `{shown}` cannot be sent: {error}"))
}

/// A body sent from where it lies.
struct Text(Payload);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.text().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let rows: &[(&str, &str, &str, Option<&str>)] = &[
            ("plain", "", "/charges", Some("/charges")),
            ("own path", "/v1", "/charges?a=1", Some("/v1/charges?a=1")),
            ("nothing", "", "", Some("/")),
            ("query only", "", "?a=1", Some("/?a=1")),
            ("query only, own path", "/v1", "?a=1", Some("/v1?a=1")),
            ("another host", "", "//evil.example/x", Some("//evil.example/x")),
            ("no slash", "", "charges", None),
            ("no slash joins hosts", "", "@evil.example", None),
            ("climbs", "/v1", "/../admin", None),
            ("climbs, encoded", "/v1", "/%2E%2e/admin", None),
            ("fragment", "", "/a#b", None),
            ("new line", "", "/a\r\nX: 1", None),
            ("space", "", "/a b", None),
        ];
        for (why, base, path, expected) in rows {
            let got = target(base, path).ok();
            assert_eq!(got.as_ref().map(ToString::to_string).as_deref(), *expected, "{why}");
            assert!(got.is_none_or(|uri| uri.host().is_none()), "{why}: only a path");
        }
    }

    #[test]
    fn links_stay_with_their_service() {
        let url = crate::service::ServiceUrl::parse("http://shop.example:8080/v1").unwrap();
        for (why, link, own) in [
            ("its own", "http://shop.example:8080/v1/orders?page=2", Some("/v1/orders?page=2")),
            ("another path", "http://SHOP.example:8080/", Some("/")),
            ("another port", "http://shop.example/v1", None),
            ("another scheme", "https://shop.example:8080/v1", None),
            ("another host", "http://evil.example:8080/v1", None),
            ("a user in front", "http://shop.example:8080@evil.example/v1", None),
            ("no address", "http:shop", None),
        ] {
            assert_eq!(url.own_link(link).as_deref(), own, "{why}");
        }
    }

    #[test]
    fn a_correlation_id_is_always_sendable() {
        for (text, expected) in [("A-1", "A-1"), ("100%", "100%"), ("ü", "%C3%BC"), ("ü\r\n%", "%C3%BC%0D%0A%25")] {
            assert_eq!(lenient(text), expected, "{text:?}");
        }
    }
}
