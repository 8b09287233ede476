//! Events in: each delivery becomes runs of the sagas that it triggers. Acknowledged after the last
//! target's commit; what is no event, breaks its schema or cannot be keyed is put aside and blocks
//! nothing else.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::catalogue::{Active, EventSchemas, Refusal};
use super::handle::{StartError, Started};
use super::held_keys::{HeldKeys, Holding, WAITS};
use super::notices::PutAside;
use super::run::input_hash;
use super::shard::{Message, Router, Shared, StartRun};
use super::start::{Options, begin_trace};
use crate::bus::{Acknowledge, Bus, DeadLetter, Delivery, RawMessage, dead_letter};
use crate::definition::EventTrigger;
use crate::definition::model::OnReplay;
use crate::envelope::Event;
use crate::expression::{Bound, EvalError, Place, Scope, Variable};
use crate::failpoint;
use crate::id::{EventType, RunId};
use crate::journal::{Change, EventKey, InboxMark, InboxState, StreamPosition};
use crate::payload::Payload;
use crate::planted;
use crate::saga;
use crate::time::Timestamp;
use crate::trace_context::TraceContext;

/// Deliveries being taken in at once; the bus's own bound on unacknowledged messages is above it.
const TAKING_MAX: usize = 1_024;
/// Deliveries asked for at once (FINDINGS: fetch 256 at a time).
const FETCH: usize = 256;
/// How long a delivery that could not be dealt with is left with the server.
const LATER: Duration = Duration::from_secs(2);
/// How often a closed gate is looked at again.
const GATE_PAUSE: Duration = Duration::from_millis(100);

pub struct Intake {
    pub shared: Arc<Shared>,
    pub router: Router,
    pub bus: Arc<dyn Bus>,
    pub catalogue: Arc<Active>,
    pub schemas: Arc<dyn EventSchemas>,
    pub options: Options,
    pub held: Arc<HeldKeys>,
}

/// One message and what is to be done with it in the end.
struct Taken {
    position: StreamPosition,
    key: EventKey,
    /// None where the message is no event, or has no key.
    partition_key: Option<String>,
    raw: RawMessage,
    delivered: u64,
    published_at: Timestamp,
    /// Set for one that was put aside before.
    redriven: bool,
    replayed: bool,
    ack: Box<dyn Acknowledge>,
}

impl Taken {
    /// Returns the place that the consumer is through with in the end; a replay has none, it comes beside
    /// what the consumer takes in order.
    fn own_position(&self) -> Option<StreamPosition> {
        (!self.replayed).then(|| self.position.clone())
    }

    fn mark(&self, targets: Vec<RunId>) -> InboxMark {
        InboxMark { position: self.own_position(), event: self.key.clone(), targets }
    }
}

/// One event that starts nothing, to be marked.
struct Passed {
    taken: Taken,
    mark: InboxMark,
    permit: OwnedSemaphorePermit,
}

/// What a trigger's expressions see: the event.
pub(super) struct EventScope {
    pub(super) event: Payload,
}

impl Scope for EventScope {
    fn get(&self, variable: Variable<'_>) -> Bound<'_> {
        match variable {
            Variable::Event => Bound::Json(&self.event),
            _ => Bound::Null,
        }
    }
}

/// One run that an event wants.
struct Target {
    definition: Arc<crate::definition::SagaDefinition>,
    start: saga::Start,
}

/// The runs that an event wants, and why some that want it cannot have it.
#[derive(Default)]
struct Wanted {
    targets: Vec<Target>,
    /// The event as steps that wait for it see it, and its whole content.
    awaited: Vec<(Event, Payload)>,
    left: Option<Aside>,
}

/// Why an event is put aside.
struct Aside {
    reason: Cow<'static, str>,
    detail: String,
    /// JSON pointers into the data.
    pointers: Vec<String>,
}

impl Aside {
    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason: Cow::Borrowed(reason), detail: detail.into(), pointers: Vec::new() }
    }

    fn expression(what: &str, error: &EvalError) -> Self {
        Self::new("expression", format!("{what}: {error}"))
    }

    fn refused(event: &Event, refusal: &Refusal) -> Self {
        let pointers =
            |violations: &[(String, String)]| violations.iter().map(|(pointer, _)| pointer.clone()).collect();
        let (reason, pointers) = match refusal {
            Refusal::UnknownType { .. } => (Cow::Borrowed("unknown_type"), Vec::new()),
            Refusal::Invalid(violations) => (Cow::Borrowed("invalid_data"), pointers(violations)),
            Refusal::NoWay { reason, violations, .. } => (Cow::Owned(reason.clone()), pointers(violations)),
        };
        Self { reason, detail: refusal.line(&event.event_type), pointers }
    }
}

