//! A saga file that has passed every check. What is optional in the file is resolved here: defaults
//! are merged, services are known, expressions are compiled. Steps lie in an arena in file order.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::expression::{Expression, Template, TextTemplate};
use crate::id::{EventType, Fingerprint, SagaName, ServiceName, StepId};
use crate::payload::Payload;
use crate::schema::Schema;
use crate::service::Protocol;
use crate::time::Span;

/// Index of a step in [`SagaDefinition::steps`]; stable for a fingerprint.
pub type StepIndex = u32;
/// Index of a list of steps in [`SagaDefinition::blocks`]; stable for a fingerprint.
pub type BlockIndex = u32;
/// The top level list.
pub const ROOT: BlockIndex = 0;
/// `for` steps inside each other: an instance of a step names its item in each of them.
pub const FOR_DEPTH_MAX: usize = 4;

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
    pub webhooks: Vec<WebhookTrigger>,
    /// What the clock starts.
    pub schedules: Vec<super::schedule::Schedule>,
    pub input_schema: Option<InputSchema>,
    /// The file's own `services:`; they belong to this file alone.
    pub services: BTreeMap<ServiceName, InlineService>,
    /// From the start, waiting included.
    pub timeout: Option<Span>,
    /// One namespace for all sagas.
    pub lock: Option<TextTemplate>,
    /// Every step, nested ones too, in file order.
    pub steps: Vec<Step>,
    /// Every list of steps; the first is the top level.
    pub blocks: Vec<Block>,
    /// Steps by id.
    pub ids: BTreeMap<String, StepIndex>,
    pub undo_order: UndoOrder,
    /// How often a step is tried again while its run settles, even where it says `forever`.
    pub settle_attempts: u32,
    pub output: Option<Template>,
    pub finally: Finally,
}

impl SagaDefinition {
    /// Returns a step.
    #[must_use]
    pub fn step(&self, index: StepIndex) -> &Step {
        &self.steps[index as usize]
    }

    /// Returns a list of steps.
    #[must_use]
    pub fn block(&self, index: BlockIndex) -> &Block {
        &self.blocks[index as usize]
    }

    /// Finds a step by its id, unique in the file.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<StepIndex> {
        self.ids.get(id).copied()
    }
}

/// A list of steps: the top level, or a part of the step that owns it.
#[derive(Debug)]
pub struct Block {
    pub owner: Option<StepIndex>,
    pub part: Part,
    /// `for` steps around it.
    pub items: u8,
    /// In file order.
    pub steps: Vec<StepIndex>,
}

/// Which part of its owner a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Root,
    /// Of a `switch`, from 0.
    Arm(u32),
    /// Of a `parallel`, from 0.
    Branch(u32),
    /// The `do` of a `for`, once for each item.
    Item,
    /// Of a `try`.
    Body,
    /// The `do` of the n-th `catch`, from 0.
    Handler(u32),
    Fallback,
    OnTimeout,
}

/// In which order a run is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoOrder {
    Reverse,
    /// Side by side.
    Parallel,
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

