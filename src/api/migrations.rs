//! Moving runs in flight to another version of their saga.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::HeaderMap;

use super::body::{self, Segment};
use super::dead_letters::checked;
use super::problem::ApiError;
use super::routes::Api;
use super::runs::parse_id;
use super::wire::MigrateBody;
use crate::coordinator::view::{MigrationPage, MigrationView};
use crate::coordinator::{MigrateRequest, OperateError};

/// Reads what is wanted, and where a page goes on.
async fn wanted(api: &Api, headers: &HeaderMap, body: Body) -> Result<(MigrateRequest, Option<String>), ApiError> {
    body::want_json(headers)?;
    let bytes = body::read(headers, body, api.body_bytes_max).await?;
    let MigrateBody { to, check, new_undo, by, cursor } = body::parse(&bytes)?;
    checked(by.as_deref())?;
    Ok((MigrateRequest { to, check, new_undo, by }, cursor))
}

/// `POST /api/v1/runs/{id}/migrate`
pub async fn one(
    State(api): State<Api>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MigrationView>, ApiError> {
    let run = parse_id(&id)?;
    let (request, cursor) = wanted(&api, &headers, body).await?;
    if cursor.is_some() {
        return Err(ApiError::bad_request("`cursor` is for all runs of a saga"));
    }
    let view = api.handle.migrate(run, &request).await?;
    if request.check || view.moved {
        return Ok(Json(view));
    }
    Err(OperateError::Conflict(format!("migrate: {}", view.reasons.join("; "))).into())
}

/// `POST /api/v1/sagas/{name}/migrate`
pub async fn all(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<MigrationPage>, ApiError> {
    let (request, cursor) = wanted(&api, &headers, body).await?;
    Ok(Json(api.handle.migrate_all(&name, cursor, &request).await?))
}
