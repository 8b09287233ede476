//! A bus in memory, for tests: the same wire format, deliveries until acknowledged, a switch for NATS being
//! away, dead letters to look at. Time is tokio's, so a test can move it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::memory_archive::Streams;
use super::{
    Acknowledge, Backlog, Bus, DeadLetter, Delivery, Error, Published, RawMessage, Status, archive, dead_letter, wire,
};
use crate::envelope::Event;
use crate::id::EventType;
use crate::time::Timestamp;

/// The server's own default, which the real bus uses too.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// The bus; clones share everything.
#[derive(Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Something became deliverable.
    changed: Notify,
    status: watch::Sender<Status>,
}

#[derive(Default)]
struct State {
    available: bool,
    created: u64,
    types: Vec<EventType>,
    messages: BTreeMap<u64, Stored>,
    last_sequence: u64,
    ids: BTreeMap<String, u64>,
    dead_letters: Vec<DeadLetter>,
    streams: Streams,
}

struct Stored {
    raw: RawMessage,
    delivered: u64,
    /// None once acknowledged.
    due: Option<Instant>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBus {
    /// Returns an empty bus with NATS there.
    #[must_use]
    pub fn new() -> Self {
        let state = State { available: true, created: 1, ..State::default() };
        let status = watch::Sender::new(Status { ready: true, message: "in memory".to_owned() });
        Self { inner: Arc::new(Inner { state: Mutex::new(state), changed: Notify::new(), status }) }
    }

    /// Takes NATS away or brings it back. Away, nothing is taken and nothing delivered; answers are lost.
    pub fn set_available(&self, available: bool) {
        self.lock().available = available;
        let message = if available { "in memory" } else { "NATS is away" };
        self.inner.status.send_replace(Status { ready: available, message: message.to_owned() });
        self.inner.changed.notify_waiters();
    }

    /// Stores a message as a foreign publisher would, whatever is in it; returns its sequence.
    pub fn inject(&self, raw: RawMessage) -> u64 {
        let sequence = self.lock().store(raw).sequence;
        self.inner.changed.notify_waiters();
        sequence
    }

    /// Makes everything that is not acknowledged deliverable at once, as if the server's wait were over.
    pub fn redeliver(&self) {
        let now = Instant::now();
        for stored in self.lock().messages.values_mut() {
            if stored.due.is_some() {
                stored.due = Some(now);
            }
        }
        self.inner.changed.notify_waiters();
    }

    /// Empties the stream and makes it anew: sequences begin again under another creation time.
    pub fn wipe(&self) {
        let mut state = self.lock();
        state.created += 1;
        state.messages.clear();
        state.ids.clear();
        state.last_sequence = 0;
    }

    /// Returns every message that is stored, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<RawMessage> {
        self.lock().messages.values().map(|stored| stored.raw.clone()).collect()
    }

