//! Rollouts: a share of a saga's starts for one of its versions.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::body::{self, Segment};
use super::dead_letters::{checked, read};
use super::problem::ApiError;
use super::routes::Api;
use super::wire::{ByBody, RolloutBody};
use crate::coordinator::RolloutError;
use crate::coordinator::view::RolloutView;

impl From<RolloutError> for ApiError {
    fn from(error: RolloutError) -> Self {
        let title = error.to_string();
        match error {
            RolloutError::UnknownSaga { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no-saga", title).detail("GET /api/v1/sagas lists the loaded ones")
            }
            RolloutError::Bad(_) => Self::bad_request(title),
            RolloutError::Conflict(_) => Self::new(StatusCode::CONFLICT, "not-now", title),
            RolloutError::Journal(problem) => Self::internal(&problem),
        }
    }
}

/// `GET /api/v1/sagas/{name}/rollout`
pub async fn show(State(api): State<Api>, Segment(name): Segment) -> Result<Json<RolloutView>, ApiError> {
    match api.handle.rollout(&name)? {
        Some(rollout) => Ok(Json(rollout)),
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "not-there",
            format!("{name} has no rollout: every start takes the newest version"),
        )),
    }
}

/// `POST /api/v1/sagas/{name}/rollout`
pub async fn begin(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RolloutView>, ApiError> {
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let RolloutBody { version, percent, by } = body::parse(&bytes)?;
    let by = checked(by.as_deref())?;
    let saga = api.handle.check_rollout(&name, version, percent)?;
    let about = json!({ "saga": saga, "version": version, "percent": percent });
    api.events.note("rollout", by, None, about).await?;
    Ok(Json(api.handle.roll_out(&name, version, percent, by).await?))
}

/// `POST /api/v1/sagas/{name}/rollout/end`
pub async fn end(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let ByBody { by } = read(&api, &headers, body).await?;
    let by = checked(by.as_deref())?;
    if let Some(rollout) = api.handle.rollout(&name)? {
        api.events.note("end_rollout", by, None, json!(rollout)).await?;
    }
    api.handle.end_rollout(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
