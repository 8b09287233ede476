//! The API's description in OpenAPI 3.1: `GET /openapi.json`. A test holds it and the routes equal.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};

use crate::api::runs::{COMMANDS, STATES};
use crate::api::schemas;

mod event_side;
mod journal_side;
mod registry_side;

/// `GET /openapi.json`
pub async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// Builds the document.
pub fn document() -> Value {
    let mut paths = json!({
        "/healthz": { "get": op("health", "Is the process alive", &[], answers(&[(200, "it is", object())])) },
        "/readyz": { "get": op("readiness", "Is work taken, part by part", &[],
            answers(&[(200, "it is", schema("Readiness")), (503, "it is not", schema("Readiness"))])) },
        "/metrics": { "get": op("metrics", "The figures in Prometheus' text format", &[],
            json!({ "200": { "description": "the page", "content": { "text/plain": { "schema": { "type": "string" } } } } })) },
        "/openapi.json": { "get": op("openapi", "This document", &[], answers(&[(200, "it", object())])) },
        "/api/v1/events": { "get": event_side::events(), "post": cloud_events() },
        "/api/v1/events/{type}": { "post": publish() },
        "/api/v1/locks": { "get": op("listLocks", "The semantic locks: who holds them, who waits", &[],
            answers(&[(200, "at most 1,000 by name, each with 50 runs", list("Lock"))])) },
        "/api/v1/locks/release": { "post": with_body(
            op("releaseLock", "Takes a lock from the run that holds it, which must be parked or paused", &[],
                answers(&[(200, "the run, which goes on without it; durable", schema("Run")), (409, "nobody holds it, or a run that is at work", problem())])),
            json_body(schema("LockToRelease")), true) },
        "/api/v1/sagas": { "get": op("listSagas", "The loaded sagas", &[], answers(&[(200, "by name, newest version first", list("Saga"))])) },
        "/api/v1/sagas/{name}": { "get": op("showSaga", "A saga's newest version", &[path("name", "the saga's name")],
            answers(&[(200, "the saga", schema("Saga")), (404, "no such saga", problem())])) },
        "/api/v1/sagas/{name}/runs": { "post": start() },
        "/api/v1/sagas/{name}/rollout": {
            "get": op("showRollout", "A saga's rollout", &[path("name", "the saga's name")],
                answers(&[(200, "the rollout", schema("Rollout")), (404, "no such saga, or no rollout", problem())])),
            "post": with_body(op("rollOut", "Lets a share of a saga's starts take a version; the others take the newest of the other versions",
                &[path("name", "the saga's name")],
                answers(&[
                    (200, "the rollout; durable", schema("Rollout")),
                    (400, "malformed", problem()),
                    (404, "no such saga", problem()),
                    (409, "the version is not loaded, or is the only one", problem()),
                ])), json_body(schema("RolloutWanted")), true) },
        "/api/v1/sagas/{name}/rollout/end": {
            "post": with_body(op("endRollout", "Ends a rollout: every start takes the newest version",
                &[path("name", "the saga's name")],
                json!({ "204": { "description": "ended; durable" }, "404": problem(), "409": problem() })),
                json_body(schema("By")), false) },
        "/api/v1/sagas/{name}/migrate": {
            "post": with_body(op("migrateAll", "Moves the open runs of a saga that are on other versions, up to 200 in one go, or says which could",
                &[path("name", "the saga's name")],
                answers(&[(200, "each run, with why it cannot move", schema("MigrationPage")), (409, "the version is not loaded", problem())])),
                json_body(schema("Migrate")), true) },
        "/api/v1/runs/{id}/migrate": {
            "post": with_body(op("migrateRun", "Moves a run to another version of its saga in one journaled step, or says whether it could",
                &[run_id()],
                answers(&[(200, "moved, or with `check` whether it could be", schema("Migration")), (404, "no such run", problem()),
                    (409, "it cannot move; every reason", problem())])),
                json_body(schema("Migrate")), true) },
        "/api/v1/runs": { "get": list_runs() },
        "/api/v1/runs/{id}": { "get": op("showRun", "A run", &[run_id()],
            answers(&[(200, "the run", schema("Run")), (404, "no such run", problem())])) },
        "/api/v1/runs/{id}/history": { "get": op("history", "A run's facts in order", &[run_id()],
            answers(&[(200, "the facts", list("HistoryEntry")), (404, "no such run", problem())])) },
        "/api/v1/runs/{id}/stream": { "get": stream("streamRun",
            "Follows a run: `fact` events from its first fact, or behind Last-Event-ID, then `end` with the whole run",
            &[run_id(), header_parameter("Last-Event-ID", "the last sequence seen")]) },
        "/webhooks/{name}": { "post": webhook() },
        "/api/v1/stream": { "get": stream("streamAll", "Follows all runs from now on: `fact` events", &[]) },
    });
    for (path, operations) in event_side::paths().into_iter().chain(journal_side::paths()).chain(registry_side::paths())
    {
        paths[path] = operations;
    }
    for (command, path) in COMMANDS {
        paths[path] = json!({ "post": operate(command) });
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Backstitch",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Publish events, start and follow saga runs, operate on them. Errors are RFC 9457 problem details.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer",
                "description": "Needed as soon as the API listens beyond loopback; /healthz and /readyz are open." } },
            "schemas": all_schemas(),
        },
    })
}

