//! Applies facts. Costs what the fact costs, never what the run costs; decides nothing.

use std::sync::Arc;

use super::command::{Command, Timer};
use super::fact::{Emission, Fact, Fate, Outcome, RunStarted, SettleCause, SkipReason, UndoEnd};
use super::input::Operation;
use super::state::{Activity, Final, LockState, Parked, Phase, SagaState, StepState, StepStatus, UndoStatus};
use crate::definition::{SagaDefinition, StepIndex};
use crate::planted;
use crate::request::{Direction, Effect};
use crate::time::Timestamp;

/// Makes the state that [`Fact::RunStarted`] leaves.
#[must_use]
pub fn begin(definition: &SagaDefinition, begun: &RunStarted, at: Timestamp) -> SagaState {
    SagaState {
        begun: Arc::new(begun.clone()),
        started_at: at,
        phase: Phase::Forward,
        paused: false,
        lock: LockState::None,
        deadline: begun.deadline,
        deadline_passed: false,
        steps: vec![StepState::default(); definition.steps.len()],
        cursor: None,
        active: None,
        redo: None,
        failed: None,
        clearing: None,
        undo_below: definition.steps.len() as StepIndex,
        cause: None,
        error: None,
        others: Vec::new(),
        parked: None,
        parkings: 0,
        pivot_done: false,
        incomplete: false,
        notes: Vec::new(),
        emitted: 0,
        output: None,
        end: None,
        ended_at: None,
        facts: 1,
    }
}

