//! One attempt: its class by the file's `classify`, the asking after a doubtful one, and what follows a
//! restart.

use super::super::at::StepAt;
use super::super::backoff;
use super::super::fact::{Fact, Fate, Outcome};
use super::super::input::Rules;
use super::super::request_builder::build;
use super::super::scope::{RunScope, output_of};
use super::super::state::SagaState;
use super::fits::misfit;
use super::forward::{given_up, located, may_try_again};
use crate::definition::{Check, SagaDefinition, Step};
use crate::expression::Expression;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::{Again, Attempt, Direction, Effect};
use crate::time::Timestamp;

/// Returns the number of the last attempt begun in a direction.
pub fn number(state: &SagaState, step: StepAt, direction: Direction) -> u32 {
    let at = state.step(step);
    match direction {
        Direction::Forward => at.attempt,
        Direction::Check => at.check.attempt,
        Direction::Compensate => at.undo.attempt,
    }
}

/// What an attempt did, by the file's word.
pub struct Class {
    pub effect: Effect,
    pub again: Again,
    /// This refusal proves that no earlier attempt had an effect.
    pub proof: bool,
    /// Set unless the effect is done.
    pub problem: Option<Problem>,
}

/// Classifies an attempt: `proof unknown refused retry done` in this order, the first true one wins,
/// none: the connector's defaults. An expression that fails cannot be trusted with a "no": maybe.
pub fn classify(rule: &Step, scope: &RunScope, result: &Attempt) -> Class {
    let words: [(&Option<Expression>, Effect, Again, bool); 5] = [
        (&rule.classify.proof, Effect::None, Again::No, true),
        (&rule.classify.unknown, Effect::Maybe, Again::Yes, false),
        (&rule.classify.refused, Effect::None, Again::No, false),
        (&rule.classify.retry, Effect::None, Again::Yes, false),
        (&rule.classify.done, Effect::Done, Again::No, false),
    ];
    for (expression, effect, again, proof) in words {
        match expression.as_ref().map(|expression| expression.eval_bool(scope)).transpose() {
            Ok(None | Some(false)) => {}
            Ok(Some(true)) => return Class { effect, again, proof, problem: problem_for(effect, result) },
            Err(error) => {
                let problem = Problem::new(kind::EXPRESSION, "`classify` failed").detail(error.to_string());
                return Class { effect: Effect::Maybe, again: Again::Yes, proof: false, problem: Some(problem) };
            }
        }
    }
    Class { effect: result.effect, again: result.again, proof: false, problem: problem_for(result.effect, result) }
}

fn problem_for(effect: Effect, result: &Attempt) -> Option<Problem> {
    let answered = || result.answer.as_ref().map_or_else(String::new, |answer| format!(" (answer {})", answer.status));
    match effect {
        Effect::Done => None,
        Effect::None => Some(
            result
                .problem
                .clone()
                .unwrap_or_else(|| Problem::new(kind::REFUSED, format!("the service refused{}", answered()))),
        ),
        Effect::Maybe => Some(
            result
                .problem
                .clone()
                .unwrap_or_else(|| Problem::new(kind::UNKNOWN, format!("the outcome is unknown{}", answered()))),
        ),
    }
}

/// Asks the service whether it happened. `again`: another attempt may follow.
pub fn ask(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    check: &Check,
    again: bool,
    failure: Option<&Problem>,
    now: Timestamp,
) -> Vec<Fact> {
    if state.paused && !planted::is("pause_holds_nothing") {
        return vec![Fact::AskDeferred { step }];
    }
    let at = state.step(step);
    // Every asking has its own number, and so its own key.
    let key = state.begun.run.effect_key(&step.path(rules.definition), Direction::Check.as_str(), at.check.asked + 1);
    let text = at.key_sent().unwrap_or_default();
    let scope = RunScope::new(rules.definition, state).at(step).with_key(&text);
    match build(&check.call, &scope) {
        Ok(request) => {
            vec![Fact::CheckStarted { step, key, request: request.into(), attempt: at.check.attempt + 1 }]
        }
        Err(error) => {
            let problem = super::failed_expression(rules, step, &error);
            let mut facts = vec![Fact::CheckEnded { step, happened: None, conclusive: false, problem: Some(problem) }];
            facts.extend(after_doubt(rules, state, step, again, false, failure.cloned(), now));
            facts
        }
    }
}

/// Asks what a pause had put off.
pub fn ask_deferred(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let (rule, at) = (rules.definition.step(step.step), state.step(step));
    match &rule.on_unknown.check {
        Some(check) => ask(rules, state, step, check, at.again, at.last_problem.as_deref(), now),
        None => vec![given_up(rules.definition, state, step)],
    }
}

