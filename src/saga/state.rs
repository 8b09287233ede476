//! Where its facts leave a run. Rebuilt from facts alone; read by `decide`, changed by `evolve`.

use std::sync::Arc;

use uuid::Uuid;

use super::fact::{Outcome, RunStarted, SettleCause, SkipReason, UndoEnd};
use crate::definition::StepIndex;
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Direction, Request};
use crate::time::Timestamp;

/// One run.
#[derive(Debug, Clone)]
pub struct SagaState {
    pub begun: Arc<RunStarted>,
    pub started_at: Timestamp,
    pub phase: Phase,
    pub paused: bool,
    pub lock: LockState,
    /// Moves later by the time spent parked.
    pub deadline: Option<Timestamp>,
    pub deadline_passed: bool,
    pub steps: Vec<StepState>,
    /// The step last begun or ended in forward direction; the next one is worked out from it.
    pub cursor: Option<StepIndex>,
    /// The step that something is being done for. Steps run one after the other, so one place is enough.
    pub active: Option<StepIndex>,
    /// An operator asked for this step anew, with its expressions evaluated again.
    pub redo: Option<StepIndex>,
    /// A step that has failed and whose failure has not been dealt with.
    pub failed: Option<StepIndex>,
    /// The handled step whose unknown effect is being cleared before the run goes on.
    pub clearing: Option<StepIndex>,
    /// The undo scan has passed every step above this index: keeps the cost of undo linear.
    pub undo_below: StepIndex,
    pub cause: Option<SettleCause>,
    /// The first failure: `$error`.
    pub error: Option<Problem>,
    pub others: Vec<Problem>,
    pub parked: Option<Parked>,
    /// Times parked so far: each parking emits its own event.
    pub parkings: u32,
    pub pivot_done: bool,
    /// An undo was skipped.
    pub incomplete: bool,
    pub notes: Vec<String>,
    /// Events emitted so far.
    pub emitted: u64,
    pub output: Option<Payload>,
    pub end: Option<Final>,
    pub ended_at: Option<Timestamp>,
    /// Facts so far: the next fact's sequence number.
    pub facts: u64,
}

/// The phase of the run's root scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Forward,
    /// Failed, cancelled or late: no new step starts, what is in flight ends.
    Settling,
    Undo,
    Done,
}

impl Phase {
    /// Returns the word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Settling => "settling",
            Self::Undo => "undo",
            Self::Done => "done",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Final {
    Completed,
    Compensated,
}

/// The state shown to people (LANGUAGE "Runs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    Running,
    Waiting,
    Paused,
    Settling,
    Compensating,
    Parked,
    Completed,
    Compensated,
}

impl RunState {
    /// Every state, in the order of the language's page.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Settling,
        Self::Compensating,
        Self::Parked,
        Self::Completed,
        Self::Compensated,
    ];

    /// Returns the word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Settling => "settling",
            Self::Compensating => "compensating",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    None,
    Wanted { name: String },
    Held { name: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub step: StepIndex,
    pub direction: Direction,
    pub reason: String,
    pub since: Timestamp,
}

/// One step of a run.
#[derive(Debug, Clone, Default)]
pub struct StepState {
    pub status: StepStatus,
    pub activity: Activity,
    pub key: Option<Uuid>,
    pub key_number: u32,
    /// The idempotency key as sent, when the file gives its own.
    pub sent_key: Option<String>,
    pub request: Option<Arc<Request>>,
    /// Number of the last attempt begun, from 1; never reused, so that each has its own span.
    pub attempt: u32,
    /// Attempts ended since the counters were fresh.
    pub attempts_used: u32,
    pub first_attempt_at: Option<Timestamp>,
    /// When the last attempt in any direction left.
    pub launched_at: Timestamp,
    /// An attempt may have had an effect, and nothing has proved otherwise.
    pub in_doubt: bool,
    /// What the last attempt said about another one.
    pub again: bool,
    pub retry_at: Option<Timestamp>,
    pub last_problem: Option<Problem>,
    /// The `switch` arm taken.
    pub arm: Option<u32>,
    pub output: Option<Payload>,
    pub error: Option<Problem>,
    pub check: CheckState,
    pub undo: UndoState,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StepStatus {
    #[default]
    NotStarted,
    Skipped(SkipReason),
    /// Begun and not ended; what it does is its [`Activity`].
    Begun,
    Ended(Outcome),
    Withdrawn,
}

/// What the engine does for a step at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    #[default]
    Idle,
    InFlight {
        direction: Direction,
        attempt: u32,
    },
    RetryAt {
        direction: Direction,
        due: Timestamp,
    },
    Sleeping {
        due: Timestamp,
    },
    /// The service is to be asked as soon as the run is not paused any more.
    AskPending,
    /// Cut off by a restart and not dealt with.
    Interrupted {
        direction: Direction,
        attempt: u32,
    },
}

