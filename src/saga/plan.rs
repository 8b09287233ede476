//! What follows what: how the steps of a run hang together, which of them go forward, what has to be
//! undone, and what an operator may do about a parked run. Shared by decide, evolve, views and checks.

use super::agenda::Todo;
use super::at::{BlockAt, StepAt};
use super::fact::{Outcome, ScopeAt};
use super::state::{FrameEnd, Phase, SagaState, ScopePhase, StepStatus, UndoStatus};
use crate::definition::{Action, Compensate, Part, SagaDefinition, UnknownElse};
use crate::planted;
use crate::request::Direction;

/// How a step's surroundings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// What is in flight ends; `retries`: what waits for another attempt is tried to its end.
    Settling {
        retries: bool,
    },
    Undo,
}

/// Returns the scopes around a step, innermost first, as far as there are any.
fn scopes_around<'a>(
    definition: &'a SagaDefinition,
    state: &'a SagaState,
    at: StepAt,
) -> impl Iterator<Item = (ScopeAt, &'a super::state::Scope)> {
    let chain = std::iter::once(at).chain(at.around(definition));
    let places = chain.flat_map(move |at| [ScopeAt::Step(at), ScopeAt::Block(at.block(definition))]);
    places
        .take_while(|_| !state.scopes.is_empty())
        .filter_map(|place| state.scopes.get(&place).map(|scope| (place, scope)))
}

/// Returns how a step's surroundings go.
#[must_use]
pub fn mode(definition: &SagaDefinition, state: &SagaState, at: StepAt) -> Mode {
    let mut found = match state.phase {
        Phase::Forward => Mode::Forward,
        Phase::Settling => Mode::Settling { retries: state.settle_retries },
        Phase::Undo | Phase::Done => Mode::Undo,
    };
    for (_, scope) in scopes_around(definition, state, at) {
        found = match (found, scope.phase) {
            (Mode::Undo, _) | (_, ScopePhase::Undo) => Mode::Undo,
            (Mode::Forward, ScopePhase::Settling) => Mode::Settling { retries: scope.retries },
            (Mode::Settling { retries }, ScopePhase::Settling) => Mode::Settling { retries: retries && scope.retries },
        };
    }
    found
}

/// True while everything around a scope goes forward.
#[must_use]
pub fn forward_around(definition: &SagaDefinition, state: &SagaState, scope: ScopeAt) -> bool {
    let step = match scope {
        ScopeAt::Step(step) => Some(step),
        ScopeAt::Block(block) => block.owner(definition),
    };
    state.phase == Phase::Forward
        && step.is_none_or(|at| scopes_around(definition, state, at).all(|(place, _)| place == scope))
}

/// True where a step lies in a scope.
#[must_use]
pub fn contains(definition: &SagaDefinition, scope: ScopeAt, at: StepAt) -> bool {
    std::iter::once(at).chain(at.around(definition)).any(|at| match scope {
        ScopeAt::Step(step) => step == at,
        ScopeAt::Block(block) => block == at.block(definition),
    })
}

/// True where a scope lies in another one.
#[must_use]
pub fn scope_contains(definition: &SagaDefinition, outer: ScopeAt, inner: ScopeAt) -> bool {
    match inner {
        ScopeAt::Step(step) => contains(definition, outer, step),
        ScopeAt::Block(block) => {
            outer == inner || block.owner(definition).is_some_and(|owner| contains(definition, outer, owner))
        }
    }
}

/// Returns what an entry of the agenda is about.
#[must_use]
pub fn todo_in(definition: &SagaDefinition, scope: ScopeAt, todo: Todo) -> bool {
    match todo {
        Todo::Begin(at) | Todo::Failed(at) | Todo::Join(at) | Todo::Resume(at) | Todo::Undo(at) => {
            contains(definition, scope, at)
        }
        Todo::Scope(inner) => scope_contains(definition, scope, inner),
        Todo::Finish => false,
    }
}

/// True when nothing of a scope is in flight, waits, or is being undone.
#[must_use]
pub fn quiet(definition: &SagaDefinition, state: &SagaState, scope: ScopeAt) -> bool {
    let inside = |at: &StepAt| contains(definition, scope, *at);
    if planted::is("inner_undo_beside_an_attempt") {
        return true;
    }
    !state.active.iter().any(inside)
        && !state.scopes.iter().any(|(inner, one)| {
            *inner != scope && one.phase == ScopePhase::Undo && scope_contains(definition, scope, *inner)
        })
}

/// True when a step with others inside has something to do about them.
#[must_use]
pub fn wants_join(definition: &SagaDefinition, state: &SagaState, owner: StepAt) -> bool {
    let at = state.step(owner);
    let Some(nest) = &at.nest else { return false };
    if mode(definition, state, owner) != Mode::Forward {
        return false;
    }
    let last_done = nest
        .entered
        .last()
        .is_some_and(|block| state.frames.get(&owner.part(*block)).is_some_and(|frame| frame.end == FrameEnd::Done));
    let in_fallback = nest.entered.last().is_some_and(|block| definition.block(*block).part == Part::Fallback);
    if in_fallback {
        return last_done;
    }
    if at.status != StepStatus::Begun {
        return false;
    }
    match &definition.step(owner.step).action {
        Action::Parallel(parallel) => {
            let branches = parallel.branches.len() as u32;
            if !parallel.is_race() {
                return nest.done == branches || (planted::is("first_branch_ends_it_all") && nest.done > 0);
            }
            let open = nest.running;
            let decided = nest.done >= parallel.need || nest.done + open < parallel.need;
            open == 0 || (decided && losers(definition, state, owner).next().is_some())
        }
        Action::For(rule) => {
            let count = nest.items.len() as u32;
            (nest.launched < count && nest.running < rule.concurrency) || (nest.launched == count && nest.running == 0)
        }
        Action::Call(_)
        | Action::Emit(_)
        | Action::Set(_)
        | Action::Wait(_)
        | Action::Switch(_)
        | Action::Fail(_)
        | Action::Await(_)
        | Action::Ask(_)
        | Action::Try(_)
        | Action::Poll(_)
        | Action::Run(_) => last_done,
    }
}