/// Decides what the end of a check's attempt means.
pub fn check_ended(rules: &Rules, state: &SagaState, step: StepAt, result: &Attempt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let at = state.step(step);
    let Some(check) = &rule.on_unknown.check else { return Vec::new() };
    let scope = RunScope::new(definition, state).at(step).with_result(result.answer.as_ref());
    let ended = |fate: Fate, problem: Option<Problem>| Fact::AttemptEnded {
        step,
        direction: Direction::Check,
        attempt: at.check.attempt,
        effect: result.effect,
        proof: false,
        refused: false,
        status: result.answer.as_ref().map(|answer| answer.status),
        problem,
        fate,
    };
    // A final answer, be it a 404, is something `happened` can look at; anything else is asked again.
    let answered = result.answer.is_some() && result.again == Again::No;
    let mut problem = result.problem.clone();
    if answered {
        match check.happened.eval_bool(&scope) {
            Ok(true) => {
                let output = match (&check.output, &check.output_schema) {
                    (Some(output), _) => output.eval(&scope).map(Some),
                    (None, Some(_)) => Ok(Some(output_of(check.call.protocol, result.answer.as_ref()))),
                    (None, None) => Ok(None),
                };
                let (output, failure) = match output {
                    Ok(output) => {
                        let misfit =
                            output.as_ref().and_then(|output| misfit(rules, check.output_schema.as_ref(), output));
                        let failure =
                            misfit.map(|problem| located(problem, &step.path(definition), result.answer.as_ref()));
                        (output, failure)
                    }
                    Err(error) => (None, Some(super::failed_expression(rules, step, &error))),
                };
                return vec![
                    ended(Fate::Over { again: false }, None),
                    Fact::CheckEnded { step, happened: Some(true), conclusive: false, problem: None },
                    Fact::StepEnded { step, outcome: Outcome::Done, output, failure },
                ];
            }
            Ok(false) => {
                let mut facts = vec![
                    ended(Fate::Over { again: false }, None),
                    Fact::CheckEnded { step, happened: Some(false), conclusive: check.conclusive, problem: None },
                ];
                facts.extend(after_doubt(
                    rules,
                    state,
                    step,
                    at.again,
                    check.conclusive,
                    at.last_problem.as_deref().cloned(),
                    now,
                ));
                return facts;
            }
            Err(error) => problem = Some(super::failed_expression(rules, step, &error)),
        }
    }
    let problem = problem.map(|problem| located(problem, &step.path(definition), result.answer.as_ref()));
    let used = at.check.attempts_used + 1;
    let due = now.plus(backoff::wait(&check.retry, state.begun.run, step.number(), used, result.retry_after));
    let first = at.check.started_at.unwrap_or(now);
    if may_try_again(rules, state, step, used) && !answered && backoff::allows(&check.retry, used, first, None, due) {
        return vec![ended(Fate::RetryAt(due), problem)];
    }
    let mut facts = vec![
        ended(Fate::Over { again: false }, problem.clone()),
        Fact::CheckEnded { step, happened: None, conclusive: false, problem },
    ];
    facts.extend(after_doubt(rules, state, step, at.again, false, at.last_problem.as_deref().cloned(), now));
    facts
}

/// A check that settling cut short: it could not be found out.
pub fn check_given_up(definition: &SagaDefinition, state: &SagaState, step: StepAt) -> Vec<Fact> {
    vec![Fact::CheckEnded { step, happened: None, conclusive: false, problem: None }, given_up(definition, state, step)]
}

/// What follows when the doubt remains (or was lifted with *not happened*).
fn after_doubt(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    again: bool,
    lifted: bool,
    failure: Option<Problem>,
    now: Timestamp,
) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let at = state.step(step);
    let used = at.attempts_used.max(1);
    let due =
        at.retry_at.unwrap_or_else(|| now.plus(backoff::wait(&rule.retry, state.begun.run, step.number(), used, None)));
    let first = at.first_attempt_at.unwrap_or(now);
    if may_try_again(rules, state, step, at.attempts_used)
        && again
        && !at.expired
        && backoff::allows(&rule.retry, at.attempts_used, first, rule.total_timeout, due)
    {
        return vec![Fact::RetryScheduled { step, due }];
    }
    let outcome = if lifted { Outcome::Refused } else { Outcome::Unknown };
    let failure = failure
        .unwrap_or_else(|| Problem::new(kind::UNKNOWN, "the outcome is unknown"))
        .at(&step.path(rules.definition));
    vec![Fact::StepEnded { step, outcome, output: None, failure: Some(failure) }]
}

/// An attempt cut off by a restart is a maybe that used up no attempt: asked first where the file says
/// how, else sent again with the stored key, as the same attempt.
pub fn after_interruption(rules: &Rules, state: &SagaState, step: StepAt, attempt: u32, now: Timestamp) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let at = state.step(step);
    let first = at.first_attempt_at.unwrap_or(now);
    // No attempt was used up, so the count allows one more by definition; the times may not.
    let in_time = [rule.retry.within, rule.total_timeout].into_iter().flatten().all(|limit| now <= first.plus(limit));
    if let Some(check) = &rule.on_unknown.check {
        return ask(rules, state, step, check, in_time, None, now);
    }
    if in_time {
        vec![Fact::AttemptStarted { step, direction: Direction::Forward, attempt }]
    } else {
        vec![given_up(rules.definition, state, step)]
    }
}
