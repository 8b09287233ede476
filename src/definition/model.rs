//! A saga file that has passed every check. What is optional in the file is resolved here: defaults
//! are merged, services are known, expressions are compiled. Steps lie in an arena in file order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expression::{Expression, Template, TextTemplate};
use crate::id::{EventType, Fingerprint, SagaName, ServiceName, StepId};
use crate::payload::Payload;
use crate::time::Span;

/// Index of a step in [`SagaDefinition::steps`]; stable for a fingerprint.
pub type StepIndex = u32;

/// A validated saga.
#[derive(Debug)]
pub struct SagaDefinition {
    pub name: SagaName,
    /// From 1.
    pub version: u32,
    pub summary: Option<String>,
    pub fingerprint: Fingerprint,
    /// The file's text, as the journal keeps it for runs that began with it.
    pub source: Arc<str>,
    /// The path shown in messages.
    pub file: String,
    pub triggers: Vec<EventTrigger>,
    pub input_schema: Option<InputSchema>,
    /// The file's own `services:`; they belong to this file alone.
    pub services: BTreeMap<ServiceName, InlineService>,
    /// From the start, waiting included.
    pub timeout: Option<Span>,
    /// One namespace for all sagas.
    pub lock: Option<TextTemplate>,
    /// Every step, nested ones too, in file order.
    pub steps: Vec<Step>,
    /// The top level list.
    pub root: Vec<StepIndex>,
    pub output: Option<Template>,
    pub finally: Finally,
}

impl SagaDefinition {
    /// Returns a step.
    #[must_use]
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index as usize]
    }

    /// Returns the list that a step stands in: the top level or a `switch` branch.
    #[must_use]
    pub fn list_of(&self, index: StepIndex) -> &[StepIndex] {
        match self.step(index).parent {
            None => &self.root,
            Some(Parent { step, arm }) => match &self.step(step).action {
                Action::Switch(arms) => &arms[arm as usize].steps,
                Action::Call(_) | Action::Emit(_) | Action::Set(_) | Action::Wait(_) | Action::Fail(_) => &[],
            },
        }
    }

    /// Finds a step by its id, unique in the file.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<StepIndex> {
        self.steps.iter().position(|step| step.id.as_str() == id).map(|at| at as StepIndex)
    }
}

/// One entry of `on:` with `event:`.
#[derive(Debug)]
pub struct EventTrigger {
    pub event: EventType,
    /// Reads `$event`; absent means always.
    pub when: Option<Expression>,
    /// Reads `$event`; absent means the event's (source, id). Null sends the event to dead letters.
    pub key: Option<TextTemplate>,
    /// Reads `$event`; absent means the event's data.
    pub input: Option<Template>,
    pub on_replay: OnReplay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReplay {
    Skip,
    Run,
}

/// `input: {schema: …}`.
#[derive(Debug, Clone)]
pub enum InputSchema {
    Event(EventType),
    Inline(Payload),
}

/// A service written into the saga file, with a literal address.
#[derive(Debug, Clone)]
pub struct InlineService {
    pub url: String,
    pub timeout: Option<Span>,
}

/// Where a nested step belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub step: StepIndex,
    /// Index into the switch's arms.
    pub arm: u32,
}

#[derive(Debug)]
pub struct Step {
    pub id: StepId,
    /// `reserve`, or `route/notify` inside the switch `route`.
    pub path: Arc<str>,
    pub parent: Option<Parent>,
    /// `if`; must yield a boolean.
    pub condition: Option<Expression>,
    pub action: Action,
    /// One attempt; the step's `timeout`, else its service's, else `defaults`, else 30 s.
    pub attempt_timeout: Span,
    /// `timeout: {total}`: from the first attempt to the end of trying.
    pub total_timeout: Option<Span>,
    pub retry: RetryPolicy,
    pub classify: Classify,
    pub on_unknown: OnUnknown,
    pub compensate: Compensate,
    pub pivot: bool,
    /// Lies behind the pivot on its path: goes only forward.
    pub after_pivot: bool,
    pub optional: bool,
    /// Precondition on the result: reads `$result`; false means done, then failed.
    pub expect: Option<Expression>,
    /// Reshape; reads `$result`.
    pub output: Option<Template>,
    pub idempotency: Idempotency,
}

#[derive(Debug)]
pub enum Action {
    Call(CallTemplate),
    Emit(EmitTemplate),
    Set(Template),
    Wait(WaitFor),
    Switch(Vec<Arm>),
    Fail(FailTemplate),
}

