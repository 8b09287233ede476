//! The routes about dead letters and what was done to them.

use serde_json::{Value, json};

use super::{answers, json_body, op, path, problem, query, schema, with_body};

/// Returns each path with its operations.
pub(super) fn paths() -> Vec<(&'static str, Value)> {
    let sequence = || {
        let mut parameter = path("sequence", "the dead letter's place in DEAD_LETTERS");
        parameter["schema"] = json!({ "type": "integer" });
        parameter
    };
    vec![
        ("/api/v1/dead-letters", json!({ "get": list() })),
        (
            "/api/v1/dead-letters/{sequence}",
            json!({ "get": op("showDeadLetter", "A dead letter with its original message", &[sequence()],
                answers(&[(200, "the letter", schema("DeadLetter")), (404, "there is none", problem())])) }),
        ),
        (
            "/api/v1/dead-letters/{sequence}/redrive",
            json!({ "post": with_body(
                op("redrive", "Gives a dead letter to its consumer again, with other data if given", &[sequence()], done()),
                json_body(schema("Redrive")), false) }),
        ),
        (
            "/api/v1/dead-letters/{sequence}/drop",
            json!({ "post": with_body(
                op("dropDeadLetter", "Removes a dead letter for good", &[sequence()], done()),
                json_body(schema("By")), false) }),
        ),
        (
            "/api/v1/dead-letters/redrive",
            json!({ "post": with_body(
                op("redriveAll", "Gives every dead letter that fits again, oldest first, at most 1,000", &[], done()),
                json_body(schema("SomeDeadLetters")), false) }),
        ),
        (
            "/api/v1/dead-letters/drop",
            json!({ "post": with_body(
                op("dropAll", "Removes every dead letter that fits, at most 1,000; the filter may not be empty", &[], done()),
                json_body(schema("SomeDeadLetters")), true) }),
        ),
        (
            "/api/v1/audit",
            json!({ "get": op("audit", "What operators did to dead letters, oldest first",
                &[query("from", "the place to begin at, from the `next` before")],
                answers(&[(200, "at most 1,000 entries", schema("AuditPage"))])) }),
        ),
    ]
}

fn list() -> Value {
    let mut limit = query("limit", "letters on one page, default 50");
    limit["schema"] = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
    let parameters = [
        query("consumer", "who could not take it"),
        query("reason", "one word, such as invalid_data"),
        query("type", "the event type"),
        query("key", "the partition key"),
        query("since", "put aside at or after: a duration back from now (1h) or RFC 3339"),
        query("until", "put aside before"),
        limit,
        query("cursor", "from the page before"),
    ];
    op(
        "listDeadLetters",
        "Dead letters, oldest first",
        &parameters,
        answers(&[
            (200, "a page", schema("DeadLetterPage")),
            (400, "a bad filter", problem()),
            (503, "NATS is away", problem()),
        ]),
    )
}

fn done() -> Value {
    answers(&[
        (200, "what was done, and what was left with the reason", schema("Done")),
        (400, "malformed", problem()),
        (404, "no such letter", problem()),
        (409, "it cannot be given again, or waits for another of its key", problem()),
        (422, "the data breaks its schema; `errors` has every JSON pointer", problem()),
        (503, "NATS is away; nothing was changed", problem()),
    ])
}

/// Returns the schemas that these routes name.
pub(in crate::api) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let whole = json!({ "type": "integer" });
    let time = json!({ "type": "string", "format": "date-time" });
    let filter = json!({ "type": "object", "additionalProperties": false, "properties": {
        "consumer": text, "reason": text, "type": text, "key": text, "since": text, "until": text } });
    let letter = json!({ "type": "object",
        "required": ["sequence", "reason", "detail", "pointers", "consumer", "subject", "stream", "stream_sequence",
            "attempts", "first_at", "last_at", "put_aside_at", "bytes", "readable"],
        "properties": {
            "sequence": whole, "reason": text, "detail": text,
            "pointers": { "type": "array", "items": text, "description": "JSON pointers into the data" },
            "consumer": text, "subject": text, "stream": text, "stream_sequence": whole, "attempts": whole,
            "first_at": time, "last_at": time, "put_aside_at": time,
            "id": text, "source": text, "key": text, "correlation_id": text, "bytes": whole,
            "readable": { "type": "boolean", "description": "false where the original headers could not be read" },
            "original": { "type": "object", "description": "only when one letter is shown", "properties": {
                "headers": { "type": "array", "items": { "type": "array", "items": text } },
                "json": {}, "text": text, "base64": text } },
        } });
    json!({
        "DeadLetter": letter,
        "DeadLetterPage": { "type": "object", "required": ["letters"], "properties": {
            "letters": { "type": "array", "items": schema("DeadLetter") }, "cursor": text } },
        "Redrive": { "type": "object", "additionalProperties": false, "properties": {
            "data": { "description": "other data in place of the event's own" }, "by": text } },
        "By": { "type": "object", "additionalProperties": false, "properties": { "by": text } },
        "SomeDeadLetters": { "type": "object", "additionalProperties": false, "properties": { "filter": filter, "by": text } },
        "Done": { "type": "object", "required": ["done"], "properties": {
            "done": { "type": "array", "items": whole },
            "left": { "type": "array", "items": { "type": "object", "required": ["sequence", "reason"],
                "properties": { "sequence": whole, "reason": text } } },
            "more": { "type": "boolean", "description": "more fit than were looked at: repeat it" } } },
        "AuditPage": { "type": "object", "required": ["entries", "next"], "properties": {
            "entries": { "type": "array", "items": { "type": "object", "required": ["at", "action", "about"], "properties": {
                "at": time, "action": text, "by": text, "letter": whole, "about": { "type": "object" } } } },
            "next": whole } },
    })
}