/// The asking after a doubtful attempt.
#[derive(Debug, Clone, Default)]
pub struct CheckState {
    pub key: Option<Uuid>,
    pub request: Option<Arc<Request>>,
    /// Number of the last check attempt begun, from 1, over all askings.
    pub attempt: u32,
    /// Attempts ended in this asking.
    pub attempts_used: u32,
    pub started_at: Option<Timestamp>,
    /// Askings begun.
    pub asked: u32,
}

#[derive(Debug, Clone, Default)]
pub struct UndoState {
    pub status: UndoStatus,
    pub key: Option<Uuid>,
    pub request: Option<Arc<Request>>,
    pub attempt: u32,
    pub attempts_used: u32,
    /// Refusals since the counters were fresh: the second one exhausts the undo.
    pub refusals: u32,
    pub first_attempt_at: Option<Timestamp>,
    pub last_problem: Option<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UndoStatus {
    #[default]
    NotStarted,
    Undoing,
    /// Parked or about to.
    Failed,
    Ended(UndoEnd),
}

impl StepState {
    /// Returns the word of `$steps.ID.status`.
    #[must_use]
    pub fn status_word(&self) -> &'static str {
        match self.undo.status {
            UndoStatus::Undoing => return "undoing",
            UndoStatus::Failed => return "undo_failed",
            UndoStatus::Ended(UndoEnd::Undone) => return "undone",
            UndoStatus::Ended(UndoEnd::Skipped) => return "undo_skipped",
            UndoStatus::Ended(UndoEnd::Nothing) | UndoStatus::NotStarted => {}
        }
        self.forward_word()
    }

    /// Returns the word for the forward direction alone: `$forward.status`.
    #[must_use]
    pub fn forward_word(&self) -> &'static str {
        match (self.status, self.activity) {
            (StepStatus::NotStarted, _) => "not_started",
            (StepStatus::Skipped(_), _) => "skipped",
            (StepStatus::Begun, Activity::RetryAt { .. } | Activity::Sleeping { .. } | Activity::AskPending) => {
                "waiting"
            }
            (StepStatus::Begun, Activity::Idle | Activity::InFlight { .. } | Activity::Interrupted { .. }) => "running",
            (StepStatus::Ended(Outcome::Done), _) => "done",
            (StepStatus::Ended(Outcome::Refused), _) => "refused",
            (StepStatus::Ended(Outcome::Unknown), _) => "unknown",
            (StepStatus::Withdrawn, _) => "withdrawn",
        }
    }

    /// True while an attempt is on its way or was cut off and not dealt with.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        match self.activity {
            Activity::InFlight { .. } | Activity::Interrupted { .. } => true,
            Activity::Idle | Activity::RetryAt { .. } | Activity::Sleeping { .. } | Activity::AskPending => false,
        }
    }

    /// Returns the idempotency key as sent.
    #[must_use]
    pub fn key_sent(&self) -> Option<String> {
        self.sent_key.clone().or_else(|| self.key.map(|key| key.to_string()))
    }
}

impl SagaState {
    /// Returns the state shown to people.
    #[must_use]
    pub fn state(&self) -> RunState {
        match self.end {
            Some(Final::Completed) => return RunState::Completed,
            Some(Final::Compensated) => return RunState::Compensated,
            None => {}
        }
        if self.parked.is_some() {
            return RunState::Parked;
        }
        if self.paused {
            return RunState::Paused;
        }
        match self.phase {
            Phase::Settling => RunState::Settling,
            Phase::Undo => RunState::Compensating,
            Phase::Forward | Phase::Done => {
                let on_a_timer = self.active.is_some_and(|at| match self.step(at).activity {
                    Activity::Sleeping { .. } | Activity::RetryAt { .. } => true,
                    Activity::Idle
                    | Activity::InFlight { .. }
                    | Activity::AskPending
                    | Activity::Interrupted { .. } => false,
                });
                match (&self.lock, on_a_timer) {
                    (LockState::Wanted { .. }, _) | (_, true) => RunState::Waiting,
                    (LockState::None | LockState::Held { .. }, false) => RunState::Running,
                }
            }
        }
    }

    /// Returns a step.
    #[must_use]
    pub fn step(&self, index: StepIndex) -> &StepState {
        &self.steps[index as usize]
    }
}
