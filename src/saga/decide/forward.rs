//! Forward: what an answer means to a step, and how a run completes.

use super::super::at::StepAt;
use super::super::backoff;
use super::super::emit;
use super::super::fact::{Emission, Fact, Fate, Outcome, SettleCause};
use super::super::input::Rules;
use super::super::plan::{self, Mode};
use super::super::scope::{RunScope, output_of, result_of};
use super::super::state::SagaState;
use super::fits::misfit;
use super::{attempt, pages, settle};
use crate::definition::{SagaDefinition, Step};
use crate::expression::EvalError;
use crate::payload::Payload;
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::{Again, Answer, Attempt, Direction, Effect};
use crate::service::Protocol;
use crate::time::Timestamp;

pub fn ended(step: StepAt, outcome: Outcome, output: Option<Payload>, failure: Option<Problem>) -> Fact {
    Fact::StepEnded { step, outcome, output, failure }
}

/// The trying ends without a further attempt.
pub fn given_up(definition: &SagaDefinition, state: &SagaState, step: StepAt) -> Fact {
    let at = state.step(step);
    let outcome = if at.in_doubt { Outcome::Unknown } else { Outcome::Refused };
    let word = if at.in_doubt { kind::UNKNOWN } else { kind::REFUSED };
    let failure = at
        .last_problem
        .as_deref()
        .cloned()
        .unwrap_or_else(|| Problem::new(word, "the attempt was cut off"))
        .at(&step.path(definition));
    ended(step, outcome, None, Some(failure))
}

/// True where another attempt may follow, in surroundings that settle as well.
pub fn may_try_again(rules: &Rules, state: &SagaState, step: StepAt, used: u32) -> bool {
    match plan::mode(rules.definition, state, step) {
        Mode::Forward => true,
        _ if planted::is("attempt_while_settling") => true,
        Mode::Settling { retries: true } => used < rules.definition.settle_attempts,
        Mode::Settling { retries: false } | Mode::Undo => false,
    }
}

/// Decides how a run ends whose every step is through.
pub fn complete(rules: &Rules, state: &SagaState, now: Timestamp) -> Vec<Fact> {
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
            return settle::begin(definition, state, SettleCause::Failed, problem, false);
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

/// Decides what the end of a forward attempt means.
pub fn attempt_ended(rules: &Rules, state: &SagaState, step: StepAt, result: &Attempt, now: Timestamp) -> Vec<Fact> {
    let definition = rules.definition;
    let rule = definition.step(step.step);
    let at = state.step(step);
    let scope = RunScope::new(definition, state).at(step).with_result(result.answer.as_ref());
    let class = attempt::classify(rule, &scope, result);
    let path = step.path(definition);
    let problem = class.problem.map(|problem| located(problem, &path, result.answer.as_ref()));
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
        let mut facts = vec![over(false)];
        facts.extend(pages::answered(rules, state, step, &scope, result.answer.as_ref(), now));
        return facts;
    }
    let used = at.attempts_used + 1;
    // Settling: what was in flight counts by its outcome; what may be tried again is told by the cause.
    if !may_try_again(rules, state, step, used) {
        let outcome = if doubt { Outcome::Unknown } else { Outcome::Refused };
        return vec![over(again), ended(step, outcome, None, problem)];
    }
    let wait = backoff::wait(&rule.retry, state.begun.run, step.number(), used, result.retry_after);
    let due = now.plus(wait);
    let first = at.first_attempt_at.unwrap_or(now);
    let may_retry = again && !at.expired && backoff::allows(&rule.retry, used, first, rule.total_timeout, due);
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
pub fn located(mut problem: Problem, path: &str, answer: Option<&Answer>) -> Problem {
    problem.step = Some(path.to_owned());
    if let Some(answer) = answer {
        problem.status = Some(answer.status);
        problem.result = Some(result_of(Some(answer)));
    }
    problem
}

/// Checks `expect` and reshapes the answer: what fails here is done for undo, failed for control flow.
pub fn shape(
    rules: &Rules,
    rule: &Step,
    path: &str,
    scope: &RunScope,
    answer: Option<&Answer>,
) -> (Option<Payload>, Option<Problem>) {
    let unexpected = unexpected(rule, scope, "the answer is not as expected");
    let output = match &rule.output {
        // A paginated call's is the list of its items.
        None if rule.paginate.is_some() => answer.map_or_else(Payload::null, |answer| answer.body.clone()),
        None => output_of(rule.action.call().map_or(Protocol::Http, |call| call.protocol), answer),
        Some(output) => match output.eval(scope) {
            Ok(output) => output,
            Err(error) => return (None, Some(located(unexpected.unwrap_or_else(|| no_output(&error)), path, answer))),
        },
    };
    // The undo may need it all the same: the number of what was made, for example.
    let problem = unexpected.or_else(|| misfit(rules, rule.output_schema.as_ref(), &output));
    (Some(output), problem.map(|problem| located(problem, path, answer)))
}

/// Says so where what came is not as the step's `expect` says.
pub fn unexpected(rule: &Step, scope: &RunScope, title: &str) -> Option<Problem> {
    match rule.expect.as_ref()?.eval_bool(scope) {
        Ok(true) => None,
        Ok(false) => Some(Problem::new(kind::INVALID_OUTPUT, title).detail("`expect` is false")),
        Err(error) => Some(Problem::new(kind::EXPRESSION, "`expect` failed").detail(error.to_string())),
    }
}

pub fn no_output(error: &EvalError) -> Problem {
    Problem::new(kind::EXPRESSION, "`output` failed").detail(error.to_string())
}
