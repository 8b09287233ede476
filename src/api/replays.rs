//! Replays and subscriptions: who gets which events again, and who gets them at all.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use http::{HeaderMap, StatusCode};

use super::body::{self, Segment};
use super::dead_letters::{checked, read};
use super::problem::ApiError;
use super::routes::Api;
use super::wire::ByBody;
use crate::events::replay::{Replay, Request};
use crate::events::subscription::SubscriptionView;

/// `POST /api/v1/replays`
pub async fn begin(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Replay>), ApiError> {
    body::want_json(&headers)?;
    let bytes = body::read(&headers, body, api.body_bytes_max).await?;
    let request: Request = body::parse(&bytes)?;
    checked(request.by.as_deref())?;
    Ok((StatusCode::CREATED, Json(api.events.replay(request).await?)))
}

/// `GET /api/v1/replays`
pub async fn list(State(api): State<Api>) -> Json<Vec<Replay>> {
    Json(api.events.list_replays())
}

/// `GET /api/v1/replays/{id}`
pub async fn show(State(api): State<Api>, Segment(id): Segment) -> Result<Json<Replay>, ApiError> {
    Ok(Json(api.events.show_replay(&id)?))
}

/// `POST /api/v1/replays/{id}/cancel`
pub async fn cancel(
    State(api): State<Api>,
    Segment(id): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Replay>, ApiError> {
    let ByBody { by } = read(&api, &headers, body).await?;
    Ok(Json(api.events.cancel_replay(&id, checked(by.as_deref())?).await?))
}

/// `GET /api/v1/subscriptions`
pub async fn subscriptions(State(api): State<Api>) -> Json<Vec<SubscriptionView>> {
    Json(api.events.list_subscriptions())
}

/// `GET /api/v1/subscriptions/{name}`
pub async fn subscription(State(api): State<Api>, Segment(name): Segment) -> Result<Json<SubscriptionView>, ApiError> {
    Ok(Json(api.events.show_subscription(&name)?))
}

/// `POST /api/v1/subscriptions/{name}/enable`
pub async fn enable(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SubscriptionView>, ApiError> {
    switch(&api, &name, true, &headers, body).await
}

/// `POST /api/v1/subscriptions/{name}/disable`
pub async fn disable(
    State(api): State<Api>,
    Segment(name): Segment,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SubscriptionView>, ApiError> {
    switch(&api, &name, false, &headers, body).await
}

async fn switch(
    api: &Api,
    name: &str,
    on: bool,
    headers: &HeaderMap,
    body: Body,
) -> Result<Json<SubscriptionView>, ApiError> {
    let ByBody { by } = read(api, headers, body).await?;
    api.events.switch_subscription(name, on, checked(by.as_deref())?).await?;
    Ok(Json(api.events.show_subscription(name)?))
}