/// `call` with the http `with`.
#[derive(Debug)]
pub struct CallTemplate {
    pub service: ServiceName,
    /// `GET`, `POST`, …; GET and HEAD have no effect by default.
    pub method: String,
    /// Literal text with expressions that fill path segments and query values.
    pub path: TextTemplate,
    /// Appended to the target as `name=value`; values are query-encoded.
    pub query: Vec<(String, TextTemplate)>,
    /// Names in lower case.
    pub headers: Vec<(String, TextTemplate)>,
    pub body: Option<Template>,
}

#[derive(Debug)]
pub struct EmitTemplate {
    pub event: EventType,
    pub data: Template,
    /// Partition key.
    pub key: Option<TextTemplate>,
}

#[derive(Debug)]
pub enum WaitFor {
    /// `wait: 10m`
    Span(Span),
    /// `wait_until:` yields an RFC 3339 text or milliseconds since 1970.
    Until(Expression),
}

/// One arm of a `switch`; `when` is none for `else`, which is last.
#[derive(Debug)]
pub struct Arm {
    pub when: Option<Expression>,
    pub steps: Vec<StepIndex>,
}

#[derive(Debug)]
pub struct FailTemplate {
    pub kind: TextTemplate,
    pub title: TextTemplate,
    pub detail: Option<TextTemplate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    Count(u32),
    Forever,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    None,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    pub attempts: Attempts,
    pub delay: Span,
    /// In thousandths: 2000 doubles. From 1000 to 100 000.
    pub factor_milli: u32,
    pub max_delay: Span,
    pub jitter: Jitter,
    /// Counts from the first attempt.
    pub within: Option<Span>,
}

impl RetryPolicy {
    /// A forward step's, when neither the step nor `defaults.retry` says otherwise.
    pub const FORWARD: Self = Self {
        attempts: Attempts::Count(5),
        delay: Span::from_millis(200),
        factor_milli: 2_000,
        max_delay: Span::from_secs(10),
        jitter: Jitter::Full,
        within: None,
    };
    /// An undo's, when neither it nor `defaults.compensate` says otherwise (LANGUAGE "Undo").
    pub const UNDO: Self = Self {
        attempts: Attempts::Count(10),
        delay: Span::from_secs(1),
        factor_milli: 2_000,
        max_delay: Span::from_secs(300),
        jitter: Jitter::Full,
        within: None,
    };
}

/// Expressions on `$result`, evaluated in this order; the first true one wins.
#[derive(Debug, Default)]
pub struct Classify {
    pub proof: Option<Expression>,
    pub unknown: Option<Expression>,
    pub refused: Option<Expression>,
    pub retry: Option<Expression>,
    pub done: Option<Expression>,
}

#[derive(Debug)]
pub struct OnUnknown {
    pub check: Option<Check>,
    pub otherwise: UnknownElse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownElse {
    Compensate,
    Park,
}

/// Asks the service whether a doubtful attempt happened.
#[derive(Debug)]
pub struct Check {
    pub call: CallTemplate,
    pub happened: Expression,
    /// Reads the check's `$result`; becomes the step's output.
    pub output: Option<Template>,
    /// The service guarantees that *not happened* is final.
    pub conclusive: bool,
    pub retry: RetryPolicy,
    pub timeout: Span,
}

#[derive(Debug)]
pub enum Compensate {
    /// The file says nothing; allowed only for the last call on its path (parks when it stays unknown).
    Unstated,
    /// `compensate: none`, also the default of GET, HEAD, `set`, `wait`, `switch`.
    None,
    Call(Box<UndoCall>),
    Emit(Box<UndoEmit>),
}

#[derive(Debug)]
pub struct UndoCall {
    pub call: CallTemplate,
    /// `if`: false means that there is nothing to undo.
    pub condition: Option<Expression>,
    pub retry: RetryPolicy,
    pub timeout: Span,
    /// Reads `$result`; this answer counts as undone. None: 404 and 410 do for DELETE, nothing else.
    pub ok: Option<Expression>,
    pub on_exhausted: OnExhausted,
    /// Undo this step also when it was refused.
    pub on_refused: bool,
}

#[derive(Debug)]
pub struct UndoEmit {
    pub emit: EmitTemplate,
    pub condition: Option<Expression>,
    pub on_refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    Park,
    Skip,
}

/// Where the idempotency key goes. `value` none: `$step.key`.
#[derive(Debug)]
pub struct Idempotency {
    pub place: KeyPlace,
    pub value: Option<TextTemplate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// Lower case; default `idempotency-key`.
    Header(String),
    Query(String),
    /// A top-level member of an object body.
    Body(String),
}

#[derive(Debug, Default)]
pub struct Finally {
    pub completed: Option<EmitTemplate>,
    pub compensated: Option<EmitTemplate>,
    pub parked: Option<EmitTemplate>,
}
