//! Whoever should know is told: events on the bus, a webhook, log lines with the ids that one searches by; and
//! the commands that show what happened.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use async_nats::{HeaderMap, HeaderValue, Subscriber};
use backstitch::cli::participant::{Fault, Rule, Service};
use backstitch::coordinator::view::RunView;
use backstitch::request::Direction;
use futures_util::StreamExt;
use serde_json::Value;

use crate::connector_peer::{Peer, Play, answer};
use crate::rig::{EVENT, LONG, Rig, alone, order, program, run_of, until};

/// The undo of its first step is tried once.
const PARKING: &str = "saga: parking
version: 1
steps:
  - id: charge
    call: payments
    with: { method: POST, path: /charges, body: { reference: P-1, amount: 7 } }
    compensate: { with: { method: POST, path: /refunds, body: { reference: P-1 } }, retry: { attempts: 1 } }
  - id: ship
    call: shipping
    with: { method: POST, path: /shipments, body: { orderId: P-1 } }
    compensate: none
";

fn refuse(order: &str, service: Service, direction: Direction) -> Rule {
    Rule {
        service: Some(service),
        order: Some(order.to_owned()),
        run: None,
        step: None,
        direction: Some(direction),
        times: None,
        fault: Fault::Refuse { status: 422, problem: "no".to_owned(), title: "no <b> & no".to_owned() },
    }
}

/// The next notice: its type, its id and its data.
async fn next(notices: &mut Subscriber) -> (String, String, Value) {
    let message = tokio::time::timeout(LONG, notices.next()).await.expect("a notice").unwrap();
    let header = |name: &str| message.headers.as_ref().and_then(|all| all.get(name)).map_or("", |value| value.as_str());
    let event_type = header("ce-type").to_owned();
    (event_type, header("ce-id").to_owned(), serde_json::from_slice(&message.payload).unwrap())
}

fn said(rig: &Rig, arguments: &[&str]) -> String {
    let output = Command::new(program())
        .args(arguments)
        .args(["--url", rig.orchestrator.client.url()])
        .env("BACKSTITCH_JAEGER_URL", "http://jaeger")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_should_know_is_told() {
    let _alone = alone().await;
    let chat = Peer::start([Play::Say(answer("200 OK", &[], "ok"))]).await;
    let config = format!(
        "telemetry: {{ otlp: \"off\", log_format: json }}\nnotify: {{ webhook: \"http://{}/services/T0/secret\" }}\n",
        chat.address
    );
    let mut rig = Rig::prepare("notices", &[], "data", &config).await;
    std::fs::write(rig.workspace.path().join("sagas/parking.yaml"), PARKING).unwrap();
    rig.orchestrator.start().await.unwrap();
    let nats = async_nats::connect(rig.nats.url()).await.unwrap();
    let mut notices = nats.subscribe("events.ops.>").await.unwrap();
    nats.flush().await.unwrap();

    // Undone: shipping refuses.
    rig.participants.fault(&refuse("K-1", Service::Shipping, Direction::Forward)).await.unwrap();
    rig.orchestrator.client.publish(EVENT, &order("K-1"), &Default::default()).await.unwrap();
    let view = rig.ended(run_of("K-1")).await;
    assert_eq!(view.state, "compensated");
    let (event_type, _, data) = next(&mut notices).await;
    assert_eq!(
        (event_type.as_str(), &data["run"]),
        ("ops.run_compensated.v1", &Value::from(run_of("K-1").to_string()))
    );
    assert_eq!((&data["step"], &data["incomplete"]), (&Value::from("ship"), &Value::from(false)));

    // Parked: a step is refused, and nobody is there for the undo of the one before.
    let all = |rule: Rule, step: &str| Rule { order: None, step: Some(step.to_owned()), ..rule };
    rig.participants.fault(&all(refuse("", Service::Shipping, Direction::Forward), "ship")).await.unwrap();
    let away = Rule {
        fault: Fault::Unavailable { retry_after_s: None },
        ..refuse("", Service::Payments, Direction::Compensate)
    };
    rig.participants.fault(&all(away, "charge")).await.unwrap();
    let body = serde_json::from_str(r#"{"key": "K-2"}"#).unwrap();
    let parked = rig.orchestrator.client.start("parking", &body, None).await.unwrap().id;
    assert_eq!(rig.ended(parked).await.state, "parked");
    let (event_type, id, data) = next(&mut notices).await;
    assert_eq!((event_type.as_str(), &data["step"]), ("ops.run_parked.v1", &Value::from("charge")));
    assert_eq!(data["direction"], "compensate");

    // Put aside: no order at all.
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "x"), ("ce-source", "/shop"), ("ce-type", EVENT)] {
        headers.insert(name, value.parse::<HeaderValue>().unwrap());
    }
    nats.publish_with_headers(format!("events.{EVENT}"), headers, "{}".into()).await.unwrap();
    let (event_type, _, data) = next(&mut notices).await;
    assert_eq!((event_type.as_str(), &data["reason"]), ("ops.dead_letter.v1", &Value::from("invalid_data")));

    // People are told the same, and nothing that somebody else wrote is markup there.
    let told = until("three notices in the chat", async || {
        let told: String =
            chat.requests().iter().map(|request| request.split("\r\n\r\n").nth(1).unwrap_or("")).collect();
        ["was compensated", "is *parked* at the undo of `charge`", "went to dead letters"]
            .iter()
            .all(|words| told.contains(words))
            .then_some(told)
    })
    .await;
    assert!(told.contains("no &lt;b&gt; &amp; no") && told.starts_with("{\"text\":\""), "{told}");
    assert!(chat.requests().iter().all(|request| request.starts_with("POST /services/T0/secret ")));

    what_is_logged(&rig, &view.trace_id);
    what_is_shown(&rig, &parked.to_string(), &view);

    // After a restart the bus is told once more of what is still parked, with the same id; people are not.
    let messages = chat.requests().len();
    rig.orchestrator.kill().await;
    rig.orchestrator.start().await.unwrap();
    let (event_type, again, _) = loop {
        let notice = next(&mut notices).await;
        if notice.0 == "ops.run_parked.v1" {
            break notice;
        }
    };
    assert_eq!((event_type.as_str(), again), ("ops.run_parked.v1", id));
    let figures = until("the figure of notices", async || {
        let answer = rig.orchestrator.client.request(http::Method::GET, "/metrics", &[], None, Duration::from_secs(10));
        let page = String::from_utf8(answer.await.ok()?.body.to_vec()).ok()?;
        page.contains("backstitch_notices_total{channel=\"bus\",outcome=\"told\"} ").then_some(page)
    })
    .await;
    assert!(!figures.contains("outcome=\"lost\""), "{figures}");
    assert_eq!(chat.requests().len(), messages);
    rig.stop().await;
}

