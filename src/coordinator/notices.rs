//! Tells that a run parked, that one was compensated, that something went to dead letters: as an event on the
//! bus (`ops.…`), and to people over a webhook. After the commit, from memory: what waits when the process
//! is killed is told again at the next start for runs that are still parked, and not otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::metrics::Metrics;
use super::run::{Move, Run};
use crate::bus::{self, Bus};
use crate::envelope::Event;
use crate::id::EventType;
use crate::notify::{Webhook, escaped};
use crate::payload::Payload;
use crate::saga::Fact;
use crate::time::Timestamp;
use crate::trace_context::{SpanId, TraceContext};

/// Notices waiting for a channel. More at once means that everything fails: the first ones say it.
const QUEUE_LEN: usize = 4_096;
/// After NATS did not take an event; the bus has waited inside already.
const PAUSE: Duration = Duration::from_secs(1);
/// A chat service takes about one message a second.
const CHAT_PAUSE: Duration = Duration::from_secs(1);
/// Notices that one message spells out; the others are counted in it.
const CHAT_LINES_MAX: usize = 8;
/// Events of ours are not told about, or a saga on `ops.…` that parks would start itself for ever.
const OWN_TYPES: &str = "ops.";
const NAMESPACE: Uuid = Uuid::from_u128(0x6f70_7300_6261_636b_7374_6974_6368_0001);

/// What is told, and where.
#[derive(Debug, Clone, Default)]
pub struct NoticePolicy {
    pub kinds: BTreeSet<NoticeKind>,
    /// Events on the bus.
    pub events: bool,
    pub webhook: Option<Arc<Webhook>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    Parked,
    Compensated,
    DeadLetter,
}

/// One thing to tell.
#[derive(Debug, Clone)]
struct Notice {
    event: Event,
    line: String,
}

/// Takes notices. Never waits.
#[derive(Clone)]
pub struct Notices {
    kinds: Arc<BTreeSet<NoticeKind>>,
    bus: Option<mpsc::Sender<Notice>>,
    chat: Option<mpsc::Sender<Notice>>,
    metrics: Arc<Metrics>,
}

/// Something put aside, in the words of its dead letter.
pub struct PutAside<'a> {
    pub reason: &'static str,
    pub detail: &'a str,
    pub subject: &'a str,
    pub stream: &'a str,
    pub sequence: u64,
    pub correlation_id: Option<&'a str>,
    pub trace: Option<&'a TraceContext>,
}

impl Notices {
    /// Starts what tells.
    pub fn start(policy: NoticePolicy, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) -> Self {
        let events = policy.events.then(|| {
            let (sender, waiting) = mpsc::channel(QUEUE_LEN);
            tokio::spawn(publish(waiting, bus, Arc::clone(&metrics)));
            sender
        });
        let chat = policy.webhook.map(|webhook| {
            let (sender, waiting) = mpsc::channel(QUEUE_LEN);
            tokio::spawn(tell(waiting, webhook, Arc::clone(&metrics)));
            sender
        });
        Self { kinds: Arc::new(policy.kinds), bus: events, chat, metrics }
    }

    /// Tells what a committed move of a run means.
    pub fn moved(&self, run: &Run, moved: &Move, at: Timestamp) {
        for fact in &moved.facts {
            match fact {
                Fact::Parked { .. } => self.parked(run, at, Channels::All),
                Fact::RunEnded { completed: false, .. } => self.compensated(run, at),
                _ => {}
            }
        }
    }

    /// Tells of a run that was parked when the process before ended: perhaps nobody was told. The event's id is the
    /// same; people are not told twice.
    pub fn still_parked(&self, run: &Run) {
        if let Some(parked) = &run.state.parked {
            self.parked(run, parked.since, Channels::Bus);
        }
    }

    fn parked(&self, run: &Run, at: Timestamp, channels: Channels) {
        let Some(parked) = run.state.parked.as_ref().filter(|_| self.wants(NoticeKind::Parked, run)) else { return };
        let step = parked.step.path(&run.definition).into_owned();
        let name = format!("parked|{}", run.state.parkings);
        let direction = parked.direction.as_str();
        let data = json!({
            "run": run.id(), "saga": run.state.begun.saga, "step": step, "direction": direction, "reason": parked.reason,
        });
        let what = if direction == "compensate" { "the undo of " } else { "" };
        let line = format!("is *parked* at {what}`{}`: {}", escaped(&step), escaped(&parked.reason));
        self.put(of_run(run, "ops.run_parked.v1", &name, data, at), run_line(run, &line), channels);
    }

    fn compensated(&self, run: &Run, at: Timestamp) {
        if !self.wants(NoticeKind::Compensated, run) {
            return;
        }
        let error = run.state.error.as_ref();
        let reason = error.map(|error| error.title.clone());
        let data = json!({
            "run": run.id(), "saga": run.state.begun.saga, "incomplete": run.state.incomplete,
            "step": error.and_then(|error| error.step.clone()), "reason": reason,
        });
        let incomplete = if run.state.incomplete { ", *incompletely*" } else { "" };
        let line = format!("was compensated{incomplete}: {}", escaped(reason.as_deref().unwrap_or("cancelled")));
        self.put(of_run(run, "ops.run_compensated.v1", "compensated", data, at), run_line(run, &line), Channels::All);
    }

