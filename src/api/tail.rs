//! Reading events: a page of them, or one line of JSON for each as long as the reader stays.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header;
use serde::Deserialize;

use super::body::Asked;
use super::problem::ApiError;
use super::routes::Api;
use crate::events::choice::Choice;

/// Which events, from where, and whether to stay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Several with commas.
    #[serde(rename = "type")]
    types: Option<String>,
    key: Option<String>,
    correlation_id: Option<String>,
    from: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// `GET /api/v1/events`
pub async fn events(State(api): State<Api>, Asked(query): Asked<EventQuery>) -> Result<Response, ApiError> {
    let EventQuery { types, key, correlation_id, from, limit, follow } = query;
    let types = types.as_deref().map(Choice::types).transpose()?.unwrap_or_default();
    let choice = Choice { types, key, correlation_id };
    if !follow {
        let page = api.events.events(&choice, from.as_deref().unwrap_or("start"), limit).await?;
        return Ok(Json(page).into_response());
    }
    if limit.is_some() {
        return Err(ApiError::bad_request("limit does not go with follow; end the request when you have enough"));
    }
    let events = api.events.tail(choice, from.as_deref().unwrap_or("now")).await?;
    let lines = events
        .map(|event| Ok::<_, std::convert::Infallible>(Bytes::from(format!("{}\n", event.text()))))
        .take_until(api.stopping.clone().cancelled_owned());
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}
