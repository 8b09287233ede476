//! Events over HTTP, through the real program: signed, in order within a key, tried again, put aside, disabled
//! by 410, and where they were after a SIGKILL; read along, and replayed to those who want it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use backstitch::cli::client::RedriveBody;
use backstitch::events::replay::{Replay, Request};
use backstitch::signature::Key;
use backstitch::time::Timestamp;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api_process::{Dev, WAIT, Workspace};
use crate::dead_letters::{Foreign, letters};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// One request that an endpoint got.
#[derive(Debug, Clone)]
pub struct Got {
    pub webhook_id: String,
    pub replay: Option<String>,
    pub event: Value,
}

/// An endpoint in this process; says no, breaks or panics where an event's data asks for it.
#[derive(Clone)]
pub struct Endpoint {
    pub url: String,
    inner: Arc<Inner>,
}

struct Inner {
    got: Mutex<Vec<Got>>,
    /// Requests by event, those that were refused among them.
    tried: Mutex<BTreeMap<String, u64>>,
    gone: std::sync::atomic::AtomicBool,
    stop: CancellationToken,
}

impl Endpoint {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            got: Mutex::default(),
            tried: Mutex::default(),
            gone: false.into(),
            stop: CancellationToken::new(),
        });
        let this = Self { url, inner };
        let router = Router::new().route("/hook", post(hook)).with_state(this.clone());
        let stop = this.inner.stop.clone();
        tokio::spawn(async move {
            axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.unwrap();
        });
        this
    }

    pub fn set_gone(&self, gone: bool) {
        self.inner.gone.store(gone, std::sync::atomic::Ordering::Relaxed);
    }

    /// What was taken, in order of arrival.
    pub fn got(&self) -> Vec<Got> {
        self.inner.got.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.inner.got.lock().unwrap().len()
    }

    /// Returns the ids of what was taken.
    pub fn ids(&self) -> std::collections::BTreeSet<String> {
        let got = self.inner.got.lock().unwrap();
        got.iter().map(|got| got.event["id"].as_str().unwrap().to_owned()).collect()
    }

    pub fn tried(&self, event: &str) -> u64 {
        self.inner.tried.lock().unwrap().get(event).copied().unwrap_or(0)
    }

    /// Waits until something holds of what was taken.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let deadline = Instant::now() + WAIT;
        loop {
            let got = self.got();
            if holds(&got) {
                return got;
            }
            assert!(Instant::now() < deadline, "{what}: {} were taken", got.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn hook(State(endpoint): State<Endpoint>, headers: HeaderMap, body: String) -> StatusCode {
    if endpoint.inner.gone.load(std::sync::atomic::Ordering::Relaxed) {
        return StatusCode::GONE;
    }
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let needed = |name: &str| header(name).unwrap_or_else(|| panic!("no {name}"));
    let now = Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap());
    let key = Key::parse(SECRET).unwrap();
    let (id, at, signature) = (needed("webhook-id"), needed("webhook-timestamp"), needed("webhook-signature"));
    key.verify(&id, &at, &signature, body.as_bytes(), now).expect("it is signed");
    assert!(needed("content-type").starts_with("application/cloudevents+json"));
    let event: Value = serde_json::from_str(&body).unwrap();
    let tried = {
        let mut tried = endpoint.inner.tried.lock().unwrap();
        let tried = tried.entry(event["id"].as_str().unwrap().to_owned()).or_default();
        *tried += 1;
        *tried
    };
    match event["data"]["id"].as_str().unwrap_or_default() {
        "panics" => panic!("this handler panics on purpose"),
        "fails twice" if tried <= 2 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => {
            let replay = header("backstitch-replay");
            endpoint.inner.got.lock().unwrap().push(Got { webhook_id: id, replay, event });
            StatusCode::NO_CONTENT
        }
    }
}

/// A configuration with one subscription, `billing`.
pub fn configured(endpoint: &Endpoint, more: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write(
        "backstitch.yaml",
        &format!(
            "telemetry: {{ otlp: off }}\nsubscriptions:\n  billing:\n    url: {}\n    secret: {SECRET}\n    types: thing.happened.v1\n    \
             begins: start\n{more}",
            endpoint.url
        ),
    );
    workspace
}

async fn publish(dev: &Dev, id: &str, key: &str, name: &str) {
    let body = json!({ "id": name, "size": 1 }).to_string();
    let (status, answer) = dev
        .json("POST", &format!("/api/v1/events/thing.happened.v1?id={id}&key={key}&source=/test"), Some(&body))
        .await;
    assert_eq!(status, 202, "{answer}");
}

fn ids(got: &[Got]) -> Vec<&str> {
    got.iter().map(|got| got.event["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_delivered_signed_tried_again_and_put_aside() {
    let endpoint = Endpoint::start().await;
    let workspace = configured(&endpoint, "    retry: 20ms, 20ms\n    later_events: wait\n");
    let dev = Dev::start(&workspace, &[]);
    publish(&dev, "1", "K", "fails%20twice").await;
    publish(&dev, "2", "K", "second").await;
    publish(&dev, "3", "L", "other").await;
    let got = endpoint.until("three are delivered", |got| got.len() == 3).await;
    let of_key: Vec<&str> = ids(&got).into_iter().filter(|id| *id != "3").collect();
    assert_eq!((of_key.len(), endpoint.tried("2")), (2, 1), "one after the other: {of_key:?}");

    // A handler that panics: three attempts, then it is put aside, and its key's next event waits.
    publish(&dev, "4", "K", "panics").await;
    publish(&dev, "5", "K", "fifth").await;
    publish(&dev, "6", "L", "sixth").await;
    endpoint.until("the other key goes on", |got| ids(got).contains(&"6")).await;
    let found = letters(&dev, 2).await;
    let failed = found.iter().find(|letter| letter.reason == "delivery_failed").unwrap();
    assert_eq!((failed.consumer.as_str(), failed.attempts, endpoint.tried("4")), ("subscription-billing", 3, 3));
    assert!(found.iter().any(|letter| letter.reason == "waits_for_key"), "{found:?}");
    let data = serde_json::from_str(r#"{"id": "mended", "size": 1}"#).unwrap();
    dev.client.redrive(failed.sequence, &RedriveBody { data: Some(data), by: None }).await.unwrap();
    let got = endpoint.until("both come", |got| got.len() == 6).await;
    assert_eq!(ids(&got)[4..], ["4", "5"], "in their order");
    letters(&dev, 0).await;
    // What nobody could read is put aside at once.
    let foreign = Foreign::of(&dev).await;
    foreign.thing("7", Some("M"), "no JSON").await;
    foreign.thing("8", Some("N"), r#"{"id": 8}"#).await;
    let mut reasons: Vec<String> = letters(&dev, 4)
        .await
        .into_iter()
        .filter(|letter| letter.consumer == "subscription-billing")
        .map(|letter| letter.reason)
        .collect();
    reasons.sort();
    assert_eq!(reasons, ["invalid_data", "invalid_event"], "for this consumer; the sagas have theirs");

    // 410 disables; what comes then waits until somebody enables it.
    endpoint.set_gone(true);
    publish(&dev, "9", "K", "ninth").await;
    let deadline = Instant::now() + WAIT;
    loop {
        let (_, view) = dev.json("GET", "/api/v1/subscriptions/billing", None).await;
        if view["state"] == "disabled" {
            assert!(view["reason"].as_str().unwrap().contains("410"), "{view}");
            break;
        }
        assert!(Instant::now() < deadline, "{view}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    dev.until_figures(&[
        r#"backstitch_subscription_events_total{subscription="billing",outcome="delivered"} 6"#,
        r#"backstitch_subscription_events_total{subscription="billing",outcome="put_aside"} 4"#,
        r#"backstitch_subscription_waiting{subscription="billing"} 1"#,
        r#"backstitch_subscription_disabled{subscription="billing"} 1"#,
    ])
    .await;
    endpoint.set_gone(false);
    assert!(dev.stop().success(), "it stays disabled over a restart");
    let dev = Dev::start(&workspace, &[]);
    publish(&dev, "10", "K", "tenth").await;
    let (code, out, err) = workspace.told(&["events", "enable", "billing", "--url", &dev.url()]);
    assert_eq!((code, out.trim()), (0, "enabled: subscription billing"), "{err}");
    let got = endpoint.until("both are delivered", |got| got.len() >= 8).await;
    assert_eq!(ids(&got)[6..], ["9", "10"]);
    let (_, out, _) = workspace.told(&["events", "subscriptions", "--url", &dev.url()]);
    assert!(out.contains("billing  active"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_marked_bounded_and_goes_on_after_a_kill() {
    const EVENTS: usize = 120;
    let endpoint = Endpoint::start().await;
    let workspace = configured(&endpoint, "");
    let mut dev = Dev::start(&workspace, &[]);
    let lines: Vec<String> = (0..EVENTS)
        .map(|n| json!({ "id": format!("n{n}"), "size": n, "key": format!("k{}", n % 7) }).to_string())
        .collect();
    workspace.write("events.ndjson", &lines.join("\n"));
    let stream = ["publish", "thing.happened.v1", "--stream", "events.ndjson", "--key-at", "/key", "--id-at", "/id"];
    let url = dev.url();
    let arguments: Vec<&str> = stream.iter().copied().chain(["--url", &url]).collect();
    let (code, out, err) = workspace.told(&arguments);
    assert!(
        code == 0 && out.starts_with("120 lines: 120 published (0 of them known already), 0 refused"),
        "{out}{err}"
    );
    endpoint.until("each once", |got| got.len() == EVENTS).await;

    // One key only.
    let request =
        Request { target: "billing".into(), key: Some("k3".into()), rate: Some("1000/s".into()), ..Request::default() };
    let small: Replay = dev.client.tell("/api/v1/replays", &request).await.unwrap();
    let of_key = (0..EVENTS).filter(|n| n % 7 == 3).count();
    let got = endpoint.until("one key again", |got| got.len() == EVENTS + of_key).await;
    let again = &got[EVENTS..];
    assert!(again.iter().all(|got| got.event["partitionkey"] == "k3" && got.replay.as_deref() == Some(&*small.id)));
    let first = got.iter().find(|got| got.event["id"] == again[0].event["id"]).unwrap();
    assert_ne!(first.webhook_id, again[0].webhook_id, "a replay is no repetition");

    // All of it at 60/s takes two seconds; a SIGKILL comes in the middle.
    let request = Request { target: "billing".into(), rate: Some("60/s".into()), ..Request::default() };
    let began = Instant::now();
    let replay: Replay = dev.client.tell("/api/v1/replays", &request).await.unwrap();
    let of_replay = |got: &[Got]| got.iter().filter(|got| got.replay.as_deref() == Some(&*replay.id)).count();
    endpoint.until("more than a page", |got| of_replay(got) > 70).await;
    assert!(began.elapsed() >= Duration::from_millis(1_000), "70 events at 60/s: {:?}", began.elapsed());
    dev.signal(rustix::process::Signal::KILL);
    dev.ended();
    let dev = Dev::start(&workspace, &[]);
    let deadline = Instant::now() + WAIT;
    let ended = loop {
        if let Ok(found) = dev.client.get::<Replay>(&format!("/api/v1/replays/{}", replay.id)).await
            && found.has_ended()
        {
            break found;
        }
        assert!(Instant::now() < deadline, "the replay does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((ended.state.as_str(), ended.next), ("done", ended.to + 1), "{ended:?}");
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for got in endpoint.got().iter().filter(|got| got.replay.as_deref() == Some(&*replay.id)) {
        *seen.entry(got.event["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(seen.len(), EVENTS, "none is missing");
    let twice: u64 = seen.values().map(|count| count - 1).sum();
    assert!(twice <= 64 + 16, "at most what was under way comes twice: {twice}");
    let (_, out, _) = workspace.told(&["events", "replays", "--url", &dev.url()]);
    assert!(out.contains("100% of 1 to 120") && out.contains("to billing: done"), "{out}");
    println!("replay: 120 events at 60/s over a SIGKILL, {twice} twice, none missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_ignore_a_replay_unless_they_say_so() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    for n in 0..3 {
        publish(&dev, &n.to_string(), "K", &format!("n{n}")).await;
    }
    let runs = async |dev: &Dev, saga: &str| {
        let (_, page) = dev.json("GET", &format!("/api/v1/runs?saga={saga}&limit=100"), None).await;
        page["runs"].as_array().unwrap().len()
    };
    let deadline = Instant::now() + WAIT;
    while runs(&dev, "quick").await < 3 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A saga that came later, and wants what was before.
    let late = std::fs::read_to_string(workspace.path().join("sagas/quick.yaml")).unwrap();
    let late = late.replace("saga: quick", "saga: late").replace("    key:", "    on_replay: run\n    key:");
    workspace.write("sagas/late.yaml", &late);
    assert!(dev.stop().success());
    let dev = Dev::start(&workspace, &[]);
    let url = dev.url();
    let replay =
        ["events", "replay", "--to", "sagas", "--type", "thing.happened.v1", "--rate", "1000/s", "--url", &url];
    let (code, out, err) = workspace.told(&replay);
    assert!(code == 0 && out.contains("3 given to sagas: done"), "{out}{err}");
    assert_eq!((runs(&dev, "late").await, runs(&dev, "quick").await), (3, 3));
    let (code, _, err) = workspace.told(&["events", "replay", "--to", "nobody", "--url", &url]);
    assert!(code == 2 && err.contains("`nobody` is none"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_read_along_from_a_point_and_live() {
    let workspace = Workspace::new();
    let dev = Dev::start(&workspace, &[]);
    for n in 0..5 {
        publish(&dev, &n.to_string(), if n % 2 == 0 { "K" } else { "L" }, &format!("n{n}")).await;
    }
    let url = dev.url();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let (code, out, err) = workspace.told(arguments);
        assert_eq!(code, 0, "{err}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["events", "tail", "thing.happened.v1", "--from", "start", "--limit", "5", "--url", &url]);
    let names: Vec<&str> = all.iter().map(|event| event["data"]["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n4"]);
    assert_eq!(all[2]["streamsequence"], "3");
    let some = lines(&["events", "tail", "--from", "2", "--key", "K", "--no-follow", "--url", &url]);
    assert_eq!(some.iter().map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), ["2", "4"]);
    assert_eq!(lines(&["events", "tail", "--from", "1h", "--no-follow", "--url", &url]).len(), 5, "by time");

    // Live: what comes after it began.
    let mut live =
        workspace.command(&["events", "tail", "thing.happened.v1", "--from", "6", "--limit", "1", "--url", &url]);
    let live = live.stdout(std::process::Stdio::piped()).spawn().unwrap();
    publish(&dev, "5", "K", "live").await;
    let output = tokio::task::spawn_blocking(move || live.wait_with_output().unwrap()).await.unwrap();
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["data"]["id"], "live");
    let (code, _, err) = workspace.told(&["events", "tail", "order", "--url", &url]);
    assert!(code == 2 && err.contains("event type `order`"), "{err}");
}