/// Applies one fact that became durable at `at`, and says what the outside must now do.
pub fn evolve(definition: &SagaDefinition, state: &mut SagaState, fact: &Fact, at: Timestamp) -> Vec<Command> {
    state.facts += 1;
    match fact {
        // `begin` has applied it.
        Fact::RunStarted(_) => {
            state.facts -= 1;
            state.deadline.map(|due| Command::SetTimer { timer: Timer::Deadline, due }).into_iter().collect()
        }
        Fact::LockWanted { name } => {
            state.lock = LockState::Wanted { name: name.clone() };
            vec![Command::AcquireLock { name: name.clone() }]
        }
        Fact::LockGranted {} => {
            if let LockState::Wanted { name } = &state.lock {
                state.lock = LockState::Held { name: name.clone() };
            }
            Vec::new()
        }
        Fact::StepSkipped { step, why } => {
            let this = touch(state, *step);
            match why {
                // The pivot itself happened; only what was wrong with its answer is skipped.
                SkipReason::Operator if this.status == StepStatus::Ended(Outcome::Done) => {}
                SkipReason::Operator | SkipReason::Condition | SkipReason::NoMatch => {
                    this.status = StepStatus::Skipped(*why);
                }
            }
            this.ended_at = Some(at);
            state.failed = None;
            Vec::new()
        }
        Fact::ArmTaken { step, arm } => {
            let this = touch(state, *step);
            this.status = StepStatus::Begun;
            this.arm = Some(*arm);
            this.started_at = Some(at);
            Vec::new()
        }
        Fact::StepStarted { step, key, key_number, sent_key, request, attempt } => {
            let this = touch(state, *step);
            this.status = StepStatus::Begun;
            this.key = Some(*key);
            this.key_number = *key_number;
            this.sent_key.clone_from(sent_key);
            this.request = Some(Arc::clone(request));
            this.started_at.get_or_insert(at);
            this.first_attempt_at = Some(at);
            launch(state, *step, Direction::Forward, *attempt, at)
        }
        Fact::AttemptStarted { step, direction, attempt } => {
            let this = &mut state.steps[*step as usize];
            match direction {
                Direction::Forward => {
                    this.first_attempt_at.get_or_insert(at);
                }
                Direction::Compensate => {
                    this.undo.first_attempt_at.get_or_insert(at);
                }
                Direction::Check => {}
            }
            launch(state, *step, *direction, *attempt, at)
        }
        Fact::AttemptEnded { step, direction, effect, proof, refused, problem, fate, .. } => {
            let this = &mut state.steps[*step as usize];
            match direction {
                Direction::Forward => {
                    this.attempts_used += 1;
                    let before = this.in_doubt && !planted::is("forget_maybe");
                    this.in_doubt = !proof && (before || *effect == Effect::Maybe);
                    this.last_problem.clone_from(problem);
                }
                Direction::Check => this.check.attempts_used += 1,
                Direction::Compensate => {
                    this.undo.attempts_used += 1;
                    this.undo.refusals += u32::from(*refused);
                    this.undo.last_problem.clone_from(problem);
                }
            }
            match fate {
                Fate::RetryAt(due) => {
                    this.activity = Activity::RetryAt { direction: *direction, due: *due };
                    vec![Command::SetTimer { timer: Timer::Step(*step), due: *due }]
                }
                Fate::Over { again } => {
                    if *direction == Direction::Forward {
                        this.again = *again;
                    }
                    rest(state, *step);
                    Vec::new()
                }
            }
        }
        Fact::AttemptInterrupted { step, direction, attempt } => {
            let this = &mut state.steps[*step as usize];
            if *direction == Direction::Forward {
                this.in_doubt = !planted::is("restart_forgets_doubt");
                this.again = true;
            }
            this.activity = Activity::Interrupted { direction: *direction, attempt: *attempt };
            Vec::new()
        }
        Fact::CheckStarted { step, key, request, attempt } => {
            let this = &mut state.steps[*step as usize];
            this.check.key = Some(*key);
            this.check.request = Some(Arc::clone(request));
            this.check.attempts_used = 0;
            this.check.asked += 1;
            this.check.started_at = Some(at);
            launch(state, *step, Direction::Check, *attempt, at)
        }
        Fact::AskDeferred { step } => {
            state.steps[*step as usize].activity = Activity::AskPending;
            state.active = Some(*step);
            Vec::new()
        }
        Fact::CheckEnded { step, conclusive, happened, .. } => {
            if (*conclusive || planted::is("not_seen_yet_is_a_no")) && *happened == Some(false) {
                state.steps[*step as usize].in_doubt = false;
            }
            rest(state, *step);
            Vec::new()
        }
        Fact::WaitStarted { step, due } => {
            let this = touch(state, *step);
            this.status = StepStatus::Begun;
            this.started_at = Some(at);
            this.activity = Activity::Sleeping { due: *due };
            state.active = Some(*step);
            vec![Command::SetTimer { timer: Timer::Step(*step), due: *due }]
        }
        Fact::RetryScheduled { step, due } => {
            state.steps[*step as usize].activity = Activity::RetryAt { direction: Direction::Forward, due: *due };
            state.active = Some(*step);
            vec![Command::SetTimer { timer: Timer::Step(*step), due: *due }]
        }
        Fact::StepEnded { step, outcome, output, failure } => {
            step_ended(definition, state, *step, *outcome, at);
            let this = &mut state.steps[*step as usize];
            this.output.clone_from(output);
            this.error.clone_from(failure);
            state.failed = failure.is_some().then_some(*step);
            if state.phase != Phase::Forward
                && let Some(problem) = failure
                && state.error.as_ref() != Some(problem)
            {
                state.others.push(problem.clone());
            }
            Vec::new()
        }
        Fact::StepWithdrawn { step } => {
            let this = touch(state, *step);
            this.status = StepStatus::Withdrawn;
            this.ended_at = Some(at);
            rest(state, *step);
            Vec::new()
        }
        Fact::ClearingBegan { step } => {
            state.clearing = Some(*step);
            Vec::new()
        }
        Fact::FailureHandled { step } => {
            state.failed = None;
            state.clearing = None;
            state.cursor = Some(*step);
            Vec::new()
        }
        Fact::EventEmitted { emission, .. } => {
            state.emitted += u64::from(!planted::is("outbox_number_stands_still"));
            if let Emission::Step(step) = emission {
                touch(state, *step).started_at = Some(at);
            }
            Vec::new()
        }
        Fact::SettlingBegan { cause, problem } => {
            state.phase = Phase::Settling;
            state.cause = Some(*cause);
            state.error.get_or_insert_with(|| problem.clone());
            state.failed = None;
            state.redo = None;
            state.deadline_passed |= *cause == SettleCause::Deadline;
            // A run that never got its lock gives up its place in the queue.
            match &state.lock {
                LockState::Wanted { name } => {
                    let released = vec![Command::ReleaseLock { name: name.clone() }];
                    state.lock = LockState::None;
                    released
                }
                LockState::None | LockState::Held { .. } => Vec::new(),
            }
        }
        Fact::UndoBegan {} => {
            state.phase = Phase::Undo;
            Vec::new()
        }
        Fact::UndoStarted { step, key, request, attempt } => {
            let undo = &mut state.steps[*step as usize].undo;
            undo.status = UndoStatus::Undoing;
            if planted::is("undo_counts_as_done_when_sent") {
                undo.status = UndoStatus::Ended(UndoEnd::Undone);
                return vec![Command::RunAttempt { step: *step, direction: Direction::Compensate, attempt: *attempt }];
            }
            undo.key = Some(*key);
            undo.request = Some(Arc::clone(request));
            undo.first_attempt_at = Some(at);
            launch(state, *step, Direction::Compensate, *attempt, at)
        }
        Fact::UndoEnded { step, end } => {
            unpark(state, at);
            state.steps[*step as usize].undo.status = UndoStatus::Ended(*end);
            state.incomplete |= *end == UndoEnd::Skipped;
            // The scan has passed it; clearing happens ahead of the scan and leaves it alone.
            if state.clearing.is_none() {
                state.undo_below = *step;
            }
            rest(state, *step);
            restart_deadline(state)
        }
        Fact::Parked { step, direction, reason } => {
            if *direction == Direction::Compensate {
                state.steps[*step as usize].undo.status = UndoStatus::Failed;
            }
            rest(state, *step);
            state.parkings += 1;
            state.parked = Some(Parked { step: *step, direction: *direction, reason: reason.clone(), since: at });
            Vec::new()
        }
        Fact::OperatorActed { operation } => operator_acted(state, operation, at),
        Fact::DeadlineMissed {} => {
            state.deadline_passed = true;
            state.notes.push("the saga's timeout passed when nothing could be undone any more".to_owned());
            Vec::new()
        }
        Fact::Noted { text } => {
            state.notes.push(text.clone());
            Vec::new()
        }
        Fact::RunEnded { completed, output } => {
            state.phase = Phase::Done;
            state.end = Some(if *completed { Final::Completed } else { Final::Compensated });
            state.output.clone_from(output);
            state.ended_at = Some(at);
            match std::mem::replace(&mut state.lock, LockState::None) {
                LockState::Wanted { name } | LockState::Held { name } => vec![Command::ReleaseLock { name }],
                LockState::None => Vec::new(),
            }
        }
    }
}

