//! Where its facts leave a run. Rebuilt from facts alone; read by `decide`, changed by `evolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use smallvec::SmallVec;
use uuid::Uuid;

use super::active::Active;
use super::agenda::Agenda;
use super::at::{BlockAt, StepAt};
use super::fact::{ChildRun, Outcome, RunStarted, ScopeAt, SettleCause, SkipReason, UndoEnd, Wanted};
use super::trace_part::TracePart;
use crate::definition::BlockIndex;
use crate::id::{EventType, RunId};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Direction, Request};
use crate::small_map::SmallMap;
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
    /// Steps that the run has met.
    pub steps: SmallMap<StepAt, Box<StepState>>,
    /// Lists that the run has entered.
    pub frames: SmallMap<BlockAt, Frame>,
    /// Scopes inside the run that do not go forward any more.
    pub scopes: BTreeMap<ScopeAt, Scope>,
    /// Steps that something is being done for, or that wait for something.
    pub active: Active,
    /// When the `timeout.total` of steps with others inside is over.
    pub expiries: BTreeMap<StepAt, Timestamp>,
    /// What is to be decided next.
    pub agenda: Agenda,
    /// The step last begun or ended in forward direction.
    pub cursor: Option<StepAt>,
    /// The pivot, once it has begun.
    pub pivot: Option<StepAt>,
    pub cause: Option<SettleCause>,
    /// While it settles, attempts go on to their end.
    pub settle_retries: bool,
    /// The first failure: `$error`.
    pub error: Option<Box<Problem>>,
    pub others: Vec<Problem>,
    /// Why the run is to park, in the order that it came up.
    pub parking: Vec<ParkingWish>,
    pub parked: Option<Parked>,
    /// Times parked so far: each parking emits its own event.
    pub parkings: u32,
    pub pivot_done: bool,
    /// An undo was skipped.
    pub incomplete: bool,
    pub notes: Vec<String>,
    /// Events emitted so far.
    pub emitted: u64,
    /// Events taken by its awaits, by source and id.
    pub taken: BTreeSet<String>,
    pub output: Option<Payload>,
    /// A child run that nobody will undo any more.
    pub released: bool,
    /// The run that undoes this completed child.
    pub undone_by: Option<RunId>,
    pub end: Option<Final>,
    pub ended_at: Option<Timestamp>,
    /// Facts so far: the next fact's sequence number.
    pub facts: u64,
    /// Where spans, calls and events stand.
    pub trace: TracePart,
}

/// A list of steps that was entered.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Place of the step last begun, from 0.
    pub at: Option<u32>,
    pub end: FrameEnd,
    /// Lists beside it that were done before it was: the first ones of a race win.
    pub after: u32,
    /// How far its undo has come.
    pub undo: Option<FrameUndo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameEnd {
    #[default]
    Open,
    Done,
    /// It failed, or lost; its scope has ended.
    Failed,
}

/// The steps from `below` on are undone or being undone.
#[derive(Debug, Clone, Copy)]
pub struct FrameUndo {
    pub below: u32,
    /// Steps being undone.
    pub running: u32,
}

/// A scope inside the run that does not go forward any more.
#[derive(Debug, Clone)]
pub struct Scope {
    pub phase: ScopePhase,
    /// All is undone; else only what is unknown.
    pub undo: bool,
    pub cause: SettleCause,
    pub problem: Problem,
    pub catch: Option<u32>,
    /// While it settles, attempts go on to their end.
    pub retries: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopePhase {
    Settling,
    Undo,
}

/// Why the run is to park.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkingWish {
    pub step: StepAt,
    pub direction: Direction,
    pub reason: String,
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
    pub step: StepAt,
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
    pub last_problem: Option<Box<Problem>>,
    /// The `switch` arm taken.
    pub arm: Option<u32>,
    /// Round of a `poll` or page of a `paginate`, from 1.
    pub round: u32,
    /// The items of the pages so far.
    pub pages: Vec<Payload>,
    /// Target of the next page.
    pub next_page: Option<String>,
    /// Events waited for.
    pub wanted: Option<Arc<Wanted>>,
    /// Events that came, while all of several are waited for.
    pub events: Vec<(EventType, Payload)>,
    pub asked: Option<Arc<Asked>>,
    pub child: Option<Arc<ChildRun>>,
    /// What is inside it.
    pub nest: Option<Box<Nest>>,
    /// How far the undo of it with all inside it has come.
    pub walk: Option<Walk>,
    /// Its `timeout.total` is over.
    pub expired: bool,
    pub output: Option<Payload>,
    pub error: Option<Box<Problem>>,
    pub check: CheckState,
    pub undo: UndoState,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// What a person is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub title: String,
    pub show: Option<Payload>,
}

