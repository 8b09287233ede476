//! Calls over NATS: request and reply. A service says what went wrong as NATS' own services do, in the header
//! `Nats-Service-Error-Code`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, HeaderMap, HeaderValue, Message};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::failure::{Failure, failed, health};
use super::permission::Permission;
use super::route::Route;
use super::{Call, Connector, Error, Figures, PERMISSION_WAIT_MAX, unconfigured};
use crate::id::ServiceName;
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Effect};
use crate::service::{Auth, Service};
use crate::trust;

const ERROR: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// Between two looks at a connection that is being made.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Calls the services it was given. Cloning shares them.
#[derive(Clone, Default)]
pub struct NatsConnector {
    endpoints: Arc<RwLock<BTreeMap<ServiceName, Arc<Endpoint>>>>,
}

struct Endpoint {
    name: ServiceName,
    service: Service,
    /// Made by the first call; heals itself from then on.
    client: Mutex<Option<Client>>,
    permission: Permission,
}

impl NatsConnector {
    /// Adds a service, or puts another in the place of one.
    ///
    /// # Errors
    /// [`Error`] for a way to sign in that NATS does not have, or certificates that cannot be used.
    pub fn add(&self, name: ServiceName, service: Service) -> Result<(), Error> {
        if let Some(Auth::ApiKey { .. } | Auth::OAuth2(_)) = service.auth {
            let reason = "NATS has neither api_key nor oauth2; use `bearer` for a token, or `basic`".to_owned();
            return Err(Error::Service { service: name, reason });
        }
        if let Err(reason) = trust::client(service.ca.as_deref(), &[]) {
            return Err(Error::Service { service: name, reason });
        }
        let permission = Permission::new(service.limits());
        let endpoint = Endpoint { name: name.clone(), service, client: Mutex::default(), permission };
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(endpoint));
        Ok(())
    }

    /// Takes a service out; calls in flight end where they began.
    pub fn remove(&self, name: &ServiceName) {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// True for a service that is spoken to here.
    #[must_use]
    pub fn has(&self, name: &ServiceName) -> bool {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Returns what is going on, by service.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.values().map(|endpoint| endpoint.figures()).collect()
    }
}

impl Connector for NatsConnector {
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt> {
        let endpoint =
            self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(&call.request.service).cloned();
        Box::pin(async move {
            match endpoint {
                Some(endpoint) => endpoint.call(call).await,
                None => unconfigured(&call.request.service),
            }
        })
    }
}

impl Endpoint {
    fn figures(&self) -> Figures {
        self.permission.figures(&self.name, &self.service, 0)
    }

    async fn call(&self, call: Call) -> Attempt {
        let Ok(mut held) = tokio::time::timeout(PERMISSION_WAIT_MAX, self.permission.acquire()).await else {
            return failed(
                Failure::HeldBack,
                &format!("{} is not asked: its circuit is open or its limits are reached", self.name),
            );
        };
        let attempt = self.exchange(&call).await;
        held.report(health(&attempt));
        attempt
    }

