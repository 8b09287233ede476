//! A small client of the API for the commands, the demo and the benchmark: one pooled HTTP connection
//! set, typed answers, and errors that say what to do next. It does not retry.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exit::{Code, Failure};
use super::server_events::{ServerEvent, ServerEvents};
pub use crate::api::wire::{
    Accepted, AuditPage, ByBody, EventOptions, ProblemDetails, RedriveBody, SomeLettersBody, StartBody, StartedBody,
    Violation,
};
use crate::coordinator::view::{HistoryEntry, LockView, Readiness, RunFilter, RunPage, RunView, SagaView};
use crate::events::filter::LetterFilter;
use crate::events::tail::EventPage;
use crate::events::view::{Done, LetterPage, LetterView};
use crate::id::RunId;
use crate::payload::Payload;

/// Where `dev` and `serve` listen unless told otherwise.
pub const URL_DEFAULT: &str = "http://127.0.0.1:7070";
/// A page of 1,000 runs has about 500 KiB; a history with large payloads more. Beyond 256 MiB something is wrong.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A healthy API answers in milliseconds; `?wait` adds its own time.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Loopback or a network near by: longer means that nobody is there.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// What is left as it is in a path segment or a query value (RFC 3986 unreserved).
const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A client for one API.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// Why a request gave no answer to work with.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{0}` is no address of an API; write for example {URL_DEFAULT}")]
    BadUrl(String),
    #[error("cannot reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{}", describe(.0))]
    Answered(Box<ProblemDetails>),
    #[error("{url} answered what this program cannot read: {reason}")]
    Unreadable { url: String, reason: String },
}

fn describe(problem: &ProblemDetails) -> String {
    let mut text = problem.title.clone();
    if let Some(detail) = &problem.detail {
        text = format!("{text}: {detail}");
    }
    for error in &problem.errors {
        text = format!("{text}\n  {}: {}", if error.pointer.is_empty() { "/" } else { &error.pointer }, error.detail);
    }
    text
}

impl ClientError {
    /// Returns the problem, when the API answered with one.
    #[must_use]
    pub fn problem(&self) -> Option<&ProblemDetails> {
        match self {
            Self::Answered(problem) => Some(problem),
            Self::BadUrl(_) | Self::Unreachable { .. } | Self::Unreadable { .. } => None,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match &error {
            ClientError::BadUrl(_) => Self::bad_input(message),
            ClientError::Unreachable { .. } => Self::new(Code::Unreachable, message)
                .help("start it with `backstitch dev`, or name its address with --url or BACKSTITCH_URL"),
            ClientError::Unreadable { .. } => {
                Self::new(Code::Failed, message).help("is it Backstitch of the same version that answers there?")
            }
            ClientError::Answered(problem) => match problem.status {
                401 => Self::new(Code::Failed, message).help("give the API's token with --token or BACKSTITCH_TOKEN"),
                400 | 413 | 415 | 422 => Self::bad_input(message),
                429 | 503 => Self::new(Code::Unreachable, message).help("try again in a few seconds"),
                _ => Self::new(Code::Failed, message),
            },
        }
    }
}

/// What a start answered.
#[derive(Debug, Clone)]
pub struct StartAnswer {
    pub id: RunId,
    /// False for a repeated key: the id is the first run's.
    pub created: bool,
    /// The whole run, when the start waited for it.
    pub run: Option<RunView>,
}

/// An answer with its body read.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Encodes text for one path segment or one query value.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, KEEP).to_string()
}

/// Writes a query from the members of a flat object; absent ones are left out.
fn query<T: Serialize>(options: &T) -> String {
    let members = serde_json::to_value(options).unwrap_or_default();
    let members = members.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let text = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::String(text) => encode(text),
            other => encode(&other.to_string()),
        };
        Some(format!("{}={text}", encode(name)))
    });
    let text = members.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