/// One entry of `on` with `webhook`.
#[derive(Debug)]
pub struct WebhookTrigger {
    /// Its name in the configuration.
    pub webhook: ServiceName,
    /// Reads `$event`; absent means always.
    pub when: Option<Expression>,
    /// Reads `$event`; absent means the delivery's (source, id).
    pub key: Option<TextTemplate>,
    /// Reads `$event`; absent means the delivery's data.
    pub input: Option<Template>,
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

/// `schema` of an `output`.
#[derive(Debug)]
pub enum OutputSchema {
    /// An event type's, as it is loaded when the output is there.
    Event(EventType),
    Inline {
        source: Payload,
        schema: Schema,
    },
}

/// A service written into the saga file, with a literal address.
#[derive(Debug, Clone)]
pub struct InlineService {
    pub url: String,
    pub timeout: Option<Span>,
    pub protocol: Protocol,
}

#[derive(Debug)]
pub struct Step {
    pub id: StepId,
    /// `reserve`, `route/notify` inside the switch `route`, `lines[]/send` inside the `for` `lines`.
    pub path: Arc<str>,
    /// The list that it stands in, and its place there, from 0.
    pub block: BlockIndex,
    pub position: u32,
    /// `for` steps around it.
    pub items: u8,
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
    /// What stands in for a step that failed.
    pub fallback: Option<Fallback>,
    pub cache: Option<CachePolicy>,
    pub paginate: Option<Paginate>,
    pub tags: Vec<String>,
    /// Precondition on the result: reads `$result`; false means done, then failed.
    pub expect: Option<Expression>,
    /// Reshape; reads `$result`.
    pub output: Option<Template>,
    /// What the output has to be; what does not fit is done, then failed.
    pub output_schema: Option<OutputSchema>,
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
    Await(Await),
    Ask(Box<Ask>),
    Parallel(Parallel),
    For(For),
    Try(Try),
    Poll(Box<Poll>),
    Run(Box<Child>),
}

impl Action {
    /// Returns the word that the file uses for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Emit(_) => "emit",
            Self::Set(_) => "set",
            Self::Wait(_) => "wait",
            Self::Switch(_) => "switch",
            Self::Fail(_) => "fail",
            Self::Await(_) => "await",
            Self::Ask(_) => "ask",
            Self::Parallel(_) => "parallel",
            Self::For(_) => "for",
            Self::Try(_) => "try",
            Self::Poll(_) => "poll",
            Self::Run(_) => "run",
        }
    }

    /// Returns the call that it makes, if it makes one.
    #[must_use]
    pub const fn call(&self) -> Option<&CallTemplate> {
        match self {
            Self::Call(call) => Some(call),
            Self::Poll(poll) => Some(&poll.call),
            _ => None,
        }
    }

    /// True for a step whose work is that of the steps inside it.
    #[must_use]
    pub const fn is_composite(&self) -> bool {
        match self {
            Self::Switch(_) | Self::Parallel(_) | Self::For(_) | Self::Try(_) => true,
            Self::Call(_)
            | Self::Emit(_)
            | Self::Set(_)
            | Self::Wait(_)
            | Self::Fail(_)
            | Self::Await(_)
            | Self::Ask(_)
            | Self::Poll(_)
            | Self::Run(_) => false,
        }
    }
}

/// `call` with its `with`.
#[derive(Debug)]
pub struct CallTemplate {
    pub service: ServiceName,
    pub protocol: Protocol,
    /// `GET`, `POST`, …; `REQUEST` over nats.
    pub method: String,
    /// It has no effect, so there is nothing to undo: GET, HEAD, a graphql query.
    pub reads: bool,
    /// Literal text with expressions that fill path segments and query values; over nats the subject, whose tokens
    /// they fill.
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
    /// Makes a call over events of it: the first matching event decides.
    pub reply: Option<Box<Reply>>,
}

/// `emit` with `reply`.
#[derive(Debug)]
pub struct Reply {
    pub done: Vec<EventType>,
    pub refused: Vec<EventType>,
    /// Absent: the reply's `causationid` is the command's id.
    pub matching: Option<Vec<Match>>,
    pub timeout: Span,
}

/// `where`: the event's value at a path equals the expression's.
#[derive(Debug)]
pub struct Match {
    /// Members from the CloudEvent's root: `data`, `orderId`.
    pub path: Vec<String>,
    pub value: Template,
}

/// `await:`
#[derive(Debug)]
pub struct Await {
    pub types: Vec<EventType>,
    pub mode: AwaitMode,
    pub matching: Vec<Match>,
    pub since: Since,
    pub timeout: Option<Span>,
    pub on_timeout: Option<BlockIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AwaitMode {
    /// One type, or the first of several.
    First,
    All,
}

/// From when on events count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    Start,
    Step,
}