/// The steps inside a step.
#[derive(Debug, Clone, Default)]
pub struct Nest {
    /// Lists entered, in that order; without the items of a `for`.
    pub entered: SmallVec<[BlockIndex; 4]>,
    /// The list of a `for`.
    pub items: Vec<Payload>,
    /// Items begun, from the first on.
    pub launched: u32,
    /// Lists that have been entered and have not ended.
    pub running: u32,
    /// Lists that failed or lost.
    pub failed: u32,
    /// Lists that ended well.
    pub done: u32,
    /// The failure that a `catch` or a `fallback` takes over.
    pub caught: Option<Problem>,
}

/// How far the undo of a step with all inside it has come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Walk {
    /// Entered lists not looked at.
    pub parts_left: u32,
    /// Items not looked at.
    pub items_left: u32,
    /// Lists being undone.
    pub running: u32,
    /// The step itself was looked at.
    pub own: bool,
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
    /// For an event.
    Awaiting {
        direction: Direction,
        due: Option<Timestamp>,
    },
    /// For a person's answer.
    Asking {
        due: Option<Timestamp>,
    },
    /// For a child run's end.
    Child {
        direction: Direction,
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
    pub last_problem: Option<Box<Problem>>,
    pub wanted: Option<Arc<Wanted>>,
    pub child: Option<Arc<ChildRun>>,
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
            (
                StepStatus::Begun,
                Activity::RetryAt { .. }
                | Activity::Sleeping { .. }
                | Activity::AskPending
                | Activity::Awaiting { .. }
                | Activity::Asking { .. },
            ) => "waiting",
            (
                StepStatus::Begun,
                Activity::Idle | Activity::InFlight { .. } | Activity::Interrupted { .. } | Activity::Child { .. },
            ) => "running",
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
            Activity::Idle
            | Activity::RetryAt { .. }
            | Activity::Sleeping { .. }
            | Activity::Awaiting { .. }
            | Activity::Asking { .. }
            | Activity::Child { .. }
            | Activity::AskPending => false,
        }
    }

    /// Returns what is inside it.
    pub fn nest_mut(&mut self) -> &mut Nest {
        self.nest.get_or_insert_default()
    }

    /// Returns the idempotency key as sent.
    #[must_use]
    pub fn key_sent(&self) -> Option<String> {
        self.sent_key.clone().or_else(|| self.key.map(|key| key.to_string()))
    }
}

impl SagaState {
    /// True while a call has left, or was cut off, and its end is not known. Looks at every active step.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.active.iter().any(|at| match self.step(*at).activity {
            Activity::InFlight { .. } | Activity::Interrupted { .. } => true,
            Activity::Idle
            | Activity::RetryAt { .. }
            | Activity::Sleeping { .. }
            | Activity::Awaiting { .. }
            | Activity::Asking { .. }
            | Activity::Child { .. }
            | Activity::AskPending => false,
        })
    }

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
                // Waiting is what nothing is in flight for.
                let waits = !self.active.is_empty()
                    && self.active.iter().all(|at| match self.step(*at).activity {
                        Activity::Sleeping { .. }
                        | Activity::RetryAt { .. }
                        | Activity::Awaiting { .. }
                        | Activity::Asking { .. } => true,
                        Activity::Idle
                        | Activity::InFlight { .. }
                        | Activity::Child { .. }
                        | Activity::AskPending
                        | Activity::Interrupted { .. } => false,
                    });
                match (&self.lock, waits) {
                    (LockState::Wanted { .. }, _) | (_, true) => RunState::Waiting,
                    (LockState::None | LockState::Held { .. }, false) => RunState::Running,
                }
            }
        }
    }

    /// True for a list that failed or lost and was undone by itself.
    #[must_use]
    pub fn lost(&self, block: &BlockAt) -> bool {
        self.frames.get(block).is_some_and(|frame| frame.end == FrameEnd::Failed)
    }

    /// Returns a step; one that the run has not met has not started.
    #[must_use]
    pub fn step(&self, at: impl Into<StepAt>) -> &StepState {
        static NOT_STARTED: LazyLock<StepState> = LazyLock::new(StepState::default);
        self.steps.get(&at.into()).map_or(&NOT_STARTED, |step| step)
    }

    pub(super) fn step_mut(&mut self, at: StepAt) -> &mut StepState {
        self.steps.or_default(at)
    }
}
