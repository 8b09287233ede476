//! Child runs: begun, awaited, undone.

use uuid::Uuid;

use super::super::at::StepAt;
use super::super::fact::{ChildRun, Fact, Outcome, UndoEnd};
use super::super::input::{ChildEnd, Rejected, Rules};
use super::super::scope::RunScope;
use super::super::state::{Activity, SagaState};
use super::forward::ended as step_ended;
use super::park::park;
use crate::definition::Child;
use crate::expression::EvalError;
use crate::id::RunId;
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

fn derived(run: RunId, name: &str) -> RunId {
    RunId(Uuid::new_v5(&run.0, name.as_bytes()))
}

fn child_run(state: &SagaState, scope: &RunScope, name: &str, rule: &Child) -> Result<ChildRun, EvalError> {
    let input = match &rule.input {
        Some(input) => input.eval(scope)?,
        None => state.begun.input.clone(),
    };
    Ok(ChildRun {
        run: derived(state.begun.run, name),
        saga: rule.saga.clone(),
        version: rule.version,
        input,
        undo_of: None,
        wait: rule.wait,
    })
}

/// Begins a child.
pub fn begin(state: &SagaState, scope: &RunScope, step: StepAt, rule: &Child) -> Result<Vec<Fact>, EvalError> {
    let name = format!("{}|child|{}", step.path(scope.definition), state.step(step).key_number);
    let child = child_run(state, scope, &name, rule)?;
    Ok(vec![Fact::ChildStarted { step, direction: Direction::Forward, child: child.into() }])
}

/// Undoes a step by another saga.
pub fn undo_by(state: &SagaState, scope: &RunScope, step: StepAt, rule: &Child) -> Result<Vec<Fact>, EvalError> {
    let child = child_run(state, scope, &format!("{}|undo_by", step.path(scope.definition)), rule)?;
    Ok(vec![Fact::ChildStarted { step, direction: Direction::Compensate, child: child.into() }])
}

/// Undoes a completed child: a run of its own.
pub fn undo(state: &SagaState, step: StepAt) -> Vec<Fact> {
    let Some(child) = &state.step(step).child else {
        return vec![Fact::UndoEnded { step, end: UndoEnd::Nothing }];
    };
    let undo = ChildRun {
        run: derived(child.run, "undo"),
        undo_of: Some(child.run),
        input: Payload::null(),
        wait: true,
        ..ChildRun::clone(child)
    };
    vec![Fact::ChildStarted { step, direction: Direction::Compensate, child: undo.into() }]
}

/// Decides what a child's end means.
///
/// # Errors
/// [`Rejected::Stale`] for a child that is not waited for.
pub fn ended(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    end: ChildEnd,
    now: Timestamp,
) -> Result<Vec<Fact>, Rejected> {
    let at = state.step(step);
    if at.activity != (Activity::Child { direction }) {
        return Err(Rejected::Stale);
    }
    let child = match direction {
        Direction::Forward | Direction::Check => &at.child,
        Direction::Compensate => &at.undo.child,
    };
    let Some(child) = child else { return Err(Rejected::Stale) };
    let path = step.path(rules.definition);
    let completed = matches!(end, ChildEnd::Completed { .. } | ChildEnd::Accepted);
    let mut facts = vec![Fact::ChildEnded { step, direction, completed }];
    match (direction, end) {
        (Direction::Forward | Direction::Check, ChildEnd::Completed { output }) => {
            facts.push(step_ended(step, Outcome::Done, output, None));
        }
        (Direction::Forward | Direction::Check, ChildEnd::Accepted) => {
            let output = Payload::of(&serde_json::json!({ "id": child.run }));
            facts.push(step_ended(step, Outcome::Done, Some(output), None));
        }
        (Direction::Forward | Direction::Check, ChildEnd::Compensated { problem }) => {
            let problem = problem
                .unwrap_or_else(|| Problem::new(kind::REFUSED, format!("the child run {} failed", child.run)))
                .at(&path);
            facts.push(step_ended(step, Outcome::Refused, None, Some(problem)));
        }
        // The undo of a child ends by having undone it.
        (Direction::Compensate, ChildEnd::Compensated { .. }) if child.undo_of.is_some() => {
            facts.push(Fact::UndoEnded { step, end: UndoEnd::Undone });
        }
        (Direction::Compensate, ChildEnd::Completed { .. } | ChildEnd::Accepted) => {
            facts.push(Fact::UndoEnded { step, end: UndoEnd::Undone });
        }
        (Direction::Compensate, ChildEnd::Compensated { problem }) => {
            let why = problem.map(|problem| format!(": {}", problem.title)).unwrap_or_default();
            let reason = format!("the run {} that undoes it failed{why}", child.run);
            facts.extend(park(rules, state, step, Direction::Compensate, reason, now));
        }
    }
    Ok(facts)
}
