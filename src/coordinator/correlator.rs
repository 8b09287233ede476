//! Brings events to the steps that wait for them. An event may come before the step waits for it, so
//! events of the types that sagas await are kept for a while: those of this process in memory, earlier
//! ones are read from the EVENTS stream again. A step is offered every event that fits; that each one is
//! taken once per run is the core's doing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::catalogue::EventSchemas;
use super::shard::{Message, Router};
use crate::bus::archive::{Archive, Stored, Stream};
use crate::definition::{Action, Compensate, EmitTemplate, SagaDefinition};
use crate::envelope::Event;
use crate::id::{EventType, RunId};
use crate::payload::Payload;
use crate::request::Direction;
use crate::saga::{Input, StepAt, Wanted};
use crate::time::{Span, Timestamp};

/// Bytes of events kept in memory; older ones are read from the stream when somebody asks for them.
const KEPT_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Messages read from the stream at a time.
const PAGE: usize = 256;
/// The server's clock may be behind ours by so much: an event that answers a run's first call counts.
const SKEW: Span = Span::from_secs(2);
/// How long the stream is left alone when it could not be read.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// One step that waits.
#[derive(Debug, Clone)]
struct Waiter {
    run: RunId,
    step: StepAt,
    direction: Direction,
    since: Timestamp,
}

/// An event that may be waited for later.
struct Kept {
    at: Timestamp,
    event: EventType,
    /// Source and id.
    key: String,
    content: Payload,
}

/// Steps that compare the same paths of the same type, by the values that they compare with.
#[derive(Default)]
struct Shape {
    paths: Vec<Vec<String>>,
    waiting: HashMap<String, Vec<Waiter>>,
    kept: HashMap<String, VecDeque<Arc<Kept>>>,
}

/// Where a step stands: type, shape and values.
type Place = (EventType, usize, String);

#[derive(Default)]
struct Inner {
    by_type: HashMap<EventType, Vec<Shape>>,
    /// Types that are awaited by a loaded saga or an open run.
    types: HashSet<EventType>,
    /// In the order of their coming.
    order: VecDeque<Arc<Kept>>,
    bytes: usize,
    /// Everything since then is in memory.
    complete_since: Timestamp,
    places: HashMap<(RunId, StepAt), Vec<Place>>,
}

/// The steps that wait for events, and the events that may still be waited for.
pub struct Correlator {
    inner: Mutex<Inner>,
    archive: Option<Arc<dyn Archive>>,
    schemas: Arc<dyn EventSchemas>,
    keep: Span,
}

/// Returns the types that a saga's steps wait for.
pub fn awaited(definition: &SagaDefinition) -> Vec<EventType> {
    let mut types = Vec::new();
    let mut replies = |emit: &EmitTemplate| {
        if let Some(reply) = &emit.reply {
            types.extend(reply.done.iter().chain(&reply.refused).cloned());
        }
    };
    for step in &definition.steps {
        if let Action::Emit(emit) = &step.action {
            replies(emit);
        }
        if let Compensate::Emit(undo) = &step.compensate {
            replies(&undo.emit);
        }
    }
    for step in &definition.steps {
        if let Action::Await(rule) = &step.action {
            types.extend(rule.types.iter().cloned());
        }
    }
    types.sort();
    types.dedup();
    types
}

