//! Spans from facts: ids derived from (run, step, attempt), times from the journal, so that neither a
//! crash nor a repeat breaks the trace or doubles a span. A run has no span of its own length: an anchor
//! when it starts, one span for each attempt, one at its end (FINDINGS "Tracing").

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::late_spans::Late;
use super::recovery;
use super::run::{Move, Run};
use crate::definition::Compensate;
use crate::envelope::Event;
use crate::id::{RunId, ServiceName};
use crate::problem::Problem;
use crate::request::{Direction, Effect, Request};
use crate::saga::{Activity, Fact, Final, Operation, SettleCause, StepAt, UndoEnd, emitted_span, trace_part};
use crate::service::Protocol;
use crate::telemetry::names;
use crate::telemetry::{AttrValue, Counts, EngineSpan, SpanKind, SpanSink, SpanStatus};
use crate::time::{Span, Timestamp};
use crate::trace_context::{SpanId, TraceContext, baggage};

/// Returns the span id of one attempt.
pub fn attempt_span(run: RunId, path: &str, direction: Direction, attempt: u32) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), path.as_bytes(), direction.as_str().as_bytes(), &attempt.to_le_bytes()])
}

/// Returns the span id of a run's anchor.
pub fn anchor_span(run: RunId) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), b"anchor"])
}

/// Returns the span id of an event that is published for somebody.
#[must_use]
pub fn published_span(event: &Event) -> SpanId {
    span_of_event(&event.source, &event.id)
}

fn span_of_event(source: &str, id: &str) -> SpanId {
    SpanId::derived(&[source.as_bytes(), id.as_bytes(), b"published"])
}

/// CloudEvents' own extension: when an event was taken in. The time of its span.
const RECORDED_TIME: &str = "recordedtime";
/// Ours: the span of whoever published the event, which the event's own span hangs from.
const CALLER_SPAN: &str = "callerspan";

/// What the configuration says about the traces of runs.
#[derive(Debug, Clone)]
pub struct TracePolicy {
    /// After a silence longer than this a run goes on in a linked trace; none: never.
    pub link_after: Option<Span>,
    /// Names of `baggage` that go on.
    pub baggage: Vec<String>,
    /// A run that is not sampled and ends badly is exported afterwards.
    pub failures: bool,
    /// Where services are, as spans of calls show it.
    pub servers: BTreeMap<ServiceName, Server>,
}

/// A service's address in the words of the semantic conventions.
#[derive(Debug, Clone)]
pub struct Server {
    /// `https://pay.example.com/api`, without a slash at its end.
    pub url: String,
    pub address: String,
    pub port: u16,
}

impl Default for TracePolicy {
    fn default() -> Self {
        Self { link_after: Some(Span::from_secs(3_600)), baggage: Vec::new(), failures: true, servers: BTreeMap::new() }
    }
}

/// Where the spans of runs go.
pub struct Spans {
    sink: SpanSink,
    policy: TracePolicy,
    late: Late,
}

type Attributes<'a> = Vec<(&'static str, AttrValue<'a>)>;

impl Spans {
    pub fn new(sink: SpanSink, policy: TracePolicy, late: Late) -> Self {
        Self { sink, policy, late }
    }

    /// Begins a trace for what came without one.
    pub fn new_trace(&self) -> TraceContext {
        self.sink.new_trace()
    }

    pub fn counts(&self) -> Counts {
        self.sink.counts()
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_on()
    }

    pub fn sink(&self) -> SpanSink {
        self.sink.clone()
    }

    /// Puts an event that is about to be published into its trace: what follows from it hangs from its own
    /// span, whose parts all travel with it, so that it can be told again after a crash.
    pub fn prepare(&self, event: &mut Event, now: Timestamp) {
        let Some(caller) = &event.trace else { return };
        if caller.has_span() {
            event.extensions.insert(CALLER_SPAN.to_owned(), caller.span_id.to_string());
        }
        event.extensions.insert(RECORDED_TIME.to_owned(), now.to_string());
        event.trace = Some(self.let_through(caller).with_span(published_span(event)));
    }

