//! Settling begins: no new step starts, what waits ends at once, what is in flight is awaited.

use super::super::at::StepAt;
use super::super::fact::{Fact, Outcome, ScopeAt, SettleCause};
use super::super::plan::{self, Mode};
use super::super::state::{Activity, SagaState};
use super::forward::given_up;
use crate::definition::{Action, Compensate, SagaDefinition};
use crate::problem::{Problem, kind};
use crate::request::Direction;

/// Begins settling the run for a cause. `cancel`: what waits for another attempt ends now.
pub fn begin(
    definition: &SagaDefinition,
    state: &SagaState,
    cause: SettleCause,
    problem: Problem,
    cancel: bool,
) -> Vec<Fact> {
    let told = cancel && cause == SettleCause::Failed;
    let mut facts = vec![Fact::SettlingBegan { cause, problem, cancel: told }];
    for step in &state.active {
        if plan::mode(definition, state, *step) != Mode::Undo {
            facts.extend(cut_short(definition, state, *step, cancel));
        }
    }
    facts
}

/// How a scope inside the run settles.
pub struct Settling {
    pub scope: ScopeAt,
    pub from: Option<StepAt>,
    pub cause: SettleCause,
    pub problem: Problem,
    pub undo: bool,
    pub catch: Option<u32>,
    pub cancel: bool,
}

/// Begins settling a scope inside the run.
pub fn begin_scope(definition: &SagaDefinition, state: &SagaState, settling: Settling) -> Vec<Fact> {
    let Settling { scope, from, cause, problem, undo, catch, cancel } = settling;
    let mut facts = vec![Fact::ScopeSettling { scope, from, cause, problem, undo, catch, cancel }];
    for step in &state.active {
        if plan::contains(definition, scope, *step) && plan::mode(definition, state, *step) != Mode::Undo {
            facts.extend(cut_short(definition, state, *step, cancel || cause != SettleCause::Failed));
        }
    }
    facts
}

/// What settling does to a step that is not in flight.
fn cut_short(definition: &SagaDefinition, state: &SagaState, step: StepAt, cancel: bool) -> Vec<Fact> {
    let rule = definition.step(step.step);
    let at = state.step(step);
    match at.activity {
        // Between the rounds of a poll whose calls have something to undo.
        Activity::Sleeping { .. }
            if matches!(rule.action, Action::Poll(_))
                && matches!(rule.compensate, Compensate::Call(_) | Compensate::Emit(_) | Compensate::Run(_)) =>
        {
            let failure = Problem::new(kind::CANCELLED, "the poll was cut short").at(&step.path(definition));
            vec![Fact::StepEnded { step, outcome: Outcome::Done, output: None, failure: Some(failure) }]
        }
        Activity::Awaiting { direction: Direction::Forward, .. } if matches!(rule.action, Action::Emit(_)) => {
            vec![given_up(definition, state, step)]
        }
        Activity::Sleeping { .. }
        | Activity::Awaiting { direction: Direction::Forward | Direction::Check, .. }
        | Activity::Asking { .. } => vec![Fact::StepWithdrawn { step }],
        Activity::RetryAt { direction: Direction::Forward, .. } if cancel => vec![given_up(definition, state, step)],
        Activity::AskPending => vec![given_up(definition, state, step)],
        Activity::RetryAt { direction: Direction::Check, .. } if cancel => vec![
            Fact::CheckEnded { step, happened: None, conclusive: false, problem: None },
            Fact::StepEnded {
                step,
                outcome: Outcome::Unknown,
                output: None,
                failure: at.last_problem.as_deref().cloned(),
            },
        ],
        // Tried to their end; the undo of a handled step finishes first; an attempt in flight is awaited.
        Activity::RetryAt { .. }
        | Activity::Awaiting { direction: Direction::Compensate, .. }
        | Activity::Child { .. }
        | Activity::InFlight { .. }
        | Activity::Interrupted { .. }
        | Activity::Idle => Vec::new(),
    }
}
