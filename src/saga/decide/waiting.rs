//! Waiting for somebody: events, replies to events, a person's answer.

use super::super::at::StepAt;
use super::super::backoff;
use super::super::emit::{self, Unbuilt};
use super::super::fact::{Emission, Fact, Outcome, UndoEnd, Wanted};
use super::super::input::{Rejected, Rules};
use super::super::request_builder::text;
use super::super::scope::RunScope;
use super::super::state::{Activity, SagaState};
use super::fits::misfit;
use super::forward::{ended, given_up, may_try_again, no_output, unexpected};
use super::park::park;
use super::{attempt, failed_expression};
use crate::definition::{Action, Ask, Await, AwaitMode, Compensate, EmitTemplate, Match, OnExhausted, Reply, Since};
use crate::expression::{EvalError, Place};
use crate::id::EventType;
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::time::Timestamp;

/// An event that was accepted.
pub struct Arrived {
    pub key: String,
    pub event: EventType,
    pub content: Payload,
}

fn resolve(matching: &[Match], scope: &RunScope) -> Result<Vec<(Vec<String>, Payload)>, EvalError> {
    matching
        .iter()
        .map(|one| {
            let value = one.value.eval(scope)?;
            if value.is_null() && !one.value.states_null() {
                let message =
                    format!("`{}` is compared with null; write `// null` if that is meant", one.path.join("."));
                return Err(EvalError { expression: "where".to_owned(), message });
            }
            Ok((one.path.clone(), value))
        })
        .collect()
}

/// Begins an `await`.
pub fn begin(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    rule: &Await,
    now: Timestamp,
) -> Result<Vec<Fact>, EvalError> {
    let scope = RunScope::new(rules.definition, state).at(step);
    let wanted = Wanted {
        types: rule.types.clone(),
        matching: resolve(&rule.matching, &scope)?,
        since: match rule.since {
            Since::Start => state.started_at,
            Since::Step => now,
        },
    };
    let due = rule.timeout.map(|span| now.plus(span));
    Ok(vec![Fact::AwaitStarted { step, direction: Direction::Forward, wanted: wanted.into(), due }])
}

/// An event has left that waits for its reply.
pub fn for_reply(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    template: &EmitTemplate,
    emitted: Fact,
    now: Timestamp,
) -> Vec<Fact> {
    let Some(reply) = &template.reply else { return vec![emitted] };
    let scope = RunScope::new(rules.definition, state).at(step);
    let scope = if direction == Direction::Compensate { scope.with_forward(step) } else { scope };
    let id = match &emitted {
        Fact::EventEmitted { id, .. } => id.clone(),
        _ => String::new(),
    };
    let matching = match &reply.matching {
        Some(matching) => resolve(matching, &scope),
        None => Ok(vec![(vec!["causationid".to_owned()], Payload::of(&id))]),
    };
    match matching {
        Ok(matching) => {
            let types = reply.done.iter().chain(&reply.refused).cloned().collect();
            let wanted = Wanted { types, matching, since: state.started_at };
            let due = Some(now.plus(reply.timeout));
            vec![emitted, Fact::AwaitStarted { step, direction, wanted: wanted.into(), due }]
        }
        Err(error) if direction == Direction::Compensate => {
            let reason = format!("the undo cannot be made: {error}");
            park(rules, state, step, Direction::Compensate, reason, now)
        }
        Err(error) => vec![ended(step, Outcome::Refused, None, Some(failed_expression(rules, step, &error)))],
    }
}

/// Emits the same event again and waits for its reply.
pub fn emit_again(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    template: &EmitTemplate,
    now: Timestamp,
) -> Vec<Fact> {
    let scope = RunScope::new(rules.definition, state).at(step);
    let (scope, emission) = match direction {
        Direction::Compensate => (scope.with_forward(step), Emission::Undo(step)),
        Direction::Forward | Direction::Check => (scope, Emission::Step(step)),
    };
    match emit::strict(rules, &scope, emission, template, now) {
        Ok(emitted) => for_reply(rules, state, step, direction, template, emitted, now),
        Err(_) if direction == Direction::Compensate => {
            let reason = "the undo's event cannot be built again".to_owned();
            park(rules, state, step, direction, reason, now)
        }
        Err(Unbuilt::Expression(_) | Unbuilt::Invalid(_)) => vec![given_up(rules.definition, state, step)],
    }
}

