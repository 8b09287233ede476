//! Versions of events through the real program: old, equal and newer producers start the same saga; what
//! cannot be made readable is put aside and comes again when the step is mended; files are loaded anew.

use std::time::Instant;

use backstitch::cli::client::RedriveBody;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::api_process::{Dev, WAIT, Workspace};
use crate::dead_letters::{Foreign, letters};

/// Reads version 2, whatever is sent.
const SAGA: &str = "\
saga: taker
version: 1
on:
  - event: parcel.sent.v2
    key: ${ $event.data.id }
    input: ${ $event.data }
input: { schema: parcel.sent.v2 }
steps:
  - id: note
    set: { grams: \"${ $input.grams }\", seen: \"${ $input.id }\" }
output: { grams: \"${ $steps.note.output.grams }\" }
";
const V1: &str = r#"{ "type": "object", "required": ["id", "weight"],
  "properties": { "id": { "type": "string" }, "weight": { "type": "string" } } }"#;
const V2: &str = r#"{ "type": "object", "required": ["id", "grams"],
  "properties": { "id": { "type": "string" }, "grams": { "type": "integer", "minimum": 1 } } }"#;
const V3: &str = r#"{ "type": "object", "required": ["id", "grams"],
  "properties": { "id": { "type": "string" }, "grams": { "type": ["integer", "null"], "minimum": 1 }, "to": { "type": "string" } } }"#;
/// Version 1 has "2.5 kg"; kilograms only.
const STEP: &str = "# kilograms as text become grams\n\
    {id, grams: (.weight | if endswith(\" kg\") then rtrimstr(\" kg\") | tonumber * 1000 else error(\"no kilograms\") end)}\n";
/// Knows grams as well.
const MENDED: &str = "{id, grams: (.weight | if endswith(\" kg\") then rtrimstr(\" kg\") | tonumber * 1000\n\
    elif endswith(\" g\") then rtrimstr(\" g\") | tonumber else error(\"no weight\") end)}\n";

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    for (file, text) in [
        ("sagas/taker.yaml", SAGA),
        ("schemas/parcel.sent/v1.json", V1),
        ("schemas/parcel.sent/v2.json", V2),
        ("schemas/parcel.sent/v3.json", V3),
        ("schemas/parcel.sent/examples/v1.json", r#"{"id": "A", "weight": "2 kg"}"#),
        ("schemas/parcel.sent/v2.from-v1.jq", STEP),
        ("schemas/parcel.sent/policy.yaml", "compatibility: backward\nprofile: lenient\n"),
    ] {
        workspace.write(file, text);
    }
    workspace
}