impl Client {
    /// Makes a client for an API at a URL. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::BadUrl`] unless the URL is `http://HOST[:PORT]` or `https://…`, or for a token
    /// that no header can carry.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let parsed: Uri = base.parse().map_err(|_| ClientError::BadUrl(base.clone()))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https"))
            || parsed.host().is_none()
            || parsed.path_and_query().is_some_and(|path| path.as_str() != "/")
        {
            return Err(ClientError::BadUrl(base));
        }
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| ClientError::BadUrl("the token holds characters that no header can carry".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_WAIT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new()).build(connector);
        Ok(Self { pool, base, authorization })
    }

    /// Returns the API's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
        wait: Duration,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let url = format!("{}{target}", self.base);
        let mut request = Request::builder()
            .method(method)
            .uri(&url)
            .header(header::USER_AGENT, concat!("backstitch/", env!("CARGO_PKG_VERSION")));
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        if body.is_some() && !headers.iter().any(|(name, _)| name == header::CONTENT_TYPE) {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(body.unwrap_or_default())).map_err(|_| ClientError::BadUrl(url.clone()))?;
        let unreachable = |reason: String| ClientError::Unreachable { url: self.base.clone(), reason };
        match tokio::time::timeout(wait, self.pool.request(request)).await {
            Err(_) => Err(unreachable(format!("no answer within {} s", wait.as_secs()))),
            Ok(Err(error)) => Err(unreachable(root_cause(&error))),
            Ok(Ok(answer)) => Ok(answer),
        }
    }

    /// Sends one request and reads its answer whole, whatever its status.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] without an answer, [`ClientError::Unreadable`] for one that breaks off.
    pub async fn request(
        &self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Option<Bytes>,
        wait: Duration,
    ) -> Result<Answer, ClientError> {
        let (parts, body) = self.send(method, target, headers, body, wait).await?.into_parts();
        let unreadable = |reason: String| ClientError::Unreadable { url: self.base.clone(), reason };
        let body = match tokio::time::timeout(ANSWER_WAIT, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
            Err(_) => return Err(unreadable("the answer's body does not end".into())),
            Ok(Err(error)) => return Err(unreadable(error.to_string())),
            Ok(Ok(collected)) => collected.to_bytes(),
        };
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    fn success(&self, answer: Answer) -> Result<Answer, ClientError> {
        if answer.status.is_success() { Ok(answer) } else { Err(self.problem(answer.status, &answer.body)) }
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ProblemDetails>(body) {
            Ok(problem) => ClientError::Answered(Box::new(problem)),
            Err(_) => ClientError::Unreadable {
                url: self.base.clone(),
                reason: format!("status {status} without problem details"),
            },
        }
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        serde_json::from_slice(&answer.body)
            .map_err(|error| ClientError::Unreadable { url: self.base.clone(), reason: error.to_string() })
    }

    /// Gets a JSON document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, ClientError> {
        let answer = self.request(Method::GET, target, &[], None, ANSWER_WAIT).await?;
        self.read(&self.success(answer)?)
    }

    async fn post(&self, target: &str, body: Option<Bytes>, wait: Duration) -> Result<Answer, ClientError> {
        let answer = self.request(Method::POST, target, &[], body, wait).await?;
        self.success(answer)
    }

    /// Posts a document and gets one, within a time of the caller's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask<T: DeserializeOwned>(
        &self,
        target: &str,
        body: &serde_json::Value,
        wait: Duration,
    ) -> Result<T, ClientError> {
        self.read(&self.post(target, Some(Bytes::from(body.to_string())), wait).await?)
    }

    /// Gets a document of any length, piece by piece.
    ///
    /// # Errors
    /// [`ClientError`]; each piece may be one, too, when the answer breaks off.
    pub async fn pieces(
        &self,
        target: &str,
    ) -> Result<futures_util::stream::BoxStream<'static, Result<Bytes, ClientError>>, ClientError> {
        use futures_util::StreamExt;
        let answer = self.send(Method::GET, target, &[], None, ANSWER_WAIT).await?;
        if !answer.status().is_success() {
            return Err(self.problem(answer.status(), b""));
        }
        let url = self.base.clone();
        let pieces = answer.into_body().into_data_stream().map(move |piece| {
            piece.map_err(|error| ClientError::Unreadable { url: url.clone(), reason: error.to_string() })
        });
        Ok(pieces.boxed())
    }

    /// Lets the process load its files anew.
    ///
    /// # Errors
    /// [`ClientError`]; 422 names every mistake with its file and line.
    pub async fn reload(&self) -> Result<crate::api::Reloaded, ClientError> {
        let answer = self.post("/api/v1/reload", None, ANSWER_WAIT).await?;
        self.read(&answer)
    }

    /// Publishes one event.
    ///
    /// # Errors
    /// [`ClientError`]; 422 names every violation with a JSON pointer.
    pub async fn publish(
        &self,
        event_type: &str,
        data: &Payload,
        options: &EventOptions,
    ) -> Result<Accepted, ClientError> {
        let target = format!("/api/v1/events/{}{}", encode(event_type), query(options));
        let answer = self.post(&target, Some(Bytes::from(data.text().to_owned())), ANSWER_WAIT).await?;
        self.read(&answer)
    }

    /// Starts a run; with `wait`, answers when it has ended or parked, or when that time is over.
    ///
    /// # Errors
    /// [`ClientError`]; 409 for a key that began with other input.
    pub async fn start(
        &self,
        saga: &str,
        body: &StartBody,
        wait: Option<Duration>,
    ) -> Result<StartAnswer, ClientError> {
        let suffix = wait.map_or_else(String::new, |wait| format!("?wait={}ms", wait.as_millis()));
        let target = format!("/api/v1/sagas/{}/runs{suffix}", encode(saga));
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        let answer = self.post(&target, Some(body), ANSWER_WAIT + wait.unwrap_or_default()).await?;
        if wait.is_some() {
            let run: RunView = self.read(&answer)?;
            return Ok(StartAnswer { id: run.id, created: answer.status != StatusCode::OK, run: Some(run) });
        }
        let StartedBody { id } = self.read(&answer)?;
        Ok(StartAnswer { id, created: answer.status == StatusCode::CREATED, run: None })
    }

    /// Gets a run.
    ///
    /// # Errors
    /// [`ClientError`]; 404 when there is none.
    pub async fn run(&self, run: RunId) -> Result<RunView, ClientError> {
        self.get(&format!("/api/v1/runs/{run}")).await
    }

    /// Lists runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&self, filter: &RunFilter) -> Result<RunPage, ClientError> {
        self.get(&format!("/api/v1/runs{}", query(filter))).await
    }

    /// Gets a run's facts in order.
    ///
    /// # Errors
    /// [`ClientError`]; 404 when there is no such run.
    pub async fn history(&self, run: RunId) -> Result<Vec<HistoryEntry>, ClientError> {
        self.get(&format!("/api/v1/runs/{run}/history")).await
    }

    /// Lists the locks: who holds them, who waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn locks(&self) -> Result<Vec<LockView>, ClientError> {
        self.get("/api/v1/locks").await
    }

    /// Lists the loaded sagas.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sagas(&self) -> Result<Vec<SagaView>, ClientError> {
        self.get("/api/v1/sagas").await
    }

    /// Gives an operator's command: `cancel pause resume retry skip resolve`. Returns the run after it.
    ///
    /// # Errors
    /// [`ClientError`]; 409 with the reason when the run's state does not allow it.
    pub async fn operate(&self, run: RunId, command: &str, body: &serde_json::Value) -> Result<RunView, ClientError> {
        let target = format!("/api/v1/runs/{run}/{command}");
        let answer = self.post(&target, Some(Bytes::from(body.to_string())), ANSWER_WAIT).await?;
        self.read(&answer)
    }

    /// Sends a value and reads the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        self.read(&self.post(target, Some(body), ANSWER_WAIT).await?)
    }

    /// Gives a command that is answered with nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn command(&self, target: &str, body: &impl Serialize) -> Result<(), ClientError> {
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        self.post(target, Some(body), ANSWER_WAIT).await.map(drop)
    }

    /// Publishes CloudEvents in structured mode as one batch.
    ///
    /// # Errors
    /// [`ClientError`]; 400 and 422 name every event that is wrong by the first part of a pointer.
    pub async fn publish_batch(&self, events: &[&str]) -> Result<Vec<Accepted>, ClientError> {
        let body = Bytes::from(format!("[{}]", events.join(",")));
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/cloudevents-batch+json"));
        let answer = self.request(Method::POST, "/api/v1/events", &[kind], Some(body), ANSWER_WAIT).await?;
        self.read(&self.success(answer)?)
    }

    /// Gets a page of events.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self, asked: &serde_json::Value) -> Result<EventPage, ClientError> {
        self.get(&format!("/api/v1/events{}", query(asked))).await
    }

    /// Follows events, one line of JSON each. Ends when the API does.
    ///
    /// # Errors
    /// [`ClientError`]; items fail when the connection breaks.
    pub async fn follow_events(
        &self,
        asked: &serde_json::Value,
    ) -> Result<impl Stream<Item = Result<String, ClientError>> + Send + use<>, ClientError> {
        let target = format!("/api/v1/events{}", query(asked));
        let answer = self.send(Method::GET, &target, &[], None, ANSWER_WAIT).await?;
        let status = answer.status();
        if !status.is_success() {
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            return Err(self.problem(status, &body.map(|body| body.to_bytes()).unwrap_or_default()));
        }
        let url = self.base.clone();
        let bytes = answer.into_body().into_data_stream().map_err(std::io::Error::other);
        let lines = tokio_util::io::StreamReader::new(bytes);
        let lines = tokio_stream::wrappers::LinesStream::new(tokio::io::AsyncBufReadExt::lines(lines));
        Ok(lines.map_err(move |error| ClientError::Unreachable {
            url: url.clone(),
            reason: format!("the stream broke off: {error}"),
        }))
    }

    /// Lists dead letters.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dead_letters(
        &self,
        filter: &LetterFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<LetterPage, ClientError> {
        let mut asked = serde_json::to_value(filter).unwrap_or_default();
        asked["limit"] = limit.into();
        asked["cursor"] = cursor.into();
        self.get(&format!("/api/v1/dead-letters{}", query(&asked))).await
    }

    /// Gets a dead letter with its original message.
    ///
    /// # Errors
    /// [`ClientError`]; 404 when there is none.
    pub async fn dead_letter(&self, sequence: u64) -> Result<LetterView, ClientError> {
        self.get(&format!("/api/v1/dead-letters/{sequence}")).await
    }

    /// Gives a dead letter to its consumer again.
    ///
    /// # Errors
    /// [`ClientError`]; 409 when it cannot be, 422 for data that breaks the schema.
    pub async fn redrive(&self, sequence: u64, body: &RedriveBody) -> Result<Done, ClientError> {
        self.tell(&format!("/api/v1/dead-letters/{sequence}/redrive"), body).await
    }

    /// Gives every dead letter that fits again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redrive_all(&self, body: &SomeLettersBody) -> Result<Done, ClientError> {
        self.tell("/api/v1/dead-letters/redrive", body).await
    }

    /// Removes a dead letter.
    ///
    /// # Errors
    /// [`ClientError`]; 404 when there is none.
    pub async fn drop_letter(&self, sequence: u64, body: &ByBody) -> Result<Done, ClientError> {
        self.tell(&format!("/api/v1/dead-letters/{sequence}/drop"), body).await
    }

    /// Removes every dead letter that fits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drop_all(&self, body: &SomeLettersBody) -> Result<Done, ClientError> {
        self.tell("/api/v1/dead-letters/drop", body).await
    }

    /// Gets what was done by operators.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, from: u64) -> Result<AuditPage, ClientError> {
        self.get(&format!("/api/v1/audit?from={from}")).await
    }

    /// Asks whether work is taken, part by part; `ready` is false where the API answers 503.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn readiness(&self) -> Result<Readiness, ClientError> {
        let answer = self.request(Method::GET, "/readyz", &[], None, ANSWER_WAIT).await?;
        if matches!(answer.status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
            return self.read(&answer);
        }
        Err(self.problem(answer.status, &answer.body))
    }

    /// Follows one run, from its first fact, or all runs from now on. Ends when the run or the API does.
    ///
    /// # Errors
    /// [`ClientError`]; 404 when there is no such run. Items fail when the connection breaks.
    pub async fn stream(
        &self,
        run: Option<RunId>,
    ) -> Result<impl Stream<Item = Result<ServerEvent, ClientError>> + Send + use<>, ClientError> {
        let target = run.map_or_else(|| "/api/v1/stream".to_owned(), |run| format!("/api/v1/runs/{run}/stream"));
        let accept = (header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let answer = self.send(Method::GET, &target, &[accept], None, ANSWER_WAIT).await?;
        let status = answer.status();
        if !status.is_success() {
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            return Err(self.problem(status, &body.map(|body| body.to_bytes()).unwrap_or_default()));
        }
        let url = self.base.clone();
        let bytes = answer.into_body().into_data_stream().map_err(move |error| ClientError::Unreachable {
            url: url.clone(),
            reason: format!("the stream broke off: {}", root_cause(&error)),
        });
        Ok(ServerEvents::new(bytes))
    }
}

