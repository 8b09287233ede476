//! Turns "run attempt n" into the call that leaves: request, key, trace and headers from the state.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use super::spans::attempt_span;
use crate::connector::{Call, CallHeaders, Connector};
use crate::definition::{Action, Compensate, KeyPlace, SagaDefinition};
use crate::planted;
use crate::problem::{Problem, kind};
use crate::request::{Again, Attempt, Direction, Effect, Request};
use crate::saga::{SagaState, StepAt};
use crate::time::Span;

/// Builds the call of an attempt that the state has in flight. None if the state has no such attempt.
pub fn call(
    definition: &SagaDefinition,
    state: &SagaState,
    step: StepAt,
    direction: Direction,
    attempt: u32,
) -> Option<Call> {
    let rule = definition.step(step.step);
    let at = state.step(step);
    let in_header = rule.idempotency.place == KeyPlace::Header("idempotency-key".to_owned());
    let (request, key, timeout, forward_key): (&Request, Option<String>, Span, Option<String>) = match direction {
        Direction::Forward => {
            (at.request.as_deref()?, if in_header { at.key_sent() } else { None }, rule.attempt_timeout, None)
        }
        Direction::Check => (
            at.check.request.as_deref()?,
            at.check.key.map(|key| key.to_string()),
            rule.on_unknown.check.as_ref()?.timeout,
            None,
        ),
        Direction::Compensate => {
            let Compensate::Call(undo) = &rule.compensate else { return None };
            (at.undo.request.as_deref()?, at.undo.key.map(|key| key.to_string()), undo.timeout, at.key_sent())
        }
    };
    let begun = &state.begun;
    let repeated = attempt > 1 && planted::is("repeat_has_its_own_correlation_id");
    let path = step.path(definition);
    // A round of a poll is an effect of its own.
    let name = match (&rule.action, direction) {
        (Action::Poll(_), Direction::Forward) => format!("{path}#{}", at.round),
        _ => path.clone().into_owned(),
    };
    Some(Call {
        request: request.clone(),
        timeout: timeout.to_std(),
        headers: CallHeaders {
            idempotency_key: key,
            trace: state.trace.context.with_span(attempt_span(begun.run, &path, direction, attempt)),
            correlation_id: if repeated { path.to_string() } else { begun.correlation_id.clone() },
            // What a child did is undone under the child's own name.
            run: begun.undo_of.unwrap_or(begun.run).to_string(),
            step: name,
            direction,
            forward_key,
        },
    })
}

/// Sends a call. A connector that panics has an unknown outcome like any other accident.
pub async fn send(connector: &dyn Connector, call: Call) -> Attempt {
    AssertUnwindSafe(connector.call(call)).catch_unwind().await.unwrap_or_else(|_| Attempt {
        effect: Effect::Maybe,
        again: Again::Yes,
        answer: None,
        problem: Some(Problem::new(kind::UNKNOWN, "the connector failed inside; report it")),
        retry_after: None,
    })
}
