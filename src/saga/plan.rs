//! What comes next and what comes undone: the order of steps forward and backward, and what an operator
//! may do about a parked run. Shared by decide, views and checks.

use super::fact::Outcome;
use super::state::{Phase, SagaState, StepStatus, UndoStatus};
use crate::definition::{Action, Compensate, SagaDefinition, StepIndex, UnknownElse};
use crate::planted;
use crate::request::Direction;

/// What follows the cursor in forward direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Step(StepIndex),
    /// The arm of this `switch` has ended, and so the switch ends.
    SwitchEnded(StepIndex),
    /// Every step is through.
    End,
}

/// Returns what follows the cursor. Costs the logarithm of the list's length.
pub fn next(definition: &SagaDefinition, state: &SagaState) -> Next {
    let Some(cursor) = state.cursor else {
        return definition.root.first().map_or(Next::End, |first| Next::Step(*first));
    };
    if let (Action::Switch(arms), Some(arm), StepStatus::Begun) =
        (&definition.step(cursor).action, state.step(cursor).arm, state.step(cursor).status)
    {
        return arms[arm as usize].steps.first().map_or(Next::SwitchEnded(cursor), |first| Next::Step(*first));
    }
    let list = definition.list_of(cursor);
    // Lists are in file order, which is the order of indexes.
    let behind = list.binary_search(&cursor).map_or(list.len(), |at| at + 1);
    match (list.get(behind), definition.step(cursor).parent) {
        (Some(next), _) => Next::Step(*next),
        (None, Some(parent)) => Next::SwitchEnded(parent.step),
        (None, None) => Next::End,
    }
}

/// What the undo has to do about one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoNeed {
    Nothing,
    Undo,
    /// It may have had an effect and the file states no undo, or wants a person: park.
    Person,
}

/// Returns what the undo has to do about a step.
#[must_use]
pub fn undo_need(definition: &SagaDefinition, state: &SagaState, step: StepIndex) -> UndoNeed {
    let (rule, at) = (definition.step(step), state.step(step));
    if matches!(at.undo.status, UndoStatus::Ended(_)) {
        return UndoNeed::Nothing;
    }
    let outcome = match at.status {
        StepStatus::Ended(outcome) => outcome,
        StepStatus::NotStarted | StepStatus::Skipped(_) | StepStatus::Begun | StepStatus::Withdrawn => {
            return UndoNeed::Nothing;
        }
    };
    let on_refused = match &rule.compensate {
        Compensate::Call(undo) => undo.on_refused,
        Compensate::Emit(undo) => undo.on_refused,
        Compensate::None | Compensate::Unstated => false,
    };
    match (outcome, &rule.compensate) {
        (Outcome::Unknown, _) if planted::is("undo_only_what_succeeded") => UndoNeed::Nothing,
        (Outcome::Refused, _) if !on_refused && !planted::is("undo_what_was_refused") => UndoNeed::Nothing,
        (_, Compensate::None) => UndoNeed::Nothing,
        (Outcome::Unknown, _) if rule.on_unknown.otherwise == UnknownElse::Park => UndoNeed::Person,
        (_, Compensate::Call(_) | Compensate::Emit(_)) => UndoNeed::Undo,
        (_, Compensate::Unstated) => match rule.action {
            Action::Call(_) => UndoNeed::Person,
            Action::Emit(_) | Action::Set(_) | Action::Wait(_) | Action::Switch(_) | Action::Fail(_) => {
                UndoNeed::Nothing
            }
        },
    }
}

/// Returns the next step to undo: the last one, in the order they ran, that needs it.
pub fn next_undo(definition: &SagaDefinition, state: &SagaState) -> Option<StepIndex> {
    let needs = |step: &StepIndex| undo_need(definition, state, *step) != UndoNeed::Nothing;
    if planted::is("undo_in_forward_order") {
        return (0..definition.steps.len() as StepIndex).find(needs);
    }
    (0..state.undo_below).rev().find(needs)
}

/// Returns the steps that would be undone now, in that order.
#[must_use]
pub fn undo_order(definition: &SagaDefinition, state: &SagaState) -> Vec<StepIndex> {
    (0..definition.steps.len() as StepIndex)
        .rev()
        .filter(|step| undo_need(definition, state, *step) != UndoNeed::Nothing)
        .collect()
}

/// True while the pivot has begun and has not ended well or been refused: nothing may move.
pub fn pivot_in_doubt(definition: &SagaDefinition, state: &SagaState) -> bool {
    state.cursor.is_some_and(|step| {
        definition.step(step).pivot
            && match state.step(step).status {
                StepStatus::Begun | StepStatus::Ended(Outcome::Unknown) => true,
                StepStatus::NotStarted
                | StepStatus::Skipped(_)
                | StepStatus::Ended(Outcome::Done | Outcome::Refused)
                | StepStatus::Withdrawn => false,
            }
    })
}

/// Returns the operator commands that apply to a parked run, in the words of the CLI.
#[must_use]
pub fn remedies(definition: &SagaDefinition, state: &SagaState) -> Vec<&'static str> {
    let Some(parked) = &state.parked else { return Vec::new() };
    let rule = definition.step(parked.step);
    let unknown = state.step(parked.step).status == StepStatus::Ended(Outcome::Unknown);
    match parked.direction {
        Direction::Compensate => vec!["retry", "skip", "resolve"],
        // A forward call must not leave once undoing has begun.
        Direction::Forward | Direction::Check if state.phase != Phase::Forward => {
            if unknown {
                vec!["resolve", "skip"]
            } else {
                vec!["skip"]
            }
        }
        Direction::Forward | Direction::Check => {
            let behind = rule.after_pivot || state.pivot_done;
            match (unknown, behind, rule.pivot && !state.pivot_done) {
                (true, true, _) | (true, _, true) => vec!["retry", "resolve"],
                (true, false, false) => vec!["retry", "resolve", "cancel"],
                (false, true, _) => vec!["retry", "skip"],
                (false, false, _) => vec!["retry", "cancel"],
            }
        }
    }
}