impl Correlator {
    /// Makes one that keeps events for `keep`; `now` is when the process began.
    pub fn new(archive: Option<Arc<dyn Archive>>, schemas: Arc<dyn EventSchemas>, keep: Span, now: Timestamp) -> Self {
        let inner = Inner { complete_since: now, ..Inner::default() };
        Self { inner: Mutex::new(inner), archive, schemas, keep }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes types that are awaited.
    pub fn expect(&self, types: impl IntoIterator<Item = EventType>) {
        self.inner().types.extend(types);
    }

    /// Returns the versions of an event's type that somebody awaits.
    pub fn awaited_as(&self, event: &EventType) -> Vec<EventType> {
        self.inner().types.iter().filter(|wanted| wanted.name() == event.name()).cloned().collect()
    }

    /// Returns every awaited type.
    pub fn types(&self) -> Vec<EventType> {
        self.inner().types.iter().cloned().collect()
    }

    /// Takes an event that was accepted at `at`, offers it to whoever waits, and keeps it for those who will.
    pub fn arrived(&self, event: &Event, content: &Payload, at: Timestamp, router: &Router) {
        let mut inner = self.inner();
        if !inner.types.contains(&event.event_type) {
            return;
        }
        let kept = Arc::new(Kept {
            at,
            event: event.event_type.clone(),
            key: format!("{}#{}", event.source, event.id),
            content: content.clone(),
        });
        for waiter in inner.offer(&kept) {
            deliver(&waiter, &kept, router);
        }
        inner.keep(kept, Timestamp(at.0.saturating_sub(self.keep.0)));
    }

    /// A step waits: it is offered what has come already, then what comes.
    pub fn wait(
        self: &Arc<Self>,
        run: RunId,
        step: StepAt,
        direction: Direction,
        wanted: &Wanted,
        router: &Router,
        adopted: bool,
    ) {
        let waiter = Waiter { run, step, direction, since: wanted.since };
        let paths: Vec<Vec<String>> = wanted.matching.iter().map(|(path, _)| path.clone()).collect();
        let value = values_key(wanted.matching.iter().map(|(_, value)| value.to_value()));
        let complete = {
            let mut inner = self.inner();
            let mut places = Vec::with_capacity(wanted.types.len());
            for event in &wanted.types {
                inner.types.insert(event.clone());
                let shape = inner.shape(event, &paths);
                let shapes = inner.by_type.entry(event.clone()).or_default();
                let one = &mut shapes[shape];
                one.waiting.entry(value.clone()).or_default().push(waiter.clone());
                for kept in one.kept.get(&value).into_iter().flatten() {
                    if counts(&waiter, kept) {
                        deliver(&waiter, kept, router);
                    }
                }
                places.push((event.clone(), shape, value.clone()));
            }
            inner.places.insert((run, step), places);
            inner.complete_since <= wanted.since
        };
        // What came before this process did is read once for all that were adopted (see `catch_up`).
        if !complete && !adopted {
            let (this, types, since, router) = (Arc::clone(self), wanted.types.clone(), wanted.since, router.clone());
            tokio::spawn(async move { this.read(types, since, None, &router).await });
        }
    }

    /// A step waits no more.
    pub fn forget(&self, run: RunId, step: StepAt) {
        let mut inner = self.inner();
        for (event, shape, value) in inner.places.remove(&(run, step)).unwrap_or_default() {
            let Some(shape) = inner.by_type.get_mut(&event).and_then(|shapes| shapes.get_mut(shape)) else { continue };
            if let Some(waiting) = shape.waiting.get_mut(&value) {
                waiting.retain(|waiter| (waiter.run, waiter.step) != (run, step));
                if waiting.is_empty() {
                    shape.waiting.remove(&value);
                }
            }
        }
    }

    /// Reads again what came since the oldest open run began, and offers it to the runs that were adopted.
    pub async fn catch_up(self: Arc<Self>, since: Timestamp, router: Router) {
        let since = Timestamp(since.0.saturating_sub(SKEW.0));
        let (types, until) = {
            let inner = self.inner();
            (inner.types.iter().cloned().collect(), inner.complete_since)
        };
        self.read(types, since, Some(until), &router).await;
        let mut inner = self.inner();
        inner.complete_since = inner.complete_since.min(since);
    }

    /// Reads events of some types from the stream and offers them; with `until` they are kept as well.
    async fn read(&self, types: Vec<EventType>, since: Timestamp, until: Option<Timestamp>, router: &Router) {
        let Some(archive) = &self.archive else { return };
        // Each in every version: a step sees it in the one that it waits for.
        let mut subjects: Vec<String> = types.iter().map(|event| format!("events.{}.*", event.name())).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let since = Timestamp(since.0.saturating_sub(SKEW.0));
        let mut from = loop {
            match archive.at(Stream::Events, since).await {
                Ok(from) => break from,
                Err(error) => {
                    tracing::warn!(%error, "events that came earlier cannot be read yet, will try again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        loop {
            match archive.read(Stream::Events, from, subjects.clone(), PAGE).await {
                Ok(page) => {
                    let done = page.messages.len() < PAGE;
                    for stored in &page.messages {
                        self.offer_stored(stored, until, router);
                    }
                    if done || page.next <= from {
                        return;
                    }
                    from = page.next;
                }
                Err(error) => {
                    tracing::warn!(%error, "events that came earlier cannot be read yet, will try again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn offer_stored(&self, stored: &Stored, until: Option<Timestamp>, router: &Router) {
        let Ok(event) = crate::bus::wire::decode(&stored.raw) else { return };
        for wanted in self.awaited_as(&event.event_type) {
            // One that cannot be seen so was put aside when it was taken in, or will be.
            if let Some(seen) = self.seen_as(&event, wanted) {
                self.offer_as(&seen, stored, until, router);
            }
        }
    }

    /// Returns an event as a step that waits for a version of its type sees it.
    fn seen_as(&self, event: &Event, wanted: EventType) -> Option<Event> {
        if event.event_type == wanted {
            self.schemas.check(&wanted, &event.data).ok()?;
            return Some(event.clone());
        }
        let data = self.schemas.convert(&event.event_type, &event.data, &wanted).ok()?;
        Some(Event { data, event_type: wanted, ..event.clone() })
    }

    fn offer_as(&self, event: &Event, stored: &Stored, until: Option<Timestamp>, router: &Router) {
        let kept = Arc::new(Kept {
            at: stored.stored_at,
            event: event.event_type.clone(),
            key: format!("{}#{}", event.source, event.id),
            content: event.to_cloud_event(),
        });
        let mut inner = self.inner();
        for waiter in inner.offer(&kept) {
            deliver(&waiter, &kept, router);
        }
        // What this process took in itself is kept already.
        if until.is_some_and(|until| stored.stored_at < until) {
            inner.keep(kept, Timestamp(stored.stored_at.0.saturating_sub(self.keep.0)));
        }
    }
}

impl Inner {
    /// Finds the shape of some paths, and makes it from what is kept when it is new.
    fn shape(&mut self, event: &EventType, paths: &[Vec<String>]) -> usize {
        let shapes = self.by_type.entry(event.clone()).or_default();
        if let Some(known) = shapes.iter().position(|shape| shape.paths == paths) {
            return known;
        }
        let mut shape = Shape { paths: paths.to_vec(), ..Shape::default() };
        for kept in self.order.iter().filter(|kept| kept.event == *event) {
            shape.kept.entry(shape_value(&shape.paths, &kept.content)).or_default().push_back(Arc::clone(kept));
        }
        shapes.push(shape);
        shapes.len() - 1
    }

    /// Returns who waits for an event.
    fn offer(&self, kept: &Kept) -> Vec<Waiter> {
        let shapes = self.by_type.get(&kept.event).into_iter().flatten();
        shapes
            .filter(|shape| !shape.waiting.is_empty())
            .filter_map(|shape| shape.waiting.get(&shape_value(&shape.paths, &kept.content)))
            .flatten()
            .filter(|waiter| counts(waiter, kept))
            .cloned()
            .collect()
    }

    /// Keeps an event, and lets the oldest go that are too old or too many.
    fn keep(&mut self, kept: Arc<Kept>, oldest: Timestamp) {
        self.bytes += kept.content.text().len();
        for shape in self.by_type.get_mut(&kept.event).into_iter().flatten() {
            let value = shape_value(&shape.paths, &kept.content);
            shape.kept.entry(value).or_default().push_back(Arc::clone(&kept));
        }
        self.order.push_back(kept);
        while let Some(first) = self.order.front() {
            if first.at >= oldest && self.bytes <= KEPT_BYTES_MAX {
                return;
            }
            let Some(gone) = self.order.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(gone.content.text().len());
            self.complete_since = self.complete_since.max(Timestamp(gone.at.0 + 1));
            for shape in self.by_type.get_mut(&gone.event).into_iter().flatten() {
                let value = shape_value(&shape.paths, &gone.content);
                if let Some(list) = shape.kept.get_mut(&value) {
                    list.retain(|kept| !Arc::ptr_eq(kept, &gone));
                    if list.is_empty() {
                        shape.kept.remove(&value);
                    }
                }
            }
        }
    }
}

/// True for an event that came late enough for a step.
fn counts(waiter: &Waiter, kept: &Kept) -> bool {
    kept.at.plus(SKEW) >= waiter.since
}

fn deliver(waiter: &Waiter, kept: &Kept, router: &Router) {
    let input = Input::EventArrived {
        step: waiter.step,
        direction: waiter.direction,
        key: kept.key.clone(),
        event: kept.event.clone(),
        content: kept.content.clone(),
    };
    router.send(waiter.run, Message::Input { run: waiter.run, input, reply: None });
}

/// Returns an event's values at some paths as one text.
fn shape_value(paths: &[Vec<String>], content: &Payload) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let event = content.to_value();
    values_key(paths.iter().map(|path| {
        let mut at = &event;
        for member in path {
            match at.get(member) {
                Some(next) => at = next,
                None => return serde_json::Value::Null,
            }
        }
        at.clone()
    }))
}

/// Writes values so that equal ones are equal text, however numbers and objects were written.
fn values_key(values: impl Iterator<Item = serde_json::Value>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_json() {
        let event = Payload::parse(r#"{"data":{"b":{"y":1,"x":[2]},"a":"A-1"},"type":"t.v1"}"#).unwrap();
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        for (why, paths, values, same) in [
            ("text", vec!["data.a"], r#"["A-1"]"#, true),
            ("two", vec!["data.a", "type"], r#"["A-1","t.v1"]"#, true),
            ("an object in another order", vec!["data.b"], r#"[{"x":[2],"y":1}]"#, true),
            ("another value", vec!["data.a"], r#"["A-2"]"#, false),
            ("missing is null", vec!["data.c.d"], "[null]", true),
            ("a number is no text", vec!["data.b.y"], r#"["1"]"#, false),
        ] {
            let paths: Vec<_> = paths.into_iter().map(path).collect();
            let values: Vec<serde_json::Value> = serde_json::from_str(values).unwrap();
            assert_eq!(shape_value(&paths, &event) == values_key(values.into_iter()), same, "{why}");
        }
    }
}
