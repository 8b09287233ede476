//! Calls of several rounds: a `poll` until something is so, the pages of a list.

use super::super::at::StepAt;
use super::super::fact::{Fact, Outcome};
use super::super::input::Rules;
use super::super::plan::{self, Mode};
use super::super::scope::RunScope;
use super::super::state::SagaState;
use super::begin::call_facts;
use super::failed_expression;
use super::forward::{ended, located, shape};
use crate::definition::{Action, Paginate, Poll};
use crate::expression::EvalError;
use crate::payload::Payload;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::Answer;
use crate::time::Timestamp;

/// Decides what a successful answer means: the end of the step, or another round or page.
pub fn answered(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    scope: &RunScope,
    answer: Option<&Answer>,
    now: Timestamp,
) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let path = step.path(rules.definition);
    if let Action::Poll(poll) = &rule.action {
        return polled(rules, state, step, poll, scope, answer, now);
    }
    if let (Some(paginate), Some(answer)) = (&rule.paginate, answer) {
        return page(rules, state, step, paginate, scope, answer)
            .unwrap_or_else(|error| vec![failed(rules, step, answer, &error)]);
    }
    let (output, failure) = shape(rules, rule, &path, scope, answer);
    vec![ended(step, Outcome::Done, output, failure)]
}

fn failed(rules: &Rules, step: StepAt, answer: &Answer, error: &EvalError) -> Fact {
    let problem = located(failed_expression(rules, step, error), &step.path(rules.definition), Some(answer));
    ended(step, Outcome::Done, None, Some(problem))
}

fn polled(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    poll: &Poll,
    scope: &RunScope,
    answer: Option<&Answer>,
    now: Timestamp,
) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let path = step.path(rules.definition);
    let problem = match poll.until.eval_bool(scope) {
        Ok(true) => {
            let (output, failure) = shape(rules, rule, &path, scope, answer);
            return vec![ended(step, Outcome::Done, output, failure)];
        }
        Ok(false) if state.step(step).expired => Problem::new(kind::TIMEOUT, "the poll's time is over"),
        Ok(false) if plan::mode(rules.definition, state, step) != Mode::Forward => {
            Problem::new(kind::CANCELLED, "the poll was cut short")
        }
        Ok(false) => {
            let due = if planted::is("poll_asks_at_once") { now } else { now.plus(poll.every) };
            return vec![Fact::RoundEnded { step, due }];
        }
        Err(error) => failed_expression(rules, step, &error),
    };
    vec![ended(step, Outcome::Done, None, Some(located(problem, &path, answer)))]
}

fn page(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    paginate: &Paginate,
    scope: &RunScope,
    answer: &Answer,
) -> Result<Vec<Fact>, EvalError> {
    let rule = rules.definition.step(step.step);
    let at = state.step(step);
    let wrong = |what: &str, message: &str| EvalError { expression: what.to_owned(), message: message.to_owned() };
    let items = paginate.items.eval(scope)?;
    let _: Vec<Payload> = items.read().map_err(|_| wrong("paginate.items", "it must yield a list"))?;
    let next: Option<String> =
        paginate.next.eval(scope)?.read().map_err(|_| wrong("paginate.next", "it must yield text or null"))?;
    let next = next.filter(|next| !next.is_empty());
    if let Some(next) = &next
        && !["/", "http://", "https://"].iter().any(|begin| next.starts_with(begin))
    {
        return Err(wrong("paginate.next", "it must yield a path that begins with /, or a whole address"));
    }
    let next = next.filter(|_| at.round < 2 || !planted::is("last_page_is_left_out"));
    if next.is_some() && at.round < paginate.max && plan::mode(rules.definition, state, step) == Mode::Forward {
        return Ok(vec![Fact::PageEnded { step, items, next }]);
    }
    if next.is_some() && at.round >= paginate.max {
        let message = format!("there are more than {} pages", paginate.max);
        return Err(wrong("paginate.max", &message));
    }
    // `output` sees all items as the body.
    let all: Vec<Payload> =
        at.pages.iter().chain([&items]).flat_map(|page| page.read::<Vec<Payload>>().unwrap_or_default()).collect();
    let whole = Answer { body: Payload::of(&all), ..answer.clone() };
    let path = step.path(rules.definition);
    let scope = RunScope::new(rules.definition, state).at(step).with_result(Some(&whole));
    let (output, failure) = shape(rules, rule, &path, &scope, Some(&whole));
    Ok(vec![ended(step, Outcome::Done, output, failure)])
}

/// Begins the next round or page.
pub fn next(rules: &Rules, state: &SagaState, step: StepAt) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let round = state.step(step).round + 1;
    let call = match &rule.action {
        Action::Poll(poll) => &poll.call,
        Action::Call(call) => call,
        _ => return Vec::new(),
    };
    match call_facts(rules, state, step, call, round) {
        Ok(facts) => facts,
        Err(error) => vec![ended(step, Outcome::Done, None, Some(failed_expression(rules, step, &error)))],
    }
}

/// Decides about a step whose time has come: a `wait`, or the next round of a `poll`.
pub fn woken(rules: &Rules, state: &SagaState, step: StepAt) -> Vec<Fact> {
    match &rules.definition.step(step.step).action {
        Action::Poll(_) => next(rules, state, step),
        _ => vec![ended(step, Outcome::Done, None, None)],
    }
}
