//! What one input means to one run. Reads no clock and does no IO: the same arguments always give the
//! same facts. The state is not changed here; `evolve` does that, fact by fact.

mod attempt;
mod begin;
mod child;
mod failure;
mod fits;
mod forward;
mod join;
mod operator;
mod pages;
mod park;
mod settle;
mod undo;
mod waiting;

use super::agenda::Todo;
use super::at::StepAt;
use super::command::Timer;
use super::fact::{Fact, RunStarted, SettleCause};
use super::input::{Input, Rejected, Rules, Start};
use super::request_builder::{expression_problem, text};
use super::scope::RunScope;
use super::state::{Activity, Final, LockState, Phase, SagaState, ScopePhase};
use super::{evolve, migrate, plan};
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
    let child = start.parent_run.is_some();
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
        parent_run: start.parent_run,
        undo_of: None,
        link_after: start.link_after,
    };
    let mut facts = vec![Fact::RunStarted(Box::new(begun))];
    // A child shares the lock of its parent.
    if let Some(lock) = &definition.lock
        && !child
        && let Fact::RunStarted(begun) = &facts[0]
    {
        let state = evolve::begin(definition, begun, now);
        facts.push(match text(lock, &RunScope::new(definition, &state), Place::Plain) {
            Ok(name) => Fact::LockWanted { name },
            Err(error) => Fact::SettlingBegan {
                cause: SettleCause::Failed,
                problem: Problem::new(kind::EXPRESSION, "the lock's name could not be evaluated")
                    .detail(error.to_string()),
                cancel: false,
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
            Input::AttemptEnded { .. }
            | Input::TimerFired(_)
            | Input::LockGranted
            | Input::EventArrived { .. }
            | Input::ChildEnded { .. } => Err(Rejected::Stale),
            Input::Migrate(wanted) => migrate::decide(rules.definition, state, &wanted),
            Input::Operator(operation) => {
                let end = if state.end == Some(Final::Completed) { "completed" } else { "compensated" };
                Err(Rejected::Conflict(format!("{}: the run is {end}, and final is final", operation.as_str())))
            }
        };
    }
    match input {
        Input::Continue => Ok(go_on(rules, state, now)),
        Input::AttemptEnded { step, direction, attempt, result } => {
            if state.step(step).activity != (Activity::InFlight { direction, attempt }) {
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
        Input::EventArrived { step, direction, key, event, content } => {
            waiting::event_arrived(rules, state, step, direction, waiting::Arrived { key, event, content }, now)
        }
        Input::ChildEnded { step, direction, end } => child::ended(rules, state, step, direction, end, now),
        Input::Restarted { .. } => Ok(state
            .active
            .iter()
            .filter_map(|step| match state.step(*step).activity {
                Activity::InFlight { direction, attempt } => {
                    Some(Fact::AttemptInterrupted { step: *step, direction, attempt })
                }
                Activity::Idle
                | Activity::RetryAt { .. }
                | Activity::Sleeping { .. }
                | Activity::Awaiting { .. }
                | Activity::Asking { .. }
                | Activity::Child { .. }
                | Activity::AskPending
                | Activity::Interrupted { .. } => None,
            })
            .collect()),
        Input::Operator(operation) => operator::decide(rules, state, operation, now),
        Input::Migrate(wanted) => migrate::decide(rules.definition, state, &wanted),
    }
}

fn timer_fired(rules: &Rules, state: &SagaState, timer: Timer, now: Timestamp) -> Result<Vec<Fact>, Rejected> {
    let held = state.parked.is_some() || (state.paused && !planted::is("pause_holds_nothing"));
    match timer {
        Timer::Step(step) => {
            let due = match state.step(step).activity {
                Activity::RetryAt { due, .. } | Activity::Sleeping { due } => Some(due),
                Activity::Awaiting { due, .. } | Activity::Asking { due } => due,
                Activity::Idle
                | Activity::InFlight { .. }
                | Activity::Child { .. }
                | Activity::AskPending
                | Activity::Interrupted { .. } => None,
            };
            match due {
                None => Err(Rejected::Stale),
                Some(due) if due > now && !planted::is("timer_early") => Err(Rejected::Early { due }),
                Some(_) if held => Ok(Vec::new()),
                Some(_) => Ok(due_now(rules, state, step, now)),
            }
        }
        Timer::Total(step) => match state.expiries.get(&step) {
            None => Err(Rejected::Stale),
            Some(due) if *due > now => Err(Rejected::Early { due: *due }),
            Some(_) if held => Ok(Vec::new()),
            Some(_) => Ok(failure::expired(rules, state, step, now)),
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

/// What a step waited for the time of has come.
fn due_now(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    match state.step(step).activity {
        Activity::RetryAt { direction, .. } => match undo::repeats(rules, step, direction) {
            Some(emit) => waiting::emit_again(rules, state, step, direction, emit, now),
            None => {
                vec![Fact::AttemptStarted { step, direction, attempt: attempt::number(state, step, direction) + 1 }]
            }
        },
        Activity::Sleeping { .. } => pages::woken(rules, state, step),
        Activity::Awaiting { direction, .. } => waiting::await_over(rules, state, step, direction, now),
        Activity::Asking { .. } => waiting::ask_over(rules, step),
        Activity::Idle
        | Activity::InFlight { .. }
        | Activity::Child { .. }
        | Activity::AskPending
        | Activity::Interrupted { .. } => Vec::new(),
    }
}

fn deadline(rules: &Rules, state: &SagaState) -> Vec<Fact> {
    let behind = state.pivot_done && !planted::is("deadline_behind_the_pivot_undoes");
    if behind || plan::pivot_in_doubt(state) {
        return vec![Fact::DeadlineMissed {}];
    }
    let after = rules.definition.timeout.map(|span| format!("the saga's timeout of {span} has passed"));
    let mut problem = Problem::new(kind::TIMEOUT, after.unwrap_or_else(|| "the saga's timeout has passed".to_owned()));
    problem.step = state.cursor.map(|step| step.path(rules.definition).into_owned());
    settle::begin(rules.definition, state, SettleCause::Deadline, problem, true)
}

/// Decides the next move, if there is one.
fn go_on(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
    if state.parked.is_some() {
        return Vec::new();
    }
    let settling = state.phase == Phase::Settling;
    if settling
        && planted::is("cancel_skips_undo")
        && state.cause == Some(SettleCause::Cancelled)
        && state.active.is_empty()
    {
        return vec![Fact::RunEnded { completed: false, output: None }];
    }
    if settling && planted::is("undo_beside_an_attempt") {
        return vec![Fact::UndoBegan {}];
    }
    if let Some(todo) = state.agenda.iter().copied().find(|todo| may_go_on(rules, state, *todo)) {
        return match todo {
            Todo::Begin(step) => begin::begin(rules, state, step, now),
            Todo::Failed(step) => failure::failed(rules, state, step, now),
            Todo::Join(step) => join::join(rules, state, step),
            Todo::Resume(step) => resume(rules, state, step, now),
            Todo::Scope(scope) => failure::scope(rules, state, scope, now),
            Todo::Undo(step) => undo::undo(rules, state, step, now),
            Todo::Finish if state.phase == Phase::Forward => forward::complete(rules, state, now),
            Todo::Finish => undo::compensated(rules, state, now),
        };
    }
    if state.paused && !planted::is("pause_holds_nothing") {
        return Vec::new();
    }
    if settling && state.active.is_empty() && state.scopes.is_empty() && state.parking.is_empty() {
        return vec![Fact::UndoBegan {}];
    }
    match state.parking.first() {
        Some(wish) if park::at_rest(state, None) => park::now(rules, state, wish, now),
        Some(_) | None => Vec::new(),
    }
}

/// True when an entry of the agenda may be decided about now.
fn may_go_on(rules: &Rules, state: &SagaState, todo: Todo) -> bool {
    let paused = state.paused && !planted::is("pause_holds_nothing");
    match todo {
        // What was cut off while it settles has ended, paused or not: nothing leaves.
        Todo::Resume(step) => {
            let settles = plan::mode(rules.definition, state, step) != plan::Mode::Forward;
            let cut_off = matches!(
                state.step(step).activity,
                Activity::Interrupted { direction: Direction::Forward | Direction::Check, .. }
            );
            !paused || (settles && cut_off)
        }
        Todo::Begin(_) | Todo::Join(_) | Todo::Failed(_) => {
            !paused && state.parking.is_empty() && !matches!(state.lock, LockState::Wanted { .. })
        }
        Todo::Finish => !paused && state.parking.is_empty(),
        Todo::Undo(_) => !paused,
        Todo::Scope(scope) => {
            let one = state.scopes.get(&scope);
            !paused
                && one.is_some_and(|one| match one.phase {
                    ScopePhase::Settling => plan::quiet(rules.definition, state, scope),
                    ScopePhase::Undo => state.parking.is_empty(),
                })
        }
    }
}

/// Decides about what was cut off, or is to be asked about.
fn resume(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let forward = plan::mode(rules.definition, state, step) == plan::Mode::Forward;
    match state.step(step).activity {
        Activity::AskPending => attempt::ask_deferred(rules, state, step, now),
        Activity::Interrupted { direction: Direction::Forward, .. } if !forward => {
            vec![forward::given_up(rules.definition, state, step)]
        }
        Activity::Interrupted { direction: Direction::Check, .. } if !forward => {
            attempt::check_given_up(rules.definition, state, step)
        }
        Activity::Interrupted { direction: Direction::Forward, attempt } => {
            attempt::after_interruption(rules, state, step, attempt, now)
        }
        // The same attempt, with the same key and the same span: an undo and a check may be repeated.
        Activity::Interrupted { direction: direction @ (Direction::Check | Direction::Compensate), attempt } => {
            vec![Fact::AttemptStarted { step, direction, attempt }]
        }
        Activity::Idle
        | Activity::InFlight { .. }
        | Activity::RetryAt { .. }
        | Activity::Sleeping { .. }
        | Activity::Awaiting { .. }
        | Activity::Asking { .. }
        | Activity::Child { .. } => Vec::new(),
    }
}

/// Returns a step's problem of a failed expression.
fn failed_expression(rules: &Rules, step: StepAt, error: &crate::expression::EvalError) -> Problem {
    expression_problem(rules.definition, step, error)
}