    /// Records the span of a published event.
    pub fn published(&self, event: &Event) {
        let Some(context) = event.trace.clone().filter(|trace| trace.sampled) else { return };
        let extension = |name: &str| event.extensions.get(name).map(String::as_str);
        let told = Published {
            event_type: event.event_type.as_str().into(),
            source: event.source.as_str().into(),
            id: event.id.as_str().into(),
            recorded: extension(RECORDED_TIME).map(Cow::Borrowed),
            caller: extension(CALLER_SPAN).map(Cow::Borrowed),
            correlation_id: event.correlation_id.as_deref().map(Cow::Borrowed),
        };
        told.record(&self.sink, context);
    }

    /// Returns the silence after which a run that begins goes on in a linked trace.
    pub fn link_after(&self) -> Option<Span> {
        self.policy.link_after
    }

    /// Returns a caller's context with what may go on of its baggage.
    pub fn let_through(&self, caller: &TraceContext) -> TraceContext {
        let baggage = caller.baggage.as_deref().and_then(|all| baggage::allowed(all, &self.policy.baggage));
        TraceContext { baggage, ..caller.clone() }
    }

    /// Records the spans that a committed move completes.
    pub fn record(&self, run: &Run, moved: &Move, at: Timestamp) {
        if !self.sink.is_on() {
            return;
        }
        let sampled = run.state.begun.trace.sampled;
        if sampled || (self.policy.failures && self.late.takes_over(run, moved)) {
            self.tell(run, moved, at);
        }
    }

    /// Records the span of a fact read back at a restart: the process before may have been killed with it
    /// in its queue. It is the same span to the last attribute, so a collector that has it sees no second.
    pub fn record_again(&self, run: &Run, fact: Fact, launched_at: Option<Timestamp>, at: Timestamp) {
        if self.is_on() && run.state.begun.trace.sampled {
            self.tell_one(run, fact, launched_at, at);
        }
    }

    /// Records the span of a fact whether its run is sampled or not; with a run's start also that of the
    /// event that caused it, if that was published through us.
    pub fn tell_one(&self, run: &Run, fact: Fact, launched_at: Option<Timestamp>, at: Timestamp) {
        if let Fact::RunStarted(begun) = &fact
            && let Some(event) = begun.event.as_ref()
            && let Ok(published) = serde_json::from_str::<Published<'_>>(event.text())
            && let Some(id) = begun.parent.filter(|id| *id == span_of_event(&published.source, &published.id))
        {
            published.record(&self.sink, TraceContext { sampled: true, ..begun.trace.with_span(id) });
        }
        let launched = recovery::fact_step(&fact).zip(launched_at).into_iter().collect();
        self.tell(run, &Move { facts: vec![fact], commands: Vec::new(), launched, cut: false }, at);
    }

    fn tell(&self, run: &Run, moved: &Move, at: Timestamp) {
        let context = TraceContext { sampled: true, ..run.state.trace.context.clone() };
        let story = Story { sink: &self.sink, policy: &self.policy, run, at, context };
        let first = run.state.facts - moved.facts.len() as u64;
        story.part(first);
        for (sequence, fact) in (first..).zip(&moved.facts) {
            let launched_at = recovery::fact_step(fact).and_then(|step| moved.launched_at(step));
            story.fact(fact, sequence, launched_at);
        }
    }
}

/// What an event says of itself and of its publishing.
#[derive(serde::Deserialize)]
struct Published<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default, rename = "recordedtime")]
    recorded: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "callerspan")]
    caller: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "correlationid")]
    correlation_id: Option<Cow<'a, str>>,
}

impl Published<'_> {
    fn record(&self, sink: &SpanSink, context: TraceContext) {
        // One that was published by others has no time of ours.
        let Some(at) = self.recorded.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok()) else { return };
        let start_us = u64::try_from(at.as_microsecond()).unwrap_or_default();
        let parent = self.caller.as_deref().and_then(SpanId::parse);
        let mut attributes = messaging("send", "publish", &self.event_type, &self.source, &self.id);
        if let Some(correlation) = &self.correlation_id {
            attributes.push((names::MESSAGING_MESSAGE_CONVERSATION_ID, (&**correlation).into()));
            attributes.push((names::CORRELATION_ID, (&**correlation).into()));
        }
        sink.record(&EngineSpan {
            context,
            parent,
            parent_is_remote: parent.is_some(),
            name: format!("{} send", self.event_type).into(),
            kind: SpanKind::Producer,
            start_us,
            end_us: start_us + 1,
            attributes,
            status: SpanStatus::Unset,
            links: Vec::new(),
        });
    }
}

