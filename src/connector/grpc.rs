//! Calls over gRPC: one message there, one back, as JSON on our side. What a status says about the effect follows
//! gRPC's own list of codes: those that a service gives before it does anything are refusals.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ::http::uri::PathAndQuery;
use bytes::{Buf, BufMut, Bytes};
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint as Transport};
use tonic::{Code, ConnectError, Status};

use super::failure::{Failure, failed};
use super::http::Tokens;
use super::permission::Permission;
use super::route::Route;
use super::sign_in::basic;
use super::{Call, Connector, Error, Figures, PERMISSION_WAIT_MAX, unconfigured};
use crate::id::ServiceName;
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::protobuf::Method;
use crate::request::{Again, Answer, Attempt, Effect};
use crate::resilience::Report;
use crate::service::{Auth, Service};
use crate::time::Span;

type SignIn = (MetadataKey<Ascii>, MetadataValue<Ascii>);

const PROBLEM_TEXT_CHARS_MAX: usize = 1_000;

/// Calls the services it was given. Cloning shares them.
#[derive(Clone, Default)]
pub struct GrpcConnector {
    endpoints: Arc<RwLock<BTreeMap<ServiceName, Arc<Endpoint>>>>,
}

struct Endpoint {
    name: ServiceName,
    service: Service,
    /// Connects when it is used, and again when it must.
    channel: RwLock<(u64, Channel)>,
    auth: Option<SignIn>,
    /// Where it signs in with a token that is fetched.
    tokens: Option<Tokens>,
    permission: Permission,
}

impl GrpcConnector {
    /// Adds a service, or puts another in the place of one.
    ///
    /// # Errors
    /// [`Error`] for a secret that is no metadata, or certificates that cannot be read.
    pub fn add(&self, name: ServiceName, service: Service) -> Result<(), Error> {
        let refused = |reason: String| Error::Service { service: name.clone(), reason };
        let tokens = match &service.auth {
            Some(Auth::OAuth2(credentials)) => Some(Tokens::new(&name, &service, credentials).map_err(refused)?),
            _ => None,
        };
        let endpoint = Endpoint {
            name: name.clone(),
            channel: RwLock::new((0, channel(&service).map_err(refused)?)),
            auth: service.auth.as_ref().map(sign_in).transpose().map_err(refused)?.flatten(),
            tokens,
            permission: Permission::new(service.limits()),
            service,
        };
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
        endpoints.values().map(|endpoint| endpoint.permission.figures(&endpoint.name, &endpoint.service, 0)).collect()
    }
}

