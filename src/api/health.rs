//! Is it alive, does it take work, what are the figures.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use super::routes::Api;

/// `GET /healthz`: the process answers.
pub async fn health() -> Response {
    Json(serde_json::json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

/// `GET /readyz`: 200 when work is taken, 503 when not, with every part either way.
pub async fn readiness(State(api): State<Api>) -> Response {
    let mut readiness = api.handle.readiness();
    if api.stopping.is_cancelled() {
        readiness.ready = false;
    }
    if readiness.ready {
        return Json(readiness).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "2")], Json(readiness)).into_response()
}

/// `GET /metrics`: the Prometheus text format.
pub async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], api.handle.metrics().await).into_response()
}
