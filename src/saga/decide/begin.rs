//! The beginning of a step: its `if`, its expressions, and what leaves or is waited for.

use super::super::at::StepAt;
use super::super::emit::{self, Unbuilt};
use super::super::fact::{Emission, Fact, Outcome, SkipReason};
use super::super::input::Rules;
use super::super::request_builder::{self, text};
use super::super::scope::RunScope;
use super::super::state::SagaState;
use super::forward::ended;
use super::{child, failed_expression, pages, waiting};
use crate::definition::{Action, CallTemplate, FailTemplate, WaitFor};
use crate::expression::{EvalError, Expression, Place};
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

/// Items of one `for`: each costs the journal its steps, and a view a line.
const ITEMS_MAX: usize = 100_000;

/// Begins a step.
pub fn begin(rules: &Rules, state: &SagaState, step: StepAt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let scope = RunScope::new(definition, state).at(step);
    let path = step.path(definition);
    let refused = |problem: Problem| vec![ended(step, Outcome::Refused, None, Some(problem.at(&path)))];
    if state.step(step).round > 0 {
        return pages::next(rules, state, step);
    }
    match rule.condition.as_ref().map(|condition| condition.eval_bool(&scope)).transpose() {
        Ok(None | Some(true)) => {}
        Ok(Some(false)) => return vec![Fact::StepSkipped { step, why: SkipReason::Condition }],
        Err(error) => return refused(failed_expression(rules, step, &error)),
    }
    match &rule.action {
        Action::Call(call) => {
            let round = u32::from(rule.paginate.is_some());
            match call_facts(rules, state, step, call, round) {
                Ok(facts) => facts,
                Err(error) => refused(failed_expression(rules, step, &error)),
            }
        }
        Action::Poll(poll) => match call_facts(rules, state, step, &poll.call, 1) {
            Ok(facts) => facts,
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Emit(template) => match emit::strict(rules, &scope, Emission::Step(step), template, now) {
            Ok(emitted) if template.reply.is_some() => {
                waiting::for_reply(rules, state, step, Direction::Forward, template, emitted, now)
            }
            Ok(emitted) => {
                let output = match &emitted {
                    Fact::EventEmitted { id, .. } => Some(Payload::of(&serde_json::json!({ "id": id }))),
                    _ => None,
                };
                vec![emitted, ended(step, Outcome::Done, output, None)]
            }
            Err(Unbuilt::Expression(error)) => refused(failed_expression(rules, step, &error)),
            Err(Unbuilt::Invalid(why)) => refused(
                Problem::new(kind::INVALID_OUTPUT, format!("the data of {} breaks its schema", template.event))
                    .detail(why),
            ),
        },
        Action::Set(value) => match value.eval(&scope) {
            Ok(value) => vec![ended(step, Outcome::Done, Some(value), None)],
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Wait(WaitFor::Span(span)) => vec![Fact::WaitStarted { step, due: now.plus(*span) }],
        Action::Wait(WaitFor::Until(moment)) => match until(moment, &scope) {
            Ok(due) if due <= now => vec![ended(step, Outcome::Done, None, None)],
            Ok(due) => vec![Fact::WaitStarted { step, due }],
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Switch(arms) => {
            for (arm, rule) in arms.iter().enumerate() {
                match rule.when.as_ref().map(|when| when.eval_bool(&scope)).transpose() {
                    Ok(None | Some(true)) => return vec![Fact::ArmTaken { step, arm: arm as u32 }],
                    Ok(Some(false)) => {}
                    Err(error) => return refused(failed_expression(rules, step, &error)),
                }
            }
            vec![Fact::StepSkipped { step, why: SkipReason::NoMatch }]
        }
        Action::Await(rule) => match waiting::begin(rules, state, step, rule, now) {
            Ok(facts) => facts,
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Ask(ask) => match waiting::ask(&scope, step, ask, now) {
            Ok(facts) => facts,
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Run(rule) => match child::begin(state, &scope, step, rule) {
            Ok(facts) => facts,
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Parallel(_) => vec![Fact::BranchesEntered { step }],
        Action::Try(rule) => vec![Fact::BlockEntered { block: step.part(rule.body) }],
        Action::For(rule) => match rule.list.eval(&scope).and_then(|list| items(&list, rule.batch)) {
            Ok(items) => vec![Fact::ItemsListed { step, items }],
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
        Action::Fail(template) => match fail(template, &scope) {
            Ok(problem) => refused(problem),
            Err(error) => refused(failed_expression(rules, step, &error)),
        },
    }
}

fn fail(template: &FailTemplate, scope: &RunScope) -> Result<Problem, EvalError> {
    let mut problem =
        Problem::new(&text(&template.kind, scope, Place::Plain)?, text(&template.title, scope, Place::Plain)?);
    if let Some(detail) = &template.detail {
        problem.detail = detail.eval(scope, Place::Plain)?;
    }
    Ok(problem)
}

/// Evaluates `wait_until`: RFC 3339 text, or milliseconds since 1970.
fn until(moment: &Expression, scope: &RunScope) -> Result<Timestamp, EvalError> {
    let value = moment.eval(scope)?;
    let millis = match value.to_value() {
        serde_json::Value::String(text) => {
            text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok())
        }
        serde_json::Value::Number(number) => number.as_u64(),
        _ => None,
    };
    millis.map(Timestamp).ok_or_else(|| EvalError {
        expression: "wait_until".to_owned(),
        message: format!(
            "gave {value:?}; wanted is RFC 3339 text such as 2030-01-31T12:00:00Z, or milliseconds since 1970"
        ),
    })
}

/// Resolves a call and gives its intent.
pub fn call_facts(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    call: &CallTemplate,
    round: u32,
) -> Result<Vec<Fact>, EvalError> {
    let rule = rules.definition.step(step.step);
    let at = state.step(step);
    // Rounds and pages append their number; an operator's new key counts from behind them.
    let number = at.key_number + round;
    let path = step.path(rules.definition);
    let key = state.begun.run.effect_key(&path, Direction::Forward.as_str(), number);
    let key_text = key.to_string();
    let scope = RunScope::new(rules.definition, state).at(step).with_key(&key_text);
    let mut request = request_builder::build(call, &scope)?;
    if let (true, Some(next)) = (round > 1, &at.next_page) {
        request.target.clone_from(next);
    }
    if let Some(cache) = &rule.cache {
        request.cache = Some(crate::request::CacheUse { key: text(&cache.key, &scope, Place::Plain)?, ttl: cache.ttl });
    }
    let sent_key = request_builder::place_key(&rule.idempotency, &scope, &key_text, &mut request)?;
    Ok(vec![Fact::StepStarted {
        step,
        key,
        key_number: at.key_number,
        sent_key,
        request: request.into(),
        attempt: at.attempt + 1,
        round,
    }])
}

/// Checks the list of a `for`, and cuts it into slices where the file says so.
fn items(list: &Payload, batch: Option<u32>) -> Result<Payload, EvalError> {
    let wrong = |message: String| EvalError { expression: "for.in".to_owned(), message };
    let items: Vec<Payload> = list.read().map_err(|_| wrong("it must yield a list".to_owned()))?;
    if items.len() > ITEMS_MAX {
        return Err(wrong(format!("it yields {} items; at most {ITEMS_MAX} are gone through", items.len())));
    }
    Ok(match batch {
        None => list.clone(),
        Some(batch) => Payload::of(&items.chunks(batch.max(1) as usize).collect::<Vec<_>>()),
    })
}
