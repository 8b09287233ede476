//! What the outside must do next. Commands are not stored: [`outstanding`] works them out again.

use std::sync::Arc;

use super::at::StepAt;
use super::fact::{ChildRun, Wanted};
use super::plan::{self, Mode};
use super::state::{Activity, LockState, SagaState};
use crate::definition::SagaDefinition;
use crate::id::RunId;
use crate::request::Direction;
use crate::time::Timestamp;

/// An order to the outside. Carrying one out twice is harmless: calls repeat their key, timers and
/// locks that nobody waits for are rejected.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Send the attempt; request and key are in the state.
    RunAttempt {
        step: StepAt,
        direction: Direction,
        attempt: u32,
    },
    /// Give [`super::Input::TimerFired`] at or after `due`.
    SetTimer {
        timer: Timer,
        due: Timestamp,
    },
    /// Queue for the lock; give [`super::Input::LockGranted`] when it is this run's turn.
    AcquireLock {
        name: String,
    },
    ReleaseLock {
        name: String,
    },
    /// Give [`super::Input::EventArrived`] for each event that fits, kept ones first.
    AwaitEvents {
        step: StepAt,
        direction: Direction,
        wanted: Arc<Wanted>,
    },
    /// Nobody waits for these any more.
    ForgetEvents {
        step: StepAt,
    },
    /// Start the run, or find it; give [`super::Input::ChildEnded`] when it has ended.
    StartChild {
        step: StepAt,
        direction: Direction,
        child: Arc<ChildRun>,
    },
    /// Ask a child that runs to take back what it did; its end is waited for all the same.
    CancelChild {
        run: RunId,
    },
    /// The root has ended: this child needs to be held no longer.
    ReleaseChild {
        run: RunId,
    },
}

/// Which timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A step's retry, wait, or the end of its waiting for somebody.
    Step(StepAt),
    /// A step's `timeout.total`, with all inside it.
    Total(StepAt),
    /// The saga's `timeout`.
    Deadline,
}

/// Returns everything this state is waiting for.
#[must_use]
pub fn outstanding(definition: &SagaDefinition, state: &SagaState) -> Vec<Command> {
    if state.end.is_some() {
        return Vec::new();
    }
    let mut commands = Vec::new();
    match &state.lock {
        LockState::Wanted { name } | LockState::Held { name } => {
            commands.push(Command::AcquireLock { name: name.clone() });
        }
        LockState::None => {}
    }
    if let (Some(due), None, false) = (state.deadline, &state.parked, state.deadline_passed) {
        commands.push(Command::SetTimer { timer: Timer::Deadline, due });
    }
    commands.extend(timers(state));
    for step in &state.active {
        let at = state.step(*step);
        match at.activity {
            Activity::InFlight { direction, attempt } => {
                commands.push(Command::RunAttempt { step: *step, direction, attempt });
            }
            Activity::Awaiting { direction, .. } => {
                let wanted = at.wanted.iter().map(Arc::clone);
                commands.extend(wanted.map(|wanted| Command::AwaitEvents { step: *step, direction, wanted }));
            }
            Activity::Child { direction } => {
                let child = if direction == Direction::Compensate { &at.undo.child } else { &at.child };
                let Some(child) = child.as_ref().map(Arc::clone) else { continue };
                let run = child.run;
                commands.push(Command::StartChild { step: *step, direction, child });
                // What it belongs to settles: that it was asked to take back what it did may be lost.
                let settles = direction == Direction::Forward && plan::mode(definition, state, *step) != Mode::Forward;
                if settles {
                    commands.push(Command::CancelChild { run });
                }
            }
            Activity::Idle
            | Activity::RetryAt { .. }
            | Activity::Sleeping { .. }
            | Activity::Asking { .. }
            | Activity::AskPending
            | Activity::Interrupted { .. } => {}
        }
    }
    commands
}

/// Returns the timers of all that waits for one.
pub fn timers(state: &SagaState) -> Vec<Command> {
    let mut commands = Vec::new();
    for step in &state.active {
        let due = match state.step(*step).activity {
            Activity::RetryAt { due, .. } | Activity::Sleeping { due } => Some(due),
            Activity::Awaiting { due, .. } | Activity::Asking { due } => due,
            Activity::Idle
            | Activity::InFlight { .. }
            | Activity::Child { .. }
            | Activity::AskPending
            | Activity::Interrupted { .. } => None,
        };
        commands.extend(due.map(|due| Command::SetTimer { timer: Timer::Step(*step), due }));
    }
    for (step, due) in &state.expiries {
        commands.push(Command::SetTimer { timer: Timer::Total(*step), due: *due });
    }
    commands
}
