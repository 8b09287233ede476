//! Runs: list, show, history, and the operator's commands.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::body::{self, Asked, Segment};
use super::problem::ApiError;
use super::routes::Api;
use super::wire::OperateBody;
use crate::coordinator::Operation;
use crate::coordinator::view::{HistoryEntry, RunFilter, RunPage, RunView};
use crate::id::RunId;
use crate::payload::Payload;
use crate::time::Span;

/// LANGUAGE "Runs".
pub const STATES: [&str; 8] =
    ["running", "waiting", "paused", "settling", "compensating", "parked", "completed", "compensated"];
/// The most runs on one page: about 500 KiB.
const LIMIT_MAX: usize = 1_000;

/// True for a state in which nothing more happens by itself.
pub fn is_at_rest(state: &str) -> bool {
    state == "parked" || is_final(state)
}

/// True for a state that is never left.
pub fn is_final(state: &str) -> bool {
    matches!(state, "completed" | "compensated")
}

/// Reads a run's id out of the path.
pub fn parse_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "`{text}` is no run id; it is a UUID such as 62e7b8b3-17f5-5744-8f71-b8115137432f"
        ))
    })
}

/// The query of a list; unlike the filter it refuses what it does not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    saga: Option<String>,
    state: Option<String>,
    correlation_id: Option<String>,
    key: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl ListQuery {
    fn into_filter(self) -> RunFilter {
        let Self { saga, state, correlation_id, key, since, limit, cursor } = self;
        RunFilter { saga, state, correlation_id, key, since, limit, cursor }
    }
}

/// `GET /api/v1/runs`
pub async fn list(State(api): State<Api>, Asked(query): Asked<ListQuery>) -> Result<Json<RunPage>, ApiError> {
    let filter = query.into_filter();
    check_filter(&filter)?;
    let page = api.handle.list(filter).await.map_err(|problem| match problem.kind.as_str() {
        "bad_filter" | "bad_cursor" => ApiError::new(StatusCode::BAD_REQUEST, "bad-query", problem.title),
        _ => ApiError::internal(&problem),
    })?;
    Ok(Json(page))
}

fn check_filter(filter: &RunFilter) -> Result<(), ApiError> {
    let bad = |detail: String| {
        Err(ApiError::new(StatusCode::BAD_REQUEST, "bad-query", "the query is not understood").detail(detail))
    };
    if let Some(state) = filter.state.as_deref().filter(|state| !STATES.contains(state)) {
        return bad(format!("state: `{state}` is none; there are {}", STATES.join(", ")));
    }
    if let Some(limit) = filter.limit.filter(|limit| !(1..=LIMIT_MAX).contains(limit)) {
        return bad(format!("limit: {limit} is not between 1 and {LIMIT_MAX}"));
    }
    match filter.since.as_deref() {
        Some(since) if Span::parse(since).is_err() && since.parse::<jiff::Timestamp>().is_err() => bad(format!(
            "since: `{since}` is neither a duration back from now (1h) nor RFC 3339 (2026-01-31T12:00:00Z)"
        )),
        _ => Ok(()),
    }
}

/// `GET /api/v1/runs/{id}`
pub async fn show(State(api): State<Api>, Segment(id): Segment) -> Result<Json<RunView>, ApiError> {
    let run = parse_id(&id)?;
    let view = api.handle.show(run).await.map_err(|problem| ApiError::internal(&problem))?;
    view.map(Json).ok_or_else(|| ApiError::no_run(run))
}

/// `GET /api/v1/runs/{id}/history`
pub async fn history(State(api): State<Api>, Segment(id): Segment) -> Result<Json<Vec<HistoryEntry>>, ApiError> {
    let run = parse_id(&id)?;
    let history = api.handle.history(run).await.map_err(|problem| ApiError::internal(&problem))?;
    history.map(Json).ok_or_else(|| ApiError::no_run(run))
}

/// The operator's commands and their paths.
pub const COMMANDS: [(&str, &str); 7] = [
    ("cancel", "/api/v1/runs/{id}/cancel"),
    ("pause", "/api/v1/runs/{id}/pause"),
    ("resume", "/api/v1/runs/{id}/resume"),
    ("retry", "/api/v1/runs/{id}/retry"),
    ("skip", "/api/v1/runs/{id}/skip"),
    ("resolve", "/api/v1/runs/{id}/resolve"),
    ("answer", "/api/v1/runs/{id}/answer"),
];

/// `POST /api/v1/runs/{id}/{command}`
pub async fn operate(
    State(api): State<Api>,
    command: &'static str,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RunView>, ApiError> {
    let run = parse_id(&id)?;
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let asked: OperateBody = if bytes.is_empty() { OperateBody::default() } else { body::parse(&bytes)? };
    if command == "answer" {
        let (step, by, answer) = answer(asked)?;
        return Ok(Json(api.handle.answer(run, step, by, answer).await?));
    }
    let operation = operation(command, asked)?;
    Ok(Json(api.handle.operate(run, operation).await?))
}

