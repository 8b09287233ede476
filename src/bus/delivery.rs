//! From a pulled message to a [`Delivery`], and its answers. Deliveries that are still being worked on are
//! kept from coming again; one that is dropped without an answer is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::jetstream::Shared;
use super::{Acknowledge, Delivery, RawMessage, wire};
use crate::time::Timestamp;

/// An answer waits for the client's queue at most this long; unanswered, the message comes again.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// A delivery is kept from coming again for at most this long: beyond it somebody has forgotten it.
const KEEP_MAX: Duration = Duration::from_secs(600);

/// Deliveries without an answer, by a number of their own.
#[derive(Debug, Default)]
pub(super) struct InHand {
    next: u64,
    held: BTreeMap<u64, Held>,
}

#[derive(Debug, Clone)]
struct Held {
    reply: Subject,
    since: Instant,
    stream_created: u64,
    sequence: u64,
}

impl InHand {
    /// Returns the sequences of the stream that was created then.
    pub(super) fn sequences(&self, stream_created: u64) -> BTreeSet<u64> {
        let same = |held: &&Held| held.stream_created == stream_created;
        self.held.values().filter(same).map(|held| held.sequence).collect()
    }
}

/// Where deliveries come from: one text for all of them.
pub(super) struct Names {
    pub stream: Arc<str>,
    pub consumer: Arc<str>,
}

fn shared_text(usual: &Arc<str>, text: &str) -> Arc<str> {
    if **usual == *text { Arc::clone(usual) } else { Arc::from(text) }
}

/// Makes a delivery of a message; none for one that JetStream did not send.
pub(super) fn delivery(
    shared: &Arc<Shared>,
    (stream_created, names): (u64, &Names),
    message: async_nats::jetstream::Message,
) -> Option<Delivery> {
    let info = message.info().ok()?;
    let (stream, consumer) = (shared_text(&names.stream, info.stream), shared_text(&names.consumer, info.consumer));
    let (sequence, delivered) = (info.stream_sequence, u64::try_from(info.delivered).unwrap_or(1));
    let published_ms = info.published.unix_timestamp_nanos() / 1_000_000;
    let reply = message.reply.clone()?;
    let given = message.headers.as_ref();
    let mut headers: Vec<(String, String)> = Vec::with_capacity(given.map_or(0, async_nats::HeaderMap::len));
    for (name, values) in given.into_iter().flat_map(async_nats::HeaderMap::iter) {
        let name: &str = name.as_ref();
        headers.extend(values.iter().map(|value| (name.to_owned(), value.as_str().to_owned())));
    }
    headers.sort_by(|a, b| a.0.cmp(&b.0)); // the client keeps them in no order
    let raw = RawMessage { subject: message.subject.to_string(), headers, payload: message.message.payload };
    let number = {
        let mut in_hand = shared.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        in_hand.next += 1;
        let number = in_hand.next;
        in_hand.held.insert(number, Held { reply: reply.clone(), since: Instant::now(), stream_created, sequence });
        number
    };
    let ack = Box::new(Answer { shared: shared.clone(), reply, stream_created, number });
    Some(Delivery {
        stream,
        consumer,
        stream_created,
        sequence,
        delivered,
        published_at: Timestamp(u64::try_from(published_ms).unwrap_or(0)),
        replay: None,
        event: wire::read(&raw, shared.options.event_bytes_max),
        raw,
        ack,
    })
}

/// Tells the server about every delivery still in hand, three times in each of its waits.
pub(super) async fn keep_in_hand(shared: &Shared, client: &Client) {
    let pause = shared.options.ack_wait / 3;
    loop {
        tokio::time::sleep(pause).await;
        let now = Instant::now();
        let held: Vec<Held> =
            shared.in_hand.lock().unwrap_or_else(PoisonError::into_inner).held.values().cloned().collect();
        let due = |held: &&Held| {
            let age = now.duration_since(held.since);
            age >= pause / 2 && age < KEEP_MAX && shared.current(held.stream_created).is_some()
        };
        for held in held.iter().filter(due) {
            if client.publish(held.reply.clone(), AckKind::Progress.into()).await.is_err() {
                return;
            }
        }
    }
}

struct Answer {
    shared: Arc<Shared>,
    reply: Subject,
    stream_created: u64,
    number: u64,
}

impl Answer {
    async fn send(self: Box<Self>, answer: Bytes) {
        // In a stream made anew the same number is another message: an answer to the one before would
        // acknowledge it unseen.
        let Some(session) = self.shared.current(self.stream_created) else {
            return;
        };
        // Lost answers do no harm: the message comes again and is known.
        let _ = tokio::time::timeout(ANSWER_WAIT, session.client.publish(self.reply.clone(), answer)).await;
    }
}

impl Acknowledge for Answer {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(self.send(AckKind::Ack.into()))
    }

    fn later(self: Box<Self>, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.send(AckKind::Nak(Some(pause)).into()))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.shared.in_hand.lock().unwrap_or_else(PoisonError::into_inner).held.remove(&self.number);
    }
}
