//! What the outside tells the core.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::SagaDefinition;
use crate::id::{EventType, RunId};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Attempt, Direction};
use crate::time::{Span, Timestamp};
use crate::trace_context::{SpanId, TraceContext};

use super::at::StepAt;
use super::command::Timer;
use super::fact::ParentRun;
use super::migrate::Migration;

/// What a run obeys: its definition, and what events it emits must look like.
pub struct Rules<'a> {
    pub definition: &'a SagaDefinition,
    /// Says what is wrong with the data of an event that is about to be emitted.
    pub check_event: &'a (dyn Fn(&EventType, &Payload) -> Result<(), String> + Send + Sync),
}

/// What a run begins with, before anything is decided.
#[derive(Debug, Clone)]
pub struct Start {
    pub run: RunId,
    pub key: Option<String>,
    pub correlation_id: String,
    pub causation_id: Option<String>,
    /// The run's anchor span in its trace.
    pub trace: TraceContext,
    pub parent: Option<SpanId>,
    /// See [`super::fact::RunStarted::link_after`].
    pub link_after: Option<Span>,
    pub input: Payload,
    pub event: Option<Payload>,
    pub input_hash: String,
    /// Set for a child run.
    pub parent_run: Option<ParentRun>,
}

/// One input to one run.
#[derive(Debug, Clone)]
pub enum Input {
    /// Is there anything to go on with?
    Continue,
    /// An attempt that a command asked for has ended.
    AttemptEnded {
        step: StepAt,
        direction: Direction,
        attempt: u32,
        result: Arc<Attempt>,
    },
    TimerFired(Timer),
    LockGranted,
    /// An event that a step waits for was accepted.
    EventArrived {
        step: StepAt,
        direction: Direction,
        /// Source and id: each event is taken once per run.
        key: String,
        event: EventType,
        /// The whole CloudEvent.
        content: Payload,
    },
    /// A child run has come to its end, or cannot be started.
    ChildEnded {
        step: StepAt,
        direction: Direction,
        end: ChildEnd,
    },
    /// The orchestrator has read this run back; its attempts in flight were cut off.
    Restarted {
        epoch: u64,
    },
    Operator(Operation),
    /// To be moved to another version of the saga; [`Fact::Migrated`](super::Fact::Migrated) is evolved with that
    /// version's definition, and so is all behind it.
    Migrate(Box<Migration>),
}

/// What became of a child run.
#[derive(Debug, Clone, PartialEq)]
pub enum ChildEnd {
    Completed {
        output: Option<Payload>,
    },
    /// It has undone itself, or never began: for the parent it is refused.
    Compensated {
        problem: Option<Problem>,
    },
    /// It has been accepted; nobody waits for its end.
    Accepted,
}

/// Operator commands (LANGUAGE "Runs"), journaled as given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Cancel {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Pause,
    Resume,
    Retry {
        new_key: bool,
    },
    Skip,
    ResolveDone {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Payload>,
    },
    ResolveNotDone,
    /// Answers an `ask`.
    Answer {
        step: StepAt,
        by: String,
        answer: Payload,
    },
    /// Gives the lock up; the run goes on without it.
    ReleaseLock {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

impl Operation {
    /// Returns the command's word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry { .. } => "retry",
            Self::Skip => "skip",
            Self::ResolveDone { .. } | Self::ResolveNotDone => "resolve",
            Self::Answer { .. } => "answer",
            Self::ReleaseLock { .. } => "release_lock",
        }
    }
}

/// An input that changes nothing. Repeated and late ones are dropped; an operator's comes back as 409.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// For an attempt, timer or lock that the run is not waiting for (any more).
    #[error("the run is not waiting for this")]
    Stale,
    /// The timer is not due yet.
    #[error("not due before {due}")]
    Early { due: Timestamp },
    #[error("{0}")]
    Conflict(String),
}