    /// Tells of something that was put aside.
    pub fn put_aside(&self, aside: &PutAside<'_>, at: Timestamp) {
        let ours = aside.subject.strip_prefix("events.").is_some_and(|rest| rest.starts_with(OWN_TYPES));
        if !self.kinds.contains(&NoticeKind::DeadLetter) || ours {
            return;
        }
        let identity = format!("{}|{}|{}", aside.stream, aside.sequence, aside.reason);
        let data = json!({
            "subject": aside.subject, "reason": aside.reason, "detail": aside.detail,
            "stream": aside.stream, "sequence": aside.sequence,
        });
        let id = Uuid::new_v5(&NAMESPACE, identity.as_bytes()).to_string();
        let mut event = event("ops.dead_letter.v1", id, data, at);
        event.correlation_id = aside.correlation_id.map(str::to_owned);
        event.trace = aside.trace.map(|trace| trace.with_span(SpanId::derived(&[identity.as_bytes()])));
        let line = format!(
            ":warning: an event on `{}` went to dead letters: {} ({})",
            escaped(aside.subject),
            aside.reason,
            escaped(aside.detail)
        );
        self.put(event, line, Channels::All);
    }

    fn wants(&self, kind: NoticeKind, run: &Run) -> bool {
        let cause = run.state.begun.event.as_ref().map(Payload::text).unwrap_or_default();
        self.kinds.contains(&kind) && !cause.contains("\"type\":\"ops.")
    }

    fn put(&self, event: Event, line: String, channels: Channels) {
        let notice = Notice { event, line };
        let chat = self.chat.as_ref().filter(|_| channels == Channels::All);
        for (name, channel) in [("bus", self.bus.as_ref()), ("webhook", chat)] {
            if channel.is_some_and(|channel| channel.try_send(notice.clone()).is_err()) {
                self.metrics.notice(name, "lost");
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Channels {
    All,
    Bus,
}

fn run_line(run: &Run, what: &str) -> String {
    let begun = &run.state.begun;
    let key = begun.key.as_deref().map(|key| format!(", key {}", escaped(key))).unwrap_or_default();
    let trace = run.state.trace.context.trace_id;
    format!(
        ":warning: {} run `{}`{key} {what}\n`backstitch show {}`, trace `{trace}`",
        begun.saga, begun.run, begun.run
    )
}

fn of_run(run: &Run, event_type: &str, name: &str, data: serde_json::Value, at: Timestamp) -> Event {
    let begun = &run.state.begun;
    let id = Uuid::new_v5(&begun.run.0, format!("notice|{name}").as_bytes()).to_string();
    let span = SpanId::derived(&[begun.run.0.as_bytes(), b"notice", name.as_bytes()]);
    let mut event = event(event_type, id, data, at);
    event.correlation_id = Some(begun.correlation_id.clone());
    event.causation_id = Some(begun.causation_id.clone().unwrap_or_else(|| begun.run.to_string()));
    event.partition_key = begun.key.clone();
    event.trace = Some(run.state.trace.context.with_span(span));
    event.extensions = BTreeMap::from([("sagarun".to_owned(), begun.run.to_string())]);
    event
}

fn event(event_type: &str, id: String, data: serde_json::Value, at: Timestamp) -> Event {
    Event {
        id,
        source: "/backstitch".to_owned(),
        event_type: EventType::parse(event_type).expect("a name of ours, which a test parses"),
        time: Some(at.to_string()),
        subject: None,
        dataschema: None,
        correlation_id: None,
        causation_id: None,
        partition_key: None,
        trace: None,
        extensions: BTreeMap::new(),
        data: Payload::of(&data),
    }
}

/// Publishes, in order; waits while the bus is away.
async fn publish(mut waiting: mpsc::Receiver<Notice>, bus: Arc<dyn Bus>, metrics: Arc<Metrics>) {
    while let Some(notice) = waiting.recv().await {
        loop {
            match bus.publish(vec![notice.event.clone()]).await.pop() {
                Some(Ok(_)) => break metrics.notice("bus", "told"),
                Some(Err(bus::Error::Refused(why))) => {
                    tracing::warn!(error = why, event = %notice.event.event_type, "the bus refuses a notice");
                    break metrics.notice("bus", "lost");
                }
                Some(Err(bus::Error::Unavailable(_))) | None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Tells people: what has come together goes into one message.
async fn tell(mut waiting: mpsc::Receiver<Notice>, webhook: Arc<Webhook>, metrics: Arc<Metrics>) {
    let mut notices = Vec::new();
    while waiting.recv_many(&mut notices, QUEUE_LEN).await > 0 {
        let mut text = notices.iter().take(CHAT_LINES_MAX).map(|notice| &*notice.line).collect::<Vec<_>>().join("\n");
        let more = notices.len().saturating_sub(CHAT_LINES_MAX);
        if more > 0 {
            text =
                format!("{text}\n… and {more} more: `backstitch list --state parked`, `backstitch dead-letters list`");
        }
        let outcome = webhook.tell(&text).await;
        if let Err(error) = &outcome {
            tracing::warn!(error, notices = notices.len(), "the webhook takes no notices; these are given up");
        }
        for _ in notices.drain(..) {
            metrics.notice("webhook", if outcome.is_ok() { "told" } else { "lost" });
        }
        tokio::time::sleep(CHAT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_types_are_types() {
        for name in ["ops.run_parked.v1", "ops.run_compensated.v1", "ops.dead_letter.v1"] {
            let made = event(name, "1".to_owned(), json!({}), Timestamp(1));
            assert!(made.event_type.as_str().starts_with(OWN_TYPES));
        }
    }
}
