//! Sagas that others have published, written down in our language and run by the real program against
//! services that record what comes: the order of calls is what their authors document. Each file names its
//! source; the cases beside it are `NAME.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use backstitch::cli::client::encode;
use futures_util::StreamExt;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api_process::{Dev, WAIT, Workspace};

/// One file's cases. A `#` in a text is replaced by the case's number, so that keys differ.
#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    input: Value,
    /// The event that starts it, in place of a call of the API.
    begin: Option<Event>,
    #[serde(default)]
    answers: BTreeMap<String, Event>,
    #[serde(default)]
    bodies: BTreeMap<String, Value>,
    cases: Vec<Value>,
}

#[derive(Deserialize, Clone)]
struct Event {
    #[serde(rename = "type")]
    name: String,
    data: Value,
}

/// What the services do, and what must be seen.
#[derive(Deserialize, Default)]
struct Case {
    /// This call is answered 409, or 500, always; or once 503, or 500.
    refuse: Option<String>,
    fails: Option<String>,
    busy: Option<String>,
    error: Option<String>,
    /// Events that answer an event of a type.
    #[serde(default)]
    answers: BTreeMap<String, Event>,
    /// Events that follow a call.
    #[serde(default)]
    after: BTreeMap<String, Event>,
    #[serde(default)]
    bodies: BTreeMap<String, Value>,
    ends: String,
    /// Calls in order; a list inside is side by side.
    calls: Vec<Value>,
    output: Option<Value>,
}

#[derive(Default)]
struct Inner {
    case: Case,
    seen: Vec<String>,
    /// To be published by the test.
    due: Vec<(Event, Option<String>)>,
}

#[derive(Clone, Default)]
struct Services(Arc<Mutex<Inner>>);

async fn service(State(services): State<Services>, method: Method, uri: Uri) -> Response {
    let call = format!("{method} {}", uri.path());
    let mut inner = services.0.lock().unwrap();
    inner.seen.push(call.clone());
    let (times, number) = (inner.seen.iter().filter(|seen| **seen == call).count(), inner.seen.len());
    let case = &inner.case;
    let is = |wanted: &Option<String>| wanted.as_deref() == Some(call.as_str());
    if is(&case.refuse) {
        return StatusCode::CONFLICT.into_response();
    }
    if is(&case.fails) || is(&case.error) && times == 1 {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if is(&case.busy) && times == 1 {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response();
    }
    let body = case.bodies.get(&call).cloned().unwrap_or_else(|| json!({ "id": format!("id-{number}") }));
    if let Some(event) = case.after.get(&call).cloned() {
        inner.due.push((event, None));
    }
    axum::Json(body).into_response()
}

/// Compares what came with what is documented.
fn agrees(seen: &[String], documented: &[Value]) -> bool {
    let mut rest = seen;
    for expected in documented {
        let mut group: Vec<&str> = match expected {
            Value::Array(group) => group.iter().map(|call| call.as_str().unwrap()).collect(),
            one => vec![one.as_str().unwrap()],
        };
        if rest.len() < group.len() {
            return false;
        }
        let (now, later) = rest.split_at(group.len());
        let mut now: Vec<&str> = now.iter().map(String::as_str).collect();
        now.sort_unstable();
        group.sort_unstable();
        if now != group {
            return false;
        }
        rest = later;
    }
    rest.is_empty()
}

fn files() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/published");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
        .collect();
    found.sort();
    found
}

