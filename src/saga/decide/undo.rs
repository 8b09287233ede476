//! Undo: every step that is done or unknown, in reverse, each until it is undone or a person is needed.

use super::super::at::StepAt;
use super::super::backoff;
use super::super::emit::{self, Unbuilt};
use super::super::fact::{Emission, Fact, Fate, UndoEnd};
use super::super::input::Rules;
use super::super::plan::{self, UndoNeed};
use super::super::request_builder::build;
use super::super::scope::RunScope;
use super::super::state::SagaState;
use super::forward::located;
use super::park::park;
use super::{child, failed_expression, waiting};
use crate::definition::{Action, Attempts, Compensate, EmitTemplate, OnExhausted, UndoCall};
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::{Again, Attempt, Direction, Effect};
use crate::time::Timestamp;

/// A refusal that is not `ok` is tried twice: the first may have met an old replica.
const REFUSALS_MAX: u32 = 2;

/// Decides how a run ends that has undone everything.
pub fn compensated(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
    let scope = RunScope::new(rules.definition, state);
    let mut facts = match &rules.definition.finally.compensated {
        Some(event) => emit::lenient(rules, &scope, Emission::Compensated, event, state.emitted, now),
        None => Vec::new(),
    };
    facts.push(Fact::RunEnded { completed: false, output: None });
    facts
}

/// Decides the next move of a step's undo.
pub fn undo(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let at = state.step(step);
    if plan::undo_need(definition, state, step) == UndoNeed::Person {
        let reason = "it may have had an effect, and the file leaves it to a person".to_owned();
        return park(rules, state, step, Direction::Forward, reason, now);
    }
    let key = state.begun.run.effect_key(&step.path(definition), Direction::Compensate.as_str(), 0);
    let key_text = key.to_string();
    let scope = RunScope::new(definition, state).at(step).with_key(&key_text).with_forward(step);
    let failed = |problem: Problem| {
        let reason = match &problem.detail {
            Some(detail) => format!("the undo cannot be made: {}: {detail}", problem.title),
            None => format!("the undo cannot be made: {}", problem.title),
        };
        park(rules, state, step, Direction::Compensate, reason, now)
    };
    let end = |end: UndoEnd| Fact::UndoEnded { step, end };
    let condition = match &rule.compensate {
        Compensate::Call(undo) => undo.condition.as_ref(),
        Compensate::Emit(undo) => undo.condition.as_ref(),
        Compensate::Run(undo) => undo.condition.as_ref(),
        Compensate::Unstated if matches!(rule.action, Action::Run(_)) => None,
        Compensate::None | Compensate::Unstated => return vec![end(UndoEnd::Nothing)],
    };
    match condition.map(|condition| condition.eval_bool(&scope)).transpose() {
        Ok(None | Some(true)) => {}
        Ok(Some(false)) => return vec![end(UndoEnd::Nothing)],
        Err(error) => return failed(failed_expression(rules, step, &error)),
    }
    match &rule.compensate {
        Compensate::Call(undo) => match build(&undo.call, &scope) {
            Ok(request) => {
                vec![Fact::UndoStarted { step, key, request: request.into(), attempt: at.undo.attempt + 1 }]
            }
            Err(error) => failed(failed_expression(rules, step, &error)),
        },
        Compensate::Emit(undo) => match emit::strict(rules, &scope, Emission::Undo(step), &undo.emit, now) {
            Ok(emitted) if undo.emit.reply.is_some() => {
                waiting::for_reply(rules, state, step, Direction::Compensate, &undo.emit, emitted, now)
            }
            Ok(emitted) => vec![emitted, end(UndoEnd::Undone)],
            Err(Unbuilt::Expression(error)) => failed(failed_expression(rules, step, &error)),
            Err(Unbuilt::Invalid(why)) => failed(
                Problem::new(kind::INVALID_OUTPUT, format!("the data of {} breaks its schema", undo.emit.event))
                    .detail(why),
            ),
        },
        Compensate::Run(undo) => match child::undo_by(state, &scope, step, &undo.child) {
            Ok(facts) => facts,
            Err(error) => failed(failed_expression(rules, step, &error)),
        },
        Compensate::Unstated => child::undo(state, step),
        Compensate::None => vec![end(UndoEnd::Nothing)],
    }
}