/// Says what was called, in the words of the conventions for its protocol.
fn called<'a>(attributes: &mut Attributes<'a>, protocol: Protocol, request: &'a Request, server: Option<&'a Server>) {
    match protocol {
        Protocol::Http | Protocol::Graphql | Protocol::Soap => {
            attributes.push((names::HTTP_REQUEST_METHOD, request.method.as_str().into()));
            if let Some(server) = server {
                // Queries may hold what nobody should read.
                let path = request.target.split(['?', '#']).next().unwrap_or_default();
                attributes.push((names::URL_FULL, format!("{}{path}", server.url).into()));
            }
        }
        Protocol::Grpc => {
            attributes.push((names::RPC_SYSTEM, "grpc".into()));
            if let Some((service, method)) = request.target.trim_start_matches('/').split_once('/') {
                attributes.push((names::RPC_SERVICE, service.into()));
                attributes.push((names::RPC_METHOD, method.into()));
            }
        }
        Protocol::Nats => {
            attributes.push((names::MESSAGING_SYSTEM, "nats".into()));
            attributes.push((names::MESSAGING_OPERATION_TYPE, "send".into()));
            attributes.push((names::MESSAGING_OPERATION_NAME, "request".into()));
            attributes.push((names::MESSAGING_DESTINATION_NAME, request.target.as_str().into()));
        }
    }
    if let Some(server) = server {
        attributes.push((names::SERVER_ADDRESS, server.address.as_str().into()));
        attributes.push((names::SERVER_PORT, server.port.into()));
    }
}

/// The attributes of a span about an event (OpenTelemetry's conventions for messaging and CloudEvents).
fn messaging<'a>(
    kind: &'a str,
    operation: &'a str,
    event_type: &'a str,
    source: &'a str,
    id: &'a str,
) -> Attributes<'a> {
    vec![
        (names::MESSAGING_SYSTEM, "nats".into()),
        (names::MESSAGING_OPERATION_TYPE, kind.into()),
        (names::MESSAGING_OPERATION_NAME, operation.into()),
        (names::MESSAGING_DESTINATION_NAME, format!("events.{event_type}").into()),
        (names::MESSAGING_MESSAGE_ID, id.into()),
        (names::CLOUDEVENTS_EVENT_ID, id.into()),
        (names::CLOUDEVENTS_EVENT_SOURCE, source.into()),
        (names::CLOUDEVENTS_EVENT_TYPE, event_type.into()),
    ]
}

/// One move of one run, being told.
struct Story<'a> {
    sink: &'a SpanSink,
    policy: &'a TracePolicy,
    run: &'a Run,
    at: Timestamp,
    /// The trace that the run is in, at the span that the others hang from.
    context: TraceContext,
}

/// How an attempt came to its end.
struct AttemptEnd<'a> {
    effect: Effect,
    status: Option<u16>,
    error: Option<Cow<'a, str>>,
    kind: Option<&'a str>,
}

impl<'a> AttemptEnd<'a> {
    fn answered(effect: Effect, status: Option<u16>, problem: Option<&'a Problem>) -> Self {
        let error = match (effect, problem) {
            (Effect::Done, _) => None,
            (Effect::None | Effect::Maybe, Some(problem)) => Some(problem.title.as_str().into()),
            (Effect::None | Effect::Maybe, None) => Some(effect.as_str().into()),
        };
        let kind = problem.filter(|_| error.is_some()).map(|problem| problem.kind.as_str());
        Self { effect, status, error, kind }
    }

    fn cut_off() -> Self {
        let error = Some("cut off by a restart".into());
        Self { effect: Effect::Maybe, status: None, error, kind: Some("cut_off") }
    }
}

