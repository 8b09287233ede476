//! What one input means to one run. Reads no clock and does no IO: the same arguments always give the
//! same facts. The state is not changed here; `evolve` does that, fact by fact.

mod attempt;
mod forward;
mod operator;
mod settle;
mod undo;

use super::command::Timer;
use super::fact::{Fact, RunStarted, SettleCause};
use super::input::{Input, Rejected, Rules, Start};
use super::request_builder::{expression_problem, text};
use super::scope::RunScope;
use super::state::{Activity, Final, LockState, Phase, SagaState};
use super::{evolve, plan};
use crate::expression::Place;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

/// Decides how a run begins. The first fact is [`Fact::RunStarted`]; make the state from it with
/// [`evolve::begin`] and go on with [`Input::Continue`].
#[must_use]
pub fn start(rules: &Rules, start: Start, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let begun = RunStarted {
        run: start.run,
        saga: definition.name.clone(),
        version: definition.version,
        definition: definition.fingerprint,
        key: start.key,
        correlation_id: start.correlation_id,
        causation_id: start.causation_id,
        trace: start.trace,
        parent: start.parent,
        input: start.input,
        event: start.event,
        input_hash: start.input_hash,
        deadline: definition.timeout.map(|span| now.plus(span)),
    };
    let mut facts = vec![Fact::RunStarted(Box::new(begun))];
    if let Some(lock) = &definition.lock
        && let Fact::RunStarted(begun) = &facts[0]
    {
        let state = evolve::begin(definition, begun, now);
        facts.push(match text(lock, &RunScope::new(definition, &state), Place::Plain) {
            Ok(name) => Fact::LockWanted { name },
            Err(error) => Fact::SettlingBegan {
                cause: SettleCause::Failed,
                problem: Problem::new(kind::EXPRESSION, "the lock's name could not be evaluated")
                    .detail(error.to_string()),
            },
        });
    }
    facts
}

/// Decides what one input means to one run. `now` is the time at which the input was accepted, as the
/// journal will record it.
///
/// # Errors
/// [`Rejected`] for a repeated, late, early or inapplicable input: the state is unchanged.
pub fn decide(rules: &Rules, state: &SagaState, input: Input, now: Timestamp) -> Result<Vec<Fact>, Rejected> {
    if state.end.is_some() && !planted::is("final_is_not_final") {
        return match input {
            Input::Continue | Input::Restarted { .. } => Ok(Vec::new()),
            Input::AttemptEnded { .. } | Input::TimerFired(_) | Input::LockGranted => Err(Rejected::Stale),
            Input::Operator(operation) => {
                let end = if state.end == Some(Final::Completed) { "completed" } else { "compensated" };
                Err(Rejected::Conflict(format!("{}: the run is {end}, and final is final", operation.as_str())))
            }
        };
    }
    match input {
        Input::Continue => Ok(go_on(rules, state, now)),
        Input::AttemptEnded { step, direction, attempt, result } => {
            let in_flight = state.steps.get(step as usize).is_some_and(|at| match at.activity {
                Activity::InFlight { direction: d, attempt: a } => (d, a) == (direction, attempt),
                Activity::Idle
                | Activity::RetryAt { .. }
                | Activity::Sleeping { .. }
                | Activity::AskPending
                | Activity::Interrupted { .. } => false,
            });
            if !in_flight {
                return Err(Rejected::Stale);
            }
            Ok(match direction {
                Direction::Forward => forward::attempt_ended(rules, state, step, &result, now),
                Direction::Check => attempt::check_ended(rules, state, step, &result, now),
                Direction::Compensate => undo::attempt_ended(rules, state, step, &result, now),
            })
        }
        Input::TimerFired(timer) => timer_fired(rules, state, timer, now),
        Input::LockGranted => match &state.lock {
            LockState::Wanted { .. } => Ok(vec![Fact::LockGranted {}]),
            LockState::None | LockState::Held { .. } => Err(Rejected::Stale),
        },
        Input::Restarted { .. } => Ok(state
            .active
            .and_then(|step| match state.step(step).activity {
                Activity::InFlight { direction, attempt } => {
                    Some(Fact::AttemptInterrupted { step, direction, attempt })
                }
                Activity::Idle
                | Activity::RetryAt { .. }
                | Activity::Sleeping { .. }
                | Activity::AskPending
                | Activity::Interrupted { .. } => None,
            })
            .into_iter()
            .collect()),
        Input::Operator(operation) => operator::decide(rules, state, operation, now),
    }
}