/// Makes a step the cursor and returns it.
fn touch(state: &mut SagaState, step: StepIndex) -> &mut StepState {
    state.cursor = Some(step);
    if state.redo == Some(step) {
        state.redo = None;
    }
    &mut state.steps[step as usize]
}

fn launch(state: &mut SagaState, step: StepIndex, direction: Direction, attempt: u32, at: Timestamp) -> Vec<Command> {
    let this = &mut state.steps[step as usize];
    this.launched_at = at;
    if planted::is("new_key_for_each_attempt") && direction == Direction::Forward {
        this.key = Some(state.begun.run.effect_key("", "forward", attempt));
    }
    match direction {
        Direction::Forward => this.attempt = attempt,
        Direction::Check => this.check.attempt = attempt,
        Direction::Compensate => this.undo.attempt = attempt,
    }
    this.activity = Activity::InFlight { direction, attempt };
    state.active = Some(step);
    vec![Command::RunAttempt { step, direction, attempt }]
}

/// Nothing is being done for the step any more.
fn rest(state: &mut SagaState, step: StepIndex) {
    state.steps[step as usize].activity = Activity::Idle;
    if state.active == Some(step) {
        state.active = None;
    }
}

fn step_ended(definition: &SagaDefinition, state: &mut SagaState, step: StepIndex, outcome: Outcome, at: Timestamp) {
    unpark(state, at);
    let this = touch(state, step);
    this.status = StepStatus::Ended(outcome);
    this.in_doubt = outcome == Outcome::Unknown;
    this.started_at.get_or_insert(at);
    this.ended_at = Some(at);
    rest(state, step);
    state.pivot_done |= definition.step(step).pivot && outcome == Outcome::Done;
}

/// The saga's timeout stops while parked: the deadline moves by the time spent so.
fn unpark(state: &mut SagaState, at: Timestamp) {
    if let Some(parked) = state.parked.take()
        && let Some(due) = &mut state.deadline
    {
        *due = due.plus(at.since(parked.since));
    }
}

fn restart_deadline(state: &SagaState) -> Vec<Command> {
    match state.deadline {
        Some(due) if !state.deadline_passed && state.phase == Phase::Forward => {
            vec![Command::SetTimer { timer: Timer::Deadline, due }]
        }
        Some(_) | None => Vec::new(),
    }
}

fn operator_acted(state: &mut SagaState, operation: &Operation, at: Timestamp) -> Vec<Command> {
    match operation {
        Operation::Cancel { .. } => {
            unpark(state, at);
            Vec::new()
        }
        Operation::Pause => {
            state.paused = true;
            Vec::new()
        }
        Operation::Resume => {
            state.paused = false;
            Vec::new()
        }
        Operation::Retry { new_key } => {
            let Some(parked) = state.parked.clone() else { return Vec::new() };
            unpark(state, at);
            state.failed = None;
            let this = &mut state.steps[parked.step as usize];
            match parked.direction {
                Direction::Compensate => {
                    this.undo.attempts_used = 0;
                    this.undo.refusals = 0;
                    this.undo.first_attempt_at = None;
                    // Without a request its expressions failed: they are evaluated again.
                    this.undo.status =
                        if this.undo.request.is_some() { UndoStatus::Undoing } else { UndoStatus::NotStarted };
                }
                Direction::Forward | Direction::Check => {
                    this.attempts_used = 0;
                    this.first_attempt_at = None;
                    this.error = None;
                    if *new_key {
                        this.key_number += 1;
                        this.request = None;
                    }
                    this.status = StepStatus::Begun;
                    this.ended_at = None;
                    if this.request.is_none() {
                        state.redo = Some(parked.step);
                    }
                }
            }
            restart_deadline(state)
        }
        // The facts behind it say what becomes of the step.
        Operation::Skip => {
            unpark(state, at);
            restart_deadline(state)
        }
        Operation::ResolveDone { .. } => restart_deadline_after(state, at),
        Operation::ResolveNotDone => match state.parked.as_ref().map(|parked| parked.direction) {
            // An undo that is known to be not done stays parked.
            Some(Direction::Compensate) | None => Vec::new(),
            Some(Direction::Forward | Direction::Check) => restart_deadline_after(state, at),
        },
    }
}

fn restart_deadline_after(state: &mut SagaState, at: Timestamp) -> Vec<Command> {
    unpark(state, at);
    restart_deadline(state)
}