impl<'a> Story<'a> {
    fn fact(&self, fact: &'a Fact, sequence: u64, launched_at: Option<Timestamp>) {
        let saga = self.run.state.begun.saga.as_str();
        match fact {
            Fact::RunStarted(_) => self.anchor(),
            Fact::AttemptEnded { step, direction, attempt, effect, status, problem, .. } => {
                let end = AttemptEnd::answered(*effect, *status, problem.as_ref());
                self.attempt(*step, *direction, *attempt, launched_at, end);
            }
            // An attempt that is sent again under its number ends later, as the same span.
            Fact::AttemptInterrupted { step, direction, attempt }
                if !goes_on(self.run, *step, (*direction, *attempt)) =>
            {
                self.attempt(*step, *direction, *attempt, launched_at, AttemptEnd::cut_off());
            }
            Fact::EventEmitted { event, id, .. } => {
                let source = format!("/sagas/{saga}");
                let mut attributes = self.attributes();
                attributes.extend(messaging("send", "publish", event.as_str(), &source, id));
                attributes.push((names::MESSAGING_MESSAGE_CONVERSATION_ID, self.correlation().into()));
                self.point(
                    emitted_span(self.run.id(), id),
                    format!("{event} send").into(),
                    SpanKind::Producer,
                    attributes,
                    SpanStatus::Unset,
                );
            }
            Fact::WaitStarted { step, due } => {
                let path = step.path(&self.run.definition);
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_STEP, AttrValue::Text(path.clone())));
                attributes.push((names::SAGA_DUE, due.to_string().into()));
                let begun = &self.run.state.begun;
                let long = begun.link_after.is_some_and(|after| due.since(self.at) > after);
                let next = long.then(|| trace_part(begun, self.run.state.trace.number + 1));
                let mut span = self.span(self.numbered("waits", sequence), format!("{path} waits").into());
                span.attributes = attributes;
                // Where to look when it is over.
                span.links = next.into_iter().collect();
                self.sink.record(&span);
            }
            Fact::AwaitStarted { step, due, .. } | Fact::AskStarted { step, due, .. } => {
                let path = step.path(&self.run.definition);
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_STEP, AttrValue::Text(path.clone())));
                if let Some(due) = due {
                    attributes.push((names::SAGA_DUE, due.to_string().into()));
                }
                self.internal("waits", sequence, format!("{path} waits"), attributes, SpanStatus::Unset);
            }
            Fact::SettlingBegan { cause, problem, .. } => {
                let word = match cause {
                    SettleCause::Failed => "failed",
                    SettleCause::Cancelled => "cancelled",
                    SettleCause::Deadline => "late",
                    SettleCause::Lost => "lost",
                };
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_CAUSE, word.into()));
                attributes.push((names::ERROR_TYPE, problem.kind.as_str().into()));
                let status = SpanStatus::Error(problem.title.as_str().into());
                self.internal("settles", sequence, format!("saga {saga} settles"), attributes, status);
            }
            Fact::UndoEnded { step, end: UndoEnd::Skipped } => {
                let path = step.path(&self.run.definition);
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_STEP, AttrValue::Text(path.clone())));
                let status = SpanStatus::Error("the undo was skipped: what the step did is left".into());
                self.internal("skipped", sequence, format!("{path} undo skipped"), attributes, status);
            }
            Fact::Parked { step, reason, .. } => {
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_STEP, AttrValue::Text(step.path(&self.run.definition))));
                let status = SpanStatus::Error(reason.as_str().into());
                self.internal("parked", sequence, format!("saga {saga} parked"), attributes, status);
            }
            Fact::OperatorActed { operation } => {
                let mut attributes = self.attributes();
                if let Operation::Cancel { reason: Some(reason) } = operation {
                    attributes.push((names::SAGA_REASON, reason.as_str().into()));
                }
                let name = format!("operator {}", operation.as_str());
                self.internal("operator", sequence, name, attributes, SpanStatus::Unset);
            }
            Fact::RunEnded { .. } => {
                let mut attributes = self.attributes();
                attributes.push((names::SAGA_OUTCOME, self.run.state.state().as_str().into()));
                let status = match (self.run.state.end, &self.run.state.error) {
                    (Some(Final::Compensated), Some(error)) => SpanStatus::Error(error.title.as_str().into()),
                    (Some(Final::Compensated), None) => SpanStatus::Error("compensated".into()),
                    (Some(Final::Completed) | None, _) => SpanStatus::Unset,
                };
                self.internal("end", sequence, format!("saga {saga} end"), attributes, status);
            }
            _ => {}
        }
    }

    /// The first span of a run's later traces.
    fn part(&self, first: u64) {
        let part = &self.run.state.trace;
        let Some(before) = part.before.as_ref().filter(|_| part.since == first) else { return };
        let name = format!("saga {} goes on", self.run.state.begun.saga);
        let mut span = self.span(part.context.span_id, name.into());
        span.parent = None;
        span.attributes = self.attributes();
        span.links = vec![before.clone()];
        self.sink.record(&span);
    }

    fn anchor(&self) {
        let begun = &self.run.state.begun;
        let mut attributes = self.attributes();
        let mut kind = SpanKind::Internal;
        let cause = begun.event.as_ref().and_then(|event| serde_json::from_str::<Published<'_>>(event.text()).ok());
        if let Some(cause) = &cause {
            kind = SpanKind::Consumer;
            attributes.extend(messaging("process", "process", &cause.event_type, &cause.source, &cause.id));
            attributes.push((names::MESSAGING_MESSAGE_CONVERSATION_ID, self.correlation().into()));
        }
        let mut span = self.span(self.context.span_id, format!("saga {}", begun.saga).into());
        span.parent = begun.parent;
        span.parent_is_remote = begun.parent.is_some() && begun.parent_run.is_none();
        span.kind = kind;
        span.attributes = attributes;
        self.sink.record(&span);
    }

    fn attempt(
        &self,
        step: StepAt,
        direction: Direction,
        attempt: u32,
        launched_at: Option<Timestamp>,
        end: AttemptEnd<'_>,
    ) {
        let (path, at) = (step.path(&self.run.definition), self.run.state.step(step));
        let mut attributes = self.attributes();
        attributes.push((names::SAGA_STEP, AttrValue::Text(path.clone())));
        attributes.push((names::SAGA_ATTEMPT, attempt.into()));
        attributes.push((names::SAGA_DIRECTION, direction.as_str().into()));
        attributes.push((names::SAGA_OUTCOME, end.effect.as_str().into()));
        let rule = self.run.definition.step(step.step);
        let (request, call) = match direction {
            Direction::Forward => (&at.request, rule.action.call()),
            Direction::Check => (&at.check.request, rule.on_unknown.check.as_ref().map(|check| &check.call)),
            Direction::Compensate => match &rule.compensate {
                Compensate::Call(undo) => (&at.undo.request, Some(&undo.call)),
                _ => (&at.undo.request, None),
            },
        };
        let protocol = call.map_or(Protocol::Http, |call| call.protocol);
        if let Some(request) = request {
            attributes.push((names::PEER_SERVICE, request.service.as_str().into()));
            let server = self.policy.servers.get(&request.service);
            called(&mut attributes, protocol, request, server);
        }
        let over_http = matches!(protocol, Protocol::Http | Protocol::Graphql | Protocol::Soap);
        if attempt > 1 && over_http {
            attributes.push((names::HTTP_REQUEST_RESEND_COUNT, (attempt - 1).into()));
        }
        match (end.status, protocol) {
            (Some(status), Protocol::Http | Protocol::Graphql | Protocol::Soap) => {
                attributes.push((names::HTTP_RESPONSE_STATUS_CODE, status.into()));
            }
            (Some(status), Protocol::Grpc) => attributes.push((names::RPC_GRPC_STATUS_CODE, status.into())),
            (Some(_), Protocol::Nats) | (None, _) => {}
        }
        if let Some(kind) = end.kind {
            attributes.push((names::ERROR_TYPE, kind.into()));
        }
        let started = launched_at.unwrap_or(self.at);
        let id = attempt_span(self.run.id(), &path, direction, attempt);
        let mut span = self.span(id, span_name(&path, direction));
        span.kind = SpanKind::Client;
        span.start_us = micros(started);
        span.end_us = micros(self.at).max(micros(started) + 1);
        span.attributes = attributes;
        span.status = end.error.map_or(SpanStatus::Unset, SpanStatus::Error);
        self.sink.record(&span);
    }

    fn internal(&self, what: &str, sequence: u64, name: String, attributes: Attributes<'_>, status: SpanStatus<'_>) {
        self.point(self.numbered(what, sequence), name.into(), SpanKind::Internal, attributes, status);
    }

    fn point(
        &self,
        id: SpanId,
        name: Cow<'_, str>,
        kind: SpanKind,
        attributes: Attributes<'_>,
        status: SpanStatus<'_>,
    ) {
        let span = EngineSpan { kind, attributes, status, ..self.span(id, name) };
        self.sink.record(&span);
    }

    /// A span without a length below the anchor.
    fn span<'s>(&self, id: SpanId, name: Cow<'s, str>) -> EngineSpan<'s> {
        EngineSpan {
            context: self.context.with_span(id),
            parent: Some(self.context.span_id),
            parent_is_remote: false,
            name,
            kind: SpanKind::Internal,
            start_us: micros(self.at),
            end_us: micros(self.at) + 1,
            attributes: Vec::new(),
            status: SpanStatus::Unset,
            links: Vec::new(),
        }
    }

    /// The id of a span that no call has: by the number of its fact.
    fn numbered(&self, what: &str, sequence: u64) -> SpanId {
        SpanId::derived(&[self.run.id().0.as_bytes(), what.as_bytes(), &sequence.to_le_bytes()])
    }

    fn correlation(&self) -> &'a str {
        &self.run.state.begun.correlation_id
    }

    fn attributes(&self) -> Attributes<'a> {
        let begun = &self.run.state.begun;
        // The most that a span gets, so that the list never grows.
        let mut attributes = Vec::with_capacity(20);
        attributes.push((names::SAGA_NAME, begun.saga.as_str().into()));
        attributes.push((names::SAGA_VERSION, begun.version.into()));
        attributes.push((names::SAGA_RUN, begun.run.to_string().into()));
        attributes.push((names::CORRELATION_ID, begun.correlation_id.as_str().into()));
        if let Some(key) = &begun.key {
            attributes.push((names::SAGA_KEY, key.as_str().into()));
        }
        attributes
    }
}