fn all_schemas() -> Value {
    let (mut all, more) = (schemas::all(), event_side::schemas());
    for (name, schema) in more.as_object().into_iter().flatten() {
        all[name] = schema.clone();
    }
    all
}

/// Returns every (path, method) of the document.
#[must_use]
pub fn described_routes() -> Vec<(String, String)> {
    let document = document();
    let paths = document["paths"].as_object().into_iter().flatten();
    let methods = |(path, methods): (&String, &Value)| -> Vec<(String, String)> {
        methods.as_object().into_iter().flatten().map(|(method, _)| (path.clone(), method.clone())).collect()
    };
    paths.flat_map(methods).collect()
}

fn op(id: &str, summary: &str, parameters: &[Value], responses: Value) -> Value {
    let mut responses = responses;
    // Every route may answer these: wrong token, too fast, our own fault.
    responses["default"] =
        json!({ "description": "a problem", "content": { "application/problem+json": { "schema": problem() } } });
    json!({ "operationId": id, "summary": summary, "parameters": parameters, "responses": responses })
}

fn answers(rows: &[(u16, &str, Value)]) -> Value {
    let mut all = json!({});
    for (status, description, schema) in rows {
        let media = if *schema == problem() { "application/problem+json" } else { "application/json" };
        let mut answer = json!({ "description": description, "content": { media: { "schema": schema } } });
        if *status == 503 || *status == 429 {
            answer["headers"] = json!({ "Retry-After": { "description": "seconds", "schema": { "type": "integer" } } });
        }
        all[status.to_string()] = answer;
    }
    all
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list(name: &str) -> Value {
    json!({ "type": "array", "items": schema(name) })
}

fn object() -> Value {
    json!({ "type": "object" })
}

fn problem() -> Value {
    schema("Problem")
}

fn parameter(place: &str, name: &str, description: &str) -> Value {
    json!({ "name": name, "in": place, "description": description, "required": place == "path", "schema": { "type": "string" } })
}

fn path(name: &str, description: &str) -> Value {
    parameter("path", name, description)
}

fn query(name: &str, description: &str) -> Value {
    parameter("query", name, description)
}

fn header_parameter(name: &str, description: &str) -> Value {
    parameter("header", name, description)
}

fn run_id() -> Value {
    let mut id = path("id", "the run's id");
    id["schema"]["format"] = json!("uuid");
    id
}

fn with_body(mut operation: Value, content: Value, required: bool) -> Value {
    operation["requestBody"] = json!({ "required": required, "content": content });
    operation
}

fn json_body(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn publish_problems(accepted: Value) -> Value {
    answers(&[
        (202, "stored by the bus", accepted),
        (400, "malformed", problem()),
        (413, "too large", problem()),
        (415, "not JSON", problem()),
        (422, "breaks its schema; `errors` has every JSON pointer", problem()),
        (503, "NATS is away; nothing was accepted", problem()),
    ])
}

fn publish() -> Value {
    let parameters = [
        path("type", "the event type with its version, order.placed.v2"),
        query("key", "partition key; header ce-partitionkey"),
        query("correlation_id", "header Correlation-Id"),
        query("id", "the same id again is the same event; header Idempotency-Key"),
        query("source", "a URI reference; header ce-source"),
        header_parameter("traceparent", "the caller's trace, continued"),
    ];
    let operation =
        op("publish", "Publishes an event; the body is its data", &parameters, publish_problems(schema("Accepted")));
    with_body(operation, json_body(json!({})), false)
}

fn cloud_events() -> Value {
    let accepted = json!({ "oneOf": [schema("Accepted"), list("Accepted")] });
    let operation = op(
        "publishCloudEvents",
        "Publishes CloudEvents 1.0 in structured, binary (ce- headers) or batch mode; a batch answers an array",
        &[],
        publish_problems(accepted),
    );
    let content = json!({
        "application/cloudevents+json": { "schema": object() },
        "application/cloudevents-batch+json": { "schema": { "type": "array", "items": object() } },
        "application/json": { "schema": {} },
    });
    with_body(operation, content, true)
}

fn start() -> Value {
    let parameters = [
        path("name", "the saga's name"),
        query("wait", "wait until the run has ended or parked, at most this long: 30s, at most 5m"),
        header_parameter("traceparent", "the caller's trace, continued"),
    ];
    let started = json!({ "oneOf": [schema("Started"), schema("Run")] });
    let responses = answers(&[
        (200, "the key has a run already: its id, or with `wait` the whole run at rest", started.clone()),
        (201, "started; with `wait`: the whole run, ended or parked", started),
        (202, "with `wait`: the time is over, the run as it is", schema("Run")),
        (400, "malformed", problem()),
        (404, "no such saga", problem()),
        (409, "the key has a run that began with other input", problem()),
        (422, "the input breaks its schema; `errors` has every JSON pointer", problem()),
        (503, "no new work is taken at the moment", problem()),
    ]);
    with_body(op("start", "Starts a run", &parameters, responses), json_body(schema("Start")), false)
}

fn webhook() -> Value {
    let responses = answers(&[
        (
            202,
            "every saga that it triggers has its run; durable. Slack's `url_verification` is answered 200",
            schema("WebhookAccepted"),
        ),
        (400, "malformed", problem()),
        (403, "the signature does not fit, or is too old", problem()),
        (404, "no such webhook, or no loaded saga is started by it", problem()),
        (409, "a trigger's key has a run that began with other input", problem()),
        (413, "too large", problem()),
        (415, "neither JSON nor a form", problem()),
        (422, "a trigger's expression fails, or its input breaks the saga's schema", problem()),
        (503, "no new work is taken at the moment", problem()),
    ]);
    let parameters =
        [path("name", "the webhook's name"), header_parameter("traceparent", "the caller's trace, continued")];
    let mut operation = op(
        "receiveWebhook",
        "Starts what a delivery of a configured webhook triggers, once for each delivery; needs a signature and no token",
        &parameters,
        responses,
    );
    operation["security"] = json!([]);
    let content =
        json!({ "application/json": { "schema": {} }, "application/x-www-form-urlencoded": { "schema": object() } });
    with_body(operation, content, false)
}

fn list_runs() -> Value {
    let mut state = query("state", "one of the states");
    state["schema"]["enum"] = json!(STATES);
    let mut limit = query("limit", "runs on one page, default 50");
    limit["schema"] = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
    let parameters = [
        query("saga", "the saga's name"),
        state,
        query("correlation_id", "runs of one correlation id"),
        query("key", "runs with this key"),
        query("since", "started at or after: a duration back from now (1h) or RFC 3339"),
        limit,
        query("cursor", "from the page before"),
    ];
    op(
        "listRuns",
        "Runs, newest first",
        &parameters,
        answers(&[(200, "a page", schema("RunPage")), (400, "a bad filter", problem())]),
    )
}

fn stream(id: &str, summary: &str, parameters: &[Value]) -> Value {
    let events = json!({ "200": { "description": "server-sent events", "content": { "text/event-stream": { "schema": { "type": "string" } } } } });
    op(id, summary, parameters, events)
}

fn operate(command: &str) -> Value {
    let (summary, members, required) = match command {
        "cancel" => ("Settles the run, then undoes it", json!({ "reason": { "type": "string" } }), false),
        "pause" => ("Attempts in flight end, nothing new leaves", json!({}), false),
        "resume" => ("Lets a paused run go on", json!({}), false),
        "retry" => (
            "Tries a parked step or undo again, with fresh counters; ends a wait for a retry",
            json!({ "new_key": { "type": "boolean" } }),
            false,
        ),
        "skip" => {
            ("Passes over a parked undo (the run ends incomplete) or a failed step after the pivot", json!({}), false)
        }
        "answer" => (
            "Answers a person's step (`ask`); the answer must fit its `form`",
            json!({ "step": { "type": "string" }, "by": { "type": "string" }, "answer": {} }),
            true,
        ),
        _ => (
            "Tells a run parked at an unknown step or undo what really happened",
            json!({ "done": { "type": "boolean" }, "output": {} }),
            true,
        ),
    };
    let mut body = json!({ "type": "object", "properties": members, "additionalProperties": false });
    if required {
        body["required"] = if command == "answer" { json!(["step", "by", "answer"]) } else { json!(["done"]) };
    }
    let responses = answers(&[
        (200, "the run after it", schema("Run")),
        (400, "malformed", problem()),
        (404, "no such run", problem()),
        (409, "the run's state does not allow it, with the reason", problem()),
        (503, "no command is taken at the moment", problem()),
    ]);
    with_body(op(command, summary, &[run_id()], responses), json_body(body), required)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes::routes;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let served: BTreeSet<String> =
            routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        let described: BTreeSet<String> =
            described_routes().iter().map(|(path, method)| format!("{method} {path}")).collect();
        assert_eq!(served, described);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_id_is_its_own() {
        let document = document();
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + "#/components/schemas/".len()..].split('"').next().unwrap();
            assert!(document["components"]["schemas"].get(name).is_some(), "no schema {name}");
        }
        let ids: Vec<&str> =
            text.split("\"operationId\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len());
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let in_path: BTreeSet<&str> =
                    path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
                let parameters = operation["parameters"].as_array().unwrap().iter();
                let described: BTreeSet<&str> =
                    parameters.filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
                assert_eq!(in_path, described, "{method} {path}");
            }
        }
    }
}
