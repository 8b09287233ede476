//! JSON Schemas of what the API answers, for its description. A test holds them and the views equal.

use serde_json::{Value, json};

use super::runs::STATES;

fn text() -> Value {
    json!({ "type": "string" })
}
fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}
fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}
fn flag() -> Value {
    json!({ "type": "boolean" })
}
fn any() -> Value {
    json!({})
}
fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}
fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
fn maybe(name: &str) -> Value {
    json!({ "oneOf": [reference(name), { "type": "null" }] })
}
fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

/// Returns every schema by name.
pub fn all() -> Value {
    let state = json!({ "type": "string", "enum": STATES });
    let phase = json!({ "type": "string", "enum": ["forward", "settling", "undo", "done"] });
    json!({
        "Problem": object(json!({
            "type": text(), "title": text(), "status": whole(), "detail": text(),
            "errors": list(object(json!({ "pointer": text(), "detail": text() }), &["pointer", "detail"])),
            "index": whole(), "run": text(),
        }), &["type", "title", "status"]),
        "Failure": object(json!({
            "type": text(), "title": text(), "detail": text(), "step": text(), "status": whole(), "result": any(),
        }), &["type", "title"]),
        "Accepted": object(json!({ "id": text(), "sequence": whole(), "duplicate": flag() }), &["id", "sequence"]),
        "Start": object(json!({ "input": any(), "key": text(), "correlation_id": text(), "version": whole() }), &[]),
        "Started": object(json!({ "id": text() }), &["id"]),
        "Run": object(json!({
            "id": text(), "saga": text(), "version": whole(), "state": state, "phase": phase, "key": maybe_text(),
            "correlation_id": text(), "trace_id": text(), "input": any(), "output": any(), "error": maybe("Failure"),
            "others": list(reference("Failure")), "incomplete": flag(), "parked": maybe("Parked"),
            "waiting_for": text(), "steps": list(reference("Step")), "notes": list(text()),
            "started_at": text(), "ended_at": maybe_text(),
        }), &["id", "saga", "version", "state", "phase", "correlation_id", "trace_id", "input", "steps", "started_at"]),
        "Parked": object(json!({
            "step": text(), "direction": text(), "reason": text(), "since": text(), "remedies": list(text()),
        }), &["step", "direction", "reason", "since", "remedies"]),
        "Step": object(json!({
            "id": text(), "kind": text(), "status": text(), "attempts": whole(), "key": maybe_text(), "output": any(),
            "error": maybe("Failure"), "undo": maybe("Undo"), "started_at": maybe_text(), "ended_at": maybe_text(),
        }), &["id", "kind", "status", "attempts"]),
        "Undo": object(json!({
            "status": text(), "attempts": whole(), "key": maybe_text(), "error": maybe("Failure"),
        }), &["status", "attempts"]),
        "RunSummary": object(json!({
            "id": text(), "saga": text(), "version": whole(), "state": state, "phase": phase, "key": maybe_text(),
            "correlation_id": text(), "trace_id": text(), "incomplete": flag(), "step": maybe_text(),
            "error": maybe_text(), "started_at": text(), "ended_at": maybe_text(),
        }), &["id", "saga", "version", "state", "phase", "correlation_id", "trace_id", "started_at"]),
        "RunPage": object(json!({ "runs": list(reference("RunSummary")), "cursor": maybe_text() }), &["runs"]),
        "HistoryEntry": object(json!({
            "sequence": whole(), "at": text(), "fact": text(), "data": any(), "text": text(),
        }), &["sequence", "at", "fact", "data", "text"]),
        "Saga": object(json!({
            "name": text(), "version": whole(), "summary": maybe_text(), "file": text(), "fingerprint": text(),
            "events": list(text()), "webhooks": list(text()), "steps": list(text()),
            "schedules": list(object(json!({ "rhythm": text(), "next": text() }), &["rhythm"])),
            "starts_percent": whole(), "open_runs": { "type": "object", "additionalProperties": whole() },
        }), &["name", "version", "file", "fingerprint", "events", "steps", "starts_percent", "open_runs"]),
        "WebhookAccepted": object(json!({
            "id": text(),
            "runs": list(object(json!({ "saga": text(), "id": text(), "created": flag() }), &["saga", "id", "created"])),
        }), &["id", "runs"]),
        "Rollout": object(json!({
            "saga": text(), "version": whole(), "percent": whole(), "others": whole(), "loaded": flag(), "since": text(),
            "by": text(),
        }), &["saga", "version", "percent", "loaded", "since"]),
        "Migrate": object(json!({
            "to": whole(), "check": flag(), "new_undo": flag(), "by": text(), "cursor": text(),
        }), &["to"]),
        "Migration": object(json!({
            "run": text(), "saga": text(), "from": whole(), "to": whole(), "moved": flag(), "reasons": list(text()),
        }), &["run", "saga", "from", "to", "moved"]),
        "MigrationPage": object(json!({ "runs": list(reference("Migration")), "cursor": text() }), &["runs"]),
        "RolloutWanted": object(json!({ "version": whole(), "percent": whole(), "by": text() }), &["version", "percent"]),
        "Lock": object(json!({
            "name": text(), "holder": reference("LockRun"), "waiting": list(reference("LockRun")),
        }), &["name", "holder", "waiting"]),
        "LockToRelease": object(json!({ "name": text(), "by": text() }), &["name"]),
        "LockRun": object(json!({ "run": text(), "saga": text(), "state": text(), "started_at": text() }),
            &["run", "saga", "state", "started_at"]),
        "EventTypeView": object(json!({
            "name": text(), "versions": list(whole()), "compatibility": text(), "profile": text(), "upcasters": list(text()),
        }), &["name", "versions", "compatibility", "profile", "upcasters"]),
        "SchemaView": object(json!({
            "type": text(), "name": text(), "version": whole(), "file": text(), "schema": any(), "examples": list(any()),
        }), &["type", "name", "version", "file", "schema", "examples"]),
        "SchemaToCheck": object(json!({
            "type": text(), "old": any(), "new": any(), "schema": any(), "compatibility": text(),
            "profile": { "type": "string", "enum": ["lenient", "strict"] },
        }), &[]),
        "SchemaCheck": object(json!({
            "verdict": { "type": "string", "enum": ["compatible", "cannot_tell", "incompatible"] }, "compatible": flag(),
            "compatibility": text(), "profile": text(),
            "reports": list(object(json!({
                "against": whole(), "verdict": text(), "direction": text(), "example": any(),
                "differences": list(reference("SchemaDifference")),
            }), &["verdict", "direction", "differences"])),
        }), &["verdict", "compatible", "compatibility", "profile", "reports"]),
        "SchemaDifference": object(json!({
            "rule": text(), "path": text(), "old": reference("SchemaPlace"), "new": reference("SchemaPlace"),
            "message": text(), "help": text(),
        }), &["rule", "path", "old", "new", "message", "help"]),
        "SchemaPlace": object(json!({ "pointer": text(), "text": text() }), &["pointer", "text"]),
        "Reloaded": object(json!({
            "sagas": list(text()), "event_types": whole(), "services": whole(), "warnings": list(reference("Mistake")),
            "restart_needed": list(text()),
        }), &["sagas", "event_types", "services", "warnings", "restart_needed"]),
        "Mistake": object(json!({
            "code": text(), "file": text(), "line": whole(), "column": whole(), "message": text(), "help": text(),
        }), &["code", "file", "line", "column", "message"]),
        "Readiness": object(json!({
            "ready": flag(),
            "parts": { "type": "object", "additionalProperties": object(json!({ "ready": flag(), "message": text() }), &["ready", "message"]) },
        }), &["ready", "parts"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::view::{
        HistoryEntry, LockRun, LockView, ParkedView, RolloutView, RunPage, RunSummary, RunView, SagaView, ScheduleView,
        StepView, UndoView,
    };
    use crate::payload::Payload;
    use crate::problem::Problem;
    use std::collections::BTreeSet;

    fn check(name: &str, view: &Value) {
        let schemas = all();
        let described: BTreeSet<&String> = schemas[name]["properties"].as_object().unwrap().keys().collect();
        let shown: BTreeSet<&String> = view.as_object().unwrap().keys().collect();
        assert_eq!(described, shown, "{name}");
    }

    #[test]
    fn views_are_described_member_by_member() {
        let text = || Some("x".to_owned());
        let run = "62e7b8b3-17f5-5744-8f71-b8115137432f".parse().unwrap();
        let failure = || Some(Problem::new("refused", "no").detail("d").at("s"));
        let undo = UndoView { status: "undone".into(), attempts: 1, key: text(), error: failure() };
        let step = StepView {
            id: "s".into(),
            kind: "call".into(),
            status: "done".into(),
            attempts: 1,
            key: text(),
            output: None,
            error: None,
            undo: Some(undo),
            started_at: text(),
            ended_at: None,
        };
        let parked = ParkedView {
            step: "s".into(),
            direction: "forward".into(),
            reason: "r".into(),
            since: "t".into(),
            remedies: vec!["retry".into()],
        };
        let view = RunView {
            id: run,
            saga: "order".into(),
            version: 1,
            state: "parked".into(),
            phase: "forward".into(),
            key: None,
            correlation_id: "c".into(),
            trace_id: "t".into(),
            linked_traces: Vec::new(),
            input: Payload::null(),
            output: None,
            error: failure(),
            others: vec![Problem::new("a", "b")],
            incomplete: false,
            parked: Some(parked),
            undone_by: None,
            parent: None,
            waiting_for: text(),
            steps: vec![step],
            notes: vec!["n".into()],
            started_at: "t".into(),
            ended_at: None,
        };
        let value = serde_json::to_value(&view).unwrap();
        check("Run", &value);
        check("Parked", &value["parked"]);
        check("Step", &value["steps"][0]);
        check("Undo", &value["steps"][0]["undo"]);

        let summary = RunSummary {
            id: run,
            saga: "order".into(),
            version: 1,
            state: "running".into(),
            phase: "forward".into(),
            key: None,
            correlation_id: "c".into(),
            trace_id: "t".into(),
            incomplete: false,
            step: None,
            error: None,
            started_at: "t".into(),
            ended_at: None,
        };
        let page = serde_json::to_value(RunPage { runs: vec![summary], cursor: None }).unwrap();
        check("RunPage", &page);
        check("RunSummary", &page["runs"][0]);
        let entry =
            HistoryEntry { sequence: 0, at: "t".into(), fact: "f".into(), data: Payload::null(), text: "t".into() };
        check("HistoryEntry", &serde_json::to_value(entry).unwrap());
        let saga = SagaView {
            name: "order".into(),
            version: 1,
            summary: None,
            file: "f".into(),
            fingerprint: "f".into(),
            events: vec![],
            webhooks: vec!["shop".into()],
            schedules: vec![ScheduleView { rhythm: "every 5m".into(), next: None }],
            steps: vec![],
            starts_percent: 100,
            open_runs: std::collections::BTreeMap::new(),
        };
        check("Saga", &serde_json::to_value(saga).unwrap());
        let rollout = RolloutView {
            saga: "order".into(),
            version: 2,
            percent: 10,
            others: Some(1),
            loaded: true,
            since: "t".into(),
            by: Some("ann".into()),
        };
        check("Rollout", &serde_json::to_value(rollout).unwrap());
        let run = LockRun { run: "r".into(), saga: "s".into(), state: "parked".into(), started_at: "t".into() };
        let lock = LockView { name: "order/1".into(), holder: run.clone(), waiting: vec![run] };
        check("Lock", &serde_json::to_value(&lock).unwrap());
        check("LockRun", &serde_json::to_value(&lock.holder).unwrap());
    }
}
