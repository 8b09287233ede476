//! How lists are entered and left, and how scopes settle and are undone: the parts of `evolve` that
//! follow from where a step stands.

use super::agenda::Todo;
use super::at::{BlockAt, StepAt};
use super::fact::{Outcome, ScopeAt};
use super::plan::{self, Mode};
use super::state::{Frame, FrameEnd, Phase, SagaState, Scope, ScopePhase, StepStatus};
use super::undo_walk;
use crate::definition::{Part, SagaDefinition};
use crate::request::Direction;

/// Enters a list: its first step comes next.
pub fn enter(definition: &SagaDefinition, state: &mut SagaState, block: BlockAt) {
    state.frames.insert(block, Frame::default());
    if let Some(owner) = block.owner(definition) {
        let nest = state.step_mut(owner).nest_mut();
        nest.running += 1;
        match (definition.block(block.block).part, block.items.get(definition.step(owner.step).items)) {
            (Part::Item, Some(item)) => nest.launched = nest.launched.max(item + 1),
            _ => nest.entered.push(block.block),
        }
    }
    if let Some(first) = block.nth(definition, 0) {
        state.agenda.add(Todo::Begin(first));
    }
}

/// A step is through, well or handled: the next one of its list comes, or the list has ended.
pub fn advance(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) {
    if plan::mode(definition, state, step) != Mode::Forward {
        return;
    }
    if begin_next(definition, state, step) {
        return;
    }
    let block = step.block(definition);
    let mut after = 0;
    let owner = block.owner(definition);
    if let Some(owner) = owner {
        let nest = state.step_mut(owner).nest_mut();
        after = nest.done;
        nest.running = nest.running.saturating_sub(1);
        nest.done += 1;
    }
    if let Some(frame) = state.frames.get_mut(&block) {
        (frame.end, frame.after) = (FrameEnd::Done, after);
    }
    match owner {
        None => state.agenda.add(Todo::Finish),
        Some(owner) => join(definition, state, owner),
    }
}

/// Puts the step behind one on the agenda; false where it is the last of its list.
pub fn begin_next(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) -> bool {
    let next = step.block(definition).nth(definition, definition.step(step.step).position + 1);
    next.inspect(|next| state.agenda.add(Todo::Begin(*next))).is_some()
}

/// Puts a step on the agenda if what is inside it asks for it.
pub fn join(definition: &SagaDefinition, state: &mut SagaState, owner: StepAt) {
    if plan::wants_join(definition, state, owner) {
        state.agenda.add(Todo::Join(owner));
    }
}

/// Nothing new begins in a scope.
pub fn begin_settling(
    definition: &SagaDefinition,
    state: &mut SagaState,
    scope: ScopeAt,
    from: Option<StepAt>,
    one: Scope,
) {
    if let Some(from) = from {
        state.agenda.remove(Todo::Failed(from));
        state.agenda.remove(Todo::Join(from));
    }
    stop(definition, state, |todo| plan::todo_in(definition, scope, *todo));
    // A scope inside that has not begun to undo is part of this one.
    let merged = |inner: &ScopeAt, state: &Scope| {
        state.phase == ScopePhase::Settling && plan::scope_contains(definition, scope, *inner)
    };
    state.scopes.retain(|inner, state| !merged(inner, state));
    drop_wishes(state, |step| plan::contains(definition, scope, step));
    reopen(definition, state, scope);
    if let ScopeAt::Step(step) = scope {
        let this = state.step_mut(step);
        this.error = Some(Box::new(one.problem.clone()));
        if this.status == StepStatus::Begun {
            this.status = StepStatus::Ended(Outcome::Done);
        }
        this.nest_mut().caught = Some(one.problem.clone());
        state.expiries.remove(&step);
    }
    state.scopes.insert(scope, one);
    if let ScopeAt::Block(block) = scope
        && let Some(owner) = block.owner(definition)
    {
        state.agenda.remove(Todo::Join(owner));
    }
    look(definition, state, scope);
}

/// A branch that was done when enough others were: it counts as open until what it did is undone.
fn reopen(definition: &SagaDefinition, state: &mut SagaState, scope: ScopeAt) {
    let ScopeAt::Block(block) = scope else { return };
    let Some(frame) = state.frames.get_mut(&block) else { return };
    if frame.end != FrameEnd::Done {
        return;
    }
    frame.end = FrameEnd::Open;
    if let Some(owner) = block.owner(definition) {
        let nest = state.step_mut(owner).nest_mut();
        nest.done = nest.done.saturating_sub(1);
        nest.running += 1;
    }
}

