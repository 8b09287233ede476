//! What the outside must do next. Commands are not stored: [`outstanding`] works them out again.

use super::state::{Activity, LockState, SagaState};
use crate::definition::StepIndex;
use crate::request::Direction;
use crate::time::Timestamp;

/// An order to the outside. Carrying one out twice is harmless: calls repeat their key, timers and
/// locks that nobody waits for are rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Send the attempt; request and key are in the state.
    RunAttempt {
        step: StepIndex,
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
}

/// Which timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A step's retry or wait.
    Step(StepIndex),
    /// The saga's `timeout`.
    Deadline,
}

/// Returns everything this state is waiting for.
#[must_use]
pub fn outstanding(state: &SagaState) -> Vec<Command> {
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
    for (at, step) in state.steps.iter().enumerate() {
        let index = at as StepIndex;
        match step.activity {
            Activity::InFlight { direction, attempt } => {
                commands.push(Command::RunAttempt { step: index, direction, attempt });
            }
            Activity::RetryAt { due, .. } | Activity::Sleeping { due } => {
                commands.push(Command::SetTimer { timer: Timer::Step(index), due });
            }
            Activity::Idle | Activity::AskPending | Activity::Interrupted { .. } => {}
        }
    }
    commands
}
