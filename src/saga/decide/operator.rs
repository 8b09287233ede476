//! Operator commands: what applies when, and what each begins with. Everything else is a conflict with
//! its reason.

use super::super::at::StepAt;
use super::super::fact::{Fact, Outcome, SettleCause, UndoEnd};
use super::super::input::{Operation, Rejected, Rules};
use super::super::plan::{self, Mode};
use super::super::state::{Activity, LockState, Phase, SagaState, StepStatus};
use super::settle;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

/// Decides about one command.
///
/// # Errors
/// [`Rejected::Conflict`] says why the command does not apply.
pub fn decide(rules: &Rules, state: &SagaState, operation: Operation, now: Timestamp) -> Result<Vec<Fact>, Rejected> {
    let acted = Fact::OperatorActed { operation: operation.clone() };
    let refused = |why: &str| Rejected::Conflict(format!("{}: {why}", operation.as_str()));
    let conflict = |why: &str| Err(refused(why));
    match &operation {
        Operation::Cancel { reason } => {
            if state.phase != Phase::Forward {
                return conflict("the run is being undone already");
            }
            if state.pivot_done {
                return conflict("the pivot is done; what lies behind it only goes forward");
            }
            if plan::pivot_in_doubt(state) {
                return conflict("the pivot has begun and its outcome is not known");
            }
            let title = reason.clone().unwrap_or_else(|| "cancelled by an operator".to_owned());
            let mut facts = vec![acted];
            let mut problem = Problem::new(kind::CANCELLED, title);
            problem.step = state.cursor.map(|step| step.path(rules.definition).into_owned());
            facts.extend(settle::begin(rules.definition, state, SettleCause::Cancelled, problem, true));
            Ok(facts)
        }
        Operation::Pause if state.parked.is_some() => conflict("the run is parked, nothing leaves it"),
        Operation::Pause if state.paused => conflict("the run is paused"),
        Operation::Pause => Ok(vec![acted]),
        Operation::Resume if state.paused => Ok(vec![acted]),
        Operation::Resume => conflict("the run is not paused"),
        Operation::Retry { new_key } => retry(rules, state, acted, *new_key, now).map_err(refused),
        Operation::Skip => skip(rules, state, acted).map_err(refused),
        Operation::ResolveDone { output } => {
            let (step, direction) = resolvable(state).map_err(refused)?;
            Ok(match direction {
                Direction::Compensate => vec![acted, Fact::UndoEnded { step, end: UndoEnd::Undone }],
                Direction::Forward | Direction::Check => {
                    vec![acted, Fact::StepEnded { step, outcome: Outcome::Done, output: output.clone(), failure: None }]
                }
            })
        }
        Operation::ReleaseLock { .. } => match &state.lock {
            LockState::Held { .. } if state.parked.is_some() || (state.paused && !state.in_flight()) => Ok(vec![acted]),
            LockState::Held { .. } => conflict("the run works under its lock; pause it first, and let its calls end"),
            LockState::Wanted { .. } => conflict("the run waits for its lock; cancel it"),
            LockState::None => conflict("the run holds no lock"),
        },
        Operation::Answer { step, by, answer } => {
            super::waiting::answered(rules, state, *step, by, answer, acted).map_err(refused)
        }
        Operation::ResolveNotDone => {
            let (step, direction) = resolvable(state).map_err(refused)?;
            Ok(match direction {
                // Known to be not done: it stays parked, and `retry` sends it again.
                Direction::Compensate => vec![acted],
                Direction::Forward | Direction::Check => {
                    let problem = state.step(step).error.as_deref().cloned().unwrap_or_else(|| {
                        Problem::new(kind::REFUSED, "resolved by an operator as not done")
                            .at(&step.path(rules.definition))
                    });
                    vec![
                        acted,
                        Fact::StepEnded { step, outcome: Outcome::Refused, output: None, failure: Some(problem) },
                    ]
                }
            })
        }
    }
}

