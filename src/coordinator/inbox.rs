//! Events in: each delivery becomes runs of the sagas that it triggers. Acknowledged after the last
//! target's commit; what is no event, breaks its schema or cannot be keyed is put aside and blocks
//! nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::catalogue::{Catalogue, EventSchemas, Refusal};
use super::handle::{StartError, Started};
use super::run::input_hash;
use super::shard::{Message, Router, Shared, StartRun};
use super::start::{Options, begin_trace};
use crate::bus::{Acknowledge, Bus, DeadLetter, Delivery, RawMessage};
use crate::definition::EventTrigger;
use crate::envelope::Event;
use crate::expression::{Bound, EvalError, Place, Scope, Variable};
use crate::failpoint;
use crate::id::RunId;
use crate::journal::{Change, EventKey, InboxMark, InboxState, StreamPosition};
use crate::payload::Payload;
use crate::planted;
use crate::saga;

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
    pub catalogue: Arc<Catalogue>,
    pub schemas: Arc<dyn EventSchemas>,
    pub options: Options,
}

/// What a trigger's expressions see: the event.
struct EventScope {
    event: Payload,
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

/// Why an event is put aside.
struct Aside {
    reason: &'static str,
    detail: String,
}

impl Aside {
    fn expression(what: &str, error: &EvalError) -> Self {
        Self { reason: "expression", detail: format!("{what}: {error}") }
    }
}

impl Intake {
    /// Takes events in until the process drains.
    pub async fn work(self) {
        let this = Arc::new(self);
        let taking = Arc::new(Semaphore::new(TAKING_MAX));
        while !this.shared.draining.load(Ordering::Relaxed) {
            if !this.open() {
                tokio::time::sleep(GATE_PAUSE).await;
                continue;
            }
            for delivery in this.bus.next(FETCH).await {
                let Ok(permit) = Arc::clone(&taking).acquire_owned().await else { return };
                this.take(delivery, permit);
            }
        }
    }

    /// True while new work may be taken.
    fn open(&self) -> bool {
        self.shared.journal.accepts_work()
            && self.shared.open_runs.load(Ordering::Relaxed) < self.options.open_runs_max
            && self.shared.outbox_waiting() < self.options.outbox_max
    }

    /// Sends the starts that an event means, in the order of delivery; what waits for disk and bus goes
    /// on in a task of its own.
    fn take(self: &Arc<Self>, delivery: Delivery, permit: tokio::sync::OwnedSemaphorePermit) {
        failpoint::hit("intake.taken");
        let this = Arc::clone(self);
        let Delivery { stream, consumer, stream_created, sequence, event, raw, ack, .. } = delivery;
        let position = StreamPosition { stream, created: stream_created, consumer, sequence };
        let event = match event {
            Ok(event) => event,
            Err(why) => {
                let key = EventKey { source: String::new(), id: format!("{}#{sequence}", position.stream) };
                let aside = Aside { reason: "invalid_event", detail: why };
                tokio::spawn(async move {
                    this.put_aside(position, key, raw, aside, ack).await;
                    drop(permit);
                });
                return;
            }
        };
        let key = EventKey { source: event.source.clone(), id: event.id.clone() };
        let only = match self.shared.journal.inbox(Some(&position), &key) {
            InboxState::Complete => {
                self.shared.metrics.event_duplicate();
                tokio::spawn(async move {
                    ack.ack().await;
                    drop(permit);
                });
                return;
            }
            InboxState::Partly { targets_left } => Some(targets_left),
            InboxState::New => None,
        };
        let mut targets = match self.targets(&event) {
            Ok(targets) => targets,
            Err(aside) => {
                tokio::spawn(async move {
                    this.put_aside(position, key, raw, aside, ack).await;
                    drop(permit);
                });
                return;
            }
        };
        if planted::is("second_target_is_lost") {
            targets.truncate(1);
        }
        if let Some(only) = &only {
            targets.retain(|target| only.contains(&target.start.run));
        }
        self.shared.metrics.event_consumed(event.event_type.as_str());
        let mark = InboxMark {
            position: Some(position.clone()),
            event: key.clone(),
            targets: targets.iter().map(|target| target.start.run).collect(),
        };
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
        tokio::spawn(async move {
            if planted::is("ack_before_commit") {
                return ack.ack().await;
            }
            if let Some(noted) = noted
                && noted.await.is_err()
            {
                return; // the journal has failed; the process ends without an ack
            }
            failpoint::hit("intake.marked");
            let mut there_already = false;
            // Every target is waited for, also beside one that cannot begin: none may be lost (issue 3).
            let mut conflict = None;
            for answer in answers {
                match answer.await {
                    Ok(Ok(Started::Created(_))) => {}
                    Ok(Ok(Started::Existing(_))) => there_already = true,
                    Ok(Err(StartError::KeyConflict { .. })) if planted::is("conflict_is_swallowed") => {}
                    Ok(Err(StartError::KeyConflict { key, run })) => {
                        conflict = Some(format!("key `{key}` belongs to run {run}, which began with other input"));
                    }
                    Ok(Err(_)) | Err(_) if planted::is("failed_start_is_acknowledged") => {}
                    Ok(Err(_)) | Err(_) => {
                        ack.later(LATER).await;
                        return;
                    }
                }
            }
            if let Some(detail) = conflict {
                let aside = Aside { reason: "key_conflict", detail };
                this.put_aside(position, key, raw, aside, ack).await;
                return;
            }
            if there_already {
                // No transition struck these targets out: the mark is closed by itself, or it and the gap
                // in the stream would stay in memory for ever (issue 3).
                let mark = InboxMark { position: Some(position), event: key, targets: Vec::new() };
                if this.shared.journal.commit(vec![Change::Inbox(mark)]).await.is_err() {
                    return; // the journal has failed; the process ends without an ack
                }
            }
            failpoint::hit("intake.before_ack");
            ack.ack().await;
            failpoint::hit("intake.acknowledged");
            drop(permit);
        });
    }