/// Returns the branches of a decided race that lose: what is open and not settling, and what was done when
/// enough others were.
pub fn losers<'a>(
    definition: &'a SagaDefinition,
    state: &'a SagaState,
    owner: StepAt,
) -> impl Iterator<Item = BlockAt> + 'a {
    let (branches, need) = match &definition.step(owner.step).action {
        Action::Parallel(parallel) => (parallel.branches.as_slice(), parallel.need),
        _ => (&[][..], 0),
    };
    branches.iter().map(move |(_, block)| owner.part(*block)).filter(move |block| {
        let loses = state.frames.get(block).is_some_and(|frame| match frame.end {
            FrameEnd::Open => true,
            FrameEnd::Done => frame.after >= need && !planted::is("every_branch_that_ends_wins"),
            FrameEnd::Failed => false,
        });
        loses && !state.scopes.contains_key(&ScopeAt::Block(*block))
    })
}

/// What the undo has to do about one step itself, apart from what is inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoNeed {
    Nothing,
    Undo,
    /// It may have had an effect and the file states no undo, or wants a person: park.
    Person,
}

/// Returns what the undo has to do about a step itself.
#[must_use]
pub fn undo_need(definition: &SagaDefinition, state: &SagaState, at: StepAt) -> UndoNeed {
    let (rule, step) = (definition.step(at.step), state.step(at));
    if matches!(step.undo.status, UndoStatus::Ended(_)) {
        return UndoNeed::Nothing;
    }
    let outcome = match step.status {
        StepStatus::Ended(outcome) => outcome,
        StepStatus::NotStarted | StepStatus::Skipped(_) | StepStatus::Begun | StepStatus::Withdrawn => {
            return UndoNeed::Nothing;
        }
    };
    // Clearing looks at what is unknown, and leaves what is done.
    let clearing = scopes_around(definition, state, at)
        .find(|(_, scope)| scope.phase == ScopePhase::Undo)
        .map(|(_, scope)| !scope.undo);
    if clearing == Some(true) && outcome != Outcome::Unknown {
        return UndoNeed::Nothing;
    }
    if clearing == Some(true) && planted::is("tolerated_unknown_is_left") {
        return UndoNeed::Nothing;
    }
    let on_refused = match &rule.compensate {
        Compensate::Call(undo) => undo.on_refused,
        Compensate::Emit(undo) => undo.on_refused,
        Compensate::Run(undo) => undo.on_refused,
        Compensate::None | Compensate::Unstated => false,
    };
    match (outcome, &rule.compensate) {
        (Outcome::Unknown, _) if planted::is("undo_only_what_succeeded") => UndoNeed::Nothing,
        (Outcome::Refused, _) if !on_refused && !planted::is("undo_what_was_refused") => UndoNeed::Nothing,
        (_, Compensate::None) => UndoNeed::Nothing,
        // Cleared behind the pivot, where nothing can be undone: it may stand.
        (_, Compensate::Unstated) if clearing == Some(true) && rule.after_pivot => UndoNeed::Nothing,
        (Outcome::Unknown, _) if rule.on_unknown.otherwise == UnknownElse::Park => UndoNeed::Person,
        (_, Compensate::Call(_) | Compensate::Emit(_) | Compensate::Run(_)) => UndoNeed::Undo,
        (_, Compensate::Unstated) => match &rule.action {
            Action::Call(_) | Action::Poll(_) => UndoNeed::Person,
            Action::Emit(emit) if emit.reply.is_some() => UndoNeed::Person,
            // A child has its own undo.
            Action::Run(_) => UndoNeed::Undo,
            Action::Emit(_)
            | Action::Set(_)
            | Action::Wait(_)
            | Action::Switch(_)
            | Action::Fail(_)
            | Action::Await(_)
            | Action::Ask(_)
            | Action::Parallel(_)
            | Action::For(_)
            | Action::Try(_) => UndoNeed::Nothing,
        },
    }
}

/// True while the pivot has begun and has not ended well or been refused: nothing may move.
pub fn pivot_in_doubt(state: &SagaState) -> bool {
    state.pivot.is_some_and(|at| match state.step(at).status {
        StepStatus::Begun | StepStatus::Ended(Outcome::Unknown) => true,
        StepStatus::NotStarted
        | StepStatus::Skipped(_)
        | StepStatus::Ended(Outcome::Done | Outcome::Refused)
        | StepStatus::Withdrawn => false,
    })
}

/// Returns the operator commands that apply to a parked run, in the words of the CLI.
#[must_use]
pub fn remedies(definition: &SagaDefinition, state: &SagaState) -> Vec<&'static str> {
    let Some(parked) = &state.parked else { return Vec::new() };
    let rule = definition.step(parked.step.step);
    let unknown = state.step(parked.step).status == StepStatus::Ended(Outcome::Unknown);
    match parked.direction {
        Direction::Compensate => vec!["retry", "skip", "resolve"],
        // A forward call must not leave once undoing has begun.
        Direction::Forward | Direction::Check if mode(definition, state, parked.step) != Mode::Forward => {
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
