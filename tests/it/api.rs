//! The HTTP API of the real program, route by route.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use futures_util::StreamExt;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use crate::api_process::{Dev, Workspace};
use crate::otlp::{Collector, Taken};

const EVENT: &str = r#"{"id": "A-1", "size": 3}"#;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_route_answers() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let (_, document) = dev.json("GET", "/openapi.json", None).await;
    let mut seen = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let target = path
                .replace("{type}", "thing.happened.v1")
                .replace("{name}", "quick")
                .replace("{sequence}", "7")
                .replace("{id}", "62e7b8b3-17f5-5744-8f71-b8115137432f");
            if target.ends_with("/stream") && !target.contains("/runs/") {
                continue; // has no end; it has a test of its own
            }
            let answer = dev.ask(&method.to_uppercase(), &target, &[], None).await;
            let status = answer.status.as_u16();
            // No route answers "no such route" or "wrong method"; what is asked for does not exist.
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            assert_ne!(status, 405, "{method} {path}");
            let absent = [
                "urn:backstitch:problem:no-run",
                "urn:backstitch:problem:no-schema",
                "urn:backstitch:problem:not-there",
                "urn:backstitch:problem:no-webhook",
            ];
            assert!(status != 404 || absent.iter().any(|kind| body["type"] == *kind), "{method} {path}: {body}");
            assert_ne!(status, 500, "{method} {path}: {body}");
            if status >= 400 {
                assert_eq!(answer.headers["content-type"], "application/problem+json", "{method} {path}");
                assert_eq!(body["status"], status, "{method} {path}");
            }
            seen.insert(status);
        }
    }
    assert!(seen.contains(&200) && seen.contains(&404), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_what_is_wrong() {
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", "telemetry: { otlp: off }\napi: { body_bytes_max: 2048 }\n");
    let dev = Dev::start(&workspace, &[]);
    let runs = "/api/v1/sagas/quick/runs";
    let events = "/api/v1/events/thing.happened.v1";
    let deep = format!("{{\"input\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let large = format!("\"{}\"", "x".repeat(3_000));
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], Option<&'a str>, u16, &'a str);
    let rows: &[Row] = &[
        ("no such path", "GET", "/api/v1/nothing", &[], None, 404, "there is nothing at /api/v1/nothing"),
        ("wrong method", "DELETE", "/api/v1/runs", &[], None, 405, "DELETE is not taken at /api/v1/runs"),
        ("no JSON", "POST", runs, &[], Some("{\"input\": }"), 400, "line 1 column 11"),
        ("too deep", "POST", runs, &[], Some(&deep), 400, "nested deeper than 100"),
        ("too large", "POST", events, &[], Some(&large), 413, "at most 2048 bytes"),
        (
            "a form",
            "POST",
            runs,
            &["content-type: application/x-www-form-urlencoded"],
            Some("a=1"),
            415,
            "application/json",
        ),
        ("an unknown member", "POST", runs, &[], Some(r#"{"inputs": 1}"#), 400, "unknown field `inputs`"),
        ("wrong input", "POST", runs, &[], Some(r#"{"input": {"id": 1}}"#), 422, "/id"),
        ("wrong data", "POST", events, &[], Some(r#"{"size": "x"}"#), 422, "/size"),
        ("no such saga", "POST", "/api/v1/sagas/quik/runs", &[], Some("{}"), 404, "did you mean `quick`?"),
        (
            "no such type",
            "POST",
            "/api/v1/events/thing.hapened.v1",
            &[],
            Some(EVENT),
            422,
            "did you mean `thing.happened.v1`?",
        ),
        ("no version", "POST", "/api/v1/events/thing.happened", &[], Some(EVENT), 400, "ending in its version"),
        ("no run id", "GET", "/api/v1/runs/A-1", &[], None, 400, "is no run id"),
        ("a bad wait", "POST", &format!("{runs}?wait=3"), &[], Some("{}"), 400, "is not a duration"),
        ("a bad state", "GET", "/api/v1/runs?state=stuck", &[], None, 400, "running, waiting"),
        ("a bad filter", "GET", "/api/v1/runs?stat=parked", &[], None, 400, "unknown field `stat`"),
        ("a bad cursor", "GET", "/api/v1/runs?cursor=x", &[], None, 400, "cursor"),
        ("a foreign page", "GET", "/api/v1/runs", &["origin: https://evil.example"], None, 403, "evil.example"),
        ("DNS rebinding", "GET", "/api/v1/runs", &["host: evil.example"], None, 403, "evil.example"),
        (
            "resolve says nothing",
            "POST",
            "/api/v1/runs/62e7b8b3-17f5-5744-8f71-b8115137432f/resolve",
            &[],
            Some("{}"),
            400,
            "done",
        ),
    ];
    for (why, method, target, headers, body, status, part) in rows {
        let answer = dev.ask(method, target, headers, *body).await;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status.as_u16(), *status, "{why}: {said}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{why}");
        assert!(said.contains(part), "{why}: {said}");
        assert_eq!(answer.headers.contains_key("allow"), *status == 405, "{why}");
    }
    let (_, problem) = dev.json("POST", events, Some(r#"{"size": "x"}"#)).await;
    let pointers: BTreeSet<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| text(&error["pointer"])).collect();
    assert_eq!(pointers, BTreeSet::from(["/id", "/size"]), "every violation: {problem}");
    let (_, page) = dev.json("GET", "/api/v1/runs", None).await;
    assert_eq!(page["runs"], json!([]), "nothing of all that began anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_are_idempotent_by_key_and_can_be_waited_for() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let runs = "/api/v1/sagas/quick/runs";
    let body = r#"{"input": {"id": "A-1", "size": 3}, "key": "K-1", "correlation_id": "C-1"}"#;

    let answer = dev.ask("POST", runs, &[], Some(body)).await;
    assert_eq!(answer.status, 201);
    let id = text(&serde_json::from_slice::<Value>(&answer.body).unwrap()["id"]).to_owned();
    assert_eq!(answer.headers["location"], format!("/api/v1/runs/{id}"));
    assert_eq!(dev.json("POST", runs, Some(body)).await, (200, json!({ "id": id })), "the same again");
    let other = r#"{"input": {"id": "A-2", "size": 3}, "key": "K-1"}"#;
    let (status, problem) = dev.json("POST", runs, Some(other)).await;
    assert_eq!((status, text(&problem["run"])), (409, id.as_str()), "other input");

    let view = dev.until(&id, "completed").await;
    assert_eq!((text(&view["correlation_id"]), &view["output"]), ("C-1", &json!({ "id": "A-1" })));
    let (_, history) = dev.json("GET", &format!("/api/v1/runs/{id}/history"), None).await;
    assert_eq!(history[0]["fact"], "run_started");

    let waited = dev.json("POST", &format!("{runs}?wait=30s"), Some(r#"{"input": {"id": "B", "size": 1}}"#)).await;
    assert_eq!((waited.0, text(&waited.1["state"])), (201, "completed"));
    let again = dev.json("POST", &format!("{runs}?wait=30s"), Some(body)).await;
    assert_eq!((again.0, text(&again.1["id"])), (200, id.as_str()));
    let slow = dev.json("POST", "/api/v1/sagas/slow/runs?wait=50ms", Some("{}")).await;
    assert_eq!((slow.0, text(&slow.1["state"])), (202, "waiting"));

    let list = async |query: &str| -> Vec<String> {
        let (status, page) = dev.json("GET", &format!("/api/v1/runs?{query}"), None).await;
        assert_eq!(status, 200, "{query}: {page}");
        page["runs"].as_array().unwrap().iter().map(|run| text(&run["id"]).to_owned()).collect()
    };
    let slow = text(&slow.1["id"]).to_owned();
    assert_eq!(list("saga=slow").await, std::slice::from_ref(&slow));
    assert_eq!(list("state=waiting").await, [slow]);
    assert_eq!(list("key=K-1").await, std::slice::from_ref(&id));
    assert_eq!(list("correlation_id=C-1").await, [id]);
    assert_eq!(list("since=1h").await.len(), 3);
    assert_eq!(list("since=2999-01-01T00:00:00Z").await.len(), 0);
    let (mut found, mut cursor) = (BTreeSet::new(), String::new());
    for _ in 0..3 {
        let (_, page) = dev.json("GET", &format!("/api/v1/runs?limit=1{cursor}"), None).await;
        found.insert(text(&page["runs"][0]["id"]).to_owned());
        cursor = page["cursor"].as_str().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
    }
    assert_eq!(found.len(), 3, "page by page");

    let (_, sagas) = dev.json("GET", "/api/v1/sagas", None).await;
    assert_eq!(sagas.as_array().unwrap().len(), 2);
    let (status, saga) = dev.json("GET", "/api/v1/sagas/quick", None).await;
    assert_eq!((status, &saga["events"]), (200, &json!(["thing.happened.v1"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_in_every_mode_start_runs_in_the_callers_trace() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let data = |id: &str| format!(r#"{{"id": "{id}", "size": 3}}"#);
    let event = |id: &str| {
        format!(
            r#"{{"specversion": "1.0", "id": "{id}", "source": "/test", "type": "thing.happened.v1", "correlationid": "C-{id}", "data": {}}}"#,
            data(id)
        )
    };

    let plain = dev
        .ask("POST", "/api/v1/events/thing.happened.v1?correlation_id=C-plain&key=p", &[&parent], Some(&data("plain")))
        .await;
    let binary_headers = [
        "ce-specversion: 1.0",
        "ce-id: binary",
        "ce-source: /test",
        "ce-type: thing.happened.v1",
        "ce-correlationid: C-binary",
        "content-type: application/json",
        &parent,
    ];
    let binary = dev.ask("POST", "/api/v1/events", &binary_headers, Some(&data("binary"))).await;
    let structured = ["content-type: application/cloudevents+json", &parent];
    let structured = dev.ask("POST", "/api/v1/events", &structured, Some(&event("structured"))).await;
    let batch = ["content-type: application/cloudevents-batch+json", &parent];
    let both = format!("[{}, {}]", event("first"), event("second"));
    let batch_answer = dev.ask("POST", "/api/v1/events", &batch, Some(&both)).await;
    let repeated = dev.ask("POST", "/api/v1/events", &batch, Some(&both)).await;

    let mut sequences = Vec::new();
    for (why, answer) in [("plain", &plain), ("binary", &binary), ("structured", &structured)] {
        assert_eq!(answer.status, 202, "{why}: {}", String::from_utf8_lossy(&answer.body));
        let accepted: Value = serde_json::from_slice(&answer.body).unwrap();
        sequences.push(accepted["sequence"].as_u64().unwrap());
        if why != "plain" {
            assert_eq!(accepted["id"], why);
        }
    }
    assert_eq!(batch_answer.status, 202);
    let accepted: Vec<Value> = serde_json::from_slice(&batch_answer.body).unwrap();
    assert_eq!(accepted.iter().map(|one| text(&one["id"])).collect::<Vec<_>>(), ["first", "second"]);
    sequences.extend(accepted.iter().map(|one| one["sequence"].as_u64().unwrap()));
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    let repeated: Vec<Value> = serde_json::from_slice(&repeated.body).unwrap();
    assert!(repeated.iter().all(|one| one["duplicate"] == true), "{repeated:?}");

    for id in ["plain", "binary", "structured", "first", "second"] {
        let run = backstitch::id::RunId::keyed(&"quick".parse().unwrap(), id).to_string();
        let view = dev.until(&run, "completed").await;
        assert_eq!(text(&view["correlation_id"]), format!("C-{id}"));
        assert_eq!(text(&view["trace_id"]), trace, "{id}");
    }

    let mixed = format!("[{}, {}]", event("third"), event("fourth").replace("\"size\": 3", "\"size\": \"x\""));
    let refused = dev.ask("POST", "/api/v1/events", &batch, Some(&mixed)).await;
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!((refused.status.as_u16(), &problem["index"]), (422, &json!(1)), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_move_a_run_and_are_told_why_not() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let (_, started) = dev.json("POST", "/api/v1/sagas/slow/runs", Some("{}")).await;
    let run = format!("/api/v1/runs/{}", text(&started["id"]));
    dev.until(text(&started["id"]), "waiting").await;
    let rows: &[(&str, &str, Option<&str>, u16, &str)] = &[
        ("nothing to skip", "skip", None, 409, ""),
        ("nothing to resolve", "resolve", Some(r#"{"done": true}"#), 409, ""),
        ("not paused", "resume", None, 409, ""),
        ("pause", "pause", None, 200, "paused"),
        ("twice", "pause", None, 409, ""),
        ("resume", "resume", None, 200, "waiting"),
        ("another's member", "pause", Some(r#"{"reason": "x"}"#), 400, ""),
        ("cancel", "cancel", Some(r#"{"reason": "no longer wanted"}"#), 200, ""),
        ("final", "cancel", None, 409, ""),
    ];
    for (why, command, body, status, state) in rows {
        let (answered, view) = dev.json("POST", &format!("{run}/{command}"), *body).await;
        assert_eq!(answered, *status, "{why}: {view}");
        match status {
            200 if !state.is_empty() => assert_eq!(text(&view["state"]), *state, "{why}"),
            409 => assert!(!text(&view["detail"]).is_empty(), "{why}: the reason is told"),
            _ => {}
        }
        if *why == "cancel" {
            dev.until(text(&started["id"]), "compensated").await;
        }
    }
    let (_, history) = dev.json("GET", &format!("{run}/history"), None).await;
    assert!(history.to_string().contains("no longer wanted"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_tell_every_fact_once_and_end_with_the_run() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let mut all = std::pin::pin!(dev.client.stream(None).await.unwrap());
    let (_, started) = dev.json("POST", "/api/v1/sagas/slow/runs", Some("{}")).await;
    let id = text(&started["id"]);
    let mut one = std::pin::pin!(dev.client.stream(Some(id.parse().unwrap())).await.unwrap());

    let first = one.next().await.unwrap().unwrap();
    assert_eq!((first.name.as_str(), first.id.as_str()), ("fact", "0"));
    let (status, _) = dev.json("POST", &format!("/api/v1/runs/{id}/cancel"), None).await;
    assert_eq!(status, 200);
    let mut told = vec![first.id];
    let end = loop {
        let event = one.next().await.unwrap().unwrap();
        if event.name == "end" {
            break event;
        }
        told.push(event.id);
    };
    assert_eq!(serde_json::from_str::<Value>(&end.data).unwrap()["state"], "compensated");
    let (_, history) = dev.json("GET", &format!("/api/v1/runs/{id}/history"), None).await;
    let expected: Vec<String> = history.as_array().unwrap().iter().map(|entry| entry["sequence"].to_string()).collect();
    assert_eq!(told, expected, "every fact, in order, once");
    assert!(one.next().await.is_none());

    let news: Value = serde_json::from_str(&all.next().await.unwrap().unwrap().data).unwrap();
    assert_eq!((text(&news["run"]), text(&news["saga"])), (id, "slow"));
    let late = dev.ask("GET", &format!("/api/v1/runs/{id}/stream"), &["last-event-id: 0"], None).await;
    let late = String::from_utf8_lossy(&late.body).into_owned();
    assert!(late.contains("id: 1\n") && !late.contains("id: 0\n") && late.contains("event: end"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_but_for_health() {
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", "telemetry: { otlp: off }\napi: { token: \"s3cret\" }\n");
    let dev = Dev::start(&workspace, &[]);
    let rows: &[(&str, &str, &[&str], u16)] = &[
        ("health", "/healthz", &[], 200),
        ("readiness", "/readyz", &[], 200),
        ("no token", "/api/v1/runs", &[], 401),
        ("metrics", "/metrics", &[], 401),
        ("a wrong one", "/api/v1/runs", &["authorization: Bearer secret"], 401),
        ("the token", "/api/v1/runs", &["authorization: Bearer s3cret"], 200),
        ("from any host", "/api/v1/runs", &["authorization: Bearer s3cret", "host: saga.example"], 200),
    ];
    for (why, target, headers, status) in rows {
        let answer = dev.ask("GET", target, headers, None).await;
        assert_eq!(answer.status.as_u16(), *status, "{why}");
        assert_eq!(answer.headers.contains_key("www-authenticate"), *status == 401, "{why}");
    }
    assert!(!dev.log().contains("s3cret") && !dev.announcement.to_string().contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_is_bounded() {
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", "telemetry: { otlp: off }\napi: { rate: 3/h }\n");
    let dev = Dev::start(&workspace, &[]);
    for _ in 0..3 {
        assert_eq!(dev.json("GET", "/api/v1/runs", None).await.0, 200);
    }
    let answer = dev.ask("GET", "/api/v1/runs", &[], None).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1_000..=1_200).contains(&wait), "a third of an hour: {wait}");
    assert_eq!(dev.json("GET", "/healthz", None).await.0, 200, "health is not counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_stands_beside_what_it_started_below_its_caller() {
    let collector = Collector::start().await;
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", &format!("telemetry: {{ otlp: \"{}\" }}\n", collector.endpoint()));
    let dev = Dev::start(&workspace, &[]);
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"input": {"id": "A-1", "size": 3}}"#;
    let started = dev.ask("POST", "/api/v1/sagas/quick/runs?wait=30s", &[parent], Some(body)).await;
    assert_eq!(started.status, 201);
    let data = r#"{"id": "A-2", "size": 3}"#;
    let published = dev.ask("POST", "/api/v1/events/thing.happened.v1", &[parent], Some(data)).await;
    assert_eq!(published.status, 202);
    let run = backstitch::id::RunId::keyed(&"quick".parse().unwrap(), "A-2").to_string();
    dev.until(&run, "completed").await;
    dev.stop(); // sends what is queued

    let spans = collector.spans();
    let named = |name: &str| -> Vec<&Taken> { spans.iter().filter(|taken| taken.span.name == name).collect() };
    let caller = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
    for route in ["POST /api/v1/sagas/{name}/runs", "POST /api/v1/events/{type}"] {
        let [request] = named(route)[..] else { panic!("one span for {route}: {spans:?}") };
        assert_eq!(request.span.parent_span_id, caller, "{route}");
        assert_eq!(request.span.kind, SpanKind::Server as i32, "{route}");
        let status = if route.contains("runs") { "201" } else { "202" };
        assert_eq!(request.attribute("http.response.status_code"), Some(status), "{route}");
    }
    let [sent] = named("thing.happened.v1 send")[..] else { panic!("one event: {spans:?}") };
    assert_eq!((sent.span.parent_span_id.as_slice(), sent.span.kind), (&caller[..], SpanKind::Producer as i32));
    let anchors = named("saga quick");
    let mut parents: Vec<&[u8]> = anchors.iter().map(|anchor| anchor.span.parent_span_id.as_slice()).collect();
    parents.sort_by_key(|parent| *parent != caller);
    assert_eq!(parents, [&caller[..], &sent.span.span_id], "one started by hand, one by the event");
    // The process's own start is a trace of its own.
    let start = ["backstitch start", "journal open", "runs resume"];
    let mut others = spans.iter().filter(|taken| !start.contains(&taken.span.name.as_str()));
    assert!(others.all(|taken| taken.span.trace_id == sent.span.trace_id), "one trace");
}

/// What no proper client sends.
#[test]
fn malformed_heads_are_refused_and_the_rest_goes_on() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    let address = dev.url().strip_prefix("http://").unwrap().to_owned();
    let ask = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&address).unwrap();
        // The server may have closed already.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let huge = [b"GET / HTTP/1.1\r\nHost: localhost\r\nx: ".as_slice(), &[b'a'; 100_000], b"\r\n\r\n"].concat();
    let rows: &[(&str, &[u8], &str)] = &[
        ("no HTTP", b"hello\r\n\r\n", "HTTP/1.1 400"),
        ("a head without end", &huge, "HTTP/1.1 431"),
        (
            "two lengths",
            b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "HTTP/1.1 400",
        ),
        ("it still answers", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"),
    ];
    for (why, bytes, expected) in rows {
        let answer = ask(bytes);
        assert!(answer.starts_with(expected), "{why}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_listed_with_who_holds_them_and_who_waits() {
    let workspace = Workspace::new();
    workspace
        .write("sagas/locked.yaml", "saga: locked\nlock: order/${ $input.order }\nsteps:\n  - { id: nap, wait: 1h }\n");
    let dev = Dev::start(&workspace, &[]);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (status, run) = dev.json("POST", "/api/v1/sagas/locked/runs", Some(r#"{"input":{"order":"A-1"}}"#)).await;
        assert_eq!(status, 201, "{run}");
        runs.push(run["id"].as_str().unwrap().to_owned());
    }
    let (_, locks) = dev.json("GET", "/api/v1/locks", None).await;
    assert_eq!(locks[0]["name"], "order/A-1", "{locks}");
    assert_eq!(locks[0]["holder"]["run"], *runs[0], "{locks}");
    let waiting: Vec<&str> =
        locks[0]["waiting"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(waiting, runs[1..], "in the order of their coming");
    // The next one has it as soon as the first has ended.
    dev.json("POST", &format!("/api/v1/runs/{}/cancel", runs[0]), Some("{}")).await;
    dev.until(&runs[0], "compensated").await;
    let (_, locks) = dev.json("GET", "/api/v1/locks", None).await;
    assert_eq!(locks[0]["holder"]["run"], *runs[1], "{locks}");
    let (code, told, _) = workspace.told(&["locks", "--url", &dev.url()]);
    assert!(code == 0 && told.contains("order/A-1") && told.contains(&runs[1]), "{told}");

    // Only from a run at rest; the next one has it then, and that outlives a restart.
    let release = ["locks", "release", "order/A-1", "--by", "ann", "--url", &dev.url()];
    let (code, _, told) = workspace.told(&release);
    assert!(code == 1 && told.contains("pause it first"), "{told}");
    let (code, _, told) = workspace.told(&["locks", "release", "order/B", "--url", &dev.url()]);
    assert!(code == 1 && told.contains("nobody holds `order/B`"), "{told}");
    assert_eq!(workspace.told(&["pause", &runs[1], "--url", &dev.url()]).0, 0);
    let (code, told, err) = workspace.told(&release);
    assert_eq!(
        told.trim(),
        format!("released: order/A-1; run {} (paused) goes on without it", runs[1]),
        "{code} {err}"
    );
    dev.until(&runs[2], "waiting").await;
    assert!(dev.stop().success());
    let dev = Dev::start(&workspace, &[]);
    let (_, locks) = dev.json("GET", "/api/v1/locks", None).await;
    assert_eq!(
        (locks[0]["holder"]["run"].as_str(), locks[0]["waiting"].as_array().unwrap().len()),
        (Some(&*runs[2]), 0)
    );
    let (_, view) = dev.json("GET", &format!("/api/v1/runs/{}", runs[1]), None).await;
    assert!(view["notes"][0].as_str().unwrap().contains("took its lock order/A-1 away"), "{view}");
    dev.json("POST", &format!("/api/v1/runs/{}/cancel", runs[1]), Some("{}")).await;
    assert_eq!(workspace.told(&["resume", &runs[1], "--url", &dev.url()]).0, 0);
    dev.until(&runs[1], "compensated").await;
}