impl Intake {
    /// Takes events in until the process drains: those of the bus, and those that are replayed to the sagas.
    pub async fn work(self, replayed: mpsc::Receiver<Delivery>) {
        let (this, mut replayed) = (Arc::new(self), replayed);
        let taking = Arc::new(Semaphore::new(TAKING_MAX));
        while !this.shared.draining.load(Ordering::Relaxed) {
            if !this.open() {
                tokio::time::sleep(GATE_PAUSE).await;
                continue;
            }
            let deliveries = tokio::select! {
                deliveries = this.bus.next(FETCH) => deliveries,
                Some(replayed) = replayed.recv() => vec![replayed],
            };
            let mut passed = Vec::new();
            for delivery in deliveries {
                let Ok(permit) = Arc::clone(&taking).acquire_owned().await else { return };
                passed.extend(this.take(delivery, permit));
            }
            if !passed.is_empty() {
                this.pass_by(passed);
            }
        }
    }

    /// True while new work may be taken.
    fn open(&self) -> bool {
        self.held.is_loaded()
            && self.shared.journal.accepts_work()
            && self.shared.open_runs.load(Ordering::Relaxed) < self.options.open_runs_max
            && self.shared.outbox_waiting() < self.options.outbox_max
    }

    /// Sends the starts that an event means, in the order of delivery; what waits for disk and bus goes
    /// on in a task of its own. Returns an event that starts nothing: its mark goes with the others'.
    fn take(self: &Arc<Self>, delivery: Delivery, permit: OwnedSemaphorePermit) -> Option<Passed> {
        failpoint::hit("intake.taken");
        self.shared.metrics.event_age(delivery.published_at, self.shared.clock.now());
        let Delivery { stream, consumer, stream_created, sequence, delivered, published_at, replay, event, raw, ack } =
            delivery;
        let position = StreamPosition { stream, created: stream_created, consumer, sequence };
        let past = dead_letter::redrive(&raw);
        if past.as_ref().is_some_and(|past| *past.consumer != *position.consumer) {
            // Given once more to another consumer.
            tokio::spawn(async move {
                ack.ack().await;
                drop(permit);
            });
            return None;
        }
        let key = match &event {
            Ok(event) => EventKey {
                source: event.source.clone(),
                // Once more is on purpose: it is not the repetition that the inbox is there for.
                id: match (&past, &replay) {
                    (Some(past), _) => format!("{}#redrive/{}", event.id, past.of),
                    (None, Some(replay)) => format!("{}#replay/{replay}", event.id),
                    (None, None) => event.id.clone(),
                },
            },
            Err(_) => EventKey { source: String::new(), id: format!("{}#{sequence}", position.stream) },
        };
        let partition_key = event.as_ref().ok().and_then(|event| event.partition_key.clone());
        let (redriven, replayed) = (past.is_some(), replay.is_some());
        let taken = Taken { position, key, partition_key, raw, delivered, published_at, redriven, replayed, ack };
        let event = match event {
            Ok(event) => event,
            Err(why) => return self.aside(taken, Aside::new(why.reason, why.detail), permit),
        };
        let only = match self.shared.journal.inbox(taken.own_position().as_ref(), &taken.key) {
            InboxState::Complete => {
                self.shared.metrics.event_duplicate();
                tokio::spawn(async move {
                    taken.ack.ack().await;
                    drop(permit);
                });
                return None;
            }
            InboxState::Partly { targets_left } => Some(targets_left),
            InboxState::New => None,
        };
        if !redriven && !replayed && self.held.holds(taken.partition_key.as_deref()) {
            let why =
                "an earlier event with the same partition key lies in DEAD_LETTERS; it comes when that is through";
            return self.aside(taken, Aside::new(WAITS, why), permit);
        }
        // A mistake of ours in working an event out concerns that event alone.
        let worked_out = catch_unwind(AssertUnwindSafe(|| self.targets(&event, replayed)));
        let Wanted { mut targets, awaited, left } = match worked_out {
            // Nobody else has it either: it is put aside at once.
            Ok(Ok(Wanted { targets, awaited, left: Some(why) })) if targets.is_empty() && awaited.is_empty() => {
                return self.aside(taken, why, permit);
            }
            Ok(Ok(wanted)) => wanted,
            Ok(Err(why)) => return self.aside(taken, why, permit),
            Err(_) => {
                let why = Aside::new("panic", "working it out panicked; the log says where");
                return self.aside(taken, why, permit);
            }
        };
        if planted::is("second_target_is_lost") {
            targets.truncate(1);
        }
        if delivered > 1 && planted::is("redelivered_event_starts_another") {
            let again = |Target { definition, start }: &Target| Target {
                definition: Arc::clone(definition),
                start: saga::Start { run: RunId::keyed(&definition.name, &taken.key.id), ..start.clone() },
            };
            targets.extend(targets.first().map(again));
        }
        if let Some(only) = &only {
            targets.retain(|target| only.contains(&target.start.run));
        }
        self.shared.metrics.event_consumed(event.event_type.as_str());
        // Accepted is when we took it in: what waited in the stream behind the start of a run counts for it.
        let now = self.shared.clock.now();
        for (seen, content) in &awaited {
            self.shared.correlator.arrived(seen, content, now, &self.router);
        }
        let mark = taken.mark(targets.iter().map(|target| target.start.run).collect());
        if targets.is_empty() && left.is_none() {
            return Some(Passed { taken, mark, permit });
        }
        // Several targets, or none: the mark goes first. One target carries it in its own transition.
        let noted = (targets.len() != 1).then(|| self.shared.journal.commit(vec![Change::Inbox(mark.clone())]));
        let answers: Vec<_> = targets
            .into_iter()
            .map(|Target { definition, start }| {
                let (reply, answer) = oneshot::channel();
                let run = start.run;
                let start = StartRun { definition, start, inbox: Some(mark.clone()), reply };
                self.router.send(run, Message::Start(Box::new(start)));
                answer
            })
            .collect();
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if planted::is("ack_before_commit") {
                return taken.ack.ack().await;
            }
            if let Some(noted) = noted
                && noted.await.is_err()
            {
                return; // the journal has failed; the process ends without an ack
            }
            failpoint::hit("intake.marked");
            let mut there_already = false;
            // Every target is waited for, also beside one that cannot begin: none may be lost (issue 3).
            let mut conflict = left;
            for answer in answers {
                match answer.await {
                    Ok(Ok(Started::Created(_))) if planted::is("ack_after_the_first_target") => {
                        return taken.ack.ack().await;
                    }
                    Ok(Ok(Started::Created(_))) => {}
                    Ok(Ok(Started::Existing(_))) => there_already = true,
                    Ok(Err(StartError::KeyConflict { .. })) if planted::is("conflict_is_swallowed") => {}
                    Ok(Err(StartError::KeyConflict { key, run })) => {
                        let detail = format!("key `{key}` belongs to run {run}, which began with other input");
                        conflict = Some(Aside::new("key_conflict", detail));
                    }
                    Ok(Err(_)) | Err(_) if planted::is("failed_start_is_acknowledged") => {}
                    Ok(Err(_)) | Err(_) => {
                        taken.ack.later(LATER).await;
                        return;
                    }
                }
            }
            if let Some(why) = conflict {
                let holding = this.held.hold(taken.partition_key.as_deref());
                this.put_aside(taken, why, holding).await;
                return;
            }
            if there_already && !planted::is("mark_of_a_repeat_stays_open") {
                // No transition struck these targets out: the mark is closed by itself, or it and the gap
                // in the stream would stay in memory for ever (issue 3).
                let mark = taken.mark(Vec::new());
                if this.shared.journal.commit(vec![Change::Inbox(mark)]).await.is_err() {
                    return; // the journal has failed; the process ends without an ack
                }
            }
            failpoint::hit("intake.before_ack");
            taken.ack.ack().await;
            failpoint::hit("intake.acknowledged");
            if taken.redriven {
                this.held.through(taken.partition_key.as_deref());
            }
            drop(permit);
        });
        None
    }

    /// Marks events that start nothing, in one commit, and acknowledges them.
    fn pass_by(self: &Arc<Self>, passed: Vec<Passed>) {
        let marks = passed.iter().map(|one| Change::Inbox(one.mark.clone())).collect();
        let noted = self.shared.journal.commit(marks);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if !planted::is("ack_before_commit") && noted.await.is_err() {
                return; // the journal has failed; the process ends without an ack
            }
            failpoint::hit("intake.marked");
            for Passed { taken, permit, .. } in passed {
                failpoint::hit("intake.before_ack");
                taken.ack.ack().await;
                failpoint::hit("intake.acknowledged");
                if taken.redriven {
                    this.held.through(taken.partition_key.as_deref());
                }
                drop(permit);
            }
        });
    }

    /// Works out which runs an event wants.
    fn targets(&self, event: &Event, replayed: bool) -> Result<Wanted, Aside> {
        let mut wanted_by = Wanted::default();
        let wanted = |trigger: &EventTrigger| match trigger.on_replay {
            OnReplay::Run => true,
            OnReplay::Skip => !replayed,
        };
        let catalogue = self.catalogue.get();
        let triggers = catalogue.triggered_by(&event.event_type, (&event.source, &event.id));
        let mut triggers = triggers.filter(|(_, trigger)| wanted(trigger)).peekable();
        let awaited = if replayed { Vec::new() } else { self.shared.correlator.awaited_as(&event.event_type) };
        if triggers.peek().is_none() && awaited.is_empty() {
            return Ok(wanted_by);
        }
        let mut versions = BTreeMap::new();
        for (entry, trigger) in triggers {
            let definition = &entry.definition;
            let seen = versions.entry(trigger.event.version()).or_insert_with(|| self.seen_as(event, &trigger.event));
            let (event, scope) = match seen {
                Ok((event, scope)) => (&*event, &*scope),
                // Sagas of other versions get it all the same.
                Err(refusal) => {
                    wanted_by.left.get_or_insert_with(|| Aside::refused(event, refusal));
                    continue;
                }
            };
            let targets = &mut wanted_by.targets;
            if targets.iter().any(|target| target.definition.name == definition.name) {
                continue; // one event starts a saga once: the first entry of `on` that fits
            }
            let when = trigger.when.as_ref().map(|when| when.eval_bool(scope)).transpose();
            if !when.map_err(|error| Aside::expression("when", &error))?.unwrap_or(true) {
                continue;
            }
            let start = self.start(definition, trigger, event, scope)?;
            if let Some(check) = &entry.input {
                check(&start.input).map_err(|violations| Aside {
                    reason: Cow::Borrowed("invalid_input"),
                    pointers: violations.iter().map(|(pointer, _)| pointer.clone()).collect(),
                    detail: format!(
                        "saga {}: {}",
                        definition.name,
                        Refusal::Invalid(violations).line(&event.event_type)
                    ),
                })?;
            }
            targets.push(Target { definition: Arc::clone(definition), start });
        }
        for wanted in awaited {
            match versions.entry(wanted.version()).or_insert_with(|| self.seen_as(event, &wanted)) {
                Ok((event, scope)) => {
                    wanted_by.awaited.push((Event::clone(event), scope.event.clone()));
                }
                Err(refusal) => drop(wanted_by.left.get_or_insert_with(|| Aside::refused(event, refusal))),
            }
        }
        Ok(wanted_by)
    }

    /// Returns an event as a trigger of another version of its type sees it.
    fn seen_as<'e>(&self, event: &'e Event, wanted: &EventType) -> Result<(Cow<'e, Event>, EventScope), Refusal> {
        let seen = if event.event_type == *wanted {
            self.schemas.check(wanted, &event.data)?;
            Cow::Borrowed(event)
        } else {
            let data = self.schemas.convert(&event.event_type, &event.data, wanted)?;
            Cow::Owned(Event { data, event_type: wanted.clone(), ..event.clone() })
        };
        let scope = EventScope { event: seen.to_cloud_event() };
        Ok((seen, scope))
    }

    fn start(
        &self,
        definition: &crate::definition::SagaDefinition,
        trigger: &EventTrigger,
        event: &Event,
        scope: &EventScope,
    ) -> Result<saga::Start, Aside> {
        let key = match &trigger.key {
            // Without a key of its own the event's identity is the key.
            None => format!("{}#{}", event.source, event.id),
            Some(key) => key
                .eval(scope, Place::Plain)
                .map_err(|error| Aside::new("null_key", format!("key: {error}")))?
                .ok_or_else(|| Aside::new("null_key", "the key is null"))?,
        };
        let input = match &trigger.input {
            None => event.data.clone(),
            Some(input) => input.eval(scope).map_err(|error| Aside::expression("input", &error))?,
        };
        let run = RunId::keyed(&definition.name, &key);
        let (trace, parent) = begin_trace(run, event.trace.as_ref(), &self.shared.spans);
        Ok(saga::Start {
            run,
            key: Some(key),
            correlation_id: event.correlation_id.clone().unwrap_or_else(|| run.to_string()),
            causation_id: Some(event.id.clone()),
            trace,
            parent,
            link_after: self.shared.spans.link_after(),
            input_hash: input_hash(&input),
            input,
            event: Some(scope.event.clone()),
            parent_run: None,
        })
    }

    /// Puts a message aside in a task of its own.
    fn aside(self: &Arc<Self>, taken: Taken, aside: Aside, permit: OwnedSemaphorePermit) -> Option<Passed> {
        // Noted at once: the next one of its key may be at hand already.
        let holding = self.held.hold(taken.partition_key.as_deref());
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.put_aside(taken, aside, holding).await;
            drop(permit);
        });
        None
    }

    async fn put_aside(&self, taken: Taken, aside: Aside, holding: Holding) {
        tracing::warn!(
            reason = &*aside.reason,
            detail = aside.detail,
            subject = taken.raw.subject,
            sequence = taken.position.sequence,
            "an event is put aside in DEAD_LETTERS"
        );
        let detail = aside.detail;
        let letter = DeadLetter {
            raw: taken.raw.clone(),
            reason: aside.reason.clone().into_owned(),
            detail: detail.clone(),
            pointers: aside.pointers,
            consumer: taken.position.consumer.to_string(),
            stream: taken.position.stream.to_string(),
            sequence: taken.position.sequence,
            attempts: taken.delivered,
            first_at: taken.published_at,
            last_at: self.shared.clock.now(),
        };
        if !planted::is("poison_is_dropped") && self.bus.dead_letter(letter).await.is_err() {
            taken.ack.later(LATER).await;
            return;
        }
        drop(holding);
        failpoint::hit("intake.dead_letter");
        // A label is from a fixed list: which versions it was about is in the letter.
        let label = match &aside.reason {
            Cow::Borrowed(reason) => *reason,
            Cow::Owned(_) => "no_way_to_version",
        };
        self.shared.metrics.dead_letter(label);
        let header = |name: &str| {
            let found = taken.raw.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        let trace = header("ce-traceparent").or_else(|| header("traceparent"));
        let trace = trace.and_then(|parent| TraceContext::parse(parent, None));
        let put_aside = PutAside {
            reason: label,
            detail: &detail,
            subject: &taken.raw.subject,
            stream: &taken.position.stream,
            sequence: taken.position.sequence,
            correlation_id: header("ce-correlationid"),
            trace: trace.as_ref(),
        };
        self.shared.notices.put_aside(&put_aside, self.shared.clock.now());
        let mark = taken.mark(Vec::new());
        if self.shared.journal.commit(vec![Change::Inbox(mark)]).await.is_ok() {
            taken.ack.ack().await;
        }
    }
}
