//! One message, or one atomic batch, sent and acknowledged; and what an answer in place of the acknowledgement
//! means. Who shares a batch, and in what order, is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::Request;
use async_nats::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::time::Instant;

use super::jetstream::{Session, Shared};
use super::wire;
use super::{Error, Published, RawMessage};

/// A stopped server shows itself by nothing but time; five seconds are the client's own measure.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// Until then a message without acknowledgement is sent again with the same id: once, at most twice.
const TRY_WAIT: Duration = Duration::from_secs(10);
/// A publisher waits this long for a connection before it is told that NATS is away.
const READY_WAIT: Duration = Duration::from_secs(2);
/// Between two tries after an answer that came at once, such as a missing stream.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// A message ready for the client.
pub(super) struct Outgoing {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    pub(super) bytes: usize,
}

impl Outgoing {
    /// Turns a message into the client's types; header values are parsed, never inserted raw.
    pub(super) fn new(raw: RawMessage) -> Result<Self, Error> {
        let refused = |what: String| Error::Refused(what);
        let bytes = wire::size(&raw);
        let mut headers = HeaderMap::new();
        for (name, value) in &raw.headers {
            let name: HeaderName =
                name.parse().map_err(|_| refused(format!("`{name}` cannot be a NATS header's name")))?;
            let value: HeaderValue =
                value.parse().map_err(|_| refused(format!("header `{name}` holds a line break")))?;
            headers.append(name, value);
        }
        Ok(Self { subject: raw.subject, headers, payload: raw.payload, bytes })
    }
}

/// How one try ended.
enum Failure {
    /// The message will never be taken.
    Refused(String),
    /// NATS is away, or lacks the stream, or is full.
    Unavailable(String),
}

/// Publishes one message, again and again until [`TRY_WAIT`] is over.
pub(super) async fn one(shared: &Shared, message: &Outgoing) -> Result<Published, Error> {
    let deadline = Instant::now() + TRY_WAIT;
    loop {
        let session = ready(shared).await?;
        let request = Request::new().headers(message.headers.clone()).payload(message.payload.clone());
        let failure = match request_ack(shared, &session, &message.subject, request, message.bytes).await {
            Ok(ack) => return Ok(ack.published),
            Err(Failure::Refused(why)) => return Err(Error::Refused(why)),
            Err(Failure::Unavailable(why)) => why,
        };
        shared.doubt();
        if Instant::now() + AGAIN_PAUSE >= deadline {
            return Err(Error::Unavailable(failure));
        }
        tokio::time::sleep(AGAIN_PAUSE).await;
    }
}

/// Publishes one message on a session that is still being made ready, in one try.
pub(super) async fn one_now(shared: &Shared, session: &Session, message: &Outgoing) -> Result<Published, Error> {
    let request = Request::new().headers(message.headers.clone()).payload(message.payload.clone());
    match request_ack(shared, session, &message.subject, request, message.bytes).await {
        Ok(ack) => Ok(ack.published),
        Err(Failure::Refused(why)) => Err(Error::Refused(why)),
        Err(Failure::Unavailable(why)) => Err(Error::Unavailable(why)),
    }
}

/// Publishes several as one atomic batch; none when that did not work, for whatever reason.
pub(super) async fn batch(shared: &Shared, messages: &[&Outgoing]) -> Option<Vec<Published>> {
    let _turn = shared.batches.acquire().await.ok()?;
    let session = shared.session.borrow().clone()?;
    let client = session.context.client();
    let id = uuid::Uuid::now_v7().simple().to_string();
    let (last, before) = messages.split_last()?;
    let headers = |message: &Outgoing, number: usize| {
        let mut headers = message.headers.clone();
        headers.insert("Nats-Batch-Id", id.as_str());
        headers.insert("Nats-Batch-Sequence", HeaderValue::from(number));
        headers
    };
    for (index, message) in before.iter().enumerate() {
        // Not answered: a mistake in any of them shows in the answer to the last.
        let sent =
            client.publish_with_headers(message.subject.clone(), headers(message, index + 1), message.payload.clone());
        sent.await.ok()?;
    }
    let mut commit = headers(last, messages.len());
    commit.insert("Nats-Batch-Commit", "1");
    let request = Request::new().headers(commit).payload(last.payload.clone());
    match request_ack(shared, &session, &last.subject, request, last.bytes).await {
        Ok(ack) if ack.count == Some(messages.len() as u64) => {
            let first = (ack.published.sequence + 1).checked_sub(messages.len() as u64)?;
            let published = |sequence| Published { stream: ack.published.stream.clone(), sequence, duplicate: false };
            Some((first..=ack.published.sequence).map(published).collect())
        }
        // An event that the stream has already refuses the whole batch, and so does a lost connection.
        Ok(_) => None,
        Err(Failure::Refused(why) | Failure::Unavailable(why)) => {
            tracing::debug!(error = why, events = messages.len(), "batch was not taken, sending one at a time");
            None
        }
    }
}