impl Connector for GrpcConnector {
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

fn channel(service: &Service) -> Result<Channel, String> {
    let (url, route) = (&service.url, Route::new(service));
    let scheme = if url.is_tls() { "https" } else { "http" };
    let transport =
        Transport::from_shared(format!("{scheme}://{}", url.authority())).map_err(|error| error.to_string())?;
    let mut transport = transport
        .user_agent(concat!("backstitch/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| error.to_string())?
        .connect_timeout(route.timeout)
        .http2_max_header_list_size(64 * 1024);
    if url.is_tls() {
        let mut tls = ClientTlsConfig::new().with_webpki_roots().domain_name(url.host());
        if let Some(pem) = &service.ca {
            tls = tls.ca_certificate(Certificate::from_pem(pem));
        }
        transport = transport.tls_config(tls).map_err(|error| chain(&error))?;
    }
    // As every service is connected to: never to an address that its name may not lead to.
    let connect = tower::service_fn(move |_: ::http::Uri| {
        let route = route.clone();
        async move { route.connect().await.map(TokioIo::new) }
    });
    Ok(transport.connect_with_connector_lazy(connect))
}

/// Returns what never changes; none where a token is fetched.
fn sign_in(auth: &Auth) -> Result<Option<SignIn>, String> {
    let (name, text) = match auth {
        Auth::Bearer(token) => ("authorization".to_owned(), format!("Bearer {}", token.expose())),
        Auth::Basic { username, password } => ("authorization".to_owned(), basic(username, password)?),
        Auth::ApiKey { header, value } => (header.clone(), value.expose().clone()),
        Auth::OAuth2(_) => return Ok(None),
    };
    let key = name.parse().map_err(|_| format!("`auth.api_key.header`: `{name}` is no name of metadata"))?;
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| "its secret holds characters that no metadata can carry".to_owned())?;
    value.set_sensitive(true);
    Ok(Some((key, value)))
}

impl Endpoint {
    async fn call(&self, call: Call) -> Attempt {
        let Ok(mut held) = tokio::time::timeout(PERMISSION_WAIT_MAX, self.permission.acquire()).await else {
            return failed(
                Failure::HeldBack,
                &format!("{} is not asked: its circuit is open or its limits are reached", self.name),
            );
        };
        let (attempt, report) = self.exchange(&call).await;
        held.report(report);
        attempt
    }

    async fn exchange(&self, call: &Call) -> (Attempt, Report) {
        let (method, mut request) = match self.request(call) {
            Ok(made) => made,
            Err(reason) => return (failed(Failure::Invalid, &format!("{}: {reason}", self.name)), Report::Nothing),
        };
        let Ok(path) = call.request.target.parse::<PathAndQuery>() else {
            return (failed(Failure::Invalid, "the method's name cannot be sent"), Report::Nothing);
        };
        let (number, channel) = self.channel.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(self.service.answer_bytes_max);
        let sent = Arc::new(AtomicBool::new(false));
        let mut used = None;
        let exchange = async {
            if let Some(tokens) = &self.tokens {
                let token = tokens.get().await.map_err(Status::unavailable)?;
                let text = token.authorization.to_str().ok().and_then(|text| text.parse::<MetadataValue<Ascii>>().ok());
                let mut value =
                    text.ok_or_else(|| Status::unavailable("the token holds what no metadata can carry"))?;
                value.set_sensitive(true);
                request.metadata_mut().insert("authorization", value);
                used = Some(token);
            }
            client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            client.unary(request, path, Raw(Arc::clone(&sent))).await
        };
        match tokio::time::timeout(call.timeout, exchange).await {
            Ok(Ok(response)) => {
                let (metadata, bytes, _) = response.into_parts();
                match method.answer(&bytes) {
                    Ok(body) => (done(&metadata, body), Report::Alive),
                    Err(reason) => {
                        let reason = format!("{}: the answer cannot be read: {reason}", self.name);
                        (failed(Failure::Broken, &reason), Report::Failing)
                    }
                }
            }
            Ok(Err(status)) => {
                let (mut attempt, report) = self.judged(&status, sent.load(Ordering::Relaxed));
                // The token had been used before and is taken no more: with the next one it may be another answer.
                if let (Code::Unauthenticated, Some(tokens), Some(token)) = (status.code(), &self.tokens, &used)
                    && tokens.not_taken(token).await
                {
                    attempt.again = Again::Yes;
                }
                (attempt, report)
            }
            Err(_) if !sent.load(Ordering::Relaxed) => {
                let reason = format!("no connection to {} within {} ms", self.name, call.timeout.as_millis());
                (failed(Failure::TimeoutUnsent, &reason), Report::Failing)
            }
            Err(_) => {
                self.give_up(number);
                let reason = format!("{} did not answer within {} ms", self.name, call.timeout.as_millis());
                (failed(Failure::Timeout, &reason), Report::Failing)
            }
        }
    }

    /// Takes a new connection for the calls to come: one whose other end has vanished would be waited on for many
    /// minutes. Those that are under way stay where they are.
    fn give_up(&self, number: u64) {
        let mut present = self.channel.write().unwrap_or_else(PoisonError::into_inner);
        if present.0 == number
            && let Ok(channel) = channel(&self.service)
        {
            *present = (number + 1, channel);
        }
    }

    fn request(&self, call: &Call) -> Result<(Method, tonic::Request<Vec<u8>>), String> {
        let descriptors = self.service.descriptor.as_ref().ok_or("it has no `descriptor`")?;
        let name = call.request.target.trim_start_matches('/');
        let method = descriptors.method(name).map_err(|(why, _)| why)?;
        let empty = Payload::of(&serde_json::json!({}));
        let message = method.request(call.request.body.as_ref().unwrap_or(&empty))?;
        let mut request = tonic::Request::new(message);
        request.set_timeout(call.timeout);
        let metadata = request.metadata_mut();
        for (name, value) in &call.request.headers {
            let key: MetadataKey<Ascii> = name.parse().map_err(|_| format!("`{name}` is no name of metadata"))?;
            let value = value.parse().map_err(|_| format!("the metadata `{name}` holds what it cannot carry"))?;
            metadata.insert(key, value);
        }
        for (name, value) in call.headers.named() {
            // Others wrote some of them: what cannot be sent is left out, the call goes on without it.
            if let (Ok(key), Ok(value)) = (name.to_ascii_lowercase().parse::<MetadataKey<Ascii>>(), value.parse()) {
                metadata.insert(key, value);
            }
        }
        if let Some((key, value)) = &self.auth {
            metadata.insert(key.clone(), value.clone());
        }
        Ok((method, request))
    }

    /// `sent`: the message may have reached a socket.
    fn judged(&self, status: &Status, sent: bool) -> (Attempt, Report) {
        let ours = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled);
        if connected_not(status) || (!sent && ours) {
            let reason = format!("{}: {}", self.name, chain(status));
            return (failed(Failure::Unconnected, &reason), Report::Failing);
        }
        // Said by our own side, of an answer that came.
        if status.code() == Code::OutOfRange && status.message().contains("decoded message length too large") {
            let max = self.service.answer_bytes_max;
            let reason = format!("{}: the answer is larger than {max} bytes (`answer_bytes_max`)", self.name);
            return (failed(Failure::TooLarge, &reason), Report::Alive);
        }
        let (effect, again) = effect(status.code());
        let report = match status.code() {
            Code::Unavailable | Code::Internal | Code::Unknown | Code::DeadlineExceeded | Code::DataLoss => {
                Report::Failing
            }
            _ => Report::Alive,
        };
        let body = serde_json::json!({ "code": format!("{:?}", status.code()), "message": status.message() });
        let answer = answer(status.code(), status.metadata(), Payload::of(&body));
        let kind = if effect == Effect::None { kind::REFUSED } else { kind::UNKNOWN };
        let words = if status.message().is_empty() { status.code().description() } else { status.message() };
        let mut problem = Problem::new(kind, words.chars().take(PROBLEM_TEXT_CHARS_MAX).collect::<String>());
        problem.status = Some(answer.status);
        problem.result = Some(Payload::of(&answer));
        // gRFC A6: how long to stay away, or negative: not to come again.
        let pushback =
            status.metadata().get("grpc-retry-pushback-ms").and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = pushback.filter(|_| again == Again::Yes).map(Span::from_millis);
        (Attempt { effect, again, answer: Some(answer), problem: Some(problem), retry_after }, report)
    }
}

/// What a code says about the effect.
fn effect(code: Code) -> (Effect, Again) {
    match code {
        Code::Ok => (Effect::Done, Again::No),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => (Effect::None, Again::No),
        Code::ResourceExhausted => (Effect::None, Again::Yes),
        Code::Aborted
        | Code::Cancelled
        | Code::DataLoss
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::Unknown => (Effect::Maybe, Again::Yes),
    }
}

fn done(metadata: &MetadataMap, body: Payload) -> Attempt {
    let answer = answer(Code::Ok, metadata, body);
    Attempt { effect: Effect::Done, again: Again::No, answer: Some(answer), problem: None, retry_after: None }
}

fn answer(code: Code, metadata: &MetadataMap, body: Payload) -> Answer {
    let mut headers = BTreeMap::<String, String>::new();
    for entry in metadata.iter() {
        let KeyAndValueRef::Ascii(key, value) = entry else { continue };
        let Ok(value) = value.to_str() else { continue };
        headers
            .entry(key.as_str().to_owned())
            .and_modify(|all| *all = format!("{all}, {value}"))
            .or_insert_with(|| value.to_owned());
    }
    Answer { status: u16::try_from(i32::from(code)).unwrap_or(2), headers, body }
}

/// True when there was no connection to send anything on.
fn connected_not(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() || error.is::<super::route::RouteError>() {
            return true;
        }
        cause = error.source();
    }
    false
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

/// Passes the bytes of messages through, and notes when one is taken for a connection: hyper asks for it when the
/// request has a stream to leave on.
struct Raw(Arc<AtomicBool>);

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn decoder(&mut self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.0.store(true, Ordering::Relaxed);
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        use Again::{No, Yes};
        use Effect::{Done, Maybe, None as Nothing};
        let expected = [
            (Done, No),     // 0 OK
            (Maybe, Yes),   // 1 CANCELLED
            (Maybe, Yes),   // 2 UNKNOWN
            (Nothing, No),  // 3 INVALID_ARGUMENT
            (Maybe, Yes),   // 4 DEADLINE_EXCEEDED
            (Nothing, No),  // 5 NOT_FOUND
            (Nothing, No),  // 6 ALREADY_EXISTS
            (Nothing, No),  // 7 PERMISSION_DENIED
            (Nothing, Yes), // 8 RESOURCE_EXHAUSTED
            (Nothing, No),  // 9 FAILED_PRECONDITION
            (Maybe, Yes),   // 10 ABORTED
            (Nothing, No),  // 11 OUT_OF_RANGE
            (Nothing, No),  // 12 UNIMPLEMENTED
            (Maybe, Yes),   // 13 INTERNAL
            (Maybe, Yes),   // 14 UNAVAILABLE
            (Maybe, Yes),   // 15 DATA_LOSS
            (Nothing, No),  // 16 UNAUTHENTICATED
        ];
        for (code, expected) in (0..).zip(expected) {
            assert_eq!(effect(Code::from_i32(code)), expected, "{code}");
        }
        assert_eq!(effect(Code::from_i32(99)), (Maybe, Yes), "a code of tomorrow");
    }
}
