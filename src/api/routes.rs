//! The table of routes: path, methods, handler. What is not in it is answered with a problem as well.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;

use super::body::Segment;
use super::guard::{Guard, guard};
use super::problem::ApiError;
use super::registry::Loading;
use super::webhooks::Webhooks;
use super::{
    dead_letters, events, health, journal, migrations, openapi, registry, replays, rollouts, runs, sagas, stream, tail,
    webhooks,
};
use crate::coordinator::{Handle, SystemClock};
use crate::events::Events;

/// What every handler has at hand.
#[derive(Clone)]
pub struct Api {
    pub handle: Handle,
    pub events: Events,
    pub loading: Arc<Loading>,
    pub webhooks: Arc<Webhooks>,
    pub body_bytes_max: usize,
    /// Cancelled when the process begins to stop: waits and streams end.
    pub stopping: CancellationToken,
    pub clock: Arc<SystemClock>,
}

/// One path of the API.
pub struct Route {
    pub path: &'static str,
    /// In lower case, as OpenAPI has them; axum does not tell them back.
    #[cfg(test)]
    pub method: &'static str,
    handler: MethodRouter<Api>,
}

fn on_get<T: 'static>(path: &'static str, handler: impl Handler<T, Api>) -> Route {
    Route {
        path,
        #[cfg(test)]
        method: "get",
        handler: get(handler),
    }
}

fn on_post<T: 'static>(path: &'static str, handler: impl Handler<T, Api>) -> Route {
    Route {
        path,
        #[cfg(test)]
        method: "post",
        handler: post(handler),
    }
}

/// Returns every route.
pub fn routes() -> Vec<Route> {
    let mut routes = vec![
        on_get("/healthz", health::health),
        on_get("/readyz", health::readiness),
        on_get("/metrics", health::metrics),
        on_get("/openapi.json", openapi::serve),
        on_get("/api/v1/events", tail::events),
        on_post("/api/v1/events", events::publish_cloud_events),
        on_post("/api/v1/events/{type}", events::publish),
        on_get("/api/v1/replays", replays::list),
        on_post("/api/v1/replays", replays::begin),
        on_get("/api/v1/replays/{id}", replays::show),
        on_post("/api/v1/replays/{id}/cancel", replays::cancel),
        on_get("/api/v1/subscriptions", replays::subscriptions),
        on_get("/api/v1/subscriptions/{name}", replays::subscription),
        on_post("/api/v1/subscriptions/{name}/enable", replays::enable),
        on_post("/api/v1/subscriptions/{name}/disable", replays::disable),
        on_get("/api/v1/dead-letters", dead_letters::list),
        on_post("/api/v1/dead-letters/redrive", dead_letters::redrive_all),
        on_post("/api/v1/dead-letters/drop", dead_letters::drop_all),
        on_get("/api/v1/dead-letters/{sequence}", dead_letters::show),
        on_post("/api/v1/dead-letters/{sequence}/redrive", dead_letters::redrive),
        on_post("/api/v1/dead-letters/{sequence}/drop", dead_letters::drop_one),
        on_get("/api/v1/audit", dead_letters::audit),
        on_get("/api/v1/schemas", registry::list),
        on_get("/api/v1/schemas/{type}", registry::show),
        on_get("/api/v1/schemas/{type}/{version}", registry::version),
        on_post("/api/v1/schemas/check", registry::check),
        on_post("/api/v1/reload", registry::reload),
        on_get("/api/v1/locks", sagas::locks),
        on_post("/api/v1/locks/release", sagas::release_lock),
        on_get("/api/v1/sagas", sagas::list),
        on_get("/api/v1/sagas/{name}", sagas::show),
        on_post("/api/v1/sagas/{name}/runs", sagas::start),
        on_get("/api/v1/sagas/{name}/rollout", rollouts::show),
        on_post("/api/v1/sagas/{name}/rollout", rollouts::begin),
        on_post("/api/v1/sagas/{name}/rollout/end", rollouts::end),
        on_post("/api/v1/sagas/{name}/migrate", migrations::all),
        on_post("/api/v1/runs/{id}/migrate", migrations::one),
        on_get("/api/v1/runs", runs::list),
        on_get("/api/v1/runs/{id}", runs::show),
        on_get("/api/v1/runs/{id}/history", runs::history),
        on_get("/api/v1/runs/{id}/stream", stream::run),
        on_get("/api/v1/stream", stream::all),
        on_post("/webhooks/{name}", webhooks::receive),
        on_post("/api/v1/journal/verify", journal::verify),
        on_post("/api/v1/journal/backup", journal::back_up),
        on_get("/api/v1/journal/export", journal::export),
    ];
    for (command, path) in runs::COMMANDS {
        let handler = move |api: State<Api>, id: Segment, headers: HeaderMap, body: Body| {
            runs::operate(api, command, id, headers, body)
        };
        routes.push(on_post(path, handler));
    }
    routes
}

/// Puts routes, answers for all else, and the guard together.
pub fn router(api: Api, guard_state: Arc<Guard>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        router = router.route(route.path, route.handler);
    }
    finish(router.with_state(api), guard_state)
}

/// Adds what does not depend on a route.
fn finish(router: Router, guard_state: Arc<Guard>) -> Router {
    router
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(guard_state, guard))
}

async fn not_found(request: Request) -> Response {
    ApiError::new(StatusCode::NOT_FOUND, "no-route", format!("there is nothing at {}", request.uri().path()))
        .detail("GET /openapi.json lists every path")
        .into_response()
}

async fn wrong_method(request: Request) -> Response {
    let title = format!("{} is not taken at {}", request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", title)
        .detail("the Allow header names the method that is")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resilience::RatePolicy;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    /// A router with one route that needs no runs.
    fn toy() -> Router {
        let guard = Guard::new(None, RatePolicy::parse("1000/s").unwrap(), Arc::new(SystemClock));
        finish(Router::new().route("/healthz", get(health::health)), Arc::new(guard))
    }

    #[tokio::test]
    async fn what_is_not_there_answers_with_a_problem() {
        let rows: &[(&str, &str, &str, u16)] = &[
            ("there", "GET", "/healthz", 200),
            ("HEAD goes with GET", "HEAD", "/healthz", 200),
            ("no such path", "GET", "/api/v2/runs", 404),
            ("wrong method", "POST", "/healthz", 405),
            ("a method of nobody", "BREW", "/healthz", 405),
        ];
        for (why, method, path, status) in rows {
            let request = Request::builder().method(*method).uri(*path).header("host", "localhost");
            let answer = toy().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status().as_u16(), *status, "{why}");
            if *status >= 400 {
                assert_eq!(answer.headers()["content-type"], "application/problem+json", "{why}");
            }
            if *status == 405 {
                assert_eq!(answer.headers()["allow"], "GET,HEAD", "{why}");
                let body = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(String::from_utf8_lossy(&body).contains("is not taken at /healthz"), "{why}");
            }
        }
    }
}
