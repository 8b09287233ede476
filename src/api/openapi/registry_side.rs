//! The routes about schemas, and loading anew.

use serde_json::{Value, json};

use super::{answers, json_body, list, op, path, problem, schema, with_body};

/// Returns each path with its operations.
pub(super) fn paths() -> Vec<(&'static str, Value)> {
    let name = || path("type", "the event type's name without version, such as order.placed");
    vec![
        (
            "/api/v1/schemas",
            json!({ "get": op("listSchemas", "The event types that have schemas", &[], answers(&[(200, "by name", list("EventTypeView"))])) }),
        ),
        (
            "/api/v1/schemas/{type}",
            json!({ "get": op("showSchemas", "An event type with its versions", &[name()],
                answers(&[(200, "the type", schema("EventTypeView")), (404, "no such type", problem())])) }),
        ),
        (
            "/api/v1/schemas/{type}/{version}",
            json!({ "get": op("showSchema", "One version's schema and examples",
                &[name(), path("version", "v2, or 2")],
                answers(&[(200, "the version", schema("SchemaView")), (404, "no such version", problem())])) }),
        ),
        (
            "/api/v1/schemas/check",
            json!({ "post": with_body(
                op("checkSchema", "Says whether a schema gets along with the loaded versions of a type, or with another schema", &[],
                    answers(&[
                        (200, "the verdict with every difference", schema("SchemaCheck")),
                        (400, "malformed", problem()),
                        (404, "no such type", problem()),
                        (422, "no JSON Schema, or unknown words", problem()),
                    ])),
                json_body(schema("SchemaToCheck")), true) }),
        ),
        (
            "/api/v1/reload",
            json!({ "post": op("reload", "Loads schemas, sagas and configuration anew", &[],
                answers(&[
                    (200, "what is active", schema("Reloaded")),
                    (422, "mistakes with their places; what was loaded stays active", problem()),
                ])) }),
        ),
    ]
}
