//! Settling begins: no new step starts, what waits ends at once, what is in flight is awaited.

use super::super::fact::{Fact, Outcome, SettleCause};
use super::super::state::{Activity, SagaState};
use super::forward::given_up;
use crate::definition::SagaDefinition;
use crate::problem::Problem;
use crate::request::Direction;

/// Begins settling for a cause.
pub fn begin(definition: &SagaDefinition, state: &SagaState, cause: SettleCause, problem: Problem) -> Vec<Fact> {
    let mut facts = vec![Fact::SettlingBegan { cause, problem }];
    let Some(step) = state.active else { return facts };
    match state.step(step).activity {
        Activity::Sleeping { .. } => facts.push(Fact::StepWithdrawn { step }),
        Activity::RetryAt { direction: Direction::Forward, .. } | Activity::AskPending => {
            facts.push(given_up(definition, state, step))
        }
        Activity::RetryAt { direction: Direction::Check, .. } => {
            facts.push(Fact::CheckEnded { step, happened: None, conclusive: false, problem: None });
            facts.push(Fact::StepEnded {
                step,
                outcome: Outcome::Unknown,
                output: None,
                failure: state.step(step).last_problem.clone(),
            });
        }
        // The undo of a handled step finishes first; an attempt in flight is awaited.
        Activity::RetryAt { direction: Direction::Compensate, .. }
        | Activity::InFlight { .. }
        | Activity::Interrupted { .. }
        | Activity::Idle => {}
    }
    facts
}
