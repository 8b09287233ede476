//! What the server has delivered and nobody has in hand.
//!
//! Most of it was on its way when a connection broke or a process ended; it is asked for again at once, where
//! the server alone would wait out its time. Some of it broke the connection: a header that is no UTF-8 or has
//! no colon ends the NATS client's connection, and the server stores such messages all the same, so one of
//! them would stop every event behind it. Those are looked up through the API, where they come as Base64 in
//! JSON, put aside in DEAD_LETTERS and acknowledged.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use bytes::Bytes;
use futures_util::StreamExt;

use super::jetstream::{Session, Shared};
use super::reconcile::EVENTS_STREAM;
use super::send::{self, Outgoing};
use super::{DeadLetter, RawMessage, jetstream, wire};
use crate::envelope::base64;

/// Messages looked at from the lowest unacknowledged one on: one that cannot be read stays the lowest.
const FROM_FLOOR: u64 = 2_048;
/// Messages looked at up to the last delivered one: a pull and a half is on its way at most.
const TO_LAST: u64 = 512;
/// Look-ups under way at a time.
const AT_A_TIME: usize = 64;
/// The original headers are kept as Base64 in one header, up to here.
const HEADERS_BYTES_MAX: usize = 24 * 1_024;
/// A connection that has just ended may still be seen waiting; the server notices within milliseconds.
const GONE_PAUSE: Duration = Duration::from_millis(100);
/// Looks at that, one second in all.
const GONE_LOOKS: u32 = 10;
/// JetStream's API answers in milliseconds.
const API_WAIT: Duration = Duration::from_secs(5);

/// A message as `$JS.API.STREAM.MSG.GET` returns it.
struct Stored {
    sequence: u64,
    subject: String,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

/// What to do with a message that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Ask for it again: whoever had it is gone.
    Again,
    /// Leave it to the server's wait: it was dropped on purpose.
    Leave,
}

/// Looks at every delivered message that is not in hand; puts aside what could not be read.
///
/// # Errors
/// One line when the API does not answer or DEAD_LETTERS does not take a message.
pub(super) async fn recover(shared: &Shared, session: &Session, readable: Readable) -> Result<(), String> {
    let name = shared.options.consumer.as_str();
    let readable =
        if readable == Readable::Again && others_read(session, name).await? { Readable::Leave } else { readable };
    let consumer = session.context.get_consumer_from_stream::<pull::Config, _, _>(name, EVENTS_STREAM).await;
    let consumer: PullConsumer = consumer.map_err(|error| format!("consumer {name} cannot be looked at: {error}"))?;
    let info = consumer.cached_info();
    if info.num_ack_pending == 0 {
        return Ok(());
    }
    let (floor, last) = (info.ack_floor.stream_sequence, info.delivered.stream_sequence);
    let mut sequences: BTreeSet<u64> = (floor + 1..=last.min(floor + FROM_FLOOR)).collect();
    sequences.extend(last.saturating_sub(TO_LAST).max(floor + 1)..=last);
    let in_hand = shared.in_hand.lock().unwrap_or_else(PoisonError::into_inner).sequences(session.events_created);
    let unknown: Vec<u64> = sequences.difference(&in_hand).copied().collect();
    let client = session.context.client();
    let mut looked_up =
        futures_util::stream::iter(unknown).map(|sequence| look_up(session, sequence)).buffered(AT_A_TIME);
    while let Some(stored) = looked_up.next().await {
        let Some(stored) = stored? else { continue };
        // The server finds a delivery by the stream's sequence; the consumer's must only not be one that is
        // done with, which the last one never is while something is outstanding. The rest does not matter.
        let (sequence, delivery) = (stored.sequence, info.delivered.consumer_sequence);
        let answers = format!("$JS.ACK.{EVENTS_STREAM}.{name}.1.{sequence}.{delivery}.0.0");
        match (check(&stored.subject, &stored.headers), readable) {
            (Err(why), _) => {
                one(shared, session, stored, why).await?;
                let request = Request::new().payload(AckKind::Ack.into()).timeout(Some(API_WAIT));
                client.send_request(answers, request).await.map_err(|error| {
                    format!("message {sequence} of {EVENTS_STREAM} cannot be acknowledged: {error}")
                })?;
            }
            // No effect on one that is acknowledged already.
            (Ok(()), Readable::Again) => {
                let sent = client.publish(answers, AckKind::Nak(None).into()).await;
                sent.map_err(|error| format!("message {sequence} cannot be asked for again: {error}"))?;
            }
            (Ok(()), Readable::Leave) => {}
        }
    }
    Ok(())
}

/// True when somebody else waits for messages of the same consumer: what is not in our hand may be in theirs.
async fn others_read(session: &Session, name: &str) -> Result<bool, String> {
    for _ in 0..GONE_LOOKS {
        let consumer = session.context.get_consumer_from_stream::<pull::Config, _, _>(name, EVENTS_STREAM).await;
        let consumer: PullConsumer =
            consumer.map_err(|error| format!("consumer {name} cannot be looked at: {error}"))?;
        if consumer.cached_info().num_waiting == 0 {
            return Ok(false);
        }
        tokio::time::sleep(GONE_PAUSE).await;
    }
    tracing::warn!(consumer = name, "another process reads this consumer; give each its own name in nats.consumer");
    Ok(true)
}

