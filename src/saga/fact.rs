//! What has happened in a run, in the past tense, and how it is stored. Stored bytes are frozen: add a
//! variant or an optional field, never change one.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::at::{BlockAt, StepAt};
use super::input::Operation;
use crate::envelope::Event;
use crate::id::{EventType, Fingerprint, RunId, SagaName};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Direction, Effect, Request};
use crate::time::{Span, Timestamp};
use crate::trace_context::{SpanId, TraceContext};

/// One fact of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    RunStarted(Box<RunStarted>),
    LockWanted {
        name: String,
    },
    LockGranted {},
    StepSkipped {
        step: StepAt,
        why: SkipReason,
    },
    /// A `switch` chose an arm (index from 0).
    ArmTaken {
        step: StepAt,
        arm: u32,
    },
    /// The intent of a call, before its attempt 1 leaves. The request is resolved once, here.
    StepStarted {
        step: StepAt,
        key: Uuid,
        key_number: u32,
        /// The idempotency key as sent, when it is not `key`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent_key: Option<String>,
        request: Arc<Request>,
        attempt: u32,
        /// Round of a `poll`, page of a `paginate`, from 1; 0 for any other call.
        #[serde(default, skip_serializing_if = "is_zero")]
        round: u32,
    },
    /// A further attempt leaves, with the stored request.
    AttemptStarted {
        step: StepAt,
        direction: Direction,
        attempt: u32,
    },
    AttemptEnded {
        step: StepAt,
        direction: Direction,
        attempt: u32,
        effect: Effect,
        /// This answer proves that no earlier attempt had an effect either.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        proof: bool,
        /// A definite refusal, in which another attempt makes no sense.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
        fate: Fate,
    },
    /// The orchestrator went away during the attempt: effect maybe, no attempt used up.
    AttemptInterrupted {
        step: StepAt,
        direction: Direction,
        attempt: u32,
    },
    /// The service is asked whether it happened. Leaves at once as attempt `attempt` of the check.
    CheckStarted {
        step: StepAt,
        key: Uuid,
        request: Arc<Request>,
        attempt: u32,
    },
    /// The service is to be asked, but the run is paused and nothing leaves it.
    AskDeferred {
        step: StepAt,
    },
    /// What the asking gave. None: it could not be found out.
    CheckEnded {
        step: StepAt,
        happened: Option<bool>,
        /// The service guarantees that *not happened* is final.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        conclusive: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
    },
    /// A poll's round has ended and `until` is false: the next one is due then.
    RoundEnded {
        step: StepAt,
        due: Timestamp,
    },
    /// A page has come; `next` is the target of the one behind it.
    PageEnded {
        step: StepAt,
        items: Payload,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// A list of steps is entered: the `do` of an item, the body of a `try`, a handler, a fallback.
    BlockEntered {
        block: BlockAt,
    },
    /// Every branch of a `parallel` is entered.
    BranchesEntered {
        step: StepAt,
    },
    /// The list of a `for`, as it will be gone through.
    ItemsListed {
        step: StepAt,
        items: Payload,
    },
    /// An `await`, or an `emit` for its reply, waits for events.
    AwaitStarted {
        step: StepAt,
        direction: Direction,
        wanted: Arc<Wanted>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
    },
    /// The reply that was waited for has not come, or was a refusal; asked for again then, if at all.
    AwaitEnded {
        step: StepAt,
        direction: Direction,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
    },
    /// One event that was waited for. Each event is taken once per run.
    EventTaken {
        step: StepAt,
        direction: Direction,
        /// Source and id.
        key: String,
        event: EventType,
        content: Payload,
    },
    /// A person is asked.
    AskStarted {
        step: StepAt,
        title: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        show: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due: Option<Timestamp>,
    },
    /// A child run is to be started, or the undo of one, or the child is to be taken back.
    ChildStarted {
        step: StepAt,
        direction: Direction,
        child: Arc<ChildRun>,
    },
    /// What became of the child, as far as it matters here.
    ChildEnded {
        step: StepAt,
        direction: Direction,
        completed: bool,
    },
    /// A scope inside the run has failed, lost or is handled: no new step of it starts, what is in flight
    /// ends.
    ScopeSettling {
        scope: ScopeAt,
        /// The step whose failure it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StepAt>,
        cause: SettleCause,
        problem: Problem,
        /// All that it did is undone; else only what is unknown.
        undo: bool,
        /// The `catch` that takes over, from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        catch: Option<u32>,
        /// What waits for another attempt ends now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancel: bool,
    },
    ScopeUndoing {
        scope: ScopeAt,
    },
    ScopeEnded {
        scope: ScopeAt,
    },
    /// The run will park for this as soon as nothing is in flight.
    ParkingWanted {
        step: StepAt,
        direction: Direction,
        reason: String,
    },
    /// The time that the file gives a step with all inside it is over.
    StepExpired {
        step: StepAt,
    },
    /// A `wait` sleeps until then.
    WaitStarted {
        step: StepAt,
        due: Timestamp,
    },
    /// The next attempt is due then (after a check said *not seen yet*).
    RetryScheduled {
        step: StepAt,
        due: Timestamp,
    },
    StepEnded {
        step: StepAt,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Problem>,
    },
    /// A wait that the settling ended.
    StepWithdrawn {
        step: StepAt,
    },
    /// A handled step is unknown: it is undone before the run goes on.
    ClearingBegan {
        step: StepAt,
    },
    /// A failure has been handled (`optional`, `fallback`): the run goes on.
    FailureHandled {
        step: StepAt,
        /// What stands in for the step's output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    EventEmitted {
        emission: Emission,
        id: String,
        event: EventType,
        /// Place in the run's order of events, from 0.
        number: u64,
        /// Set when the event goes to dead letters instead, with why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead: Option<String>,
        /// The event itself goes into the outbox with the same commit; it is not stored twice.
        #[serde(skip)]
        content: Option<Arc<Event>>,
    },
    SettlingBegan {
        cause: SettleCause,
        problem: Problem,
        /// What waits for another attempt ends now, though the cause is a failure.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cancel: bool,
    },
    UndoBegan {},
    /// The intent of an undo, before its first attempt leaves.
    UndoStarted {
        step: StepAt,
        key: Uuid,
        request: Arc<Request>,
        attempt: u32,
    },
    UndoEnded {
        step: StepAt,
        end: UndoEnd,
    },
    Parked {
        step: StepAt,
        direction: Direction,
        reason: String,
    },
    /// An operator's command was taken; its effects are the facts behind it.
    OperatorActed {
        operation: Operation,
    },
    /// The saga's timeout passed when nothing could be done about it: behind the pivot, or while it is in doubt.
    DeadlineMissed {},
    /// The run moved to another version of its saga; the facts behind it are about that one.
    Migrated {
        version: u32,
        definition: Fingerprint,
        /// Lists in which a step came next that had not begun.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        next: Vec<BlockAt>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The root of a child run has ended, and nobody will undo the child any more.
    Released {},
    /// A completed child is undone by that run.
    UndoneBy {
        run: RunId,
    },
    /// Something for people: a `finally` field left out, for example.
    Noted {
        text: String,
    },
    RunEnded {
        completed: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
}

/// Everything a run begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    pub run: RunId,
    pub saga: SagaName,
    pub version: u32,
    pub definition: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub correlation_id: String,
    /// The id of the event that started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// The run's own anchor span.
    pub trace: TraceContext,
    /// The span that caused it; none starts a trace.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span_text")]
    pub parent: Option<SpanId>,
    pub input: Payload,
    /// The whole event, when one started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Payload>,
    /// First 16 bytes of the SHA-256 of the canonical input, in hexadecimal: what a repeated key is compared with.
    pub input_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The run that this one is a child of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run: Option<ParentRun>,
    /// The completed child that this run undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<RunId>,
    /// After a silence longer than this the run goes on in a trace of its own, linked to the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_after: Option<Span>,
}

/// Where a child run's end is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParentRun {
    pub run: RunId,
    pub step: StepAt,
    pub direction: Direction,
    /// Runs above this one; bounded, as a cycle would never end.
    pub depth: u32,
    /// The outermost run: the child is held until it has ended.
    pub root: RunId,
}

