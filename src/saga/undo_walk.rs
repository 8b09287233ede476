//! The order of undo: in a list the exact reverse, branches side by side, items of a `for` as many at once
//! as went forward at once; what is inside a step before the step itself. Works on the state alone, step
//! by step, so that the whole undo of a scope costs what the scope has.

use super::agenda::Todo;
use super::at::{BlockAt, StepAt};
use super::fact::ScopeAt;
use super::plan::{self, UndoNeed};
use super::state::{FrameUndo, SagaState, ScopePhase, StepStatus, Walk};
use crate::definition::{Action, Part, SagaDefinition, UndoOrder};
use crate::planted;

/// Begins the undo of a list. True when nothing in it is left to do.
pub fn begin_block(definition: &SagaDefinition, state: &mut SagaState, block: BlockAt) -> bool {
    let Some(frame) = state.frames.get_mut(&block) else { return true };
    let below = frame.at.map_or(0, |at| at + 1);
    frame.undo = Some(FrameUndo { below, running: 0 });
    go_on_in_block(definition, state, block)
}

/// Goes on with the undo of a list. True when it is through.
fn go_on_in_block(definition: &SagaDefinition, state: &mut SagaState, block: BlockAt) -> bool {
    let in_branch = matches!(definition.block(block.block).part, Part::Branch(_));
    let forwards = planted::is("undo_in_forward_order") || (in_branch && planted::is("branch_is_undone_forwards"));
    loop {
        let Some(frame) = state.frames.get_mut(&block) else { return true };
        let Some(undo) = &mut frame.undo else { return true };
        let one_at_a_time = definition.undo_order == UndoOrder::Reverse;
        if undo.running > 0 && (one_at_a_time || undo.below == 0) {
            return false;
        }
        if undo.below == 0 {
            frame.undo = None;
            return true;
        }
        undo.below -= 1;
        let count = frame.at.map_or(0, |at| at + 1);
        let position = if forwards { count - 1 - undo.below } else { undo.below };
        let Some(step) = block.nth(definition, position) else { continue };
        if !begin_step(definition, state, step)
            && let Some(undo) = state.frames.get_mut(&block).and_then(|frame| frame.undo.as_mut())
        {
            undo.running += 1;
        }
    }
}

/// Begins the undo of a step with all inside it. True when nothing of it is left to do.
pub fn begin_step(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) -> bool {
    let Some(at) = state.steps.get_mut(&step) else { return true };
    if at.status == StepStatus::NotStarted {
        return true;
    }
    let (parts_left, items_left) = at.nest.as_ref().map_or((0, 0), |nest| (nest.entered.len() as u32, nest.launched));
    let parts_left = if planted::is("what_is_inside_is_not_undone") { 0 } else { parts_left };
    let items_left = items_left.saturating_sub(u32::from(planted::is("last_item_is_not_undone")));
    at.walk = Some(Walk { parts_left, items_left, running: 0, own: false });
    go_on_in_step(definition, state, step)
}

/// Goes on with the undo of a step. True when it is through.
fn go_on_in_step(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) -> bool {
    loop {
        let Some(mut walk) = state.step(step).walk else { return true };
        let part = walk
            .parts_left
            .checked_sub(1)
            .and_then(|last| state.step(step).nest.as_ref().and_then(|nest| nest.entered.get(last as usize)).copied());
        if let Some(block) = part {
            // Branches are undone side by side; other parts one after the other, the last one first.
            let beside =
                matches!(definition.block(block).part, Part::Branch(_)) || planted::is("parts_are_undone_together");
            if walk.running > 0 && !beside {
                return false;
            }
            walk.parts_left -= 1;
            state.step_mut(step).walk = Some(walk);
            if !begin_block(definition, state, step.part(block)) {
                started(state, step);
            }
            continue;
        }
        if walk.items_left > 0
            && let Action::For(rule) = &definition.step(step.step).action
        {
            if walk.running >= rule.concurrency && definition.undo_order == UndoOrder::Reverse {
                return false;
            }
            walk.items_left -= 1;
            state.step_mut(step).walk = Some(walk);
            let item = BlockAt { block: rule.block, items: step.items.inner(walk.items_left) };
            if !begin_block(definition, state, item) {
                started(state, step);
            }
            continue;
        }
        if walk.running > 0 {
            return false;
        }
        if !walk.own {
            walk.own = true;
            state.step_mut(step).walk = Some(walk);
            if plan::undo_need(definition, state, step) != UndoNeed::Nothing {
                state.agenda.add(Todo::Undo(step));
                return false;
            }
        }
        state.step_mut(step).walk = None;
        return true;
    }
}

fn started(state: &mut SagaState, step: StepAt) {
    if let Some(walk) = &mut state.step_mut(step).walk {
        walk.running += 1;
    }
}

/// A step's own undo is through: goes on with what depends on it.
pub fn step_undone(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) {
    if planted::is("undo_stops_half_way") && state.phase == super::state::Phase::Undo {
        return state.agenda.add(Todo::Finish);
    }
    let mut at = step;
    loop {
        if !go_on_in_step(definition, state, at) {
            return;
        }
        let in_undo = |state: &SagaState, scope: ScopeAt| {
            state.scopes.get(&scope).is_some_and(|scope| scope.phase == ScopePhase::Undo)
        };
        if in_undo(state, ScopeAt::Step(at)) {
            return state.agenda.add(Todo::Scope(ScopeAt::Step(at)));
        }
        let block = at.block(definition);
        let Some(undo) = state.frames.get_mut(&block).and_then(|frame| frame.undo.as_mut()) else { return };
        undo.running = undo.running.saturating_sub(1);
        if !go_on_in_block(definition, state, block) {
            return;
        }
        if in_undo(state, ScopeAt::Block(block)) {
            return state.agenda.add(Todo::Scope(ScopeAt::Block(block)));
        }
        let Some(owner) = block.owner(definition) else { return state.agenda.add(Todo::Finish) };
        if let Some(walk) = &mut state.step_mut(owner).walk {
            walk.running = walk.running.saturating_sub(1);
        }
        at = owner;
    }
}

/// What a step has come to has changed while it was being undone: it is looked at again.
pub fn look_again(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) {
    if !state.step(step).walk.is_some_and(|walk| walk.own) {
        return;
    }
    if plan::undo_need(definition, state, step) == UndoNeed::Nothing {
        step_undone(definition, state, step);
    } else {
        state.agenda.add(Todo::Undo(step));
    }
}