/// Returns the event that a further attempt emits, where attempts are events.
pub fn repeats<'a>(rules: &Rules<'a>, step: StepAt, direction: Direction) -> Option<&'a EmitTemplate> {
    let rule = rules.definition.step(step.step);
    match (direction, &rule.action, &rule.compensate) {
        (Direction::Forward, Action::Emit(emit), _) => Some(emit),
        (Direction::Compensate, _, Compensate::Emit(undo)) => Some(&undo.emit),
        _ => None,
    }
}

/// Decides what the end of an undo's attempt means. There is no refused undo: it is done or not done.
pub fn attempt_ended(rules: &Rules, state: &SagaState, step: StepAt, result: &Attempt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let at = &state.step(step).undo;
    let Compensate::Call(undo) = &rule.compensate else { return Vec::new() };
    let (done, problem) = is_undone(rules, state, step, undo, result);
    let refusal = result.effect == Effect::None && result.again == Again::No;
    let ended = |fate: Fate, problem: Option<Problem>| Fact::AttemptEnded {
        step,
        direction: Direction::Compensate,
        attempt: at.attempt,
        effect: if done { Effect::Done } else { result.effect },
        proof: false,
        refused: !done && refusal,
        status: result.answer.as_ref().map(|answer| answer.status),
        problem,
        fate,
    };
    if done {
        return vec![ended(Fate::Over { again: false }, None), Fact::UndoEnded { step, end: UndoEnd::Undone }];
    }
    let problem = located(
        problem
            .or_else(|| result.problem.clone())
            .unwrap_or_else(|| Problem::new(kind::UNKNOWN, "the undo is not done")),
        &step.path(definition),
        result.answer.as_ref(),
    );
    let refused_out = refusal && at.refusals + 1 >= REFUSALS_MAX && undo.retry.attempts != Attempts::Forever;
    let used = at.attempts_used + 1;
    let due = now.plus(backoff::wait(&undo.retry, state.begun.run, step.number(), used, result.retry_after));
    let first = at.first_attempt_at.unwrap_or(now);
    if !refused_out && backoff::allows(&undo.retry, used, first, None, due) {
        return vec![ended(Fate::RetryAt(due), Some(problem))];
    }
    let title = problem.title.clone();
    let mut facts = vec![ended(Fate::Over { again: !refusal }, Some(problem))];
    match undo.on_exhausted {
        OnExhausted::Park if planted::is("exhausted_undo_is_forgotten") => {
            facts.push(Fact::UndoEnded { step, end: UndoEnd::Undone });
        }
        OnExhausted::Skip => facts.push(Fact::UndoEnded { step, end: UndoEnd::Skipped }),
        OnExhausted::Park => {
            let reason = format!("the undo is exhausted after {used} attempts: {title}");
            facts.extend(park(rules, state, step, Direction::Compensate, reason, now));
        }
    }
    facts
}

fn is_undone(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    undo: &UndoCall,
    result: &Attempt,
) -> (bool, Option<Problem>) {
    if result.effect == Effect::Done {
        return (true, None);
    }
    let Some(answer) = &result.answer else { return (false, None) };
    match &undo.ok {
        None => (undo.call.method == "DELETE" && matches!(answer.status, 404 | 410), None),
        Some(ok) => {
            let scope = RunScope::new(rules.definition, state).at(step).with_result(Some(answer)).with_forward(step);
            match ok.eval_bool(&scope) {
                Ok(ok) => (ok, None),
                Err(error) => (false, Some(failed_expression(rules, step, &error))),
            }
        }
    }
}
