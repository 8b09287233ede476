//! Dead letters and what was done to them: list, show, give again, drop, audit.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::body::{self, Asked, Segment};
use super::problem::ApiError;
use super::routes::Api;
use super::wire::{AuditPage, ByBody, RedriveBody, SomeLettersBody};
use crate::events::filter::LetterFilter;
use crate::events::view::{Done, LetterPage, LetterView};

/// The query of a list: a filter, and which page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    consumer: Option<String>,
    reason: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    key: Option<String>,
    since: Option<String>,
    until: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/v1/dead-letters`
pub async fn list(State(api): State<Api>, Asked(query): Asked<ListQuery>) -> Result<Json<LetterPage>, ApiError> {
    let ListQuery { consumer, reason, event_type, key, since, until, cursor, limit } = query;
    let filter = LetterFilter { consumer, reason, event_type, key, since, until };
    Ok(Json(api.events.letters(filter, cursor.as_deref(), limit).await?))
}

/// `GET /api/v1/dead-letters/{sequence}`
pub async fn show(State(api): State<Api>, Segment(sequence): Segment) -> Result<Json<LetterView>, ApiError> {
    Ok(Json(api.events.letter(number(&sequence)?).await?))
}

/// `POST /api/v1/dead-letters/{sequence}/redrive`
pub async fn redrive(
    State(api): State<Api>,
    Segment(sequence): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, ApiError> {
    let sequence = number(&sequence)?;
    let RedriveBody { data, by } = read(&api, &headers, body).await?;
    api.events.redrive(sequence, data, checked(by.as_deref())?).await?;
    Ok(Json(Done { done: vec![sequence], ..Done::default() }))
}

/// `POST /api/v1/dead-letters/{sequence}/drop`
pub async fn drop_one(
    State(api): State<Api>,
    Segment(sequence): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, ApiError> {
    let sequence = number(&sequence)?;
    let ByBody { by } = read(&api, &headers, body).await?;
    api.events.drop_letter(sequence, checked(by.as_deref())?).await?;
    Ok(Json(Done { done: vec![sequence], ..Done::default() }))
}

/// `POST /api/v1/dead-letters/redrive`
pub async fn redrive_all(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<Done>, ApiError> {
    let SomeLettersBody { filter, by } = read(&api, &headers, body).await?;
    Ok(Json(api.events.redrive_all(filter, checked(by.as_deref())?).await?))
}

/// `POST /api/v1/dead-letters/drop`
pub async fn drop_all(State(api): State<Api>, headers: HeaderMap, body: Body) -> Result<Json<Done>, ApiError> {
    let SomeLettersBody { filter, by } = read(&api, &headers, body).await?;
    Ok(Json(api.events.drop_all(filter, checked(by.as_deref())?).await?))
}

/// Where the audit is read from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    from: Option<u64>,
}

/// `GET /api/v1/audit`
pub async fn audit(State(api): State<Api>, Asked(query): Asked<AuditQuery>) -> Result<Json<AuditPage>, ApiError> {
    let (entries, next) = api.events.audit(query.from.unwrap_or(1)).await?;
    Ok(Json(AuditPage { entries, next }))
}

fn number(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "`{text}` is no number of a dead letter; GET /api/v1/dead-letters shows them as `sequence`"
        ))
    })
}

pub(super) fn checked(by: Option<&str>) -> Result<Option<&str>, ApiError> {
    by.map(|by| body::check_text("by", by).map(|()| by)).transpose()
}

/// Reads a body that may be left out.
pub(super) async fn read<T: DeserializeOwned + Default>(
    api: &Api,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, ApiError> {
    body::want_json(headers)?;
    let bytes = body::read(headers, body, api.body_bytes_max).await?;
    if bytes.is_empty() { Ok(T::default()) } else { body::parse(&bytes) }
}