/// Each line about a run has the ids that one searches by, and no address of the webhook.
fn what_is_logged(rig: &Rig, trace: &str) {
    let log = rig.orchestrator.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let run = run_of("K-1").to_string();
    let of_run: BTreeMap<&str, &Value> = lines
        .iter()
        .filter(|line| line["run"] == run.as_str())
        .map(|line| (line["message"].as_str().unwrap_or_default(), line))
        .collect();
    for message in ["a service refused", "a run is going to be undone", "a run was compensated"] {
        let line = of_run.get(message).unwrap_or_else(|| panic!("no line `{message}` in\n{log}"));
        assert_eq!((line["trace_id"].as_str(), line["saga"].as_str()), (Some(trace), Some("order-fulfilment")));
        assert!(line["correlation_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    }
    assert_eq!(of_run["a service refused"]["step"], "ship");
    let parked = lines.iter().find(|line| line["message"] == "a run is parked and waits for a person").unwrap();
    assert_eq!((parked["level"].as_str(), parked["step"].as_str()), (Some("ERROR"), Some("charge")));
    assert!(!log.contains("needle") && !log.contains("secret"), "no payload, no secret");
}

fn what_is_shown(rig: &Rig, parked: &str, undone: &RunView) {
    let shown = said(rig, &["show", parked]);
    for expected in ["TIMELINE of ", "│", "charge undo", "parked ", "░", "http://jaeger/trace/"] {
        assert!(shown.contains(expected), "`{expected}` is not in\n{shown}");
    }
    let (correlation, run) = (undone.correlation_id.as_str(), undone.id.to_string());
    let traced = said(rig, &["trace", correlation]);
    for expected in [&format!("correlation {correlation}: 1 runs"), EVENT, &run, "charge undo", "http://jaeger/trace/"]
    {
        assert!(traced.contains(expected), "`{expected}` is not in\n{traced}");
    }
    let json: Value = serde_json::from_str(&said(rig, &["trace", correlation, "--output", "json"])).unwrap();
    assert_eq!(json["runs"][0]["run"]["id"], run.as_str());
    assert_eq!(json["runs"][0]["caused_by"]["type"], EVENT);
}
