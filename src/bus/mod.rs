//! Events in and out of NATS JetStream: subjects, headers, streams, consumers, dead letters. Knows
//! nothing of runs or of the journal.

pub mod archive;
pub mod dead_letter;
mod delivery;
pub mod jetstream;
pub mod memory;
mod memory_archive;
pub mod options;
pub mod proof;
mod publish;
pub mod reconcile;
mod send;
mod stored;
mod supervisor;
mod undelivered;
pub mod wire;

pub use archive::Archive;
pub use jetstream::JetStreamBus;
pub use memory::MemoryBus;
pub use options::{Durability, Limits, Options};

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::envelope::Event;
use crate::id::EventType;
use crate::time::Timestamp;

/// Where a published event lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub stream: Arc<str>,
    pub sequence: u64,
    /// The server had it already (same `Nats-Msg-Id` within its window).
    pub duplicate: bool,
}

/// What waits for the consumer, in events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// In the stream, never delivered.
    pub pending: u64,
    /// Delivered and not acknowledged.
    pub ack_pending: u64,
}

/// A message as it lies in a stream: what a dead letter keeps.
#[derive(Debug, Clone)]
pub struct RawMessage {
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub payload: Bytes,
}

/// One message pulled from the EVENTS stream; it is delivered again until it is acknowledged.
pub struct Delivery {
    pub stream: Arc<str>,
    pub consumer: Arc<str>,
    /// The stream's creation time, in nanoseconds since 1970.
    pub stream_created: u64,
    pub sequence: u64,
    /// Deliveries of this message so far, from 1.
    pub delivered: u64,
    pub published_at: Timestamp,
    /// The replay that it comes from, if it is not for the first time.
    pub replay: Option<Arc<str>>,
    /// The event, or why the message is none that is taken.
    pub event: Result<Event, NoEvent>,
    pub raw: RawMessage,
    pub ack: Box<dyn Acknowledge>,
}

/// Why a message is no event that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoEvent {
    /// A word for the dead letter: `invalid_event` or `too_large`.
    pub reason: &'static str,
    /// Every mistake.
    pub detail: String,
}

/// Answers for one delivery. Dropping it without an answer lets the server deliver again after its wait.
pub trait Acknowledge: Send + Sync {
    /// Says that every target has the event. Called after the journal commit, never before.
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()>;
    /// Asks for redelivery after a pause.
    fn later(self: Box<Self>, pause: std::time::Duration) -> BoxFuture<'static, ()>;
}

/// A message put aside, with the reason.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub raw: RawMessage,
    /// A word: `invalid_event`, `too_large`, `invalid_data`, `unknown_type`, `key_conflict`, `null_key`, `expression`, …
    pub reason: String,
    /// For people: what exactly is wrong, with JSON pointers where data is invalid.
    pub detail: String,
    /// JSON pointers into the data: every place that is wrong.
    pub pointers: Vec<String>,
    pub consumer: String,
    pub stream: String,
    pub sequence: u64,
    /// How often it was tried, and when.
    pub attempts: u64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// What is known of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Connected, streams reconciled, consumer running.
    pub ready: bool,
    /// One line for people: what is wrong, or what was proved of the server.
    pub message: String,
}

/// Publish, consume, put aside.
pub trait Bus: Send + Sync + 'static {
    /// Publishes events in order and waits for every PubAck; one result per event, in order. After
    /// the first failure the events behind it are not tried (their result repeats the error).
    fn publish(&self, events: Vec<Event>) -> BoxFuture<'static, Vec<Result<Published, Error>>>;

    /// Takes the next deliveries: at least one, at most `max`. Waits while the bus is away.
    fn next(&self, max: usize) -> BoxFuture<'_, Vec<Delivery>>;

    /// Puts a message aside in DEAD_LETTERS.
    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'static, Result<Published, Error>>;

    /// Says what waits for the consumer, as far as is known.
    fn backlog(&self) -> Backlog;

    /// Watches the connection.
    fn status(&self) -> watch::Receiver<Status>;

    /// Event types that the consumer asks for, each in every version; called before `next`, and again when they
    /// change.
    fn subscribe(&self, types: Vec<EventType>);
}

/// Why the bus did not take something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("NATS is away: {0}")]
    Unavailable(String),
    #[error("the event is refused: {0}")]
    Refused(String),
}
