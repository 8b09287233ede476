//! Spans from facts: ids derived from (run, step, attempt), times from the journal, so that neither a
//! crash nor a repeat breaks the trace or doubles a span. A run has no span of its own length: an anchor
//! when it starts, one span for each attempt, one at its end (FINDINGS "Tracing").

use std::borrow::Cow;

use super::run::{Move, Run};
use crate::id::RunId;
use crate::request::{Direction, Effect};
use crate::saga::{Activity, Fact, Final, StepAt};
use crate::telemetry::names;
use crate::telemetry::{AttrValue, Counts, EngineSpan, SpanKind, SpanSink, SpanStatus};
use crate::time::Timestamp;
use crate::trace_context::{SpanId, TraceContext};

/// Returns the span id of one attempt.
pub fn attempt_span(run: RunId, path: &str, direction: Direction, attempt: u32) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), path.as_bytes(), direction.as_str().as_bytes(), &attempt.to_le_bytes()])
}

/// Returns the span id of a run's anchor.
pub fn anchor_span(run: RunId) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), b"anchor"])
}

/// Where the spans of runs go.
pub struct Spans(SpanSink);

type Attributes = Vec<(&'static str, AttrValue)>;

impl Spans {
    pub fn new(sink: SpanSink) -> Self {
        Self(sink)
    }

    /// Begins a trace for what came without one.
    pub fn new_trace(&self) -> TraceContext {
        self.0.new_trace()
    }

    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// Records the spans that a committed move completes.
    pub fn record(&self, run: &Run, moved: &Move, at: Timestamp) {
        if !self.0.is_on() || !run.state.begun.trace.sampled {
            return;
        }
        let begun = &run.state.begun;
        let anchor = Some(begun.trace.span_id);
        for fact in &moved.facts {
            match fact {
                Fact::RunStarted(_) => {
                    let mut attributes = self.attributes(run);
                    if let Some(event) = &begun.causation_id {
                        attributes.push((names::MESSAGING_SYSTEM, "nats".into()));
                        attributes.push((names::MESSAGING_OPERATION_TYPE, "process".into()));
                        attributes.push((names::MESSAGING_MESSAGE_ID, event.clone().into()));
                    }
                    let kind = if begun.causation_id.is_some() { SpanKind::Consumer } else { SpanKind::Internal };
                    self.0.record(EngineSpan {
                        context: begun.trace.clone(),
                        parent: begun.parent,
                        parent_is_remote: true,
                        name: format!("saga {}", begun.saga).into(),
                        kind,
                        start_us: micros(at),
                        end_us: micros(at) + 1,
                        attributes,
                        status: SpanStatus::Unset,
                        links: Vec::new(),
                    });
                }
                Fact::AttemptEnded { step, direction, attempt, effect, status, problem, .. } => {
                    let path = &*step.path(&run.definition);
                    let mut attributes = self.step_attributes(run, *step, *direction, *attempt);
                    attributes.push((names::SAGA_OUTCOME, effect.as_str().into()));
                    if let Some(status) = status {
                        attributes.push((names::HTTP_RESPONSE_STATUS_CODE, (*status).into()));
                    }
                    let status = match (effect, problem) {
                        (Effect::Done, _) => SpanStatus::Unset,
                        (Effect::None | Effect::Maybe, Some(problem)) => {
                            attributes.push((names::ERROR_TYPE, problem.kind.clone().into()));
                            SpanStatus::Error(problem.title.clone())
                        }
                        (Effect::None | Effect::Maybe, None) => SpanStatus::Error(effect.as_str().to_owned()),
                    };
                    let started = moved.launched_at(*step).unwrap_or(at);
                    self.0.record(EngineSpan {
                        context: begun.trace.with_span(attempt_span(begun.run, path, *direction, *attempt)),
                        parent: anchor,
                        parent_is_remote: false,
                        name: span_name(path, *direction),
                        kind: SpanKind::Client,
                        start_us: micros(started),
                        end_us: micros(at).max(micros(started) + 1),
                        attributes,
                        status,
                        links: Vec::new(),
                    });
                }
                // An attempt that is sent again under its number ends later, as the same span.
                Fact::AttemptInterrupted { step, direction, attempt }
                    if !goes_on(run, *step, (*direction, *attempt)) =>
                {
                    let path = &*step.path(&run.definition);
                    let mut attributes = self.step_attributes(run, *step, *direction, *attempt);
                    attributes.push((names::SAGA_OUTCOME, Effect::Maybe.as_str().into()));
                    let started = moved.launched_at(*step).unwrap_or(at);
                    self.0.record(EngineSpan {
                        context: begun.trace.with_span(attempt_span(begun.run, path, *direction, *attempt)),
                        parent: anchor,
                        parent_is_remote: false,
                        name: span_name(path, *direction),
                        kind: SpanKind::Client,
                        start_us: micros(started),
                        end_us: micros(at).max(micros(started) + 1),
                        attributes,
                        status: SpanStatus::Error("cut off by a restart".to_owned()),
                        links: Vec::new(),
                    });
                }
                Fact::EventEmitted { event, content: Some(content), .. } => {
                    let Some(context) = &content.trace else { continue };
                    let mut attributes = self.attributes(run);
                    attributes.push((names::MESSAGING_SYSTEM, "nats".into()));
                    attributes.push((names::MESSAGING_OPERATION_TYPE, "send".into()));
                    attributes.push((names::MESSAGING_DESTINATION_NAME, format!("events.{event}").into()));
                    attributes.push((names::MESSAGING_MESSAGE_ID, content.id.clone().into()));
                    self.point(
                        run,
                        context.span_id,
                        format!("{event} send"),
                        SpanKind::Producer,
                        at,
                        attributes,
                        SpanStatus::Unset,
                    );
                }
                Fact::Parked { reason, .. } => {
                    let name = format!("saga {} parked", begun.saga);
                    let span = self.numbered(run, "parked", run.state.parkings);
                    let status = SpanStatus::Error(reason.clone());
                    self.point(run, span, name, SpanKind::Internal, at, self.attributes(run), status);
                }
                Fact::OperatorActed { operation } => {
                    let name = format!("operator {}", operation.as_str());
                    let span = self.numbered(run, operation.as_str(), run.state.facts as u32);
                    self.point(run, span, name, SpanKind::Internal, at, self.attributes(run), SpanStatus::Unset);
                }
                Fact::RunEnded { .. } => {
                    let mut attributes = self.attributes(run);
                    attributes.push((names::SAGA_OUTCOME, run.state.state().as_str().into()));
                    let status = match (run.state.end, &run.state.error) {
                        (Some(Final::Compensated), Some(error)) => SpanStatus::Error(error.title.clone()),
                        (Some(Final::Compensated), None) => SpanStatus::Error("compensated".to_owned()),
                        (Some(Final::Completed) | None, _) => SpanStatus::Unset,
                    };
                    let span = self.numbered(run, "end", 0);
                    let name = format!("saga {} end", begun.saga);
                    self.point(run, span, name, SpanKind::Internal, at, attributes, status);
                }
                _ => {}
            }
        }
    }

    /// Records the span of a fact read back at a restart: the process before may have been killed with it
    /// in its queue. It is the same span to the last attribute, so a collector that has it sees no second.
    pub fn record_again(&self, run: &Run, fact: Fact, launched_at: Option<Timestamp>, at: Timestamp) {
        // An operator's span is numbered by its whole move, which is not known here.
        if !matches!(fact, Fact::OperatorActed { .. }) {
            let step = match &fact {
                Fact::AttemptEnded { step, .. } | Fact::AttemptInterrupted { step, .. } => Some(*step),
                _ => None,
            };
            let launched = step.zip(launched_at).into_iter().collect();
            let moved = Move { facts: vec![fact], commands: Vec::new(), launched, cut: false };
            self.record(run, &moved, at);
        }
    }

    fn numbered(&self, run: &Run, what: &str, number: u32) -> SpanId {
        SpanId::derived(&[run.id().0.as_bytes(), what.as_bytes(), &number.to_le_bytes()])
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one span without a length")]
    fn point(
        &self,
        run: &Run,
        span: SpanId,
        name: String,
        kind: SpanKind,
        at: Timestamp,
        attributes: Attributes,
        status: SpanStatus,
    ) {
        let trace = &run.state.begun.trace;
        self.0.record(EngineSpan {
            context: trace.with_span(span),
            parent: Some(trace.span_id),
            parent_is_remote: false,
            name: name.into(),
            kind,
            start_us: micros(at),
            end_us: micros(at) + 1,
            attributes,
            status,
            links: Vec::new(),
        });
    }

    fn attributes(&self, run: &Run) -> Attributes {
        let begun = &run.state.begun;
        let mut attributes: Attributes = vec![
            (names::SAGA_NAME, begun.saga.to_string().into()),
            (names::SAGA_VERSION, begun.version.into()),
            (names::SAGA_RUN, begun.run.to_string().into()),
            (names::CORRELATION_ID, begun.correlation_id.clone().into()),
        ];
        if let Some(key) = &begun.key {
            attributes.push((names::SAGA_KEY, key.clone().into()));
        }
        attributes
    }

    fn step_attributes(&self, run: &Run, step: StepAt, direction: Direction, attempt: u32) -> Attributes {
        let mut attributes = self.attributes(run);
        let (rule, at) = (run.definition.step(step.step), run.state.step(step));
        attributes.push((
            names::SAGA_STEP,
            match step.path(&run.definition) {
                Cow::Borrowed(_) => AttrValue::Shared(rule.path.clone()),
                Cow::Owned(path) => path.into(),
            },
        ));
        attributes.push((names::SAGA_ATTEMPT, attempt.into()));
        attributes.push((names::SAGA_DIRECTION, direction.as_str().into()));
        let request = match direction {
            Direction::Forward => &at.request,
            Direction::Check => &at.check.request,
            Direction::Compensate => &at.undo.request,
        };
        if let Some(request) = request {
            attributes.push((names::HTTP_REQUEST_METHOD, request.method.clone().into()));
            attributes.push((names::PEER_SERVICE, request.service.to_string().into()));
        }
        if attempt > 1 {
            attributes.push((names::HTTP_REQUEST_RESEND_COUNT, (attempt - 1).into()));
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

fn span_name(path: &str, direction: Direction) -> Cow<'static, str> {
    match direction {
        Direction::Forward => path.to_owned().into(),
        Direction::Check => format!("{path} check").into(),
        Direction::Compensate => format!("{path} undo").into(),
    }
}

const fn micros(at: Timestamp) -> u64 {
    at.0.saturating_mul(1_000)
}
