//! Moving a run in flight to another version of its saga. What the run has met must be the same there: its
//! steps at their places, with their undos and outputs. What lies before it may be anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::agenda::Todo;
use super::at::{BlockAt, StepAt};
use super::fact::Fact;
use super::input::Rejected;
use super::nesting;
use super::state::{FrameEnd, Phase, SagaState, StepStatus};
use crate::definition::{Action, SagaDefinition, Step, StepIndex};
use crate::id::Fingerprint;

/// Where a run is to move, and what may be different there.
#[derive(Debug, Clone)]
pub struct Migration {
    pub to: Arc<SagaDefinition>,
    /// The undos of steps that the run has met may be other ones.
    pub new_undo: bool,
    /// Who wants it.
    pub by: Option<String>,
}

/// Decides about a migration.
///
/// # Errors
/// [`Rejected::Conflict`] with every reason.
pub(super) fn decide(from: &SagaDefinition, state: &SagaState, wanted: &Migration) -> Result<Vec<Fact>, Rejected> {
    let why = obstacles(from, state, wanted);
    if !why.is_empty() {
        return Err(Rejected::Conflict(format!("migrate: {}", why.join("; "))));
    }
    let (version, definition) = (wanted.to.version, wanted.to.fingerprint);
    let next = not_begun(from, state);
    Ok(vec![Fact::Migrated { version, definition, next, by: wanted.by.clone() }])
}

/// Returns why a run cannot move, in words for people; empty when it can.
#[must_use]
pub fn obstacles(from: &SagaDefinition, state: &SagaState, wanted: &Migration) -> Vec<String> {
    let to = &*wanted.to;
    let mut why = Vec::new();
    if to.name != from.name {
        why.push(format!("{} is another saga", to.name));
    } else if to.fingerprint == from.fingerprint {
        why.push(format!("it is on version {} already", to.version));
    }
    if state.end.is_some() {
        why.push("the run has ended".to_owned());
    }
    if let Some(of) = state.begun.undo_of {
        why.push(format!("it undoes run {of} as that was done"));
    }
    if state.in_flight() {
        why.push("a call is in flight; try again when it has been answered, or pause the run first".to_owned());
    }
    if state.phase == Phase::Settling || !state.scopes.is_empty() {
        why.push("a part of it has failed and is about to be undone; try again when it has been".to_owned());
    }
    if !why.is_empty() {
        return why; // of the steps nothing certain can be said
    }
    // The items of a `for` share their steps.
    let mut met: BTreeMap<StepIndex, Met> = BTreeMap::new();
    for (at, step) in &state.steps {
        let met = met.entry(at.step).or_default();
        met.begun |= step.status != StepStatus::NotStarted;
        met.running |= step.status == StepStatus::Begun;
    }
    for (index, met) in met {
        step(from, wanted, index, met, &mut why);
    }
    blocks(from, to, state, &mut why);
    why
}

/// How far a run has come with a step.
#[derive(Default)]
struct Met {
    begun: bool,
    running: bool,
}

fn step(from: &SagaDefinition, wanted: &Migration, index: StepIndex, met: Met, why: &mut Vec<String>) {
    let to = &*wanted.to;
    let old = from.step(index);
    let path = &old.path;
    let Some(new) = to.steps.get(index as usize).filter(|new| new.path == *path && new.block == old.block) else {
        why.push(match to.steps.iter().any(|new| new.path == *path) {
            true => format!("`{path}` stands at another place in version {}", to.version),
            false => format!("version {} has no `{path}`, which this run has met", to.version),
        });
        return;
    };
    if new.action.word() != old.action.word() {
        why.push(format!(
            "`{path}` is `{}` in version {} and `{}` here",
            new.action.word(),
            to.version,
            old.action.word()
        ));
        return;
    }
    if (new.pivot, new.after_pivot) != (old.pivot, old.after_pivot) {
        why.push(format!("`{path}` is at another side of the pivot in version {}", to.version));
    }
    if met.begun && !wanted.new_undo && undo(new) != undo(old) {
        why.push(format!("the undo of `{path}`, which has begun, is another one in version {}", to.version));
    }
    if met.begun && result(new) != result(old) {
        why.push(format!("the output of `{path}`, which has begun, is made in another way in version {}", to.version));
    }
    if met.running && branches(new) != branches(old) {
        why.push(format!("`{path}` is under way and has other branches in version {}", to.version));
    }
}