/// Waits a short while for a reconciled connection.
pub(super) async fn ready(shared: &Shared) -> Result<Arc<Session>, Error> {
    let mut session = shared.session.subscribe();
    let found = tokio::time::timeout(READY_WAIT, session.wait_for(Option::is_some)).await;
    match found {
        Ok(Ok(session)) => Ok(session.as_ref().expect("waited for").clone()),
        Ok(Err(_)) | Err(_) => Err(Error::Unavailable(shared.status.borrow().message.clone())),
    }
}

#[derive(Debug)]
struct Ack {
    published: Published,
    /// Messages stored together, for the last of a batch.
    count: Option<u64>,
}

async fn request_ack(
    shared: &Shared,
    session: &Session,
    subject: &str,
    request: Request,
    bytes: usize,
) -> Result<Ack, Failure> {
    use async_nats::RequestErrorKind as Kind;
    let client = session.context.client();
    if bytes > client.max_payload() {
        return Err(Failure::Refused(format!(
            "it has {bytes} bytes with its headers; the server takes {}",
            client.max_payload()
        )));
    }
    let mut sessions = shared.session.subscribe();
    let number = session.number;
    let answer = tokio::select! {
        biased;
        answer = client.send_request(subject.to_owned(), request.timeout(Some(ACK_WAIT))) => answer,
        // The connection broke: what was sent on it will not be answered on the next one.
        _ = sessions.wait_for(|current| current.as_ref().is_none_or(|current| current.number != number)) => {
            return Err(Failure::Unavailable(shared.status.borrow().message.clone()));
        }
    };
    match answer {
        Ok(answer) => read(&answer.payload),
        Err(error) => Err(match error.kind() {
            Kind::NoResponders => Failure::Unavailable(format!("no stream takes `{subject}`")),
            Kind::TimedOut => Failure::Unavailable("no acknowledgement in 5 s".to_owned()),
            Kind::InvalidSubject => Failure::Refused(format!("`{subject}` is no subject to publish to")),
            Kind::MaxPayloadExceeded => Failure::Refused(error.to_string()),
            Kind::Other => Failure::Unavailable(error.to_string()),
        }),
    }
}

/// Reads a PubAck or the error in its place.
fn read(payload: &[u8]) -> Result<Ack, Failure> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        stream: String,
        #[serde(default)]
        seq: u64,
        #[serde(default)]
        duplicate: bool,
        count: Option<u64>,
        error: Option<ApiError>,
    }
    #[derive(serde::Deserialize)]
    struct ApiError {
        code: u16,
        #[serde(default)]
        err_code: u64,
        #[serde(default)]
        description: String,
    }
    let answer: Answer = serde_json::from_slice(payload)
        .map_err(|error| Failure::Unavailable(format!("the answer is no acknowledgement: {error}")))?;
    match answer.error {
        None if answer.seq == 0 => Err(Failure::Unavailable("the answer is no acknowledgement".to_owned())),
        None => {
            let (stream, sequence, duplicate) = (answer.stream.into(), answer.seq, answer.duplicate);
            Ok(Ack { published: Published { stream, sequence, duplicate }, count: answer.count })
        }
        Some(error) => {
            let why = format!("{} (error {})", error.description, error.err_code);
            // A bad request is the message's fault. 404 is a stream that went away, 5xx a server in
            // trouble, also when it is full: those are repaired, and the message is taken then.
            Err(if error.code == 400 { Failure::Refused(why) } else { Failure::Unavailable(why) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let rows: &[(&str, &str, &str)] = &[
            ("taken", r#"{"stream":"EVENTS","seq":7}"#, "7 false"),
            ("had it already", r#"{"stream":"EVENTS","seq":7,"duplicate":true}"#, "7 true"),
            (
                "too large",
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS","seq":0}"#,
                "refused: message size exceeds maximum allowed (error 10054)",
            ),
            (
                "full",
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"EVENTS","seq":0}"#,
                "away: maximum bytes exceeded (error 10077)",
            ),
            (
                "gone",
                r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#,
                "away: stream not found (error 10059)",
            ),
            (
                "some responder that is no stream",
                "hello",
                "away: the answer is no acknowledgement: expected value at line 1 column 1",
            ),
            ("empty object", "{}", "away: the answer is no acknowledgement"),
        ];
        for (why, payload, expected) in rows {
            let got = match read(payload.as_bytes()) {
                Ok(ack) => format!("{} {}", ack.published.sequence, ack.published.duplicate),
                Err(Failure::Refused(why)) => format!("refused: {why}"),
                Err(Failure::Unavailable(why)) => format!("away: {why}"),
            };
            assert_eq!(got, *expected, "{why}");
        }
    }

    #[test]
    fn headers_are_parsed() {
        let rows = [
            ("ok", "v", true),
            ("ok", "a\r\nNats-Rollup: all", false),
            ("a b", "v", false),
            ("a:b", "v", false),
            ("ü", "v", false),
        ];
        for (name, value, good) in rows {
            assert_eq!(
                Outgoing::new(wire::raw("events.a.v1", &[(name, value)], b"")).is_ok(),
                good,
                "{name}: {value:?}"
            );
        }
    }
}