    /// Works out which runs an event wants.
    fn targets(&self, event: &Event) -> Result<Vec<Target>, Aside> {
        let mut targets: Vec<Target> = Vec::new();
        let mut triggers = self.catalogue.triggered_by(&event.event_type).peekable();
        if triggers.peek().is_none() {
            return Ok(targets);
        }
        self.schemas.check(&event.event_type, &event.data).map_err(|refusal| Aside {
            reason: match refusal {
                Refusal::UnknownType { .. } => "unknown_type",
                Refusal::Invalid(_) => "invalid_data",
            },
            detail: refusal.line(&event.event_type),
        })?;
        let scope = EventScope { event: event.to_cloud_event() };
        for (entry, trigger) in triggers {
            let definition = &entry.definition;
            if targets.iter().any(|target| target.definition.name == definition.name) {
                continue; // one event starts a saga once: the first entry of `on` that fits
            }
            let when = trigger.when.as_ref().map(|when| when.eval_bool(&scope)).transpose();
            if !when.map_err(|error| Aside::expression("when", &error))?.unwrap_or(true) {
                continue;
            }
            let start = self.start(definition, trigger, event, &scope)?;
            if let Some(check) = &entry.input {
                check(&start.input).map_err(|violations| Aside {
                    reason: "invalid_input",
                    detail: format!(
                        "saga {}: {}",
                        definition.name,
                        Refusal::Invalid(violations).line(&event.event_type)
                    ),
                })?;
            }
            targets.push(Target { definition: Arc::clone(definition), start });
        }
        Ok(targets)
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
                .map_err(|error| Aside { reason: "null_key", detail: format!("key: {error}") })?
                .ok_or_else(|| Aside { reason: "null_key", detail: "the key is null".to_owned() })?,
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
            input_hash: input_hash(&input),
            input,
            event: Some(scope.event.clone()),
        })
    }

    async fn put_aside(
        &self,
        position: StreamPosition,
        event: EventKey,
        raw: RawMessage,
        aside: Aside,
        ack: Box<dyn Acknowledge>,
    ) {
        tracing::warn!(
            reason = aside.reason,
            detail = aside.detail,
            subject = raw.subject,
            sequence = position.sequence,
            "an event is put aside in DEAD_LETTERS"
        );
        let letter = DeadLetter {
            raw,
            reason: aside.reason.to_owned(),
            detail: aside.detail,
            consumer: position.consumer.to_string(),
            stream: position.stream.to_string(),
            sequence: position.sequence,
        };
        if !planted::is("poison_is_dropped") && self.bus.dead_letter(letter).await.is_err() {
            ack.later(LATER).await;
            return;
        }
        failpoint::hit("intake.dead_letter");
        self.shared.metrics.dead_letter(aside.reason);
        let mark = InboxMark { position: Some(position), event, targets: Vec::new() };
        if self.shared.journal.commit(vec![Change::Inbox(mark)]).await.is_ok() {
            ack.ack().await;
        }
    }
}
