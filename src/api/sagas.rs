//! The loaded sagas, and starting a run of one.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tracing::Instrument;

use super::body::{self, Asked, Segment};
use super::dead_letters::checked;
use super::problem::ApiError;
use super::routes::Api;
use super::runs;
use super::span::{Began, RequestSpan};
use super::wire::{LockBody, StartBody, StartedBody};
use crate::coordinator::view::{LockView, RunView, SagaView};
use crate::coordinator::{StartError, StartRequest, Started, anchor_span};
use crate::id::{RunId, SagaName};
use crate::time::Span;

/// Longer than proxies keep a silent request; who wants more asks again or follows the stream.
const WAIT_MAX: Span = Span::from_secs(300);

/// `GET /api/v1/sagas`
pub async fn list(State(api): State<Api>) -> Json<Vec<SagaView>> {
    Json(api.handle.sagas().await)
}

/// `GET /api/v1/locks`: who holds which, and who waits.
pub async fn locks(State(api): State<Api>) -> Json<Vec<LockView>> {
    Json(api.handle.locks().await)
}

/// `POST /api/v1/locks/release`: takes one from the run that holds it.
pub async fn release_lock(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<RunView>, ApiError> {
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let LockBody { name, by } = body::parse(&bytes)?;
    checked(by.as_deref())?;
    Ok(Json(api.handle.release_lock(&name, by).await?))
}

/// `GET /api/v1/sagas/{name}`: its newest version.
pub async fn show(State(api): State<Api>, Segment(name): Segment) -> Result<Json<SagaView>, ApiError> {
    let newest = api.handle.sagas().await.into_iter().filter(|saga| saga.name == name).max_by_key(|saga| saga.version);
    match newest {
        Some(newest) => Ok(Json(newest)),
        None => Err(unknown_saga(&api, &name).await),
    }
}

async fn unknown_saga(api: &Api, name: &str) -> ApiError {
    let sagas = api.handle.sagas().await;
    let near = sagas.iter().map(|saga| (strsim::damerau_levenshtein(&saga.name, name), &saga.name)).min();
    let hint = match near {
        Some((distance, near)) if distance <= 3 => format!("; did you mean `{near}`?"),
        _ => String::new(),
    };
    StartError::UnknownSaga { saga: name.to_owned(), hint }.into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartQuery {
    wait: Option<String>,
}

impl StartQuery {
    fn wait(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = &self.wait else { return Ok(None) };
        let bad = |detail: String| {
            ApiError::new(StatusCode::BAD_REQUEST, "bad-query", "the query is not understood").detail(detail)
        };
        match Span::parse(text) {
            Err(error) => Err(bad(format!("wait: {error}"))),
            Ok(span) if span > WAIT_MAX => {
                Err(bad(format!("wait: at most {WAIT_MAX}; ask again, or follow the run's stream")))
            }
            Ok(span) => Ok(Some(span.to_std())),
        }
    }
}

/// `POST /api/v1/sagas/{name}/runs`
pub async fn start(
    State(api): State<Api>,
    Segment(name): Segment,
    Asked(query): Asked<StartQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wait = query.wait()?;
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let asked: StartBody = if bytes.is_empty() { StartBody::default() } else { body::parse(&bytes)? };
    for (what, text) in [("key", &asked.key), ("correlation_id", &asked.correlation_id)] {
        text.as_deref().map_or(Ok(()), |text| body::check_text(what, text))?;
    }
    let Ok(saga) = SagaName::parse(&name) else { return Err(unknown_saga(&api, &name).await) };
    let span = RequestSpan::open(api.handle.span_sink(), "POST /api/v1/sagas/{name}/runs", &headers);
    let request = StartRequest {
        saga,
        version: asked.version,
        input: asked.input,
        key: asked.key,
        correlation_id: asked.correlation_id,
        trace: Some(span.trace()),
    };
    let mut began = Began { correlation_id: request.correlation_id.clone(), ..Began::default() };
    let answer = begin(&api, request, wait, (&span, &mut began)).instrument(span.log.clone()).await;
    span.answered(answer.as_ref().map(Response::status), &began);
    answer
}

async fn begin(
    api: &Api,
    request: StartRequest,
    wait: Option<Duration>,
    (span, began): (&RequestSpan, &mut Began),
) -> Result<Response, ApiError> {
    let (run, created) = match api.handle.start(request).await? {
        Started::Created(run) => (run, true),
        Started::Existing(run) => (run, false),
    };
    span.log.record("run", tracing::field::display(run));
    began.run = Some(run.to_string());
    // A run that there was already has a trace of its own.
    began.first = created.then(|| span.trace().with_span(anchor_span(run)));
    let location = [(header::LOCATION, format!("/api/v1/runs/{run}"))];
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let Some(wait) = wait else {
        return Ok((status, location, Json(StartedBody { id: run })).into_response());
    };
    let view = wait_for(api, run, wait).await?;
    let at_rest = runs::is_at_rest(&view.state);
    Ok((if at_rest { status } else { StatusCode::ACCEPTED }, location, Json(view)).into_response())
}

/// Waits for a run to end or park; answers early when this process stops.
async fn wait_for(api: &Api, run: RunId, wait: Duration) -> Result<RunView, ApiError> {
    let waited = tokio::select! {
        view = api.handle.wait(run, wait) => view,
        () = api.stopping.cancelled() => None,
    };
    match waited {
        Some(view) => Ok(view),
        None => api
            .handle
            .show(run)
            .await
            .map_err(|problem| ApiError::internal(&problem))?
            .ok_or_else(|| ApiError::no_run(run)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        type Row = (&'static str, Option<&'static str>, Result<Option<u64>, u16>);
        let rows: &[Row] = &[
            ("none", None, Ok(None)),
            ("seconds", Some("30s"), Ok(Some(30_000))),
            ("zero", Some("0s"), Ok(Some(0))),
            ("no unit", Some("30"), Err(400)),
            ("too long", Some("1h"), Err(400)),
        ];
        for (why, text, expected) in rows {
            let wait = StartQuery { wait: text.map(str::to_owned) }.wait();
            let wait =
                wait.map(|wait| wait.map(|wait| wait.as_millis() as u64)).map_err(|error| error.details().status);
            assert_eq!(wait, *expected, "{why}");
        }
    }
}
