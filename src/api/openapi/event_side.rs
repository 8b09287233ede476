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
            "/api/v1/replays",
            json!({ "get": op("listReplays", "Replays, oldest first", &[],
                answers(&[(200, "each with its progress", json!({ "type": "array", "items": schema("Replay") }))])),
            "post": with_body(op("replay", "Gives events once more to one target, at a bounded rate", &[], answers(&[
                (201, "it is under way, and goes on over restarts", schema("Replay")),
                (400, "a target, place or rate that is none", problem()),
                (409, "too many are under way", problem()),
                (503, "NATS is away; nothing was begun", problem()),
            ])), json_body(schema("ReplayRequest")), true) }),
        ),
        (
            "/api/v1/replays/{id}",
            json!({ "get": op("showReplay", "A replay with its progress", &[path("id", "the replay's id")],
            answers(&[(200, "the replay", schema("Replay")), (404, "there is none", problem())])) }),
        ),
        (
            "/api/v1/replays/{id}/cancel",
            json!({ "post": with_body(
            op("cancelReplay", "Ends a replay", &[path("id", "the replay's id")], answers(&[
                (200, "it ends behind what is on its way", schema("Replay")),
                (404, "there is none", problem()), (409, "it has ended", problem())])),
            json_body(schema("By")), false) }),
        ),
        (
            "/api/v1/subscriptions",
            json!({ "get": op("listSubscriptions", "Who gets events over HTTP", &[],
            answers(&[(200, "by name", json!({ "type": "array", "items": schema("Subscription") }))])) }),
        ),
        (
            "/api/v1/subscriptions/{name}",
            json!({ "get": op("showSubscription", "A subscription", &[path("name", "its name")],
            answers(&[(200, "the subscription", schema("Subscription")), (404, "there is none", problem())])) }),
        ),
        (
            "/api/v1/subscriptions/{name}/enable",
            json!({ "post": switch("enable", "Lets a disabled subscription go on where it was") }),
        ),
        (
            "/api/v1/subscriptions/{name}/disable",
            json!({ "post": switch("disable", "Stops a subscription; its events wait") }),
        ),
        (
            "/api/v1/audit",
            json!({ "get": op("audit", "What operators did to dead letters, replays, subscriptions and rollouts, oldest first",
                &[query("from", "the place to begin at, from the `next` before")],
                answers(&[(200, "at most 1,000 entries", schema("AuditPage"))])) }),
        ),
    ]
}

fn switch(id: &str, summary: &str) -> Value {
    let answers = answers(&[(200, "the subscription", schema("Subscription")), (404, "there is none", problem())]);
    with_body(op(id, summary, &[path("name", "its name")], answers), json_body(schema("By")), false)
}

/// Reading events.
pub(super) fn events() -> Value {
    let mut limit = query("limit", "events on one page, default 100; not with `follow`");
    limit["schema"] = json!({ "type": "integer", "minimum": 1, "maximum": 1000 });
    let mut follow = query("follow", "stay, and get one line of JSON for each event as it comes");
    follow["schema"] = json!({ "type": "boolean" });
    let parameters = [
        query("type", "event types, several with commas; all when left out"),
        query("key", "the partition key"),
        query("correlation_id", "events of one correlation id"),
        query(
            "from",
            "start, now, a place (`streamsequence`), RFC 3339, or a duration back from now; default start, with `follow` now",
        ),
        limit,
        follow,
    ];
    let mut page = answers(&[
        (200, "CloudEvents in order; with `follow` one a line", schema("EventPage")),
        (400, "a type or a place that is none", problem()),
        (503, "NATS is away", problem()),
    ]);
    page["200"]["content"]["application/x-ndjson"] = json!({ "schema": { "type": "string" } });
    op("events", "Events as they lie in the stream", &parameters, page)
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
        "EventPage": { "type": "object", "required": ["events", "next"], "properties": {
            "events": { "type": "array", "items": { "type": "object" } },
            "next": { "type": "integer", "description": "what to give as `from` for the next page" } } },
        "ReplayRequest": { "type": "object", "additionalProperties": false, "required": ["target"], "properties": {
            "target": { "type": "string", "description": "`sagas`, or a subscription" },
            "types": { "type": "array", "items": text }, "key": text, "correlation_id": text,
            "from": text, "to": text, "rate": { "type": "string", "default": "100/s" }, "by": text } },
        "Replay": { "type": "object", "required": ["id", "target", "from", "to", "rate", "state", "next", "sent", "skipped", "started_at"],
            "properties": { "id": text, "target": text, "types": { "type": "array", "items": text }, "key": text,
                "correlation_id": text, "from": whole, "to": whole, "rate": text,
                "state": { "type": "string", "enum": ["running", "done", "cancelled", "failed"] }, "reason": text,
                "next": whole, "sent": whole, "skipped": whole, "started_at": time, "ended_at": time, "by": text,
                "stream_created": whole } },
        "Subscription": { "type": "object", "required": ["name", "url", "types", "state", "next", "waiting", "delivered",
                "failed_attempts", "put_aside"],
            "properties": { "name": text, "url": text, "types": { "type": "array", "items": text },
                "state": { "type": "string", "enum": ["starting", "active", "disabled"] }, "reason": text, "next": whole,
                "waiting": whole, "delivered": whole, "failed_attempts": whole, "put_aside": whole } },
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
