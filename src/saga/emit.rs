//! Builds the events that a run emits. Their ids are derived, so that a repeat is the same event.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::fact::{Emission, Fact};
use super::input::Rules;
use super::request_builder::text;
use super::scope::RunScope;
use super::state::SagaState;
use crate::definition::EmitTemplate;
use crate::envelope::Event;
use crate::expression::{EvalError, Place};
use crate::id::RunId;
use crate::payload::Payload;
use crate::time::Timestamp;
use crate::trace_context::SpanId;

/// Why an event was not built.
pub enum Unbuilt {
    Expression(EvalError),
    /// The data breaks the event's schema.
    Invalid(String),
}

/// Builds a step's or an undo's event: an expression that fails or data that breaks the schema is an error.
pub fn strict(
    rules: &Rules,
    scope: &RunScope,
    emission: Emission,
    template: &EmitTemplate,
    now: Timestamp,
) -> Result<Fact, Unbuilt> {
    let data = template.data.eval(scope).map_err(Unbuilt::Expression)?;
    let key =
        template.key.as_ref().map(|key| text(key, scope, Place::Plain)).transpose().map_err(Unbuilt::Expression)?;
    (rules.check_event)(&template.event, &data).map_err(Unbuilt::Invalid)?;
    Ok(fact(scope.state, emission, template, data, key, None, scope.state.emitted, now, rules))
}

/// Builds a `finally` event: fields that fail are left out and noted, and an event that then breaks its
/// schema goes to dead letters. The run's end stands in any case.
pub fn lenient(
    rules: &Rules,
    scope: &RunScope,
    emission: Emission,
    template: &EmitTemplate,
    number: u64,
    now: Timestamp,
) -> Vec<Fact> {
    let (data, failed) = template.data.eval_fields(scope);
    let mut notes: Vec<String> =
        failed.iter().map(|(field, error)| format!("finally: field `{field}` left out: {error}")).collect();
    let key = template.key.as_ref().and_then(|key| match text(key, scope, Place::Plain) {
        Ok(key) => Some(key),
        Err(error) => {
            notes.push(format!("finally: partition key left out: {error}"));
            None
        }
    });
    let dead = (rules.check_event)(&template.event, &data).err();
    if let Some(why) = &dead {
        notes.push(format!("finally: {} goes to dead letters: {why}", template.event));
    }
    let mut facts: Vec<Fact> = notes.into_iter().map(|text| Fact::Noted { text }).collect();
    facts.push(fact(scope.state, emission, template, data, key, dead, number, now, rules));
    facts
}

/// Returns the span of an emitted event, from what its fact has of it.
#[must_use]
pub fn emitted_span(run: RunId, id: &str) -> SpanId {
    SpanId::derived(&[run.0.as_bytes(), b"emitted", id.as_bytes()])
}

#[expect(clippy::too_many_arguments, reason = "one private constructor that names each part of an event")]
fn fact(
    state: &SagaState,
    emission: Emission,
    template: &EmitTemplate,
    data: Payload,
    partition_key: Option<String>,
    dead: Option<String>,
    number: u64,
    now: Timestamp,
    rules: &Rules,
) -> Fact {
    let begun = &state.begun;
    let name = match emission {
        Emission::Step(step) => format!("{}|emit|{}", step.path(rules.definition), state.step(step).key_number),
        Emission::Undo(step) => format!("{}|undo_emit", step.path(rules.definition)),
        Emission::Completed => "finally|completed".to_owned(),
        Emission::Compensated => "finally|compensated".to_owned(),
        // The parking that causes it is already counted.
        Emission::Parked => format!("finally|parked|{}", state.parkings),
    };
    let id = Uuid::new_v5(&begun.run.0, name.as_bytes()).to_string();
    let span = emitted_span(begun.run, &id);
    let event = Event {
        id: id.clone(),
        source: format!("/sagas/{}", begun.saga),
        event_type: template.event.clone(),
        time: Some(now.to_string()),
        subject: None,
        dataschema: None,
        correlation_id: Some(begun.correlation_id.clone()),
        causation_id: Some(begun.causation_id.clone().unwrap_or_else(|| begun.run.to_string())),
        partition_key,
        trace: Some(state.trace.context.with_span(span)),
        extensions: BTreeMap::from([("sagarun".to_owned(), begun.run.to_string())]),
        data,
    };
    Fact::EventEmitted { emission, id, event: template.event.clone(), number, dead, content: Some(Arc::new(event)) }
}
