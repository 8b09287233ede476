//! What a step's failure means: who handles it, what is undone first, and what follows.

use super::super::at::{BlockAt, StepAt};
use super::super::fact::{Fact, Outcome, ScopeAt, SettleCause};
use super::super::input::Rules;
use super::super::plan;
use super::super::scope::RunScope;
use super::super::state::{Activity, SagaState, ScopePhase, StepStatus};
use super::forward::ended;
use super::park::park;
use super::settle::{self, Settling};
use crate::definition::{Action, Compensate, Fallback, OnFailure, Part, UnknownElse};
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

/// Who takes over.
enum Handler {
    /// `optional` or `fallback` of the step or of one around it.
    Own(StepAt),
    /// A `for` tolerates it.
    Item(BlockAt),
    /// A race goes on without this branch.
    Branch(BlockAt),
    /// A `catch`, from 0; `keep`: what the `try` did stays.
    Catch { body: BlockAt, catch: u32, keep: bool },
    /// Nobody: the run fails.
    Run,
}

/// Finds who handles a failure. `spent`: the step's own `fallback` has failed.
fn find(rules: &Rules, state: &SagaState, step: StepAt, spent: bool, problem: &Problem) -> (Handler, bool) {
    let definition = rules.definition;
    let (mut at, mut spent, mut cancel) = (step, spent, false);
    loop {
        let rule = definition.step(at.step);
        if rule.optional || (rule.fallback.is_some() && !spent) {
            return (Handler::Own(at), cancel);
        }
        spent = false;
        let block = at.block(definition);
        let Some(owner) = block.owner(definition) else { return (Handler::Run, cancel) };
        match (definition.block(block.block).part, &definition.step(owner.step).action) {
            (Part::Item, Action::For(rule)) => {
                let (failed, items) =
                    state.step(owner).nest.as_ref().map_or((0, 0), |nest| (nest.failed, nest.items.len() as u32));
                // Items that are failing now count as failed.
                let failing = state.scopes.keys().filter(|scope| {
                    matches!(scope, ScopeAt::Block(one) if one.block == block.block
                        && one.owner(definition) == Some(owner))
                });
                let one_more = u32::from(planted::is("one_failure_more_is_tolerated"));
                if failed + (failing.count() as u32) < rule.tolerate.of(items) + one_more {
                    return (Handler::Item(block), cancel);
                }
            }
            (Part::Branch(_), Action::Parallel(parallel)) => {
                if parallel.is_race() {
                    return (Handler::Branch(block), cancel);
                }
                cancel |= parallel.on_failure == OnFailure::Cancel;
            }
            (Part::Body, Action::Try(rule)) => {
                let scope = RunScope::new(definition, state).at(owner).with_error(problem);
                let catches = rule.catches.iter().position(|catch| {
                    let named = catch.on.is_empty() || catch.on.iter().any(|word| is_named(state, step, problem, word));
                    // A condition that cannot be evaluated catches nothing.
                    named && catch.when.as_ref().is_none_or(|when| when.eval_bool(&scope).unwrap_or(false))
                });
                if let Some(catch) = catches {
                    let keep = rule.catches[catch].keep;
                    return (Handler::Catch { body: block, catch: catch as u32, keep }, cancel);
                }
            }
            (Part::Fallback, _) => spent = true,
            (
                Part::Root
                | Part::Arm(_)
                | Part::Branch(_)
                | Part::Item
                | Part::Body
                | Part::Handler(_)
                | Part::OnTimeout,
                _,
            ) => {}
        }
        at = owner;
    }
}

/// A failure is caught by its type, and by what it left behind: `unknown` is every doubt, whether by silence
/// or by an answer, and `refused` every refusal of a participant, also one that has a type of its own.
fn is_named(state: &SagaState, step: StepAt, problem: &Problem, word: &str) -> bool {
    let status = state.steps.get(&step).map(|at| at.status);
    match word {
        _ if word == problem.kind => true,
        kind::UNKNOWN => status == Some(StepStatus::Ended(Outcome::Unknown)),
        kind::REFUSED => {
            problem.result.is_some()
                && !kind::OURS.contains(&problem.kind.as_str())
                && status != Some(StepStatus::Ended(Outcome::Unknown))
        }
        _ => false,
    }
}

