//! Forward: the next step, what an answer means to it, and what its failure means to the run.

use super::super::backoff;
use super::super::emit::{self, Unbuilt};
use super::super::fact::{Emission, Fact, Fate, Outcome, SettleCause, SkipReason};
use super::super::input::Rules;
use super::super::plan::{self, Next};
use super::super::request_builder::{self, text};
use super::super::scope::{RunScope, result_of};
use super::super::state::{LockState, Phase, SagaState, StepStatus};
use super::{attempt, failed_expression, settle};
use crate::definition::{Action, Compensate, FailTemplate, SagaDefinition, Step, StepIndex, UnknownElse, WaitFor};
use crate::expression::{EvalError, Expression, Place};
use crate::payload::Payload;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Direction, Effect};
use crate::time::Timestamp;

/// Decides the next move of a run that goes forward and waits for nothing.
pub fn go_on(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
    if let Some(step) = state.failed {
        return failure(rules, state, step, now);
    }
    if matches!(state.lock, LockState::Wanted { .. }) {
        return Vec::new();
    }
    if let Some(step) = state.redo {
        return begin(rules, state, step, now);
    }
    match plan::next(rules.definition, state) {
        Next::Step(step) => begin(rules, state, step, now),
        Next::SwitchEnded(step) => vec![ended(step, Outcome::Done, None, None)],
        Next::End => complete(rules, state, now),
    }
}

fn ended(step: StepIndex, outcome: Outcome, output: Option<Payload>, failure: Option<Problem>) -> Fact {
    Fact::StepEnded { step, outcome, output, failure }
}

/// A `wait` whose time has come.
pub fn woken(step: StepIndex) -> Fact {
    ended(step, Outcome::Done, None, None)
}

/// The trying ends without a further attempt.
pub fn given_up(definition: &SagaDefinition, state: &SagaState, step: StepIndex) -> Fact {
    let at = state.step(step);
    let outcome = if at.in_doubt { Outcome::Unknown } else { Outcome::Refused };
    let word = if at.in_doubt { kind::UNKNOWN } else { kind::REFUSED };
    let failure = at
        .last_problem
        .clone()
        .unwrap_or_else(|| Problem::new(word, "the attempt was cut off"))
        .at(&definition.step(step).path);
    ended(step, outcome, None, Some(failure))
}

fn complete(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let scope = RunScope::new(definition, state);
    let output = match definition.output.as_ref().map(|output| output.eval(&scope)).transpose() {
        Ok(output) => output,
        // Behind the pivot nothing is undone: the run completes without its output and says so.
        Err(error) if state.pivot_done => {
            let mut facts = vec![Fact::Noted { text: format!("output left out: {error}") }];
            facts.extend(completed(rules, &scope, None, now));
            return facts;
        }
        Err(error) => {
            let problem = Problem::new(kind::EXPRESSION, "the saga's output failed").detail(error.to_string());
            return settle::begin(definition, state, SettleCause::Failed, problem);
        }
    };
    completed(rules, &scope, output, now)
}

fn completed(rules: &Rules, scope: &RunScope, output: Option<Payload>, now: Timestamp) -> Vec<Fact> {
    let mut facts = match &rules.definition.finally.completed {
        Some(event) => emit::lenient(rules, scope, Emission::Completed, event, scope.state.emitted, now),
        None => Vec::new(),
    };
    if planted::is("event_twice") {
        facts.extend(facts.first().cloned());
    }
    facts.push(Fact::RunEnded { completed: true, output });
    facts
}

