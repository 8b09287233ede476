//! A step with others inside: what of it begins next, and how it ends.

use super::super::at::{BlockAt, StepAt};
use super::super::fact::{Fact, Outcome, ScopeAt, SettleCause};
use super::super::input::Rules;
use super::super::plan;
use super::super::state::{FrameEnd, Nest, SagaState};
use super::forward::ended;
use super::settle::{self, Settling};
use crate::definition::{Action, For, Parallel, Part, SagaDefinition};
use crate::payload::Payload;
use crate::problem::{Problem, kind};

/// Decides about a step in which something has ended.
pub fn join(rules: &Rules, state: &SagaState, step: StepAt) -> Vec<Fact> {
    let definition = rules.definition;
    let at = state.step(step);
    let Some(nest) = &at.nest else { return Vec::new() };
    let last = nest.entered.last().map(|block| step.part(*block));
    if let Some(block) = last
        && definition.block(block.block).part == Part::Fallback
    {
        return vec![Fact::FailureHandled { step, output: last_output(definition, state, block) }];
    }
    match &definition.step(step.step).action {
        Action::Parallel(parallel) => branches(definition, state, step, parallel, nest),
        Action::For(rule) => items(definition, state, step, rule, nest),
        Action::Try(_) => {
            let output = last.and_then(|block| last_output(definition, state, block));
            vec![ended(step, Outcome::Done, output, None)]
        }
        // What its timeout does is done: nothing came, and that is handled.
        Action::Await(_) | Action::Ask(_) => vec![ended(step, Outcome::Refused, None, None)],
        Action::Switch(_)
        | Action::Call(_)
        | Action::Emit(_)
        | Action::Set(_)
        | Action::Wait(_)
        | Action::Fail(_)
        | Action::Poll(_)
        | Action::Run(_) => vec![ended(step, Outcome::Done, None, None)],
    }
}

/// Returns the output of a list: that of its last step.
fn last_output(definition: &SagaDefinition, state: &SagaState, block: BlockAt) -> Option<Payload> {
    let last = definition.block(block.block).steps.len().checked_sub(1)?;
    state.step(block.nth(definition, last as u32)?).output.clone()
}

fn done_output(definition: &SagaDefinition, state: &SagaState, block: BlockAt) -> Option<Payload> {
    let done = state.frames.get(&block).is_some_and(|frame| frame.end == FrameEnd::Done);
    if done { last_output(definition, state, block) } else { None }
}

fn branches(
    definition: &SagaDefinition,
    state: &SagaState,
    step: StepAt,
    parallel: &Parallel,
    nest: &Nest,
) -> Vec<Fact> {
    // Branches that are not needed, or cannot help any more, lose.
    let losers: Vec<BlockAt> =
        if parallel.is_race() { plan::losers(definition, state, step).collect() } else { Vec::new() };
    if !losers.is_empty() {
        let mut facts = Vec::new();
        for block in losers {
            let problem = Problem::new(kind::CANCELLED, "another branch was enough").at(&step.path(definition));
            let settling = Settling {
                scope: ScopeAt::Block(block),
                from: None,
                cause: SettleCause::Lost,
                problem,
                undo: !crate::planted::is("loser_is_not_undone"),
                catch: None,
                cancel: true,
            };
            facts.extend(settle::begin_scope(definition, state, settling));
        }
        return facts;
    }
    if nest.done < parallel.need {
        let problem = nest
            .caught
            .clone()
            .unwrap_or_else(|| Problem::new(kind::REFUSED, "too few branches succeeded").at(&step.path(definition)));
        // What its branches did is undone.
        return vec![ended(step, Outcome::Refused, None, Some(problem))];
    }
    let outputs: std::collections::BTreeMap<&str, Option<Payload>> = parallel
        .branches
        .iter()
        .map(|(name, block)| (name.as_str(), done_output(definition, state, step.part(*block))))
        .collect();
    vec![ended(step, Outcome::Done, Some(Payload::of(&outputs)), None)]
}

fn items(definition: &SagaDefinition, state: &SagaState, step: StepAt, rule: &For, nest: &Nest) -> Vec<Fact> {
    let count = nest.items.len() as u32;
    let item = |at: u32| BlockAt { block: rule.block, items: step.items.inner(at) };
    if nest.launched < count {
        let one_more = u32::from(crate::planted::is("one_item_more_beside"));
        let free = (rule.concurrency + one_more).saturating_sub(nest.running);
        let until = count.min(nest.launched.saturating_add(free));
        return (nest.launched..until).map(|at| Fact::BlockEntered { block: item(at) }).collect();
    }
    let outputs: Vec<Option<Payload>> = (0..count).map(|at| done_output(definition, state, item(at))).collect();
    vec![ended(step, Outcome::Done, Some(Payload::of(&outputs)), None)]
}