/// Puts one message aside.
async fn one(shared: &Shared, session: &Session, stored: Stored, why: String) -> Result<(), String> {
    let sequence = stored.sequence;
    tracing::warn!(sequence, reason = why, "a message that cannot be read is put aside");
    let cut = &stored.headers[..stored.headers.len().min(HEADERS_BYTES_MAX)];
    let letter = DeadLetter {
        raw: RawMessage {
            subject: stored.subject,
            headers: vec![("Backstitch-Original-Headers".to_owned(), base64::encode(cut))],
            payload: Bytes::from(stored.payload),
        },
        reason: "invalid_event".to_owned(),
        detail: why,
        consumer: shared.options.consumer.clone(),
        stream: EVENTS_STREAM.to_owned(),
        sequence,
    };
    let raw = wire::encode_dead_letter(&letter, &jetstream::now().to_string());
    let message = Outgoing::new(raw).map_err(|error| error.to_string())?;
    let published = send::one_now(shared, session, &message).await;
    published.map(|_| ()).map_err(|error| {
        format!("message {sequence} of {EVENTS_STREAM} cannot be read, and cannot be put aside: {error}")
    })
}

/// Returns a message, none when it is not there any more.
async fn look_up(session: &Session, sequence: u64) -> Result<Option<Stored>, String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        message: Option<Message>,
        error: Option<Problem>,
    }
    #[derive(serde::Deserialize)]
    struct Message {
        subject: String,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
    }
    #[derive(serde::Deserialize)]
    struct Problem {
        code: u16,
        #[serde(default)]
        description: String,
    }
    let failed = |why: String| format!("message {sequence} of {EVENTS_STREAM} cannot be looked at: {why}");
    let subject = format!("STREAM.MSG.GET.{EVENTS_STREAM}");
    let answer: Answer = session
        .context
        .request(subject, &serde_json::json!({ "seq": sequence }))
        .await
        .map_err(|error| failed(error.to_string()))?;
    match (answer.message, answer.error) {
        (Some(message), _) => {
            let bytes = |text: &str| base64::decode(text).ok_or_else(|| failed("it is no Base64".to_owned()));
            let (headers, payload) = (bytes(&message.hdrs)?, bytes(&message.data)?);
            Ok(Some(Stored { sequence, subject: message.subject, headers, payload }))
        }
        (None, Some(problem)) if problem.code == 404 => Ok(None),
        (None, Some(problem)) => Err(failed(problem.description)),
        (None, None) => Err(failed("the answer is empty".to_owned())),
    }
}

/// Says why the client could not hand a message over: its own rules for reading, one by one.
fn check(subject: &str, headers: &[u8]) -> Result<(), String> {
    // The API writes U+FFFD for what is no UTF-8; the client splits a message's first line at white space.
    if subject.chars().any(|c| c == char::REPLACEMENT_CHARACTER || c.is_whitespace()) {
        return Err("the subject is no UTF-8 or holds white space".to_owned());
    }
    if headers.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(headers).map_err(|error| format!("the headers are no UTF-8: {error}"))?;
    let mut lines = text.lines();
    match lines.next().and_then(|line| line.strip_prefix("NATS/1.0")).map(str::trim) {
        Some("") => {}
        Some(status) => return Err(format!("the headers begin with a status, `{}`", status.escape_default())),
        None => return Err("the headers do not begin with NATS/1.0".to_owned()),
    }
    let mut first = true;
    for line in lines.filter(|line| !line.is_empty()) {
        let continued = !first && line.starts_with(char::is_whitespace);
        first = false;
        if line.contains('\r') {
            return Err("a header holds a lone carriage return".to_owned());
        }
        if continued {
            continue;
        }
        match line.split_once(':') {
            None => return Err(format!("the header line `{}` has no colon", line.escape_default())),
            Some((name, _)) if name.chars().any(|c| !c.is_ascii_graphic()) => {
                return Err(format!("the header name `{}` holds what no name may", name.escape_default()));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_reads() {
        let rows: &[(&str, &str, &[u8], Option<&str>)] = &[
            ("no headers", "events.a.v1", b"", None),
            ("headers", "events.a.v1", b"NATS/1.0\r\nce-id: 1\r\nempty:\r\n\r\n", None),
            ("UTF-8", "events.\u{fc}.v1", "NATS/1.0\r\nce-id: \u{fc}\r\n\r\n".as_bytes(), None),
            ("continued", "events.a.v1", b"NATS/1.0\r\na: 1\r\n  2\r\n\r\n", None),
            ("Latin-1", "events.a.v1", b"NATS/1.0\r\nce-id: \xfc\r\n\r\n", Some("no UTF-8")),
            ("no colon", "events.a.v1", b"NATS/1.0\r\nhello\r\n\r\n", Some("`hello` has no colon")),
            ("a name with a space", "events.a.v1", b"NATS/1.0\r\nce id: 1\r\n\r\n", Some("`ce id`")),
            ("continues nothing", "events.a.v1", b"NATS/1.0\r\n a: 1\r\n\r\n", Some("` a`")),
            ("a lone carriage return", "events.a.v1", b"NATS/1.0\r\na: b\rc\r\n\r\n", Some("carriage return")),
            ("a status", "events.a.v1", b"NATS/1.0 408 Request Timeout\r\n\r\n", Some("`408 Request Timeout`")),
            ("no version", "events.a.v1", b"a: 1\r\n\r\n", Some("do not begin")),
            ("a subject with white space", "events.\u{a0}.v1", b"", Some("subject")),
            ("a subject that was no UTF-8", "events.\u{fffd}.v1", b"", Some("subject")),
        ];
        for (why, subject, headers, expected) in rows {
            match (check(subject, headers), expected) {
                (Ok(()), None) => {}
                (Err(found), Some(part)) => assert!(found.contains(part), "{why}: {found}"),
                (got, _) => panic!("{why}: {got:?}"),
            }
        }
    }
}