/// Decides what an event means to the step that waits for it.
///
/// # Errors
/// [`Rejected::Stale`] for an event that nobody waits for, or that was taken already.
pub fn event_arrived(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    arrived: Arrived,
    now: Timestamp,
) -> Result<Vec<Fact>, Rejected> {
    let at = state.step(step);
    let waits = matches!(at.activity, Activity::Awaiting { direction: waiting, .. } if waiting == direction);
    let fits = at.wanted.as_ref().is_some_and(|wanted| wanted.types.contains(&arrived.event));
    // The event that started the run is not what it waits for.
    let own = state
        .begun
        .causation_id
        .as_deref()
        .is_some_and(|id| arrived.key.strip_suffix(id).is_some_and(|rest| rest.ends_with('#')));
    if !waits || !fits || own || state.taken.contains(&arrived.key) {
        return Err(Rejected::Stale);
    }
    let rule = rules.definition.step(step.step);
    let Arrived { key, event, content } = arrived;
    let taken = Fact::EventTaken { step, direction, key, event: event.clone(), content: content.clone() };
    let reply = match (direction, &rule.action, &rule.compensate) {
        (Direction::Compensate, _, Compensate::Emit(undo)) => undo.emit.reply.as_deref(),
        (_, Action::Emit(emit), _) => emit.reply.as_deref(),
        _ => None,
    };
    let mut facts = vec![taken];
    match (reply, &rule.action) {
        (Some(reply), _) => facts.extend(replied(rules, state, step, direction, reply, &event, content, now)),
        (None, Action::Await(rule)) if rule.mode == AwaitMode::All => {
            // One of a type that is there already stands beside it and is not needed.
            if at.events.iter().any(|(known, _)| *known == event) {
                return Err(Rejected::Stale);
            }
            let mut all: std::collections::BTreeMap<&str, &Payload> =
                at.events.iter().map(|(event, content)| (event.as_str(), content)).collect();
            all.insert(event.as_str(), &content);
            if all.len() == rule.types.len() {
                facts.push(shaped(rules, state, step, Payload::of(&all)));
            }
        }
        (None, _) => facts.push(shaped(rules, state, step, content)),
    }
    Ok(facts)
}

/// Ends a step with what came, checked and reshaped as the file says; `$result` is what came.
fn shaped(rules: &Rules, state: &SagaState, step: StepAt, came: Payload) -> Fact {
    let rule = rules.definition.step(step.step);
    let scope = RunScope::new(rules.definition, state).at(step).with_value(&came);
    let unexpected = unexpected(rule, &scope, "the event is not as expected");
    let (output, problem) = match rule.output.as_ref().map(|output| output.eval(&scope)).transpose() {
        Ok(output) => {
            let output = output.unwrap_or(came);
            // The undo may need it all the same.
            let problem = unexpected.or_else(|| misfit(rules, rule.output_schema.as_ref(), &output));
            (Some(output), problem)
        }
        Err(error) => (None, Some(unexpected.unwrap_or_else(|| no_output(&error)))),
    };
    ended(step, Outcome::Done, output, problem.map(|problem| problem.at(&step.path(rules.definition))))
}

#[expect(clippy::too_many_arguments, reason = "the parts of one reply, in one place")]
fn replied(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    reply: &Reply,
    event: &EventType,
    content: Payload,
    now: Timestamp,
) -> Vec<Fact> {
    let done = reply.done.contains(event);
    let mut problem = Problem::new(kind::REFUSED, format!("answered by {event}")).at(&step.path(rules.definition));
    problem.result = Some(content.clone());
    match (direction, done) {
        (Direction::Compensate, true) => vec![Fact::UndoEnded { step, end: UndoEnd::Undone }],
        (Direction::Compensate, false) => undo_not_done(rules, state, step, problem, now),
        (Direction::Forward | Direction::Check, true) => vec![shaped(rules, state, step, content)],
        (Direction::Forward | Direction::Check, false) => vec![ended(step, Outcome::Refused, None, Some(problem))],
    }
}