/// Begins a step.
fn begin(rules: &Rules, state: &SagaState, step: StepIndex, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step);
    let scope = RunScope::new(definition, state);
    let refused = |problem: Problem| vec![ended(step, Outcome::Refused, None, Some(problem.at(&rule.path)))];
    match rule.condition.as_ref().map(|condition| condition.eval_bool(&scope)).transpose() {
        Ok(None | Some(true)) => {}
        Ok(Some(false)) => return vec![Fact::StepSkipped { step, why: SkipReason::Condition }],
        Err(error) => return refused(failed_expression(rules, step, &error)),
    }
    match &rule.action {
        Action::Call(call) => {
            let number = state.step(step).key_number;
            let key = state.begun.run.effect_key(&rule.path, Direction::Forward.as_str(), number);
            let key_text = key.to_string();
            let scope = scope.with_key(&key_text);
            let built = request_builder::build(call, &scope).and_then(|mut request| {
                let sent = request_builder::place_key(&rule.idempotency, &scope, &key_text, &mut request)?;
                Ok((request, sent))
            });
            match built {
                Ok((request, sent_key)) => vec![Fact::StepStarted {
                    step,
                    key,
                    key_number: number,
                    sent_key,
                    request: request.into(),
                    attempt: state.step(step).attempt + 1,
                }],
                Err(error) => refused(failed_expression(rules, step, &error)),
            }
        }
        Action::Emit(template) => match emit::strict(rules, &scope, Emission::Step(step), template, now) {
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

/// Decides what the end of a forward attempt means.
pub fn attempt_ended(rules: &Rules, state: &SagaState, step: StepIndex, result: &Attempt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step);
    let at = state.step(step);
    let scope = RunScope::new(definition, state).with_result(result.answer.as_ref());
    let class = attempt::classify(rule, &scope, result);
    let problem = class.problem.map(|problem| located(problem, rule, result.answer.as_ref()));
    let doubt = !class.proof && (at.in_doubt || class.effect == Effect::Maybe);
    let again = class.again == Again::Yes;
    let over = |more: bool| Fact::AttemptEnded {
        step,
        direction: Direction::Forward,
        attempt: at.attempt,
        effect: class.effect,
        proof: class.proof,
        refused: class.effect == Effect::None && !again,
        status: result.answer.as_ref().map(|answer| answer.status),
        problem: problem.clone(),
        fate: Fate::Over { again: more },
    };
    if class.effect == Effect::Done {
        let (output, failure) = shape(rule, &scope, result.answer.as_ref());
        return vec![over(false), ended(step, Outcome::Done, output, failure)];
    }
    // Settling: what was in flight counts by its outcome, and nothing follows.
    if state.phase != Phase::Forward && !planted::is("attempt_while_settling") {
        let outcome = if doubt { Outcome::Unknown } else { Outcome::Refused };
        return vec![over(again), ended(step, outcome, None, problem)];
    }
    let used = at.attempts_used + 1;
    let wait = backoff::wait(&rule.retry, state.begun.run, step, used, result.retry_after);
    let due = now.plus(wait);
    let first = at.first_attempt_at.unwrap_or(now);
    let may_retry = again && backoff::allows(&rule.retry, used, first, rule.total_timeout, due);
    // After a maybe the service is asked first; before the trying ends in doubt it is asked once more.
    if doubt
        && (class.effect == Effect::Maybe || !may_retry)
        && let Some(check) = &rule.on_unknown.check
    {
        let mut facts = vec![over(may_retry)];
        facts.extend(attempt::ask(rules, state, step, check, may_retry, problem.as_ref(), now));
        return facts;
    }
    if may_retry {
        return vec![Fact::AttemptEnded {
            step,
            direction: Direction::Forward,
            attempt: at.attempt,
            effect: class.effect,
            proof: class.proof,
            refused: false,
            status: result.answer.as_ref().map(|answer| answer.status),
            problem,
            fate: Fate::RetryAt(due),
        }];
    }
    let outcome = if doubt { Outcome::Unknown } else { Outcome::Refused };
    vec![over(again), ended(step, outcome, None, problem)]
}

/// Adds where it happened and what came back.
pub fn located(mut problem: Problem, rule: &Step, answer: Option<&Answer>) -> Problem {
    problem.step = Some(rule.path.to_string());
    if let Some(answer) = answer {
        problem.status = Some(answer.status);
        problem.result = Some(result_of(Some(answer)));
    }
    problem
}

/// Checks `expect` and reshapes the answer: what fails here is done for undo, failed for control flow.
fn shape(rule: &Step, scope: &RunScope, answer: Option<&Answer>) -> (Option<Payload>, Option<Problem>) {
    let failed =
        |word: &str, title: &str, detail: String| Some(located(Problem::new(word, title).detail(detail), rule, answer));
    if let Some(expect) = &rule.expect {
        match expect.eval_bool(scope) {
            Ok(true) => {}
            Ok(false) => {
                return (
                    None,
                    failed(kind::INVALID_OUTPUT, "the answer is not as expected", "`expect` is false".into()),
                );
            }
            Err(error) => return (None, failed(kind::EXPRESSION, "`expect` failed", error.to_string())),
        }
    }
    match &rule.output {
        None => (Some(result_of(answer)), None),
        Some(output) => match output.eval(scope) {
            Ok(output) => (Some(output), None),
            Err(error) => (None, failed(kind::EXPRESSION, "`output` failed", error.to_string())),
        },
    }
}

/// Decides what a step's failure means to the run.
fn failure(rules: &Rules, state: &SagaState, step: StepIndex, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step);
    let at = state.step(step);
    let problem = at.error.clone().unwrap_or_else(|| Problem::new(kind::UNKNOWN, "the step failed").at(&rule.path));
    let unknown = at.status == StepStatus::Ended(Outcome::Unknown);
    let refused = at.status == StepStatus::Ended(Outcome::Refused);
    let park = |reason: String| park(rules, state, step, Direction::Forward, reason, now);
    // Without a stated undo nobody but a person can clear it; behind the pivot it may stand.
    let unclear = unknown && matches!(rule.compensate, Compensate::Unstated) && !rule.after_pivot;
    if rule.optional && !unclear {
        let undoable = matches!(rule.compensate, Compensate::Call(_) | Compensate::Emit(_));
        return vec![if unknown && undoable && !planted::is("handled_unknown_is_left") {
            Fact::ClearingBegan { step }
        } else {
            Fact::FailureHandled { step }
        }];
    }
    if rule.pivot && unknown && planted::is("pivot_in_doubt_goes_on") {
        return vec![Fact::FailureHandled { step }];
    }
    if rule.pivot && unknown && planted::is("pivot_in_doubt_undoes") {
        return settle::begin(definition, state, SettleCause::Failed, problem);
    }
    if rule.pivot && unknown {
        return park(format!("the outcome of the pivot is unknown: {}", problem.title));
    }
    if rule.after_pivot || (rule.pivot && !refused) {
        return park(format!("a step behind the pivot failed: {}", problem.title));
    }
    if unknown && rule.on_unknown.otherwise == UnknownElse::Park {
        return park(format!("the outcome is unknown: {}", problem.title));
    }
    if unknown && matches!(rule.compensate, Compensate::Unstated) {
        return park(format!("the outcome is unknown and the file states no undo: {}", problem.title));
    }
    settle::begin(definition, state, SettleCause::Failed, problem)
}

/// Parks the run, with its event.
pub fn park(
    rules: &Rules,
    state: &SagaState,
    step: StepIndex,
    direction: Direction,
    reason: String,
    now: Timestamp,
) -> Vec<Fact> {
    let fact = Fact::Parked { step, direction, reason };
    let Some(event) = &rules.definition.finally.parked else { return vec![fact] };
    // The event speaks of the parked run, so it is built from the state behind the fact.
    let mut parked = state.clone();
    super::evolve::evolve(rules.definition, &mut parked, &fact, now);
    let scope = RunScope::new(rules.definition, &parked);
    let mut facts = vec![fact];
    facts.extend(emit::lenient(rules, &scope, Emission::Parked, event, state.emitted, now));
    facts
}