/// A step's undo as text, to be compared.
fn undo(step: &Step) -> String {
    format!("{:?}", step.compensate)
}

/// How a step's output is made, as text, to be compared.
fn result(step: &Step) -> String {
    let set = match &step.action {
        Action::Set(value) => Some(value),
        _ => None,
    };
    format!("{:?}", (&step.output, &step.output_schema, set))
}

fn branches(step: &Step) -> Option<(Vec<&str>, u32)> {
    match &step.action {
        Action::Parallel(parallel) => {
            Some((parallel.branches.iter().map(|(name, _)| name.as_str()).collect(), parallel.need))
        }
        _ => None,
    }
}

/// The lists that were entered: the same up to the step begun last; to their end where they are through.
fn blocks(from: &SagaDefinition, to: &SagaDefinition, state: &SagaState, why: &mut Vec<String>) {
    for (at, frame) in &state.frames {
        let old = from.block(at.block);
        let owner = old.owner.map_or("the top level", |owner| &*from.step(owner).path);
        let same_place = |new: &&crate::definition::Block| (new.owner, new.part) == (old.owner, old.part);
        let Some(new) = to.blocks.get(at.block as usize).filter(same_place) else {
            why.push(format!("what is inside `{owner}` is another list in version {}", to.version));
            continue;
        };
        let met = frame.at.map_or(0, |at| at as usize + 1);
        let same = old.steps.get(..met) == new.steps.get(..met);
        if !same || (frame.end == FrameEnd::Done && old.steps.len() != new.steps.len()) {
            let what = if frame.end == FrameEnd::Done { "through" } else { "under way" };
            why.push(format!("the steps of `{owner}`, which are {what}, are others in version {}", to.version));
        }
    }
    why.dedup();
}

/// Returns the lists in which a step comes next that has not begun.
fn not_begun(from: &SagaDefinition, state: &SagaState) -> Vec<BlockAt> {
    let next = state.agenda.iter().filter_map(|todo| match todo {
        Todo::Begin(step) if !has_begun(from, state, *step) => Some(step.block(from)),
        _ => None,
    });
    next.collect()
}

/// True for a step at or before the one of its list that was begun last.
fn has_begun(definition: &SagaDefinition, state: &SagaState, step: StepAt) -> bool {
    let begun = state.frames.get(&step.block(definition)).and_then(|frame| frame.at);
    begun.is_some_and(|begun| definition.step(step.step).position <= begun)
}

/// Moves the state: in lists in which a step comes next, it is the one that stands there now.
pub(super) fn moved(
    to: &SagaDefinition,
    state: &mut SagaState,
    version: u32,
    definition: Fingerprint,
    next: &[BlockAt],
) {
    let begun = Arc::make_mut(&mut state.begun);
    (begun.version, begun.definition) = (version, definition);
    // What the run has met has its index in both; any other index may be another step now.
    let mut agenda = std::mem::take(&mut state.agenda);
    agenda.drop_unless(|todo| match todo {
        Todo::Begin(step) => state.steps.contains_key(step) && has_begun(to, state, *step),
        _ => true,
    });
    state.agenda = agenda;
    for block in next {
        let begun = state.frames.get(block).and_then(|frame| frame.at);
        let place = begun.map_or(0, |begun| begun + 1);
        match (block.nth(to, place), begun.and_then(|begun| block.nth(to, begun))) {
            (Some(step), _) => state.agenda.add(Todo::Begin(step)),
            // Nothing follows any more: the list is through.
            (None, Some(last)) => nesting::advance(to, state, last),
            (None, None) => {}
        }
    }
}