/// Publishes as a program of somebody else would.
async fn publish(dev: &Dev, event: &Event, cause: Option<&str>) {
    let mut whole = json!({ "specversion": "1.0", "id": uuid::Uuid::now_v7(), "source": "/published",
        "type": event.name, "data": event.data });
    if let Some(cause) = cause {
        whole["causationid"] = cause.into();
    }
    let answer = dev
        .ask("POST", "/api/v1/events", &["content-type: application/cloudevents+json"], Some(&whole.to_string()))
        .await;
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn published_sagas_do_what_their_authors_document() {
    let services = Services::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(service).with_state(services.clone());
    let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let workspace = Workspace::new();
    let mut names = std::collections::BTreeSet::new();
    for (name, path) in files() {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# http") || text.starts_with("# FTGO"), "{name} names its source");
        workspace.write(&format!("sagas/{name}.yaml"), &text);
        names.extend(text.split("call: ").skip(1).map(|rest| {
            rest.chars().take_while(|char| char.is_ascii_alphanumeric() || *char == '-').collect::<String>()
        }));
    }
    let list: String = names.iter().map(|name| format!("  {name}: {{ url: \"{url}\" }}\n")).collect();
    workspace.write("backstitch.yaml", &format!("telemetry: {{ otlp: off }}\nservices:\n{list}"));
    for event in
        ["credit.wanted", "credit.reserved", "credit.refused", "order.submitted", "order.accepted", "order.declined"]
    {
        workspace.write(&format!("schemas/{event}/v1.json"), r#"{ "type": "object" }"#);
    }
    let dev = Dev::start(&workspace, &[]);
    let nats = async_nats::connect(dev.announcement["nats_url"].as_str().unwrap()).await.unwrap();
    let mut events = nats.subscribe("events.>").await.unwrap();
    nats.flush().await.unwrap();
    let watched = tokio::spawn({
        let services = services.clone();
        async move {
            while let Some(message) = events.next().await {
                let headers = message.headers.unwrap_or_default();
                let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
                let (Some(name), Some(id)) = (header("ce-type"), header("ce-id")) else { continue };
                let mut inner = services.0.lock().unwrap();
                if let Some(answer) = inner.case.answers.get(&name).cloned() {
                    inner.seen.push(format!("EMIT {name}"));
                    inner.due.push((answer, Some(id)));
                }
            }
        }
    });

    let mut ran = 0;
    for (name, path) in files() {
        let text = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let count = serde_json::from_str::<Published>(&text).unwrap().cases.len();
        for at in 0..count {
            ran += 1;
            let published: Published = serde_json::from_str(&text.replace('#', &ran.to_string())).unwrap();
            let mut case: Case = serde_json::from_value(published.cases[at].clone()).unwrap();
            for (event, answer) in published.answers {
                case.answers.entry(event).or_insert(answer);
            }
            for (call, body) in published.bodies {
                case.bodies.entry(call).or_insert(body);
            }
            let what = format!("{name}, {}", published.cases[at]);
            let (ends, calls, output) = (case.ends.clone(), case.calls.clone(), case.output.clone());
            *services.0.lock().unwrap() = Inner { case, ..Inner::default() };
            let run = match &published.begin {
                Some(event) => {
                    publish(&dev, event, None).await;
                    None
                }
                None => {
                    let body = json!({ "input": published.input }).to_string();
                    let (status, started) =
                        dev.json("POST", &format!("/api/v1/sagas/{}/runs", encode(&name)), Some(&body)).await;
                    assert!(matches!(status, 200..=202), "{what}: {status} {started}");
                    Some(started["id"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned())
                }
            };
            let deadline = Instant::now() + WAIT;
            let view = loop {
                let due = std::mem::take(&mut services.0.lock().unwrap().due);
                for (event, cause) in due {
                    publish(&dev, &event, cause.as_deref()).await;
                }
                let target = match &run {
                    Some(run) => format!("/api/v1/runs/{run}"),
                    None => format!("/api/v1/runs?saga={name}&limit=1"),
                };
                let (_, view) = dev.json("GET", &target, None).await;
                let view = if run.is_some() { view } else { view["runs"][0].clone() };
                let seen = services.0.lock().unwrap().seen.len();
                if ["completed", "compensated", "parked"].iter().any(|word| view["state"] == **word) && seen > 0 {
                    break view;
                }
                assert!(Instant::now() < deadline, "{what} does not end: {view}");
                tokio::time::sleep(Duration::from_millis(3)).await;
            };
            let seen = services.0.lock().unwrap().seen.clone();
            assert_eq!(view["state"], *ends, "{what}: {seen:?} {view}");
            assert!(agrees(&seen, &calls), "{what}: came\n{seen:#?}");
            if let Some(output) = output {
                assert_eq!(view["output"], output, "{what}");
            }
        }
    }
    println!("{} published sagas, {ran} cases", files().len());
    drop(dev);
    watched.abort();
    served.abort();
}