/// Takes away what would begin something.
fn stop(definition: &SagaDefinition, state: &mut SagaState, inside: impl Fn(&Todo) -> bool) {
    let keep = |todo: &Todo| match todo {
        Todo::Undo(_) | Todo::Resume(_) => true,
        Todo::Begin(_) | Todo::Failed(_) | Todo::Join(_) => !inside(todo),
        Todo::Scope(scope) => {
            !inside(todo) || state.scopes.get(scope).is_some_and(|scope| scope.phase == ScopePhase::Undo)
        }
        Todo::Finish => !inside(todo),
    };
    let dropped = {
        let mut agenda = std::mem::take(&mut state.agenda);
        let dropped = agenda.drop_unless(keep);
        state.agenda = agenda;
        dropped
    };
    for todo in dropped {
        match todo {
            // A second failure that nobody dealt with.
            Todo::Failed(step) => {
                let error = state.step(step).error.clone();
                state.others.extend(error.map(|error| *error));
            }
            // Between two rounds or pages, or about to be repeated: it has ended where it is.
            Todo::Begin(step) if state.step(step).status == StepStatus::Begun => {
                let undo = !matches!(definition.step(step.step).compensate, crate::definition::Compensate::None);
                let done = undo && state.step(step).round > 0;
                state.step_mut(step).status =
                    if done { StepStatus::Ended(Outcome::Done) } else { StepStatus::Withdrawn };
            }
            Todo::Begin(_) | Todo::Join(_) | Todo::Resume(_) | Todo::Scope(_) | Todo::Undo(_) | Todo::Finish => {}
        }
    }
}

/// Nothing new begins in the run.
pub fn settle_run(definition: &SagaDefinition, state: &mut SagaState) {
    stop(definition, state, |_| true);
    state.scopes.retain(|_, scope| scope.phase == ScopePhase::Undo);
    drop_wishes(state, |_| true);
    state.expiries.clear();
}

/// A failure that a person was to look at is undone after all; an undo that needs one still does.
fn drop_wishes(state: &mut SagaState, inside: impl Fn(StepAt) -> bool) {
    let steps = &state.steps;
    let in_undo = |step: &StepAt| steps.get(step).is_some_and(|at| at.walk.is_some_and(|walk| walk.own));
    state.parking.retain(|wish| wish.direction == Direction::Compensate || in_undo(&wish.step) || !inside(wish.step));
}

/// A step is undone because what handles its failure cannot live with its doubt.
pub fn begin_clearing(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) {
    let problem = state
        .step(step)
        .error
        .as_deref()
        .cloned()
        .unwrap_or_else(|| crate::problem::Problem::new(crate::problem::kind::UNKNOWN, "the outcome is unknown"));
    let scope = Scope {
        phase: ScopePhase::Undo,
        undo: false,
        cause: super::fact::SettleCause::Failed,
        problem,
        catch: None,
        retries: false,
    };
    state.scopes.insert(ScopeAt::Step(step), scope);
    begin_undo(definition, state, ScopeAt::Step(step));
}

/// The undo of a scope begins.
pub fn begin_undo(definition: &SagaDefinition, state: &mut SagaState, scope: ScopeAt) {
    state.agenda.remove(Todo::Scope(scope));
    if let Some(one) = state.scopes.get_mut(&scope) {
        one.phase = ScopePhase::Undo;
    }
    let through = match scope {
        ScopeAt::Step(step) => undo_walk::begin_step(definition, state, step),
        ScopeAt::Block(block) => undo_walk::begin_block(definition, state, block),
    };
    if through {
        state.agenda.add(Todo::Scope(scope));
    }
}

/// A scope of a list has come to its end.
pub fn end_scope(definition: &SagaDefinition, state: &mut SagaState, scope: ScopeAt) {
    state.agenda.remove(Todo::Scope(scope));
    let Some(one) = state.scopes.remove(&scope) else { return };
    let ScopeAt::Block(block) = scope else { return };
    if let Some(frame) = state.frames.get_mut(&block) {
        frame.end = FrameEnd::Failed;
    }
    if let Some(owner) = block.owner(definition) {
        let nest = state.step_mut(owner).nest_mut();
        nest.running = nest.running.saturating_sub(1);
        nest.failed += 1;
        if one.cause != super::fact::SettleCause::Lost || nest.caught.is_none() {
            nest.caught.get_or_insert(one.problem);
        }
        join(definition, state, owner);
        settle_further(definition, state, owner);
    }
}

/// Something of a step has come to rest: scopes around it that settle may be quiet.
pub fn settle_further(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) {
    if state.scopes.is_empty() || state.phase == Phase::Done {
        return;
    }
    let around: Vec<ScopeAt> = state
        .scopes
        .iter()
        .filter(|(scope, one)| one.phase == ScopePhase::Settling && plan::contains(definition, **scope, step))
        .map(|(scope, _)| *scope)
        .collect();
    for scope in around {
        look(definition, state, scope);
    }
}

fn look(definition: &SagaDefinition, state: &mut SagaState, scope: ScopeAt) {
    let settling = state.scopes.get(&scope).is_some_and(|one| one.phase == ScopePhase::Settling);
    if settling && plan::quiet(definition, state, scope) {
        state.agenda.add(Todo::Scope(scope));
    }
}