/// Reads the body of an answer.
fn answer(asked: OperateBody) -> Result<(String, String, Payload), ApiError> {
    let wanted = "say which step, who answers and what: {\"step\": \"approve\", \"by\": \"ann\", \"answer\": {…}}";
    let OperateBody { step: Some(step), by: Some(by), answer: Some(answer), .. } = asked else {
        return Err(ApiError::bad_request(wanted));
    };
    body::check_text("by", &by)?;
    if by.is_empty() {
        return Err(ApiError::bad_request(wanted));
    }
    Ok((step, by, answer))
}

/// Turns a command and its body into an operation; a member that belongs to another command is an error.
fn operation(command: &str, asked: OperateBody) -> Result<Operation, ApiError> {
    let members = [
        ("reason", asked.reason.is_some(), "cancel"),
        ("new_key", asked.new_key.is_some(), "retry"),
        ("done", asked.done.is_some(), "resolve"),
        ("output", asked.output.is_some(), "resolve"),
        ("step", asked.step.is_some(), "answer"),
        ("by", asked.by.is_some(), "answer"),
        ("answer", asked.answer.is_some(), "answer"),
    ];
    if let Some((member, _, owner)) = members.iter().find(|(_, given, owner)| *given && *owner != command) {
        return Err(ApiError::bad_request(format!("`{member}` belongs to {owner}, not to {command}")));
    }
    Ok(match (command, asked.done) {
        ("cancel", _) => {
            if let Some(reason) = &asked.reason {
                body::check_text("reason", reason)?;
            }
            Operation::Cancel { reason: asked.reason }
        }
        ("pause", _) => Operation::Pause,
        ("resume", _) => Operation::Resume,
        ("retry", _) => Operation::Retry { new_key: asked.new_key.unwrap_or(false) },
        ("skip", _) => Operation::Skip,
        ("resolve", Some(true)) => Operation::ResolveDone { output: asked.output },
        ("resolve", Some(false)) if asked.output.is_none() => Operation::ResolveNotDone,
        ("resolve", Some(false)) => return Err(ApiError::bad_request("`output` goes with `done: true` only")),
        _ => {
            return Err(ApiError::bad_request(
                "say what you found out: {\"done\": true} (it did happen, `output` may follow) or {\"done\": false}",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations() {
        let output = || Some(Payload::parse("1").unwrap());
        let rows: &[(&str, &str, &str, Option<Operation>)] = &[
            ("cancel", "cancel", "{}", Some(Operation::Cancel { reason: None })),
            ("with a reason", "cancel", r#"{"reason":"a"}"#, Some(Operation::Cancel { reason: Some("a".into()) })),
            ("retry", "retry", "{}", Some(Operation::Retry { new_key: false })),
            ("a new key", "retry", r#"{"new_key":true}"#, Some(Operation::Retry { new_key: true })),
            ("done", "resolve", r#"{"done":true,"output":1}"#, Some(Operation::ResolveDone { output: output() })),
            ("not done", "resolve", r#"{"done":false}"#, Some(Operation::ResolveNotDone)),
            ("not done with output", "resolve", r#"{"done":false,"output":1}"#, None),
            ("nothing said", "resolve", "{}", None),
            ("another's member", "pause", r#"{"reason":"a"}"#, None),
        ];
        for (why, command, text, expected) in rows {
            let asked: OperateBody = body::parse(text.as_bytes()).unwrap();
            assert_eq!(operation(command, asked).ok(), *expected, "{why}");
        }
        assert!(body::parse::<OperateBody>(br#"{"reson":"a"}"#).is_err(), "an unknown member");
    }

    #[test]
    fn filters() {
        let rows: &[(&str, RunFilter, bool)] = &[
            ("nothing", RunFilter::default(), true),
            ("a state", RunFilter { state: Some("parked".into()), ..RunFilter::default() }, true),
            ("no state", RunFilter { state: Some("stuck".into()), ..RunFilter::default() }, false),
            ("limit zero", RunFilter { limit: Some(0), ..RunFilter::default() }, false),
            ("limit too high", RunFilter { limit: Some(1_001), ..RunFilter::default() }, false),
            ("an hour back", RunFilter { since: Some("1h".into()), ..RunFilter::default() }, true),
            ("a date", RunFilter { since: Some("2026-01-31T12:00:00Z".into()), ..RunFilter::default() }, true),
            ("neither", RunFilter { since: Some("yesterday".into()), ..RunFilter::default() }, false),
        ];
        for (why, filter, good) in rows {
            assert_eq!(check_filter(filter).is_ok(), *good, "{why}");
        }
    }
}
