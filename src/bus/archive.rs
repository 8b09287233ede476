//! What lies in the streams, read by place instead of by delivery: for dead letters, replays, subscriptions
//! and everyone who looks. Messages come through the server's API as Base64, so that headers which would
//! end a client's connection can be read like any other.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Error, Published, RawMessage};
use crate::time::Timestamp;

/// One of our streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Events,
    DeadLetters,
    /// What operators did to dead letters and replays.
    Audit,
    /// The newest value of each name that is kept.
    State,
}

/// A message at its place.
#[derive(Debug, Clone)]
pub struct Stored {
    pub sequence: u64,
    pub stored_at: Timestamp,
    pub raw: RawMessage,
    /// Why the headers could not be read; they are then in `raw` as Base64 in one header.
    pub unreadable: Option<String>,
}

/// Messages in order, and where to go on. `next` is never beyond a place that may still be filled.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub messages: Vec<Stored>,
    pub next: u64,
}

/// What a stream holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    pub first: u64,
    /// 0 for a stream that never had a message.
    pub last: u64,
    pub messages: u64,
    /// In nanoseconds since 1970; tells a stream made anew from the one before.
    pub created: u64,
}

/// Reads, removes and adds messages, and keeps small values that must outlive the process.
pub trait Archive: Send + Sync + 'static {
    /// Returns what a stream holds.
    fn extent(&self, stream: Stream) -> BoxFuture<'static, Result<Extent, Error>>;

    /// Reads at most `max` messages from a sequence on whose subjects match one of `subjects` (with `>` at
    /// the end for all that follows). Does not wait for new ones.
    fn read(
        &self,
        stream: Stream,
        from: u64,
        subjects: Vec<String>,
        max: usize,
    ) -> BoxFuture<'static, Result<Page, Error>>;

    /// Finds the first sequence that was stored at or after a time; behind the last one when there is none.
    fn at(&self, stream: Stream, time: Timestamp) -> BoxFuture<'static, Result<u64, Error>>;

    /// Removes a message; false when it is not there any more.
    fn remove(&self, stream: Stream, sequence: u64) -> BoxFuture<'static, Result<bool, Error>>;

    /// Stores a message as it is on its subject, which must be one of our streams'.
    fn put(&self, raw: RawMessage) -> BoxFuture<'static, Result<Published, Error>>;

    /// Keeps a value under a name of `a-z`, `0-9`, `-`, `_` and `.`.
    fn keep(&self, name: String, value: Bytes) -> BoxFuture<'static, Result<(), Error>>;

    /// Returns the kept values whose names begin so, by name, for a prefix with `.` at its end; else the one
    /// of this name.
    fn kept(&self, prefix: String) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, Error>>;
}

/// True when a subject is one of these; `*` at the end stands for one token, `>` for all that follows.
#[must_use]
pub fn matches(subject: &str, subjects: &[String]) -> bool {
    subjects.iter().any(|wanted| match (wanted.strip_suffix('>'), wanted.strip_suffix('*')) {
        (Some(prefix), _) => subject.starts_with(prefix),
        (None, Some(prefix)) => {
            subject.strip_prefix(prefix).is_some_and(|last| !last.is_empty() && !last.contains('.'))
        }
        (None, None) => subject == wanted,
    })
}
