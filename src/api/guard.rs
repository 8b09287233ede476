//! Who may ask, and how often. Health is open, webhooks bring a signature of their own; all else needs the token where
//! there is one, and comes from no foreign web page where there is none.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use subtle::ConstantTimeEq;

use super::problem::ApiError;
use crate::resilience::{Bucket, RatePolicy};
use crate::secret::Secret;
use crate::time::{Clock, Span};

/// Open without a token: probes of an orchestrator carry none, and the answers say nothing of runs.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Each delivery is checked by its signature.
const WEBHOOKS: &str = "/webhooks/";

/// What stands before the token.
const SCHEME: &[u8] = b"bearer ";

/// What a request must pass before any route sees it.
pub struct Guard {
    token: Option<Secret<String>>,
    bucket: Mutex<Bucket>,
    /// Apart: whoever floods the open door shuts nobody else out.
    webhooks: Mutex<Bucket>,
    clock: Arc<dyn Clock>,
}

impl Guard {
    /// Makes a guard with a token, if any, and a rate for all clients together.
    pub fn new(token: Option<Secret<String>>, rate: RatePolicy, clock: Arc<dyn Clock>) -> Self {
        let bucket = || Mutex::new(Bucket::new(rate, clock.now()));
        Self { token, bucket: bucket(), webhooks: bucket(), clock }
    }

    fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        if OPEN.contains(&path) {
            return Ok(());
        }
        let bucket = match &self.token {
            _ if path.starts_with(WEBHOOKS) => &self.webhooks,
            Some(token) => check_token(token, headers).map(|()| &self.bucket)?,
            None => check_local(headers).map(|()| &self.bucket)?,
        };
        let now = self.clock.now();
        let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        taken.map_err(|next| too_many(next.since(now)))
    }
}

/// Lets a request pass or answers for the routes.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_token(token: &Secret<String>, headers: &HeaderMap) -> Result<(), ApiError> {
    let unauthorized = |detail: &str, challenge: &'static str| {
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "the API's token is needed")
            .detail(detail)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return unauthorized("send `Authorization: Bearer TOKEN`", "Bearer");
    };
    // RFC 9110 section 11.1: the scheme's case does not matter.
    let (scheme, given) = value.as_bytes().split_at(value.len().min(SCHEME.len()));
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return unauthorized("send `Authorization: Bearer TOKEN`", "Bearer");
    }
    let given = given.trim_ascii();
    // The length alone may be told by the time this takes.
    if bool::from(given.ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    unauthorized("this is not the token", "Bearer error=\"invalid_token\"")
}

/// Without a token, loopback is the fence, and a browser on this machine stands inside it: a request
/// must name a local host (against DNS rebinding) and, if it names an origin, the same one.
fn check_local(headers: &HeaderMap) -> Result<(), ApiError> {
    let forbidden = |detail: String| {
        Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", "this request comes from elsewhere").detail(detail))
    };
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if !is_local(host) {
        return forbidden(format!(
            "`Host: {host}` is not this machine; configure `api.token` to be reached by other names"
        ));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            forbidden(format!("a page of `{origin}` may not use this API; configure `api.token` and send it"))
        }
        _ => Ok(()),
    }
}

/// True for `localhost` and loopback addresses, with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn too_many(wait: Span) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "requests come too fast")
        .detail("the limit is `api.rate`, for all clients together, and as much again for webhooks")
        .retry_after(wait.0.div_ceil(1_000).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Moved(AtomicU64);
    impl Clock for Moved {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn make(token: Option<&str>, rate: &str) -> (Guard, Arc<Moved>) {
        let clock = Arc::new(Moved(AtomicU64::new(1_000_000)));
        let token = token.map(|token| Secret::new(token.to_owned()));
        (Guard::new(token, RatePolicy::parse(rate).unwrap(), clock.clone()), clock)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    type Headers<'a> = &'a [(&'static str, &'a str)];

    #[test]
    fn tokens() {
        let (guard, _) = make(Some("s3cret"), "1000/s");
        let rows: &[(&str, &str, Headers, Option<u16>)] = &[
            ("the token", "/api/v1/runs", &[("authorization", "Bearer s3cret")], None),
            ("scheme in lower case", "/api/v1/runs", &[("authorization", "bearer s3cret")], None),
            ("none", "/api/v1/runs", &[], Some(401)),
            ("a wrong one", "/api/v1/runs", &[("authorization", "Bearer s3cres")], Some(401)),
            ("a longer one", "/api/v1/runs", &[("authorization", "Bearer s3cret1")], Some(401)),
            ("another scheme", "/api/v1/runs", &[("authorization", "Basic s3cret")], Some(401)),
            ("an empty one", "/api/v1/runs", &[("authorization", "Bearer ")], Some(401)),
            ("health is open", "/healthz", &[], None),
            ("readiness is open", "/readyz", &[], None),
            ("metrics are not", "/metrics", &[], Some(401)),
            ("webhooks have signatures", "/webhooks/shop", &[], None),
            ("a path that looks like a webhook", "/webhooks", &[], Some(401)),
            ("a path that looks like health", "/healthz/../api/v1/runs", &[], Some(401)),
            (
                "any host with the token",
                "/metrics",
                &[("authorization", "Bearer s3cret"), ("host", "saga.example")],
                None,
            ),
        ];
        for (why, path, given, refused) in rows {
            let status = guard.check(path, &headers(given)).err().map(|error| error.details().status);
            assert_eq!(status, *refused, "{why}");
        }
    }

    #[test]
    fn without_a_token_only_this_machine_asks() {
        let (guard, _) = make(None, "1000/s");
        let rows: &[(&str, Headers, bool)] = &[
            ("an address", &[("host", "127.0.0.1:7070")], true),
            ("IPv6", &[("host", "[::1]:7070")], true),
            ("a name", &[("host", "localhost")], true),
            ("no host", &[], false),
            ("DNS rebinding", &[("host", "evil.example:7070")], false),
            ("a name that begins so", &[("host", "127.0.0.1.evil.example")], false),
            ("its own page", &[("host", "localhost:7070"), ("origin", "http://localhost:7070")], true),
            ("a foreign page", &[("host", "localhost:7070"), ("origin", "https://evil.example")], false),
            ("another port's page", &[("host", "localhost:7070"), ("origin", "http://localhost:8080")], false),
            ("a sandboxed page", &[("host", "localhost:7070"), ("origin", "null")], false),
        ];
        for (why, given, passes) in rows {
            assert_eq!(guard.check("/api/v1/runs", &headers(given)).is_ok(), *passes, "{why}");
        }
    }

    #[test]
    fn the_rate_is_bounded_and_comes_back() {
        let (guard, clock) = make(None, "2/s");
        let local = headers(&[("host", "localhost")]);
        let ask = || guard.check("/api/v1/runs", &local).err().map(|error| error.details().status);
        assert_eq!([ask(), ask(), ask()], [None, None, Some(429)]);
        clock.0.fetch_add(500, Ordering::Relaxed);
        assert_eq!([ask(), ask()], [None, Some(429)]);
        assert!(guard.check("/healthz", &HeaderMap::new()).is_ok(), "health is not counted");
        assert!(guard.check("/webhooks/shop", &HeaderMap::new()).is_ok(), "webhooks are counted apart");
    }
}
