//! Parking: a person is needed. What does not depend on it goes on to its end first.

use super::super::at::StepAt;
use super::super::emit;
use super::super::fact::{Emission, Fact};
use super::super::input::Rules;
use super::super::scope::RunScope;
use super::super::state::{Activity, ParkingWish, SagaState};
use super::super::{agenda::Todo, evolve};
use crate::request::Direction;
use crate::time::Timestamp;

/// Parks the run for a step, at once if nothing else is in flight.
pub fn park(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    reason: String,
    moment: Timestamp,
) -> Vec<Fact> {
    let wish = ParkingWish { step, direction, reason };
    if state.parking.is_empty() && at_rest(state, Some(step)) {
        return now(rules, state, &wish, moment);
    }
    vec![Fact::ParkingWanted { step, direction, reason: wish.reason }]
}

/// True when nothing but the step is in flight, about to be sent again, or about to be undone.
pub fn at_rest(state: &SagaState, but: Option<StepAt>) -> bool {
    let moves = |step: &StepAt| match state.step(*step).activity {
        Activity::InFlight { .. } | Activity::RetryAt { .. } | Activity::AskPending | Activity::Interrupted { .. } => {
            true
        }
        // What waits for somebody else may wait on.
        Activity::Idle
        | Activity::Sleeping { .. }
        | Activity::Awaiting { .. }
        | Activity::Asking { .. }
        | Activity::Child { .. } => false,
    };
    let undoes = |todo: &Todo| matches!(todo, Todo::Undo(other) if Some(*other) != but);
    !state.active.iter().any(|step| Some(*step) != but && moves(step)) && !state.agenda.iter().any(undoes)
}

/// Parks the run, with its event.
pub fn now(rules: &Rules, state: &SagaState, wish: &ParkingWish, now: Timestamp) -> Vec<Fact> {
    let fact = Fact::Parked { step: wish.step, direction: wish.direction, reason: wish.reason.clone() };
    let Some(event) = &rules.definition.finally.parked else { return vec![fact] };
    // The event speaks of the parked run, so it is built from the state behind the fact.
    let mut parked = state.clone();
    evolve::evolve(rules.definition, &mut parked, &fact, now);
    let scope = RunScope::new(rules.definition, &parked);
    let mut facts = vec![fact];
    facts.extend(emit::lenient(rules, &scope, Emission::Parked, event, state.emitted, now));
    facts
}
