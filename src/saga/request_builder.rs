//! Turns the file's call into a request with every expression resolved.

use super::at::StepAt;
use crate::definition::{CallTemplate, Idempotency, KeyPlace, SagaDefinition};
use crate::expression::{EvalError, Place, Scope, TextTemplate};
use crate::payload::Payload;
use crate::problem::{Problem, kind};
use crate::request::Request;
use crate::service::Protocol;

/// The header that carries the key unless the file says otherwise.
pub const KEY_HEADER: &str = "idempotency-key";

/// Returns the problem of an expression that failed at a step.
pub fn expression_problem(definition: &SagaDefinition, step: StepAt, error: &EvalError) -> Problem {
    Problem::new(kind::EXPRESSION, "an expression failed").detail(error.to_string()).at(&step.path(definition))
}

/// Evaluates text that must be there.
pub fn text(template: &TextTemplate, scope: &dyn Scope, place: Place) -> Result<String, EvalError> {
    template
        .eval(scope, place)?
        .ok_or_else(|| EvalError { expression: String::new(), message: "gave null where text is needed".to_owned() })
}

/// Resolves a call.
///
/// # Errors
/// [`EvalError`] of the first expression that fails.
pub fn build(call: &CallTemplate, scope: &dyn Scope) -> Result<Request, EvalError> {
    let place = if call.protocol == Protocol::Nats { Place::Subject } else { Place::Path };
    let mut target = text(&call.path, scope, place)?;
    for (name, value) in &call.query {
        // A query value that is explicitly `// null` is left out.
        if let Some(value) = value.eval(scope, Place::Query)? {
            push_query(&mut target, name, &value);
        }
    }
    let mut headers = Vec::with_capacity(call.headers.len());
    for (name, value) in &call.headers {
        if let Some(value) = value.eval(scope, Place::Header)? {
            headers.push((name.clone(), value));
        }
    }
    let body = call.body.as_ref().map(|body| body.eval(scope)).transpose()?;
    Ok(Request { service: call.service.clone(), method: call.method.clone(), target, headers, body, cache: None })
}

fn push_query(target: &mut String, name: &str, encoded: &str) {
    target.push(if target.contains('?') { '&' } else { '?' });
    target.push_str(name);
    target.push('=');
    target.push_str(encoded);
}

/// Puts the key where the file wants it and returns it when it is not the engine's own. The default
/// header is added when the call leaves, so it is not stored with every request.
///
/// # Errors
/// [`EvalError`] when the value fails, or the key cannot stand in this body.
pub fn place_key(
    idempotency: &Idempotency,
    scope: &dyn Scope,
    key: &str,
    request: &mut Request,
) -> Result<Option<String>, EvalError> {
    let own = idempotency.value.as_ref().map(|value| text(value, scope, Place::Header)).transpose()?;
    let sent = own.as_deref().unwrap_or(key);
    match &idempotency.place {
        KeyPlace::Header(name) if name == KEY_HEADER => {}
        KeyPlace::Header(name) => request.headers.push((name.clone(), sent.to_owned())),
        KeyPlace::Query(name) => {
            let encoded = percent_encoding::utf8_percent_encode(sent, percent_encoding::NON_ALPHANUMERIC).to_string();
            push_query(&mut request.target, name, &encoded);
        }
        KeyPlace::Body(name) => {
            let mut body = request.body.as_ref().map(Payload::to_value).unwrap_or_else(|| serde_json::json!({}));
            let Some(members) = body.as_object_mut() else {
                return Err(EvalError {
                    expression: format!("idempotency: {{body: {name}}}"),
                    message: "the body is not an object, so the key has no place in it".to_owned(),
                });
            };
            members.insert(name.clone(), sent.into());
            request.body = Some(Payload::of(&body));
        }
    }
    Ok(own)
}