fn undo_not_done(rules: &Rules, state: &SagaState, step: StepAt, problem: Problem, now: Timestamp) -> Vec<Fact> {
    let at = &state.step(step).undo;
    let Compensate::Emit(undo) = &rules.definition.step(step.step).compensate else { return Vec::new() };
    let used = at.attempts_used + 1;
    let due = now.plus(backoff::wait(&undo.retry, state.begun.run, step.number(), used, None));
    let title = problem.title.clone();
    let over = |due: Option<Timestamp>| Fact::AwaitEnded {
        step,
        direction: Direction::Compensate,
        problem: Some(problem.clone()),
        due,
    };
    if backoff::allows(&undo.retry, used, at.first_attempt_at.unwrap_or(now), None, due) {
        return vec![over(Some(due))];
    }
    let mut facts = vec![over(None)];
    match undo.on_exhausted {
        OnExhausted::Skip => facts.push(Fact::UndoEnded { step, end: UndoEnd::Skipped }),
        OnExhausted::Park => {
            let reason = format!("the undo is exhausted after {used} attempts: {title}");
            facts.extend(park(rules, state, step, Direction::Compensate, reason, now));
        }
    }
    facts
}

/// Nothing came in time.
pub fn await_over(rules: &Rules, state: &SagaState, step: StepAt, direction: Direction, now: Timestamp) -> Vec<Fact> {
    let rule = rules.definition.step(step.step);
    let at = state.step(step);
    let path = step.path(rules.definition);
    let timeout = |what: &str| Problem::new(kind::TIMEOUT, what).at(&path);
    if direction == Direction::Compensate {
        return undo_not_done(rules, state, step, timeout("no reply came in time"), now);
    }
    match &rule.action {
        Action::Emit(_) => {
            let problem = Problem::new(kind::UNKNOWN, "no reply came in time").at(&path);
            let used = at.attempts_used + 1;
            let due = now.plus(backoff::wait(&rule.retry, state.begun.run, step.number(), used, None));
            let first = at.first_attempt_at.unwrap_or(now);
            let again = may_try_again(rules, state, step, used)
                && backoff::allows(&rule.retry, used, first, rule.total_timeout, due);
            let over =
                |due: Option<Timestamp>| Fact::AwaitEnded { step, direction, problem: Some(problem.clone()), due };
            if again {
                return vec![over(Some(due))];
            }
            let mut facts = vec![over(None)];
            match &rule.on_unknown.check {
                Some(check) if may_try_again(rules, state, step, used) => {
                    facts.extend(attempt::ask(rules, state, step, check, false, Some(&problem), now));
                }
                Some(_) | None => facts.push(ended(step, Outcome::Unknown, None, Some(problem))),
            }
            facts
        }
        Action::Await(rule) => match rule.on_timeout {
            Some(block) => vec![Fact::BlockEntered { block: step.part(block) }],
            None => {
                let problem = timeout("the event did not come in time");
                vec![ended(step, Outcome::Refused, None, Some(problem))]
            }
        },
        _ => Vec::new(),
    }
}

/// Asks a person.
pub fn ask(scope: &RunScope, step: StepAt, ask: &Ask, now: Timestamp) -> Result<Vec<Fact>, EvalError> {
    let title = text(&ask.title, scope, Place::Plain)?;
    let show = ask.show.as_ref().map(|show| show.eval(scope)).transpose()?;
    Ok(vec![Fact::AskStarted { step, title, show, due: ask.timeout.map(|span| now.plus(span)) }])
}

/// Nobody answered in time.
pub fn ask_over(rules: &Rules, step: StepAt) -> Vec<Fact> {
    let Action::Ask(ask) = &rules.definition.step(step.step).action else { return Vec::new() };
    match ask.on_timeout {
        Some(block) => vec![Fact::BlockEntered { block: step.part(block) }],
        None => {
            let problem = Problem::new(kind::TIMEOUT, "nobody answered in time").at(&step.path(rules.definition));
            vec![ended(step, Outcome::Refused, None, Some(problem))]
        }
    }
}

/// Takes a person's answer: its members and `by`; an answer that is no object stands under `answer`.
///
/// # Errors
/// Why it does not apply.
pub fn answered(
    rules: &Rules,
    state: &SagaState,
    step: StepAt,
    by: &str,
    answer: &Payload,
    acted: Fact,
) -> Result<Vec<Fact>, &'static str> {
    if !matches!(state.step(step).activity, Activity::Asking { .. }) {
        return Err("nobody is asked there, or it is answered already");
    }
    let output = match answer.to_value() {
        serde_json::Value::Object(mut members) => {
            members.insert("by".to_owned(), by.into());
            Payload::of(&members)
        }
        other => Payload::of(&serde_json::json!({ "answer": other, "by": by })),
    };
    Ok(vec![acted, shaped(rules, state, step, output)])
}
