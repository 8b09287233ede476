//! Webhooks, through the real program: what is signed starts its sagas, once for each delivery, with NATS away and
//! whatever is killed; what is not signed starts nothing.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use backstitch::cli::client::Answer;
use backstitch::signature::Key;
use rustix::process::Signal;

use crate::api_process::{Dev, Workspace};
use crate::subscriptions::SECRET;

const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const PLAIN: &str = "It's a Secret to Everybody";

const CONFIG: &str = r#"
telemetry: { otlp: "off" }
api: { token: the-token, body_bytes_max: 4096 }
webhooks:
  shop: { secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" }
  repository: { scheme: github, secret: "It's a Secret to Everybody" }
  money: { scheme: stripe, secret: "It's a Secret to Everybody" }
  chat: { scheme: slack, secret: "It's a Secret to Everybody" }
  nobody: { scheme: slack, secret: "It's a Secret to Everybody" }
"#;

/// Takes every delivery of the shop.
const ORDER: &str = r#"
saga: order
on: [{ webhook: shop }]
input: { schema: { type: object, required: [order], properties: { order: { type: string } } } }
steps:
  - { id: noted, set: "${ $input.order }" }
output: { order: "${ $steps.noted.output }", source: "${ $event.source }" }
"#;
/// Takes some of several webhooks.
const DEPLOY: &str = r#"
saga: deploy
on:
  - webhook: repository
    when: ${ $event.headers["x-github-event"] == "push" and $event.data.ref == "main" }
    key: deploy/${ $event.data.after }
    input: { commit: "${ $event.data.after }" }
  - webhook: money
    input: { commit: "${ $event.data.type }" }
  - webhook: chat
    input: { commit: "${ $event.data.text }" }
  - webhook: shop
    when: ${ $event.data.deploy // false }
steps:
  - { id: noted, set: "${ $input.commit }" }
output: "${ $steps.noted.output }"
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("backstitch.yaml", CONFIG);
    workspace.write("sagas/order.yaml", ORDER);
    workspace.write("sagas/deploy.yaml", DEPLOY);
    workspace
}

fn now_s() -> u64 {
    jiff::Timestamp::now().as_second().unsigned_abs()
}

fn hex(signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(PLAIN.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends what a Standard Webhooks sender sends.
async fn shop(dev: &Dev, secret: &str, id: &str, at_s: u64, body: &str) -> Answer {
    let signature = Key::parse(secret).unwrap().sign(id, at_s, body.as_bytes());
    let headers = [
        format!("webhook-id: {id}"),
        format!("webhook-timestamp: {at_s}"),
        format!("webhook-signature: {signature}"),
        "content-type: application/json".to_owned(),
    ];
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    dev.ask("POST", "/webhooks/shop", &headers, Some(body)).await
}

fn read(answer: &Answer) -> (u16, Value) {
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Returns the one run of an accepted delivery: saga, id, whether it began now.
fn run_of(answer: &Answer) -> (String, String, bool) {
    let (status, body) = read(answer);
    assert_eq!((status, body["runs"].as_array().map(Vec::len)), (202, Some(1)), "{body}");
    let run = &body["runs"][0];
    let text = |name: &str| run[name].as_str().unwrap().to_owned();
    (text("saga"), text("id"), run["created"].as_bool().unwrap())
}

async fn output(dev: &Dev, run: &str) -> Value {
    let token = ["authorization: Bearer the-token"];
    crate::rig::until("the run's end", async || {
        let answer = dev.ask("GET", &format!("/api/v1/runs/{run}"), &token, None).await;
        let view: Value = serde_json::from_slice(&answer.body).unwrap();
        (view["state"] == "completed").then(|| view["output"].clone())
    })
    .await
}

/// NATS is away all the time: a delivery is accepted by the journal.
fn start(workspace: &Workspace) -> Dev {
    Dev::start(workspace, &["--data", "data", "--nats", "nats://127.0.0.1:1"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_delivery_starts_its_sagas_once() {
    let workspace = workspace();
    let mut dev = start(&workspace);
    let body = r#"{"order":"A-1"}"#;
    let (saga, run, created) = run_of(&shop(&dev, SECRET, "msg_1", now_s(), body).await);
    assert_eq!((saga.as_str(), created), ("order", true));
    assert_eq!(output(&dev, &run).await, json!({ "order": "A-1", "source": "/webhooks/shop" }));
    // The sender had no answer, and tries again: at another time, and of another life.
    assert_eq!(run_of(&shop(&dev, SECRET, "msg_1", now_s() - 60, body).await), (saga.clone(), run.clone(), false));
    dev.signal(Signal::KILL);
    dev.ended();
    let dev = start(&workspace);
    assert_eq!(run_of(&shop(&dev, SECRET, "msg_1", now_s(), body).await), (saga, run, false));

    // What is refused, with its reason, and starts nothing.
    let (good, at) = (r#"{"order":"A-2"}"#, now_s());
    let rows: Vec<(&str, Answer, u16, &str)> = vec![
        ("another secret", shop(&dev, OTHER, "msg_2", at, good).await, 403, "no signature fits"),
        ("too old", shop(&dev, SECRET, "msg_2", at - 400, good).await, 403, "more than 300 s"),
        ("not signed", dev.ask("POST", "/webhooks/shop", &[], Some(good)).await, 403, "`webhook-id` is missing"),
        ("breaks the saga's schema", shop(&dev, SECRET, "msg_2", at, r#"{"order":2}"#).await, 422, "/order"),
        ("no JSON", shop(&dev, SECRET, "msg_2", at, "{").await, 400, "EOF"),
        ("too large", shop(&dev, SECRET, "msg_2", at, &" ".repeat(5000)).await, 413, "at most 4096"),
        ("other content, same id", shop(&dev, SECRET, "msg_1", at, good).await, 409, "other input"),
        ("no such webhook", dev.ask("POST", "/webhooks/shopp", &[], Some(good)).await, 404, "`webhooks:`"),
        ("no saga", signed(&dev, "nobody", &[], "{}").await, 404, "webhook: nobody"),
        ("a token is no signature", bearer(&dev, good).await, 403, "`webhook-id` is missing"),
        ("another method", dev.ask("GET", "/webhooks/shop", &[], None).await, 405, "Allow"),
    ];
    for (why, answer, status, part) in rows {
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!((answer.status.as_u16(), text.contains(part)), (status, true), "{why}: {text}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{why}");
    }
    let token = ["authorization: Bearer the-token"];
    let figures = dev.ask("GET", "/metrics", &token, None).await;
    let page = String::from_utf8_lossy(&figures.body).into_owned();
    for (outcome, count) in [("accepted", 1), ("unsigned", 4), ("failed", 4)] {
        let line = format!("backstitch_webhook_deliveries_total{{webhook=\"shop\",outcome=\"{outcome}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    let runs: Value = serde_json::from_slice(&dev.ask("GET", "/api/v1/runs", &token, None).await.body).unwrap();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    // One saga takes it, the trigger of the other one fails: the first has its run, and the sender is told.
    for _ in 0..2 {
        let (status, problem) = read(&shop(&dev, SECRET, "msg_3", now_s(), r#"{"order":"A-3","deploy":"yes"}"#).await);
        assert_eq!(status, 422, "{problem}");
        assert!(problem["title"].as_str().unwrap().contains("saga `deploy`"), "{problem}");
        let runs: Value = serde_json::from_slice(&dev.ask("GET", "/api/v1/runs", &token, None).await.body).unwrap();
        let sagas: Vec<&str> = runs["runs"].as_array().unwrap().iter().filter_map(|run| run["saga"].as_str()).collect();
        assert_eq!(sagas, ["order", "order"], "{runs}");
    }
    assert!(dev.stop().success());
}

async fn bearer(dev: &Dev, body: &str) -> Answer {
    dev.ask("POST", "/webhooks/shop", &["authorization: Bearer the-token"], Some(body)).await
}

/// Sends what GitHub, Stripe and Slack send.
async fn signed(dev: &Dev, webhook: &str, more: &[&str], body: &str) -> Answer {
    let at = now_s();
    let headers = match webhook {
        "repository" => vec![format!("X-Hub-Signature-256: sha256={}", hex(body))],
        "money" => vec![format!("Stripe-Signature: t={at},v1={},v0=00", hex(&format!("{at}.{body}")))],
        _ => vec![
            format!("X-Slack-Request-Timestamp: {at}"),
            format!("X-Slack-Signature: v0={}", hex(&format!("v0:{at}:{body}"))),
        ],
    };
    let headers: Vec<&str> = headers.iter().map(String::as_str).chain(more.iter().copied()).collect();
    dev.ask("POST", &format!("/webhooks/{webhook}"), &headers, Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_schemes_deliveries_start_what_they_should() {
    let workspace = workspace();
    let dev = start(&workspace);
    // GitHub: its event stands in a header, its delivery's id too; the saga's key is the commit.
    let push = r#"{"ref":"main","after":"c0ffee"}"#;
    let github = |event: &'static str, id: &'static str| [event, id, "content-type: application/json"];
    let first =
        run_of(&signed(&dev, "repository", &github("X-GitHub-Event: push", "X-GitHub-Delivery: 1"), push).await);
    assert_eq!((first.0.as_str(), first.2), ("deploy", true));
    assert_eq!(output(&dev, &first.1).await, "c0ffee");
    let again = signed(&dev, "repository", &github("X-GitHub-Event: push", "X-GitHub-Delivery: 2"), push).await;
    assert_eq!(run_of(&again), (first.0, first.1, false), "another delivery of the same commit");
    let ping = signed(&dev, "repository", &github("X-GitHub-Event: ping", "X-GitHub-Delivery: 3"), push).await;
    assert_eq!(read(&ping), (202, json!({ "id": "3", "runs": [] })), "`when` does not hold");
    // Stripe: the id of its event is the delivery's.
    let paid = r#"{"id":"evt_1","type":"charge.succeeded"}"#;
    let first = run_of(&signed(&dev, "money", &[], paid).await);
    assert_eq!(output(&dev, &first.1).await, "charge.succeeded");
    assert_eq!(run_of(&signed(&dev, "money", &[], paid).await), (first.0, first.1, false));
    // Slack: it asks whether it is meant, and sends forms.
    let asked = signed(&dev, "chat", &[], r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#).await;
    assert_eq!((asked.status.as_u16(), &*asked.body), (200, b"3eZbrw1a".as_slice()));
    let form = ["content-type: application/x-www-form-urlencoded"];
    let (_, run, _) = run_of(&signed(&dev, "chat", &form, "command=%2Fdeploy&text=a+b%2Bc").await);
    assert_eq!(output(&dev, &run).await, "a b+c");
    let text = signed(&dev, "chat", &["content-type: text/plain"], "hello").await;
    assert_eq!(text.status, 415);
    assert!(dev.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_subscription_sends_starts_a_saga_elsewhere_and_secrets_are_exchanged() {
    let there = workspace();
    let elsewhere = start(&there);
    let here = Workspace::new();
    here.write(
        "backstitch.yaml",
        &format!(
            "telemetry: {{ otlp: \"off\" }}\nsubscriptions:\n  partner: {{ url: \"{}/webhooks/shop\", secret: {SECRET}, retry: 100ms }}\n",
            elsewhere.url()
        ),
    );
    there.write(
        "sagas/order.yaml",
        &ORDER.replace("[{ webhook: shop }]", "[{ webhook: shop, input: { order: \"${ $event.data.data.id }\" } }]"),
    );
    let token = ["authorization: Bearer the-token"];
    assert_eq!(elsewhere.ask("POST", "/api/v1/reload", &token, Some("{}")).await.status, 200);
    let dev = Dev::start(&here, &["--data", "data"]);
    let event = r#"{"id":"E-1","size":1}"#;
    assert_eq!(dev.json("POST", "/api/v1/events/thing.happened.v1", Some(event)).await.0, 202);
    let run = crate::rig::until("the partner's run", async || {
        let answer = elsewhere.ask("GET", "/api/v1/runs?saga=order", &token, None).await;
        let page: Value = serde_json::from_slice(&answer.body).unwrap();
        page["runs"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(output(&elsewhere, &run).await["order"], "E-1");
    assert!(dev.stop().success());

    // Another secret takes the place of the first: for a while both are taken, then only the new one.
    let both = format!("secret: \"{OTHER}\", secret_before: \"{SECRET}\"");
    for (secrets, old) in [(both, 202), (format!("secret: \"{OTHER}\""), 403)] {
        there.write("backstitch.yaml", &CONFIG.replace(&format!("secret: \"{SECRET}\""), &secrets));
        assert_eq!(elsewhere.ask("POST", "/api/v1/reload", &token, Some("{}")).await.status, 200);
        let body = r#"{"data":{"id":"E-2"}}"#;
        assert_eq!(shop(&elsewhere, OTHER, "msg_new", now_s(), body).await.status, 202);
        assert_eq!(shop(&elsewhere, SECRET, "msg_old", now_s(), body).await.status, old);
    }
    assert!(elsewhere.stop().success());
}
