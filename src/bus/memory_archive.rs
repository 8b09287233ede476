//! The memory bus read by place, as the real one is.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::archive::{Archive, Extent, Page, Stored, Stream, matches};
use super::memory::MemoryBus;
use super::{Error, Published, RawMessage, dead_letter, wire};
use crate::time::Timestamp;

/// Streams beside EVENTS, which the bus itself has.
#[derive(Default)]
pub(super) struct Streams {
    pub(super) dead_letters: Vec<Option<Stored>>,
    pub(super) audit: Vec<Option<Stored>>,
    pub(super) kept: std::collections::BTreeMap<String, Bytes>,
}

impl Streams {
    /// Adds a message behind the others; returns its sequence.
    pub(super) fn add(stream: &mut Vec<Option<Stored>>, raw: RawMessage) -> u64 {
        let sequence = stream.len() as u64 + 1;
        stream.push(Some(Stored { sequence, stored_at: Timestamp(sequence), raw, unreadable: None }));
        sequence
    }
}

impl MemoryBus {
    /// Returns every message of a stream in order.
    fn all(&self, stream: Stream) -> Vec<Stored> {
        self.with_streams(|events, streams| match stream {
            Stream::Events => events,
            Stream::DeadLetters => streams.dead_letters.iter().flatten().cloned().collect(),
            Stream::Audit => streams.audit.iter().flatten().cloned().collect(),
            Stream::State => Vec::new(),
        })
    }

    /// Returns the letters as they lie in DEAD_LETTERS.
    #[must_use]
    pub fn letters(&self) -> Vec<dead_letter::Letter> {
        self.all(Stream::DeadLetters).iter().map(dead_letter::decode).collect()
    }
}

fn now<T: Send + 'static>(result: Result<T, Error>) -> BoxFuture<'static, Result<T, Error>> {
    Box::pin(std::future::ready(result))
}

impl Archive for MemoryBus {
    fn extent(&self, stream: Stream) -> BoxFuture<'static, Result<Extent, Error>> {
        let all = self.all(stream);
        now(Ok(Extent {
            first: all.first().map_or(1, |stored| stored.sequence),
            last: all.last().map_or(0, |stored| stored.sequence),
            messages: all.len() as u64,
            created: 1,
        }))
    }

    fn read(
        &self,
        stream: Stream,
        from: u64,
        subjects: Vec<String>,
        max: usize,
    ) -> BoxFuture<'static, Result<Page, Error>> {
        let wanted = |stored: &Stored| stored.sequence >= from && matches(&stored.raw.subject, &subjects);
        let messages: Vec<Stored> = self.all(stream).into_iter().filter(wanted).take(max.max(1)).collect();
        let next = messages.last().map_or(from.max(1), |stored| stored.sequence + 1);
        now(Ok(Page { messages, next }))
    }

    fn at(&self, stream: Stream, time: Timestamp) -> BoxFuture<'static, Result<u64, Error>> {
        let all = self.all(stream);
        let found = all.iter().find(|stored| stored.stored_at >= time).map(|stored| stored.sequence);
        now(Ok(found.unwrap_or_else(|| all.last().map_or(1, |stored| stored.sequence + 1))))
    }

    fn remove(&self, stream: Stream, sequence: u64) -> BoxFuture<'static, Result<bool, Error>> {
        now(Ok(self.with_streams(|_, streams| {
            let list = match stream {
                Stream::DeadLetters => &mut streams.dead_letters,
                Stream::Audit => &mut streams.audit,
                Stream::Events | Stream::State => return false,
            };
            let at = usize::try_from(sequence).unwrap_or(0).checked_sub(1);
            at.and_then(|at| list.get_mut(at)).is_some_and(|place| place.take().is_some())
        })))
    }

    fn put(&self, raw: RawMessage) -> BoxFuture<'static, Result<Published, Error>> {
        if raw.subject.starts_with(wire::EVENTS) {
            let sequence = self.inject(raw);
            return now(Ok(Published { stream: "EVENTS".into(), sequence, duplicate: false }));
        }
        let sequence = self.with_streams(|_, streams| Streams::add(&mut streams.audit, raw));
        now(Ok(Published { stream: "BACKSTITCH_AUDIT".into(), sequence, duplicate: false }))
    }

    fn keep(&self, name: String, value: Bytes) -> BoxFuture<'static, Result<(), Error>> {
        self.with_streams(|_, streams| streams.kept.insert(name, value));
        now(Ok(()))
    }

    fn kept(&self, prefix: String) -> BoxFuture<'static, Result<Vec<(String, Bytes)>, Error>> {
        now(Ok(self.with_streams(|_, streams| {
            let wanted = |name: &str| if prefix.ends_with('.') { name.starts_with(&prefix) } else { name == prefix };
            let all = streams.kept.iter().filter(|(name, _)| wanted(name));
            all.map(|(name, value)| (name.clone(), value.clone())).collect()
        })))
    }
}