/// A child run as its parent has started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildRun {
    pub run: RunId,
    pub saga: SagaName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    pub input: Payload,
    /// This run undoes that completed child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<RunId>,
    /// The parent waits for its end.
    pub wait: bool,
}

/// Events that a step waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    pub types: Vec<EventType>,
    /// Path in the CloudEvent and the value there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matching: Vec<(Vec<String>, Payload)>,
    /// Events accepted before it do not count.
    pub since: Timestamp,
}

/// A scope of its own inside a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScopeAt {
    /// A step whose failure is handled, with all inside it.
    Step(StepAt),
    /// The body of a `try`, a branch of a race, an item of a `for`.
    Block(BlockAt),
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod span_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::SpanId;

    pub fn serialize<S: Serializer>(span: &Option<SpanId>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.collect_str(span),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SpanId>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(SpanId::parse))
    }
}

/// What follows an ended attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Another attempt at that time.
    RetryAt(Timestamp),
    /// No further attempt; what follows is in the facts behind it. `again`: another one would have made sense.
    Over { again: bool },
}

/// About effects; failing is about control flow and told apart (`failure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// Definitely no effect.
    Refused,
    /// May have had an effect.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its `if` was false.
    Condition,
    /// A `switch` without a match and without `else`.
    NoMatch,
    /// An operator skipped a failed step after the pivot.
    Operator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleCause {
    Failed,
    Cancelled,
    Deadline,
    /// A branch of a race that was not needed.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoEnd {
    Undone,
    /// Its `if` said that there is nothing to undo.
    Nothing,
    /// By an operator or `on_exhausted: skip`: the run's end is incomplete.
    Skipped,
}

/// Which statement of the file emitted an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emission {
    Step(StepAt),
    Undo(StepAt),
    Completed,
    Compensated,
    Parked,
}

/// Stored form 1: this byte, then the fact as JSON.
const FORM_1: u8 = b'1';

/// Why stored bytes are no fact.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("a fact of form `{0}` was written by a newer version; use that version to open this journal")]
    Form(char),
    #[error("a stored fact is empty")]
    Empty,
    #[error("a stored fact does not read: {0}")]
    Json(#[from] serde_json::Error),
}

/// Returns a fact's stored bytes.
///
/// # Panics
/// Never: every fact serialises.
#[must_use]
pub fn encode(fact: &Fact) -> Bytes {
    let mut bytes = Vec::with_capacity(160);
    bytes.push(FORM_1);
    serde_json::to_writer(&mut bytes, fact).expect("facts serialise to JSON");
    bytes.into()
}

/// Reads a fact back.
///
/// # Errors
/// [`DecodeError`]; the journal's checksum held, so the writer was a newer version or not us.
pub fn decode(bytes: &[u8]) -> Result<Fact, DecodeError> {
    match bytes.split_first() {
        Some((&FORM_1, json)) => Ok(match serde_json::from_slice(json)? {
            Fact::AttemptStarted { step, direction, .. } if crate::planted::is("replay_forgets_attempts") => {
                Fact::AttemptStarted { step, direction, attempt: 1 }
            }
            fact => fact,
        }),
        Some((&form, _)) => Err(DecodeError::Form(form as char)),
        None => Err(DecodeError::Empty),
    }
}