    async fn exchange(&self, call: &Call) -> Attempt {
        let headers = match headers(call) {
            Ok(headers) => headers,
            Err(reason) => return failed(Failure::Invalid, &reason),
        };
        let payload = call.request.body.as_ref().map_or_else(Bytes::new, |body| Bytes::from(body.text().to_owned()));
        let deadline = Instant::now() + call.timeout;
        let client = match tokio::time::timeout_at(deadline, self.connected()).await {
            Ok(Ok(client)) => client,
            Ok(Err(reason)) => return failed(Failure::Unconnected, &format!("{}: {reason}", self.name)),
            Err(_) => {
                let reason = format!("no connection to {} within {} ms", self.name, call.timeout.as_millis());
                return failed(Failure::TimeoutUnsent, &reason);
            }
        };
        let max = client.server_info().max_payload;
        if max > 0 && payload.len() > max {
            let reason = format!("the request has {} bytes, and the server takes {max}", payload.len());
            return failed(Failure::Invalid, &reason);
        }
        let subject = &call.request.target;
        let left = deadline.saturating_duration_since(Instant::now());
        let request = async_nats::Request::new().headers(headers).payload(payload).timeout(Some(left));
        match client.send_request(subject.clone(), request).await {
            Ok(message) if message.payload.len() > self.service.answer_bytes_max => {
                let max = self.service.answer_bytes_max;
                failed(
                    Failure::TooLarge,
                    &format!("{}: the answer is larger than {max} bytes (`answer_bytes_max`)", self.name),
                )
            }
            Ok(message) => answered(&message),
            Err(error) => match error.kind() {
                RequestErrorKind::NoResponders => {
                    failed(Failure::Unconnected, &format!("{}: nobody answers on {subject}", self.name))
                }
                RequestErrorKind::TimedOut => failed(
                    Failure::Timeout,
                    &format!("{} did not answer within {} ms", self.name, call.timeout.as_millis()),
                ),
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    failed(Failure::Invalid, &format!("{}: {error}", self.name))
                }
                RequestErrorKind::Other => failed(Failure::Broken, &format!("{}: {error}", self.name)),
            },
        }
    }

    /// Returns a client that is connected now: what is sent on one that is not would wait in it, and leave when the
    /// call is long over.
    async fn connected(&self) -> Result<Client, String> {
        let wait = self.service.connect_timeout.to_std();
        let client = {
            let mut client = self.client.lock().await;
            match &*client {
                Some(client) => client.clone(),
                None => client.insert(self.connect(wait).await?).clone(),
            }
        };
        let standing = async {
            while client.connection_state() != State::Connected {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let url = &self.service.url;
        tokio::time::timeout(wait, standing)
            .await
            .map_err(|_| format!("no connection to {url} within {} ms", wait.as_millis()))?;
        Ok(client)
    }

    async fn connect(&self, wait: Duration) -> Result<Client, String> {
        let url = &self.service.url;
        Route::new(&self.service).check().await.map_err(|error| error.to_string())?;
        let mut options = ConnectOptions::new()
            .name("backstitch")
            .connection_timeout(wait)
            // Others of its cluster may have addresses that nobody allowed.
            .ignore_discovered_servers();
        if url.is_tls() {
            let config = trust::client(self.service.ca.as_deref(), &[])?;
            options = options.require_tls(true).tls_client_config(config);
        }
        options = match &self.service.auth {
            Some(Auth::Bearer(token)) => options.token(token.expose().clone()),
            Some(Auth::Basic { username, password }) => {
                options.user_and_password(username.clone(), password.expose().clone())
            }
            Some(Auth::ApiKey { .. } | Auth::OAuth2(_)) | None => options,
        };
        options.connect(url.to_string()).await.map_err(|error| error.to_string())
    }
}

/// What every call carries, by the names that it has over http.
fn headers(call: &Call) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.request.headers {
        let value: HeaderValue =
            value.parse().map_err(|_| format!("the header `{name}` holds what no header can carry"))?;
        headers.insert(name.as_str(), value);
    }
    for (name, value) in call.headers.named() {
        // Others wrote some of them: what cannot be sent is left out, the call goes on without it.
        if let Ok(value) = value.parse::<HeaderValue>() {
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// Judges a reply.
fn answered(message: &Message) -> Attempt {
    let header = |name: &str| message.headers.as_ref().and_then(|all| all.get(name)).map(|value| value.as_str());
    let code: Option<u16> = header(ERROR_CODE).map(|code| code.trim().parse().unwrap_or(500));
    let code = code.or_else(|| header(ERROR).map(|_| 500));
    let (effect, again) = match code {
        None => (Effect::Done, Again::No),
        Some(425 | 429) => (Effect::None, Again::Yes),
        Some(408) => (Effect::Maybe, Again::Yes),
        Some(400..=499) => (Effect::None, Again::No),
        Some(_) => (Effect::Maybe, Again::Yes),
    };
    let mut shown = BTreeMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let values: Vec<&str> = values.iter().map(HeaderValue::as_str).collect();
        shown.insert(name.to_string().to_ascii_lowercase(), values.join(", "));
    }
    let answer = Answer { status: code.unwrap_or(200), headers: shown, body: body(&message.payload) };
    let problem = (effect != Effect::Done).then(|| {
        let kind = if effect == Effect::None { kind::REFUSED } else { kind::UNKNOWN };
        let words = header(ERROR).unwrap_or("the service answers with an error");
        let mut problem = Problem::new(kind, words.chars().take(1_000).collect::<String>());
        problem.status = Some(answer.status);
        problem.result = Some(Payload::of(&answer));
        problem
    });
    Attempt { effect, again, answer: Some(answer), problem, retry_after: None }
}

/// Reads a message: JSON, or else a string; nothing is null.
fn body(payload: &[u8]) -> Payload {
    if payload.is_empty() {
        return Payload::null();
    }
    let text = String::from_utf8_lossy(payload);
    Payload::parse(&*text).unwrap_or_else(|_| Payload::of(&*text))
}