/// True when the attempt that was cut off goes on under the same number, or may do so.
fn goes_on(run: &Run, step: StepAt, cut_off: (Direction, u32)) -> bool {
    match run.state.step(step).activity {
        Activity::InFlight { direction, attempt } | Activity::Interrupted { direction, attempt } => {
            (direction, attempt) == cut_off
        }
        Activity::Idle
        | Activity::RetryAt { .. }
        | Activity::Sleeping { .. }
        | Activity::Awaiting { .. }
        | Activity::Asking { .. }
        | Activity::Child { .. }
        | Activity::AskPending => false,
    }
}

fn span_name(path: &str, direction: Direction) -> Cow<'_, str> {
    match direction {
        Direction::Forward => path.into(),
        Direction::Check => format!("{path} check").into(),
        Direction::Compensate => format!("{path} undo").into(),
    }
}

const fn micros(at: Timestamp) -> u64 {
    at.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_named_as_their_protocol_does() {
        let server = Server { url: "http://a/v1".to_owned(), address: "a".to_owned(), port: 80 };
        let names_of = |protocol: Protocol, target: &str| {
            let request = Request {
                service: ServiceName::parse("a").unwrap(),
                method: "POST".to_owned(),
                target: target.to_owned(),
                headers: Vec::new(),
                body: None,
                cache: None,
            };
            let mut attributes = Vec::new();
            called(&mut attributes, protocol, &request, Some(&server));
            let shown = attributes.iter().filter_map(|(name, value)| match value {
                AttrValue::Text(text) => Some(format!("{name}={text}")),
                _ => None,
            });
            shown.collect::<Vec<_>>().join(" ")
        };
        for (protocol, target, expected) in [
            (Protocol::Http, "/b?secret=1", "http.request.method=POST url.full=http://a/v1/b server.address=a"),
            (Protocol::Graphql, "", "http.request.method=POST url.full=http://a/v1 server.address=a"),
            (Protocol::Grpc, "/p.v1.S/M", "rpc.system=grpc rpc.service=p.v1.S rpc.method=M server.address=a"),
            (
                Protocol::Nats,
                "stock.a",
                "messaging.system=nats messaging.operation.type=send messaging.operation.name=request messaging.destination.name=stock.a server.address=a",
            ),
        ] {
            assert_eq!(names_of(protocol, target), expected);
        }
    }
}