fn retry(
    rules: &Rules,
    state: &SagaState,
    acted: Fact,
    new_key: bool,
    now: Timestamp,
) -> Result<Vec<Fact>, &'static str> {
    let Some(parked) = &state.parked else {
        return waiting_retry(rules, state, acted, new_key, now);
    };
    let at = state.step(parked.step);
    match parked.direction {
        Direction::Compensate if new_key => Err("an undo keeps its key"),
        Direction::Compensate => {
            let mut facts = vec![acted];
            if at.undo.request.is_some() {
                facts.push(Fact::AttemptStarted {
                    step: parked.step,
                    direction: Direction::Compensate,
                    attempt: at.undo.attempt + 1,
                });
            }
            Ok(facts)
        }
        Direction::Forward | Direction::Check => {
            if plan::mode(rules.definition, state, parked.step) != Mode::Forward && !planted::is("forward_in_undo") {
                return Err("undoing has begun, and no forward call leaves any more; resolve it");
            }
            let unknown = at.status == StepStatus::Ended(Outcome::Unknown);
            if new_key && unknown {
                return Err("the old outcome is unknown; a new key could do it twice; resolve it first");
            }
            if new_key && !matches!(rules.definition.step(parked.step.step).action, crate::definition::Action::Call(_))
            {
                return Err("only a call has a key");
            }
            let mut facts = vec![acted];
            if at.request.is_some() && !new_key {
                facts.push(Fact::AttemptStarted {
                    step: parked.step,
                    direction: Direction::Forward,
                    attempt: at.attempt + 1,
                });
            }
            Ok(facts)
        }
    }
}

fn waiting_retry(
    rules: &Rules,
    state: &SagaState,
    acted: Fact,
    new_key: bool,
    now: Timestamp,
) -> Result<Vec<Fact>, &'static str> {
    if state.paused {
        return Err("the run is paused; resume it first");
    }
    let waiting: Vec<(StepAt, Direction)> = state
        .active
        .iter()
        .filter_map(|step| match state.step(*step).activity {
            Activity::RetryAt { direction, .. } => Some((*step, direction)),
            Activity::Idle
            | Activity::InFlight { .. }
            | Activity::Sleeping { .. }
            | Activity::Awaiting { .. }
            | Activity::Asking { .. }
            | Activity::Child { .. }
            | Activity::AskPending
            | Activity::Interrupted { .. } => None,
        })
        .collect();
    if waiting.is_empty() {
        return Err("the run is neither parked nor waiting for a retry");
    }
    if new_key {
        return Err("a new key needs a parked run");
    }
    let mut facts = vec![acted];
    for (step, direction) in waiting {
        match super::undo::repeats(rules, step, direction) {
            Some(emit) => facts.extend(super::waiting::emit_again(rules, state, step, direction, emit, now)),
            None => {
                let attempt = super::attempt::number(state, step, direction) + 1;
                facts.push(Fact::AttemptStarted { step, direction, attempt });
            }
        }
    }
    // Several events in one move: each was built as if it were the next.
    for (number, fact) in facts.iter_mut().filter(|fact| matches!(fact, Fact::EventEmitted { .. })).enumerate() {
        if let Fact::EventEmitted { number: place, .. } = fact {
            *place = if planted::is("repeats_share_a_place") { *place } else { state.emitted + number as u64 };
        }
    }
    Ok(facts)
}

fn skip(rules: &Rules, state: &SagaState, acted: Fact) -> Result<Vec<Fact>, &'static str> {
    let Some(parked) = &state.parked else { return Err("the run is not parked") };
    if plan::remedies(rules.definition, state).contains(&"skip") {
        let undoing = parked.direction == Direction::Compensate
            || plan::mode(rules.definition, state, parked.step) != Mode::Forward;
        return Ok(if undoing {
            vec![acted, Fact::UndoEnded { step: parked.step, end: UndoEnd::Skipped }]
        } else {
            vec![acted, Fact::StepSkipped { step: parked.step, why: super::super::fact::SkipReason::Operator }]
        });
    }
    Err("only a failed undo and a failed step behind the pivot can be skipped; an unknown one is resolved")
}

fn resolvable(state: &SagaState) -> Result<(StepAt, Direction), &'static str> {
    let Some(parked) = &state.parked else { return Err("the run is not parked") };
    let unknown = state.step(parked.step).status == StepStatus::Ended(Outcome::Unknown);
    match parked.direction {
        Direction::Compensate => Ok((parked.step, Direction::Compensate)),
        Direction::Forward | Direction::Check if unknown => Ok((parked.step, Direction::Forward)),
        Direction::Forward | Direction::Check => Err("the outcome of the parked step is known"),
    }
}
