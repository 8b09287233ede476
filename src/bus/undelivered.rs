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

use super::dead_letter::ORIGINAL_HEADERS;
use super::jetstream::{Session, Shared};
use super::reconcile::EVENTS_STREAM;
use super::send::{self, Outgoing};
use super::stored::{self, Fetched, Wanted};
use super::{Backlog, DeadLetter, RawMessage, dead_letter, jetstream, wire};

/// Messages looked at from the lowest unacknowledged one on: one that cannot be read stays the lowest.
const FROM_FLOOR: u64 = 2_048;
/// Messages looked at up to the last delivered one: a pull and a half is on its way at most.
const TO_LAST: u64 = 512;
/// Look-ups under way at a time.
const AT_A_TIME: usize = 64;
/// A connection that has just ended may still be seen waiting; the server notices within milliseconds.
const GONE_PAUSE: Duration = Duration::from_millis(100);
/// Looks at that, one second in all.
const GONE_LOOKS: u32 = 10;
/// JetStream's API answers in milliseconds.
const API_WAIT: Duration = Duration::from_secs(5);

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
    let consumer = look_at(session, name).await?;
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
    let mut looked_up = futures_util::stream::iter(unknown)
        .map(async |sequence| stored::fetch(session, EVENTS_STREAM, &Wanted::At(sequence)).await)
        .buffered(AT_A_TIME);
    while let Some(stored) = looked_up.next().await {
        let Some(stored) = stored? else { continue };
        // The server finds a delivery by the stream's sequence; the consumer's must only not be one that is
        // done with, which the last one never is while something is outstanding. The rest does not matter.
        let (sequence, delivery) = (stored.sequence, info.delivered.consumer_sequence);
        let answers = format!("$JS.ACK.{EVENTS_STREAM}.{name}.1.{sequence}.{delivery}.0.0");
        match (wire::read_headers(&stored.subject, &stored.headers).map(|_| ()), readable) {
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

async fn look_at(session: &Session, name: &str) -> Result<PullConsumer, String> {
    let consumer = session.context.get_consumer_from_stream::<pull::Config, _, _>(name, EVENTS_STREAM).await;
    consumer.map_err(|error| format!("consumer {name} cannot be looked at: {error}"))
}

/// Asks the server what waits for the consumer.
///
/// # Errors
/// One line when the API does not answer.
pub(super) async fn backlog(shared: &Shared, session: &Session) -> Result<Backlog, String> {
    let consumer = look_at(session, &shared.options.consumer).await?;
    let info = consumer.cached_info();
    let ack_pending = u64::try_from(info.num_ack_pending).unwrap_or(u64::MAX);
    Ok(Backlog { pending: info.num_pending, ack_pending })
}

/// True when somebody else waits for messages of the same consumer: what is not in our hand may be in theirs.
async fn others_read(session: &Session, name: &str) -> Result<bool, String> {
    for _ in 0..GONE_LOOKS {
        if look_at(session, name).await?.cached_info().num_waiting == 0 {
            return Ok(false);
        }
        tokio::time::sleep(GONE_PAUSE).await;
    }
    tracing::warn!(consumer = name, "another process reads this consumer; give each its own name in nats.consumer");
    Ok(true)
}

/// Puts one message aside.
async fn one(shared: &Shared, session: &Session, stored: Fetched, why: String) -> Result<(), String> {
    let (sequence, now) = (stored.sequence, jetstream::now());
    tracing::warn!(sequence, reason = why, "a message that cannot be read is put aside");
    let letter = DeadLetter {
        raw: RawMessage {
            subject: stored.subject,
            headers: vec![(ORIGINAL_HEADERS.to_owned(), stored::base64_of(&stored.headers))],
            payload: Bytes::from(stored.payload),
        },
        reason: "invalid_event".to_owned(),
        detail: why,
        pointers: Vec::new(),
        consumer: shared.options.consumer.clone(),
        stream: EVENTS_STREAM.to_owned(),
        sequence,
        attempts: 1,
        first_at: now,
        last_at: now,
    };
    let raw = dead_letter::encode(&letter, now);
    let message = Outgoing::new(raw).map_err(|error| error.to_string())?;
    let published = send::one_now(shared, session, &message).await;
    published.map(|_| ()).map_err(|error| {
        format!("message {sequence} of {EVENTS_STREAM} cannot be read, and cannot be put aside: {error}")
    })
}
