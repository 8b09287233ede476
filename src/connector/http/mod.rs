//! Calls over HTTP/1.1 on our own small pool over hyper's connections. The pool is ours because three
//! things must be known exactly: whether a request was handed to a socket (else it had no effect), how
//! many sockets a service sees, and that a request is sent at most once in one attempt.
//!
//! Redirects are answers, not instructions; compression is not asked for; nothing here tries again.

mod classify;
mod dial;
mod graphql;
mod message;
mod pool;
mod retry_after;
mod soap;
mod tokens;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use ::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use ::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use self::classify::Raw;
use self::pool::Pool;
pub(super) use self::tokens::Tokens;
use super::failure::{Failure, failed, health};
use super::permission::Permission;
use super::{Call, Connector, Error, Figures, PERMISSION_WAIT_MAX, unconfigured};
use crate::id::ServiceName;
use crate::request::{Again, Attempt};
use crate::service::{Auth, Service};

/// Calls the services it was given. Cloning shares them.
#[derive(Clone, Default)]
pub struct HttpConnector {
    endpoints: Arc<RwLock<BTreeMap<ServiceName, Arc<Endpoint>>>>,
}

struct Endpoint {
    name: ServiceName,
    service: Service,
    head: message::Head,
    dialer: dial::Dialer,
    pool: Pool,
    permission: Arc<Permission>,
    /// Where it signs in with a token that is fetched.
    tokens: Option<Box<Tokens>>,
}

impl HttpConnector {
    /// Makes a connector to these services.
    ///
    /// # Errors
    /// [`Error`] for a secret that is no header value or certificates that cannot be read.
    pub fn new(services: impl IntoIterator<Item = (ServiceName, Service)>) -> Result<Self, Error> {
        let connector = Self::default();
        for (name, service) in services {
            connector.add(name, service)?;
        }
        Ok(connector)
    }

    /// Adds a service, or puts another in the place of one; calls in flight end where they began.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn add(&self, name: ServiceName, service: Service) -> Result<(), Error> {
        let refused = |reason| Error::Service { service: name.clone(), reason };
        let endpoint = Endpoint::new(name.clone(), service).map_err(refused)?;
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(endpoint));
        Ok(())
    }

    /// Takes a service out; calls in flight end where they began.
    pub fn remove(&self, name: &ServiceName) {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Returns what is going on, by service.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.values().map(|endpoint| endpoint.figures()).collect()
    }
}

impl HttpConnector {
    /// Sends one request as it is, without the headers of a saga's call. Never fails: whatever happens is an
    /// [`Attempt`].
    pub fn send(&self, request: crate::request::Request, timeout: Duration) -> BoxFuture<'static, Attempt> {
        let endpoint = self.endpoint(&request.service);
        Box::pin(async move {
            match endpoint {
                Some(endpoint) => match endpoint.head.plain(&endpoint.service, &request) {
                    Ok(message) => endpoint.attempt(message, timeout).await,
                    Err(reason) => failed(Failure::Invalid, &reason),
                },
                None => unconfigured(&request.service),
            }
        })
    }

    fn endpoint(&self, service: &ServiceName) -> Option<Arc<Endpoint>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }
}

impl Connector for HttpConnector {
    fn call(&self, call: Call) -> BoxFuture<'static, Attempt> {
        let endpoint = self.endpoint(&call.request.service);
        Box::pin(async move {
            match endpoint {
                Some(endpoint) => endpoint.call(call).await,
                None => unconfigured(&call.request.service),
            }
        })
    }
}

impl Endpoint {
    fn new(name: ServiceName, service: Service) -> Result<Self, String> {
        let tokens = match &service.auth {
            Some(Auth::OAuth2(credentials)) => Some(Box::new(Tokens::new(&name, &service, credentials)?)),
            _ => None,
        };
        Ok(Self {
            head: message::Head::new(&service)?,
            dialer: dial::Dialer::new(&service)?,
            pool: Pool::new(service.sockets_max),
            permission: Arc::new(Permission::new(service.limits())),
            tokens,
            name,
            service,
        })
    }

    fn figures(&self) -> Figures {
        self.permission.figures(&self.name, &self.service, self.pool.idle_len())
    }