/// Returns the innermost reason: `Connection refused` rather than `client error (Connect)`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let rows: &[(&str, &str, bool)] = &[
            ("plain", "http://127.0.0.1:7070", true),
            ("a slash at the end", "http://127.0.0.1:7070/", true),
            ("TLS", "https://saga.example.com", true),
            ("no scheme", "127.0.0.1:7070", false),
            ("another scheme", "nats://127.0.0.1:4222", false),
            ("a path", "http://127.0.0.1:7070/api", false),
            ("nothing", "", false),
        ];
        for (why, url, good) in rows {
            assert_eq!(Client::new(url, None).is_ok(), *good, "{why}: {url}");
        }
        assert!(Client::new(URL_DEFAULT, Some("a\nb")).is_err(), "a token with a line break");
    }

    #[test]
    fn queries_are_encoded_and_leave_out_what_is_absent() {
        let filter = RunFilter {
            saga: Some("order".into()),
            key: Some("A 1&b=/ü".into()),
            limit: Some(3),
            ..RunFilter::default()
        };
        assert_eq!(query(&filter), "?key=A%201%26b%3D%2F%C3%BC&limit=3&saga=order");
        assert_eq!(query(&RunFilter::default()), "");
    }

    #[test]
    fn statuses_become_exit_codes() {
        let rows: &[(u16, Code)] = &[
            (400, Code::BadInput),
            (401, Code::Failed),
            (404, Code::Failed),
            (409, Code::Failed),
            (422, Code::BadInput),
            (429, Code::Unreachable),
            (500, Code::Failed),
            (503, Code::Unreachable),
        ];
        for (status, code) in rows {
            let problem = ProblemDetails {
                kind: String::new(),
                title: "t".into(),
                status: *status,
                detail: None,
                errors: vec![],
                index: None,
                run: None,
            };
            assert_eq!(Failure::from(ClientError::Answered(Box::new(problem))).code, *code, "{status}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_reason() {
        // Bound and closed again: a port where nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(&format!("http://127.0.0.1:{port}"), None).unwrap();
        let error = client.readiness().await.unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
        assert_eq!(Failure::from(error).code, Code::Unreachable);
    }
}