    /// Returns every event that is stored, in order; messages that are none are left out.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.messages().iter().filter_map(|raw| wire::decode(raw).ok()).collect()
    }

    /// Returns the sequences that are not acknowledged yet.
    #[must_use]
    pub fn unacknowledged(&self) -> Vec<u64> {
        self.lock().messages.iter().filter(|(_, stored)| stored.due.is_some()).map(|(sequence, _)| *sequence).collect()
    }

    /// Returns what was put aside, in order.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.lock().dead_letters.clone()
    }

    /// Gives a look at everything that is stored: EVENTS as it is, the other streams to be changed.
    pub(super) fn with_streams<T>(&self, look: impl FnOnce(Vec<archive::Stored>, &mut Streams) -> T) -> T {
        let mut state = self.lock();
        let stored = |(sequence, stored): (&u64, &Stored)| archive::Stored {
            sequence: *sequence,
            stored_at: Timestamp(*sequence),
            raw: stored.raw.clone(),
            unreadable: None,
        };
        let events = state.messages.iter().map(stored).collect();
        look(events, &mut state.streams)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let mut state = self.lock();
        if !state.available {
            return Err(None);
        }
        let (now, created) = (Instant::now(), state.created);
        let State { types, messages, .. } = &mut *state;
        let wanted = |raw: &RawMessage| {
            let of = |kind: &EventType| {
                let version = raw.subject.strip_prefix(wire::EVENTS).and_then(|rest| rest.strip_prefix('.'));
                version.and_then(|rest| rest.rsplit_once('.')).is_some_and(|(name, _)| name == kind.name())
            };
            types.is_empty() || types.iter().any(of)
        };
        let (mut taken, mut next) = (Vec::new(), None::<Instant>);
        for (sequence, stored) in messages.iter_mut().filter(|(_, stored)| wanted(&stored.raw)) {
            match stored.due {
                Some(due) if due <= now && taken.len() < max.max(1) => {
                    stored.due = Some(now + ACK_WAIT);
                    stored.delivered += 1;
                    taken.push(self.delivery(created, *sequence, stored));
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        if taken.is_empty() { Err(next) } else { Ok(taken) }
    }

    fn delivery(&self, created: u64, sequence: u64, stored: &Stored) -> Delivery {
        Delivery {
            stream: "EVENTS".into(),
            consumer: "backstitch".into(),
            stream_created: created,
            sequence,
            delivered: stored.delivered,
            published_at: Timestamp(sequence), // in order, and the same in every run of a test
            replay: None,
            event: wire::read(&stored.raw, usize::MAX),
            raw: stored.raw.clone(),
            ack: Box::new(Answer { bus: self.clone(), created, sequence }),
        }
    }
}

impl State {
    fn store(&mut self, raw: RawMessage) -> Published {
        let id = raw.headers.iter().find(|(name, _)| name == wire::MSG_ID).map(|(_, value)| value.clone());
        if let Some(sequence) = id.as_ref().and_then(|id| self.ids.get(id)) {
            return Published { stream: "EVENTS".into(), sequence: *sequence, duplicate: true };
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        if let Some(id) = id {
            self.ids.insert(id, sequence);
        }
        self.messages.insert(sequence, Stored { raw, delivered: 0, due: Some(Instant::now()) });
        Published { stream: "EVENTS".into(), sequence, duplicate: false }
    }
}

struct Answer {
    bus: MemoryBus,
    created: u64,
    sequence: u64,
}

impl Answer {
    fn set_due(&self, due: Option<Instant>) {
        let mut state = self.bus.lock();
        if !state.available || state.created != self.created {
            return;
        }
        if let Some(stored) = state.messages.get_mut(&self.sequence)
            && stored.due.is_some()
        {
            stored.due = due;
        }
        drop(state);
        self.bus.inner.changed.notify_waiters();
    }
}

impl Acknowledge for Answer {
    fn ack(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.set_due(None);
        Box::pin(std::future::ready(()))
    }

    fn later(self: Box<Self>, pause: Duration) -> BoxFuture<'static, ()> {
        self.set_due(Some(Instant::now() + pause));
        Box::pin(std::future::ready(()))
    }
}

impl Bus for MemoryBus {
    fn publish(&self, events: Vec<Event>) -> BoxFuture<'static, Vec<Result<Published, Error>>> {
        let bus = self.clone();
        Box::pin(async move {
            let mut results: Vec<Result<Published, Error>> = Vec::with_capacity(events.len());
            for event in &events {
                let mut state = bus.lock();
                let result = if !state.available {
                    Err(Error::Unavailable("NATS is away".to_owned()))
                } else {
                    wire::check(event).map_err(Error::Refused).map(|()| state.store(wire::encode(event)))
                };
                if let Err(error) = result {
                    drop(state);
                    results.resize(events.len(), Err(error));
                    break;
                }
                results.push(result);
            }
            bus.inner.changed.notify_waiters();
            results
        })
    }

    fn next(&self, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.inner.changed.notified());
                changed.as_mut().enable(); // before looking, so that no change is missed
                match self.take(max) {
                    Ok(taken) => return taken,
                    Err(None) => changed.await,
                    Err(Some(due)) => {
                        let _ = tokio::time::timeout_at(due, changed).await;
                    }
                }
            }
        })
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'static, Result<Published, Error>> {
        let mut state = self.lock();
        let result = if state.available {
            let raw = dead_letter::encode(&letter, letter.last_at);
            Streams::add(&mut state.streams.dead_letters, raw);
            state.dead_letters.push(letter);
            let sequence = state.dead_letters.len() as u64;
            Ok(Published { stream: "DEAD_LETTERS".into(), sequence, duplicate: false })
        } else {
            Err(Error::Unavailable("NATS is away".to_owned()))
        };
        drop(state);
        Box::pin(std::future::ready(result))
    }

    fn backlog(&self) -> Backlog {
        let state = self.lock();
        let waiting = state.messages.values().filter(|stored| stored.due.is_some());
        let (given, pending): (Vec<_>, Vec<_>) = waiting.partition(|stored| stored.delivered > 0);
        Backlog { pending: pending.len() as u64, ack_pending: given.len() as u64 }
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }

    fn subscribe(&self, types: Vec<EventType>) {
        self.lock().types = types;
        self.inner.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    fn event(id: &str, kind: &str) -> Event {
        Event {
            id: id.to_owned(),
            source: "/test".to_owned(),
            event_type: kind.parse().unwrap(),
            time: None,
            subject: None,
            dataschema: None,
            correlation_id: None,
            causation_id: None,
            partition_key: None,
            trace: None,
            extensions: BTreeMap::new(),
            data: Payload::null(),
        }
    }

    async fn sequences(bus: &MemoryBus) -> Vec<(u64, u64)> {
        bus.next(10).await.iter().map(|delivery| (delivery.sequence, delivery.delivered)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn delivers_until_acknowledged() {
        let bus = MemoryBus::new();
        bus.subscribe(vec!["a.v1".parse().unwrap()]);
        let published = bus.publish(vec![event("1", "a.v1"), event("2", "b.v1"), event("1", "a.v1")]).await;
        let duplicates: Vec<bool> = published.into_iter().map(|result| result.unwrap().duplicate).collect();
        assert_eq!(duplicates, [false, false, true]);

        assert_eq!(sequences(&bus).await, [(1, 1)], "dropped without an answer");
        let again = Instant::now();
        assert_eq!(sequences(&bus).await, [(1, 2)]);
        assert_eq!(again.elapsed(), ACK_WAIT);
        bus.redeliver();
        let delivery = bus.next(10).await.pop().unwrap();
        assert_eq!(delivery.delivered, 3);
        delivery.ack.later(Duration::from_secs(5)).await;
        let again = Instant::now();
        let delivery = bus.next(10).await.pop().unwrap();
        assert_eq!(again.elapsed(), Duration::from_secs(5));
        delivery.ack.ack().await;
        assert_eq!(bus.unacknowledged(), [2], "the other type is nobody's");
        assert!(tokio::time::timeout(Duration::from_secs(3_600), bus.next(10)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn away_and_back() {
        let bus = MemoryBus::new();
        bus.set_available(false);
        assert!(!bus.status().borrow().ready);
        let results = bus.publish(vec![event("1", "a.v1"), event("2", "a.v1")]).await;
        assert!(results.iter().all(|result| matches!(result, Err(Error::Unavailable(_)))), "{results:?}");
        let waiting = tokio::spawn({
            let bus = bus.clone();
            async move { sequences(&bus).await }
        });
        tokio::task::yield_now().await;
        bus.set_available(true);
        bus.inject(wire::raw("events.a.v1", &[], b"no event"));
        assert_eq!(waiting.await.unwrap(), [(1, 1)]);
        bus.redeliver();
        let delivery = bus.next(1).await.pop().unwrap();
        assert!(delivery.event.is_err());
        bus.wipe();
        delivery.ack.ack().await;
        assert_eq!(bus.inject(wire::raw("events.a.v1", &[], b"")), 1);
        assert_eq!(bus.unacknowledged(), [1], "an answer for the stream before says nothing about this one");
    }
}