/// Decides about a step that has failed.
pub fn failed(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let problem = state
        .step(step)
        .error
        .as_deref()
        .cloned()
        .unwrap_or_else(|| Problem::new(kind::UNKNOWN, "the step failed").at(&step.path(rules.definition)));
    fail(rules, state, step, problem, false, now)
}

/// The time of a step with all inside it is over.
pub fn expired(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let mut facts = vec![Fact::StepExpired { step }];
    let problem = Problem::new(kind::TIMEOUT, "the step's time is over").at(&step.path(definition));
    if let Action::Poll(_) = &rule.action {
        // What is in flight is awaited and counts by its outcome.
        if let Activity::Sleeping { .. } = state.step(step).activity {
            let undo = matches!(rule.compensate, Compensate::Call(_) | Compensate::Emit(_) | Compensate::Run(_));
            let outcome = if undo { Outcome::Done } else { Outcome::Refused };
            facts.push(ended(step, outcome, None, Some(problem)));
        }
        return facts;
    }
    // Behind the pivot it is an alarm and changes nothing.
    if !rule.after_pivot && plan::mode(definition, state, step) == plan::Mode::Forward {
        facts.extend(fail(rules, state, step, problem, true, now));
    }
    facts
}

fn fail(rules: &Rules, state: &SagaState, step: StepAt, problem: Problem, cancel: bool, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let at = state.step(step);
    let unknown = at.status == StepStatus::Ended(Outcome::Unknown);
    let refused = at.status == StepStatus::Ended(Outcome::Refused);
    let park = |reason: String| park(rules, state, step, Direction::Forward, reason, now);
    if rule.pivot && unknown && planted::is("pivot_in_doubt_goes_on") {
        return vec![Fact::FailureHandled { step, output: None }];
    }
    if rule.pivot && unknown && planted::is("pivot_in_doubt_undoes") {
        return settle::begin(definition, state, SettleCause::Failed, problem, false);
    }
    if rule.pivot && unknown {
        return park(format!("the outcome of the pivot is unknown: {}", problem.title));
    }
    if rule.pivot && !refused && !rule.action.is_composite() {
        return park(format!("a step behind the pivot failed: {}", problem.title));
    }
    let (handler, told) =
        find(rules, state, step, at.nest.as_ref().is_some_and(|nest| in_fallback(rules, nest)), &problem);
    let cancel = cancel || told;
    let settle_in = |scope: ScopeAt, undo: bool, catch: Option<u32>| {
        let settling = Settling {
            scope,
            from: Some(step),
            cause: SettleCause::Failed,
            problem: problem.clone(),
            undo,
            catch,
            cancel,
        };
        settle::begin_scope(definition, state, settling)
    };
    match handler {
        Handler::Own(own) if own == step && !rule.action.is_composite() => {
            // Without a stated undo nobody but a person can clear it; behind the pivot it may stand.
            let unstated = matches!(rule.compensate, Compensate::Unstated);
            if unknown && unstated && !rule.after_pivot {
                return park(format!("the outcome is unknown and the file states no undo: {}", problem.title));
            }
            let undoable = matches!(rule.compensate, Compensate::Call(_) | Compensate::Emit(_) | Compensate::Run(_));
            if unknown && undoable && !planted::is("handled_unknown_is_left") {
                return vec![Fact::ClearingBegan { step }];
            }
            handled(rules, state, step, &problem, now)
        }
        Handler::Own(own) => settle_in(ScopeAt::Step(own), false, None),
        Handler::Item(block) => settle_in(ScopeAt::Block(block), false, None),
        Handler::Branch(block) => settle_in(ScopeAt::Block(block), !planted::is("failed_branch_is_not_undone"), None),
        Handler::Catch { body, catch, keep } => {
            let undo = (!keep || planted::is("keep_keeps_nothing")) && !planted::is("catch_without_undo");
            settle_in(ScopeAt::Block(body), undo, Some(catch))
        }
        Handler::Run => {
            if rule.after_pivot {
                return park(format!("a step behind the pivot failed: {}", problem.title));
            }
            if unknown && rule.on_unknown.otherwise == UnknownElse::Park {
                return park(format!("the outcome is unknown: {}", problem.title));
            }
            let left = matches!(rule.compensate, Compensate::Unstated) && !matches!(rule.action, Action::Run(_));
            if unknown && left {
                return park(format!("the outcome is unknown and the file states no undo: {}", problem.title));
            }
            settle::begin(definition, state, SettleCause::Failed, problem, cancel)
        }
    }
}