    /// One attempt: leave, message, exchange, judgement.
    async fn call(&self, call: Call) -> Attempt {
        match self.head.message(&self.service, &call) {
            Ok(request) => self.attempt(request, call.timeout).await,
            Err(reason) => failed(Failure::Invalid, &reason),
        }
    }

    async fn attempt(&self, request: Request<Full<Bytes>>, timeout: Duration) -> Attempt {
        let Ok(mut held) = tokio::time::timeout(PERMISSION_WAIT_MAX, self.permission.acquire()).await else {
            return failed(
                Failure::HeldBack,
                &format!("{} is not asked: its circuit is open or its limits are reached", self.name),
            );
        };
        let sent = AtomicBool::new(false);
        let attempt = match tokio::time::timeout(timeout, self.signed(request, &sent)).await {
            Ok(Ok((raw, again))) => {
                let mut attempt = classify::answered(raw, SystemTime::now(), self.service.protocol);
                if again {
                    attempt.again = Again::Yes;
                }
                attempt
            }
            Ok(Err((failure, reason))) => failed(failure, &format!("{}: {reason}", self.name)),
            Err(_) if sent.load(Ordering::Relaxed) => {
                failed(Failure::Timeout, &format!("{} did not answer within {} ms", self.name, timeout.as_millis()))
            }
            Err(_) => failed(
                Failure::TimeoutUnsent,
                &format!("no connection to {} within {} ms", self.name, timeout.as_millis()),
            ),
        };
        held.report(health(&attempt));
        attempt
    }

    /// Signs in with a token where one is needed, and sends. True beside an answer to a token that had been used before
    /// and is taken no more: with the next one it may be another answer.
    async fn signed(
        &self,
        mut request: Request<Full<Bytes>>,
        sent: &AtomicBool,
    ) -> Result<(Raw, bool), (Failure, String)> {
        let Some(tokens) = &self.tokens else { return Ok((self.exchange(request, sent).await?, false)) };
        let token = tokens.get().await.map_err(|reason| (Failure::Unconnected, reason))?;
        request.headers_mut().insert(AUTHORIZATION, token.authorization.clone());
        let raw = self.exchange(request, sent).await?;
        let again = raw.status == StatusCode::UNAUTHORIZED && tokens.not_taken(&token).await;
        Ok((raw, again))
    }

    /// Sends the request on one connection and reads the whole answer. `sent` is true while the
    /// request may have reached a socket.
    async fn exchange(&self, request: Request<Full<Bytes>>, sent: &AtomicBool) -> Result<Raw, (Failure, String)> {
        let (mut sender, response) = self.send(request, sent).await?;
        let (parts, body) = response.into_parts();
        let max = self.service.answer_bytes_max;
        let too_large = || (Failure::TooLarge, format!("the answer is larger than {max} bytes (`answer_bytes_max`)"));
        if length(&parts.headers).is_some_and(|length| length > max as u64) && parts.status != StatusCode::NO_CONTENT {
            return Err(too_large());
        }
        let body = match Limited::new(body, max).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
            Err(error) => return Err((Failure::Broken, format!("the answer broke off: {}", chain(error.as_ref())))),
        };
        sender.settle(&parts.headers).await;
        self.pool.put(sender);
        Ok(Raw { status: parts.status, headers: parts.headers, body })
    }

    /// Takes an idle connection, else dials. A connection that was closed while idle gives the request
    /// back unsent, then the next is tried; once hyper began to write it, it is never sent again.
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        sent: &AtomicBool,
    ) -> Result<(pool::Sender, ::http::Response<hyper::body::Incoming>), (Failure, String)> {
        loop {
            let (mut sender, fresh) = match self.pool.take().await {
                Some(sender) => (sender, false),
                None => (self.dialer.dial().await.map_err(|error| (Failure::Unconnected, error.to_string()))?, true),
            };
            sent.store(true, Ordering::Relaxed);
            match sender.send(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut error) => match error.take_message() {
                    Some(_) if fresh => {
                        let error = error.into_error();
                        return Err((
                            Failure::Unconnected,
                            format!("the connection was closed at once: {}", chain(&error)),
                        ));
                    }
                    Some(unsent) => {
                        sent.store(false, Ordering::Relaxed);
                        request = unsent;
                    }
                    None => {
                        let error = error.into_error();
                        return Err((
                            Failure::Broken,
                            format!("the connection broke after sending: {}", chain(&error)),
                        ));
                    }
                },
            }
        }
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes an error with its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