/// Waits until a run with the key has completed; returns it.
async fn completed(dev: &Dev, key: &str) -> Value {
    let deadline = Instant::now() + WAIT;
    loop {
        let (_, page) = dev.json("GET", &format!("/api/v1/runs?saga=taker&state=completed&key={key}"), None).await;
        if let Some(run) = page["runs"].as_array().and_then(|runs| runs.first()) {
            let (_, run) = dev.json("GET", &format!("/api/v1/runs/{}", run["id"].as_str().unwrap()), None).await;
            return run;
        }
        assert!(Instant::now() < deadline, "no run with key {key}: {page}\n{}", dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn event(foreign_type: &str, id: &str) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [("specversion", "1.0"), ("id", id), ("source", "/foreign"), ("type", foreign_type)] {
        headers.insert(format!("ce-{name}"), value);
    }
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_of_three_versions_start_the_same_saga() {
    let workspace = workspace();
    let dev = Dev::start(&workspace, &[]);
    for (version, data, key, grams) in [
        ("v1", json!({"id": "old", "weight": "2.5 kg"}), "old", 2500.0),
        ("v2", json!({"id": "middle", "grams": 70}), "middle", 70.0),
        ("v3", json!({"id": "new", "grams": 300, "to": "Hamburg"}), "new", 300.0),
    ] {
        let target = format!("/api/v1/events/parcel.sent.{version}");
        let (status, answer) = dev.json("POST", &target, Some(&data.to_string())).await;
        assert_eq!(status, 202, "{version}: {answer}");
        let run = completed(&dev, key).await;
        assert_eq!(run["output"]["grams"].as_f64(), Some(grams), "{version}: {run}");
    }

    // Newer ones that are none of version 2, and a version that nobody has described.
    let foreign = Foreign::of(&dev).await;
    foreign.raw("events.parcel.sent.v3", event("parcel.sent.v3", "n1"), br#"{"id": "x", "grams": null}"#).await;
    foreign.raw("events.parcel.sent.v9", event("parcel.sent.v9", "n2"), br#"{"id": 7}"#).await;
    // An unknown version whose data version 2 takes is offered all the same.
    foreign.raw("events.parcel.sent.v9", event("parcel.sent.v9", "n3"), br#"{"id": "nine", "grams": 9}"#).await;
    let mut found: Vec<(String, Vec<String>)> =
        letters(&dev, 2).await.into_iter().map(|letter| (letter.reason, letter.pointers)).collect();
    found.sort();
    let expected = [
        ("no_path_v3_to_v2".to_owned(), vec!["/grams".to_owned()]),
        ("no_path_v9_to_v2".to_owned(), vec!["/grams".to_owned(), "/id".to_owned()]),
    ];
    assert_eq!(found, expected);
    assert_eq!(completed(&dev, "nine").await["output"]["grams"], 9);
    println!("v1, v2, v3 and an unknown v9 started the saga; 2 others lie in dead letters with the reason");
    assert!(dev.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_upcast_comes_again_when_the_step_is_mended() {
    let workspace = workspace();
    let dev = Dev::start(&workspace, &[]);
    let data = json!({"id": "light", "weight": "30 g"}).to_string();
    let (status, answer) = dev.json("POST", "/api/v1/events/parcel.sent.v1", Some(&data)).await;
    assert_eq!(status, 202, "its own schema takes it: {answer}");
    let letter = letters(&dev, 1).await.remove(0);
    assert_eq!(letter.reason, "upcaster_failed");
    assert!(letter.detail.contains("v2.from-v1.jq") && letter.detail.contains("no kilograms"), "{}", letter.detail);

    workspace.write("schemas/parcel.sent/v2.from-v1.jq", MENDED);
    let (code, out, error) = workspace.told(&["reload", "--url", &dev.url()]);
    assert_eq!(code, 0, "{out}{error}");
    dev.client.redrive(letter.sequence, &RedriveBody::default()).await.unwrap();
    let run = completed(&dev, "light").await;
    assert_eq!(run["output"]["grams"], 30);
    println!(
        "a v1 event was put aside ({}), the upcaster mended and loaded anew, the event redriven: completed",
        letter.reason
    );
    assert!(dev.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_set_leaves_the_old_one_active() {
    let workspace = workspace();
    let dev = Dev::start(&workspace, &[]);
    // Mistakes in a schema, an upcaster, a saga and the configuration: all told, each with its place.
    workspace.write("schemas/parcel.sent/v2.json", r#"{ "type": "objekt" }"#);
    workspace.write("schemas/parcel.sent/v2.from-v1.jq", "{id,\n grams: now}\n");
    let (status, problem) = dev.json("POST", "/api/v1/reload", None).await;
    assert_eq!(status, 422, "{problem}");
    let told = problem["errors"].to_string();
    for part in ["parcel.sent/v2.json", "/type", "parcel.sent/v2.from-v1.jq", "line 2: column 9"] {
        assert!(told.contains(part), "`{part}` is not told: {told}");
    }
    let (status, kept) = dev.json("GET", "/api/v1/schemas/parcel.sent/v2", None).await;
    assert_eq!((status, &kept["schema"]["type"]), (200, &json!("object")), "the old one stays");
    let (status, _) = dev.json("POST", "/api/v1/events/parcel.sent.v1", Some(r#"{"id": "k", "weight": "1 kg"}"#)).await;
    assert_eq!(status, 202);
    assert_eq!(completed(&dev, "k").await["output"]["grams"], 1000);

    // A saga with a mistake, by signal: the log says where.
    workspace.write("schemas/parcel.sent/v2.json", V2);
    workspace.write("schemas/parcel.sent/v2.from-v1.jq", STEP);
    workspace.write("sagas/other.yaml", "saga: other\nversion: 1\nsteps:\n  - id: a\n    sett: 1\n");
    dev.signal(Signal::HUP);
    wait_for(&dev, "other.yaml").await;
    let (_, sagas) = dev.json("GET", "/api/v1/sagas", None).await;
    assert_eq!(sagas.as_array().unwrap().len(), 3, "{sagas}");

    // Mended, and a service and a setting that counts at the next start.
    workspace.write("sagas/other.yaml", "saga: other\nversion: 1\non: [{ event: parcel.sent.v3, key: \"${ $event.data.id }\" }]\nsteps:\n  - id: a\n    set: { x: 1 }\n");
    workspace.write(
        "backstitch.yaml",
        "telemetry: { otlp: off }\nruns: { open_max: 7 }\nnotify: { events: off }\nservices: { shop: { url: \"http://127.0.0.1:1\" } }\n",
    );
    let (status, reloaded) = dev.json("POST", "/api/v1/reload", None).await;
    assert_eq!(status, 200, "{reloaded}");
    assert_eq!(reloaded["restart_needed"], json!(["notify", "runs"]));
    assert!(reloaded["sagas"].to_string().contains("other v1"), "{reloaded}");
    let (status, _) = dev.json("POST", "/api/v1/sagas/other/runs", Some(r#"{"input": {}}"#)).await;
    assert_eq!(status, 201, "the new saga is there");
    let (status, _) = dev.json("POST", "/api/v1/events/parcel.sent.v3", Some(r#"{"id": "both", "grams": 5}"#)).await;
    assert_eq!(status, 202);
    completed(&dev, "both").await;
    let (_, page) = dev.json("GET", "/api/v1/runs?saga=other&key=both", None).await;
    assert_eq!(page["runs"].as_array().unwrap().len(), 1, "the new trigger takes events: {page}");
    assert!(dev.stop().success());
}

async fn wait_for(dev: &Dev, line: &str) {
    let deadline = Instant::now() + WAIT;
    while !dev.log().contains(line) {
        assert!(Instant::now() < deadline, "`{line}` is not logged:\n{}", dev.log());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_served_and_checked() {
    let workspace = workspace();
    let dev = Dev::start(&workspace, &[]);
    let (_, types) = dev.json("GET", "/api/v1/schemas", None).await;
    assert_eq!(types[0]["name"], "parcel.sent");
    assert_eq!(types[0]["versions"], json!([1, 2, 3]));
    assert!(types[0]["upcasters"][0].as_str().unwrap().ends_with("v2.from-v1.jq"), "{types}");
    for (why, target, status) in [
        ("a type", "/api/v1/schemas/parcel.sent", 200),
        ("a version", "/api/v1/schemas/parcel.sent/2", 200),
        ("an unknown version", "/api/v1/schemas/parcel.sent/v4", 404),
        ("an unknown type", "/api/v1/schemas/parcel.lost", 404),
        ("no version", "/api/v1/schemas/parcel.sent/x%2Fy", 404),
    ] {
        assert_eq!(dev.json("GET", target, None).await.0, status, "{why}");
    }
    let narrower =
        json!({"type": "object", "required": ["id", "grams", "to"], "properties": {"to": {"type": "string"}}});
    let rows = [
        (
            "a new optional property",
            json!({"type": "parcel.sent", "schema": {"type": "object", "properties": {"note": {"type": "string"}}}}),
            200,
            "compatible",
        ),
        ("a new required one", json!({"type": "parcel.sent", "schema": narrower}), 200, "incompatible"),
        (
            "strictly",
            json!({"old": {"type": "object"}, "new": {"type": "object", "properties": {"a": {"type": "string"}}}, "profile": "strict"}),
            200,
            "incompatible",
        ),
        (
            "leniently",
            json!({"old": {"type": "object"}, "new": {"type": "object", "properties": {"a": {"type": "string"}}}}),
            200,
            "compatible",
        ),
        (
            "both ways",
            json!({"old": {"type": "integer"}, "new": {"type": "number"}, "compatibility": "full"}),
            200,
            "incompatible",
        ),
        ("an unknown word", json!({"old": {}, "new": {}, "profile": "mild"}), 422, ""),
        ("no schema", json!({"old": {}, "new": {"type": 1}}), 422, ""),
        ("nothing to check against", json!({"new": {}}), 422, ""),
        ("an unknown type", json!({"type": "parcel.lost", "new": {}}), 404, ""),
    ];
    for (why, body, status, verdict) in rows {
        let (answered, view) = dev.json("POST", "/api/v1/schemas/check", Some(&body.to_string())).await;
        assert_eq!(answered, status, "{why}: {view}");
        if status == 200 {
            assert_eq!(view["verdict"], verdict, "{why}: {view}");
        }
    }
    let (open, close) = (r#"{"not": "#.repeat(200), "}".repeat(200));
    let deep = format!(r#"{{"old": {{}}, "new": {open}{{}}{close}}}"#);
    let (status, problem) = dev.json("POST", "/api/v1/schemas/check", Some(&deep)).await;
    assert_eq!(status, 400, "200 levels: {problem}");
    assert!(dev.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_event_that_came_before_a_kill_is_still_there_for_the_step_that_awaits_it() {
    const WAITER: &str = "\
saga: waiter
version: 1
steps:
  - { id: approve, ask: { title: Go on } }
  - id: sent
    await: parcel.sent.v2
    where: { data.id: \"${ $input.id }\" }
    compensate: none
output: ${ $steps.sent.output.data.grams }
";
    let workspace = workspace();
    workspace.write("sagas/waiter.yaml", WAITER);
    let mut dev = Dev::start(&workspace, &[]);
    let (_, run) = dev.json("POST", "/api/v1/sagas/waiter/runs", Some(r#"{"input": {"id": "W-1"}}"#)).await;
    let run = run["id"].as_str().unwrap().to_owned();
    dev.until(&run, "waiting").await;
    // Of version 1, and one that breaks its schema: it must not be taken for the other.
    for (id, data) in
        [("broken", json!({ "id": "W-1", "weight": 7 })), ("old", json!({ "id": "W-1", "weight": "3 kg" }))]
    {
        publish_raw(&dev, id, &data).await;
    }
    completed(&dev, "W-1").await; // both have been taken in
    dev.signal(Signal::KILL);
    dev.ended();
    let dev = Dev::start(&workspace, &[]);
    let body = json!({ "step": "approve", "by": "ann", "answer": {} }).to_string();
    assert_eq!(dev.json("POST", &format!("/api/v1/runs/{run}/answer"), Some(&body)).await.0, 200);
    assert_eq!(dev.until(&run, "completed").await["output"], 3_000);
}

/// Publishes as any client may, whatever the schema says.
async fn publish_raw(dev: &Dev, id: &str, data: &Value) {
    let nats = async_nats::connect(dev.announcement["nats_url"].as_str().unwrap()).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    let names = [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/old"), ("ce-type", "parcel.sent.v1")];
    names.iter().for_each(|(name, value)| headers.insert(*name, *value));
    nats.publish_with_headers("events.parcel.sent.v1", headers, data.to_string().into()).await.unwrap();
    nats.flush().await.unwrap();
}
