//! What has happened in a run, in the past tense, and how it is stored. Stored bytes are frozen: add a
//! variant or an optional field, never change one.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::input::Operation;
use crate::definition::StepIndex;
use crate::envelope::Event;
use crate::id::{EventType, Fingerprint, RunId, SagaName};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Direction, Effect, Request};
use crate::time::Timestamp;
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
        step: StepIndex,
        why: SkipReason,
    },
    /// A `switch` chose an arm (index from 0).
    ArmTaken {
        step: StepIndex,
        arm: u32,
    },
    /// The intent of a call, before its attempt 1 leaves. The request is resolved once, here.
    StepStarted {
        step: StepIndex,
        key: Uuid,
        key_number: u32,
        /// The idempotency key as sent, when it is not `key`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sent_key: Option<String>,
        request: Arc<Request>,
        attempt: u32,
    },
    /// A further attempt leaves, with the stored request.
    AttemptStarted {
        step: StepIndex,
        direction: Direction,
        attempt: u32,
    },
    AttemptEnded {
        step: StepIndex,
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
        step: StepIndex,
        direction: Direction,
        attempt: u32,
    },
    /// The service is asked whether it happened. Leaves at once as attempt `attempt` of the check.
    CheckStarted {
        step: StepIndex,
        key: Uuid,
        request: Arc<Request>,
        attempt: u32,
    },
    /// The service is to be asked, but the run is paused and nothing leaves it.
    AskDeferred {
        step: StepIndex,
    },
    /// What the asking gave. None: it could not be found out.
    CheckEnded {
        step: StepIndex,
        happened: Option<bool>,
        /// The service guarantees that *not happened* is final.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        conclusive: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
    },
    /// A `wait` sleeps until then.
    WaitStarted {
        step: StepIndex,
        due: Timestamp,
    },
    /// The next attempt is due then (after a check said *not seen yet*).
    RetryScheduled {
        step: StepIndex,
        due: Timestamp,
    },
    StepEnded {
        step: StepIndex,
        outcome: Outcome,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Problem>,
    },
    /// A wait that the settling ended.
    StepWithdrawn {
        step: StepIndex,
    },
    /// A handled step is unknown: it is undone before the run goes on.
    ClearingBegan {
        step: StepIndex,
    },
    /// A failure has been handled (`optional`): the run goes on.
    FailureHandled {
        step: StepIndex,
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
    },
    UndoBegan {},
    /// The intent of an undo, before its first attempt leaves.
    UndoStarted {
        step: StepIndex,
        key: Uuid,
        request: Arc<Request>,
        attempt: u32,
    },
    UndoEnded {
        step: StepIndex,
        end: UndoEnd,
    },
    Parked {
        step: StepIndex,
        direction: Direction,
        reason: String,
    },
    /// An operator's command was taken; its effects are the facts behind it.
    OperatorActed {
        operation: Operation,
    },
    /// The saga's timeout passed when nothing could be done about it: behind the pivot, or while it is in doubt.
    DeadlineMissed {},
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
    Step(StepIndex),
    Undo(StepIndex),
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