fn in_fallback(rules: &Rules, nest: &super::super::state::Nest) -> bool {
    nest.entered.last().is_some_and(|block| rules.definition.block(*block).part == Part::Fallback)
}

/// What stands in for a step that failed and left nothing in doubt.
fn handled(rules: &Rules, state: &SagaState, step: StepAt, problem: &Problem, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    match &rule.fallback {
        None => vec![Fact::FailureHandled { step, output: None }],
        Some(Fallback::Do(block)) => vec![Fact::BlockEntered { block: step.part(*block) }],
        Some(Fallback::Value(value)) => {
            match value.eval(&RunScope::new(definition, state).at(step).with_error(problem)) {
                Ok(output) => vec![Fact::FailureHandled { step, output: Some(output) }],
                Err(_) if rule.optional => vec![Fact::FailureHandled { step, output: None }],
                // The step has failed after all; who handles that is further out.
                Err(error) => {
                    let problem = super::failed_expression(rules, step, &error);
                    let (handler, cancel) = find(rules, state, step, true, &problem);
                    let scope = match handler {
                        Handler::Own(own) => Some((ScopeAt::Step(own), false, None)),
                        Handler::Item(block) => Some((ScopeAt::Block(block), false, None)),
                        Handler::Branch(block) => Some((ScopeAt::Block(block), true, None)),
                        Handler::Catch { body, catch, keep } => Some((ScopeAt::Block(body), !keep, Some(catch))),
                        Handler::Run => None,
                    };
                    match scope {
                        Some((scope, undo, catch)) => settle::begin_scope(
                            definition,
                            state,
                            Settling {
                                scope,
                                from: Some(step),
                                cause: SettleCause::Failed,
                                problem,
                                undo,
                                catch,
                                cancel,
                            },
                        ),
                        None if rule.after_pivot => {
                            let reason = format!("a step behind the pivot failed: {}", problem.title);
                            park(rules, state, step, Direction::Forward, reason, now)
                        }
                        None => settle::begin(definition, state, SettleCause::Failed, problem, cancel),
                    }
                }
            }
        }
    }
}

/// Decides about a scope that is quiet, or whose undo is through.
pub fn scope(rules: &Rules, state: &SagaState, scope: ScopeAt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let Some(one) = state.scopes.get(&scope) else { return Vec::new() };
    if one.phase == ScopePhase::Settling {
        return vec![Fact::ScopeUndoing { scope }];
    }
    let forward = plan::forward_around(definition, state, scope);
    match scope {
        ScopeAt::Step(step) if forward => handled(rules, state, step, &one.problem, now),
        ScopeAt::Step(step) => vec![Fact::FailureHandled { step, output: None }],
        ScopeAt::Block(block) => {
            let mut facts = vec![Fact::ScopeEnded { scope }];
            if let (true, Some(catch), Some(owner)) = (forward, one.catch, block.owner(definition))
                && let Action::Try(rule) = &definition.step(owner.step).action
                && let Some(catch) = rule.catches.get(catch as usize)
            {
                facts.push(Fact::BlockEntered { block: owner.part(catch.block) });
            }
            facts
        }
    }
}