/// `ask:` a person.
#[derive(Debug)]
pub struct Ask {
    pub title: TextTemplate,
    pub show: Option<Template>,
    /// JSON Schema of the answer.
    pub form: Option<Payload>,
    /// Who may answer; empty: anybody who may operate runs.
    pub who: Vec<String>,
    pub timeout: Option<Span>,
    pub on_timeout: Option<BlockIndex>,
}

#[derive(Debug)]
pub struct Parallel {
    /// Names and lists in file order.
    pub branches: Vec<(String, BlockIndex)>,
    /// How many branches must succeed.
    pub need: u32,
    pub on_failure: OnFailure,
}

impl Parallel {
    /// True where fewer than all branches decide: the others lose.
    #[must_use]
    pub fn is_race(&self) -> bool {
        (self.need as usize) < self.branches.len()
    }
}

/// What a failing branch means to the attempts of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are tried to their end.
    Settle,
    /// The one in flight is the last.
    Cancel,
}

#[derive(Debug)]
pub struct For {
    pub list: Expression,
    /// Items side by side.
    pub concurrency: u32,
    /// Items per slice, passed as a list.
    pub batch: Option<u32>,
    pub tolerate: Tolerate,
    pub block: BlockIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerate {
    Count(u32),
    /// 1 to 100.
    Percent(u32),
}

impl Tolerate {
    /// Returns how many of so many items may fail.
    #[must_use]
    pub fn of(self, items: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (u64::from(items) * u64::from(percent) / 100) as u32,
        }
    }
}

#[derive(Debug)]
pub struct Try {
    pub body: BlockIndex,
    pub catches: Vec<Catch>,
}

#[derive(Debug)]
pub struct Catch {
    /// Failure types; empty: any.
    pub on: Vec<String>,
    /// Reads `$error`.
    pub when: Option<Expression>,
    /// What the `try` did stays, to be undone only with the run.
    pub keep: bool,
    pub block: BlockIndex,
}

/// `poll:` with a `call`.
#[derive(Debug)]
pub struct Poll {
    pub call: CallTemplate,
    pub every: Span,
    /// Reads `$result`.
    pub until: Expression,
    pub timeout: Option<Span>,
}

/// `run:` a child saga.
#[derive(Debug)]
pub struct Child {
    pub saga: SagaName,
    /// None: the newest when this definition was loaded.
    pub version: Option<u32>,
    pub input: Option<Template>,
    pub wait: bool,
}

#[derive(Debug)]
pub enum Fallback {
    Value(Template),
    Do(BlockIndex),
}

/// `cache: {key, ttl}`
#[derive(Debug)]
pub struct CachePolicy {
    pub key: TextTemplate,
    pub ttl: Span,
}

/// `paginate: {next, items, max}`
#[derive(Debug)]
pub struct Paginate {
    /// Reads `$result`; a target or an absolute link of the service's origin; null ends it.
    pub next: Expression,
    /// Reads `$result`; a list.
    pub items: Expression,
    /// Pages at most.
    pub max: u32,
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
    pub block: BlockIndex,
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
    /// Attempts of a forward step, when nobody says otherwise.
    pub const FORWARD_ATTEMPTS: u32 = 5;
    /// A forward step's, when neither the step nor `defaults.retry` says otherwise.
    pub const FORWARD: Self = Self {
        attempts: Attempts::Count(Self::FORWARD_ATTEMPTS),
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
    pub output_schema: Option<OutputSchema>,
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
    /// Another saga undoes it.
    Run(Box<UndoRun>),
}

#[derive(Debug)]
pub struct UndoRun {
    pub child: Child,
    pub condition: Option<Expression>,
    pub on_refused: bool,
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
    /// For an `emit` with `reply`.
    pub retry: RetryPolicy,
    pub on_exhausted: OnExhausted,
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
