//! The routes about the journal's files.

use serde_json::{Value, json};

use super::{answers, json_body, object, op, problem, with_body};

/// Returns each path with its operations.
pub(super) fn paths() -> Vec<(&'static str, Value)> {
    let name = json!({ "type": "object", "required": ["name"], "additionalProperties": false,
        "properties": { "name": { "type": "string", "maxLength": 100, "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$",
            "description": "of the new directory in `backups`, beside the journal's own files" } } });
    vec![
        (
            "/api/v1/journal/verify",
            json!({ "post": op("verifyJournal", "Reads the whole journal and says what is wrong; commits go on", &[],
                answers(&[(200, "the report; `findings` is empty when all is well", object())])) }),
        ),
        (
            "/api/v1/journal/backup",
            json!({ "post": with_body(
                op("backUpJournal", "Writes a backup and reads it again; commits go on", &[],
                    answers(&[(201, "it is whole, at `to`", object()), (400, "a bad name", problem()),
                        (409, "the name is taken", problem())])),
                json_body(name), true) }),
        ),
        (
            "/api/v1/journal/export",
            json!({ "get": op("exportJournal", "Every record as a line of JSON, oldest first", &[],
                json!({ "200": { "description": "the lines",
                    "content": { "application/x-ndjson": { "schema": { "type": "string" } } } } })) }),
        ),
    ]
}