fn timer_fired(rules: &Rules, state: &SagaState, timer: Timer, now: Timestamp) -> Result<Vec<Fact>, Rejected> {
    match timer {
        Timer::Step(step) => match state.steps.get(step as usize).map(|at| at.activity) {
            Some(Activity::RetryAt { due, .. } | Activity::Sleeping { due })
                if due > now && !planted::is("timer_early") =>
            {
                Err(Rejected::Early { due })
            }
            Some(Activity::RetryAt { .. } | Activity::Sleeping { .. }) => Ok(go_on(rules, state, now)),
            Some(Activity::Idle | Activity::InFlight { .. } | Activity::AskPending | Activity::Interrupted { .. })
            | None => Err(Rejected::Stale),
        },
        Timer::Deadline => match state.deadline {
            Some(_) if state.deadline_passed || state.parked.is_some() || state.phase != Phase::Forward => {
                Err(Rejected::Stale)
            }
            Some(due) if due > now => Err(Rejected::Early { due }),
            Some(_) => Ok(deadline(rules, state)),
            None => Err(Rejected::Stale),
        },
    }
}

fn deadline(rules: &Rules, state: &SagaState) -> Vec<Fact> {
    let behind = state.pivot_done && !planted::is("deadline_behind_the_pivot_undoes");
    if behind || plan::pivot_in_doubt(rules.definition, state) {
        return vec![Fact::DeadlineMissed {}];
    }
    let after = rules.definition.timeout.map(|span| format!("the saga's timeout of {span} has passed"));
    let mut problem = Problem::new(kind::TIMEOUT, after.unwrap_or_else(|| "the saga's timeout has passed".to_owned()));
    problem.step = state.cursor.map(|step| rules.definition.step(step).path.to_string());
    settle::begin(rules.definition, state, SettleCause::Deadline, problem)
}

/// Decides the next move, if there is one.
fn go_on(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
    if state.parked.is_some() {
        return Vec::new();
    }
    let beside = planted::is("undo_beside_an_attempt") && state.phase == Phase::Settling;
    if let Some(step) = state.active
        && !beside
    {
        return active(rules, state, step, now);
    }
    if state.paused && !planted::is("pause_holds_nothing") {
        return Vec::new();
    }
    if let Some(step) = state.clearing {
        return undo::clear(rules, state, step, now);
    }
    match state.phase {
        Phase::Forward => forward::go_on(rules, state, now),
        Phase::Settling if planted::is("cancel_skips_undo") && state.cause == Some(SettleCause::Cancelled) => {
            vec![Fact::RunEnded { completed: false, output: None }]
        }
        Phase::Settling => vec![Fact::UndoBegan {}],
        Phase::Undo => undo::go_on(rules, state, now),
        Phase::Done => Vec::new(),
    }
}

/// Decides about the step that something is being done for.
fn active(rules: &Rules, state: &SagaState, step: u32, now: Timestamp) -> Vec<Fact> {
    match state.step(step).activity {
        Activity::Idle | Activity::InFlight { .. } => Vec::new(),
        Activity::Sleeping { due } if (due <= now || planted::is("timer_early")) && !state.paused => {
            vec![forward::woken(step)]
        }
        Activity::RetryAt { direction, due } if due <= now && !state.paused => {
            vec![Fact::AttemptStarted { step, direction, attempt: attempt::number(state, step, direction) + 1 }]
        }
        Activity::Sleeping { .. } | Activity::RetryAt { .. } => Vec::new(),
        Activity::AskPending if state.paused => Vec::new(),
        Activity::AskPending => attempt::ask_deferred(rules, state, step, now),
        Activity::Interrupted { direction: Direction::Forward, .. } if state.phase != Phase::Forward => {
            vec![forward::given_up(rules.definition, state, step)]
        }
        Activity::Interrupted { direction: Direction::Check, .. } if state.phase != Phase::Forward => {
            attempt::check_given_up(rules.definition, state, step)
        }
        Activity::Interrupted { .. } if state.paused => Vec::new(),
        Activity::Interrupted { direction: Direction::Forward, attempt } => {
            attempt::after_interruption(rules, state, step, attempt, now)
        }
        // The same attempt, with the same key and the same span: an undo and a check may be repeated.
        Activity::Interrupted { direction: direction @ (Direction::Check | Direction::Compensate), attempt } => {
            vec![Fact::AttemptStarted { step, direction, attempt }]
        }
    }
}

/// Returns a step's problem of a failed expression.
fn failed_expression(rules: &Rules, step: u32, error: &crate::expression::EvalError) -> Problem {
    expression_problem(rules.definition, step, error)
}
