//! 21: secrets are nowhere but in use. A process that has one of every kind serves, fails, is asked everything
//! at its most talkative, and ends; then all that it left behind is searched.

use std::collections::BTreeMap;
use std::path::Path;

use crate::api_process::{Dev, Workspace};
use crate::connector_peer::{Peer, Play, answer};

const SAGA: &str = "\
saga: talkative
version: 1
defaults: { retry: { attempts: 2, delay: 10ms }, timeout: 2s }
steps:
  - id: broken
    call: bearer
    with: { method: POST, path: /broken }
    compensate: none
    optional: true
  - id: garbled
    call: keyed
    with: { method: POST, path: /garbled }
    compensate: none
    optional: true
  - id: granted
    call: granted
    with: { method: POST, path: /granted }
    compensate: none
    optional: true
  - id: refused
    call: basic
    with: { method: POST, path: /refused }
    compensate: none
";

/// The secrets by what they are for, with the form in which each may leave.
const SECRETS: [(&str, &str); 12] = [
    ("api.token", "needle-api-token"),
    ("bearer", "needle-bearer"),
    ("basic", "needle-basic"),
    ("basic, as it is sent", "c2FnYTpuZWVkbGUtYmFzaWM="),
    ("api_key", "needle-api-key"),
    ("subscription", "bmVlZGxlLXN1YnNjcmlwdGlvbi1zZWNyZXQ="),
    ("notify.webhook", "needle-webhook"),
    ("webhooks", "needle-received"),
    ("oauth2, to the token server", "needle-client-secret"),
    ("oauth2, as it is sent", "c2FnYTpuZWVkbGUtY2xpZW50LXNlY3JldA=="),
    ("oauth2, to the service", "needle-access-token"),
    ("nats and outbox passwords", "needle-password"),
];

fn config(bearer: &Peer, basic: &Peer, keyed: &Peer, chat: &Peer, tokens: &Peer) -> String {
    format!(
        "telemetry: {{ otlp: \"off\", log: trace, log_format: json }}
api: {{ token: needle-api-token }}
secrets: {{ directory: secrets }}
notify: {{ webhook: \"http://{}/needle-webhook\" }}
services:
  bearer: {{ url: \"http://{}\", auth: {{ bearer: \"${{secret:pay/token}}\" }} }}
  basic: {{ url: \"http://{}\", auth: {{ basic: {{ username: saga, password: \"${{secret:basic}}\" }} }} }}
  granted: {{ url: \"http://{}\", auth: {{ oauth2: {{ token_url: \"http://{}/token\", client_id: saga, client_secret: \"${{secret:client}}\" }} }} }}
  keyed: {{ url: \"http://{}\", auth: {{ api_key: {{ header: X-Api-Key, value: \"${{secret:key}}\" }} }} }}
subscriptions:
  hook: {{ url: \"http://{}/hook\", types: thing.happened.v1, secret: \"${{secret:hook}}\", retry: 10ms }}
webhooks:
  repository: {{ scheme: github, secret: \"${{secret:repository}}\" }}
outboxes:
  shop: {{ url: \"${{secret:shop}}\", poll: 100ms }}
",
        chat.address, bearer.address, basic.address, basic.address, tokens.address, keyed.address, keyed.address
    )
}

/// Lets a process with every kind of secret do and say what it can; returns where a secret was seen, and how
/// often each came to where it belongs.
async fn seen(environment: &[(&str, &str)]) -> (Vec<String>, BTreeMap<&'static str, usize>) {
    let bearer = Peer::start([Play::Say(answer("500 Internal Server Error", &[], "{}"))]).await;
    let basic = Peer::start([Play::Say(answer("422 Unprocessable Content", &[], "{}"))]).await;
    let keyed = Peer::start([Play::SayAndClose(b"no answer at all".to_vec())]).await;
    let chat = Peer::start([Play::Say(answer("500 Internal Server Error", &[], "no"))]).await;
    let granted = r#"{"access_token":"needle-access-token","token_type":"Bearer"}"#;
    let tokens = Peer::start([Play::Say(answer("200 OK", &["Content-Type: application/json"], granted))]).await;
    let workspace = Workspace::new();
    workspace.write("sagas/talkative.yaml", SAGA);
    workspace.write("backstitch.yaml", &config(&bearer, &basic, &keyed, &chat, &tokens));
    let shop = "postgres://shop:needle-password@127.0.0.1:1/shop";
    let hook = "whsec_bmVlZGxlLXN1YnNjcmlwdGlvbi1zZWNyZXQ=";
    let kept = [
        ("pay/token", "needle-bearer"),
        ("basic", "needle-basic"),
        ("key", "needle-api-key"),
        ("hook", hook),
        ("shop", shop),
        ("repository", "needle-received"),
        ("client", "needle-client-secret"),
    ];
    for (file, secret) in kept {
        workspace.write(&format!("secrets/{file}"), &format!("{secret}\n"));
    }
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let mut command = workspace.command(&["dev", "--listen", "127.0.0.1:0", "--output", "json", "--data", "data"]);
    command.envs(environment.iter().copied());
    let dev = Dev::spawn(command, workspace.path());
    let token = ["Authorization: Bearer needle-api-token", "Content-Type: application/json"];
    let started = dev.ask("POST", "/api/v1/sagas/talkative/runs", &token, Some("{}")).await;
    let run = serde_json::from_slice::<serde_json::Value>(&started.body).unwrap()["id"].as_str().unwrap().to_owned();
    let event = r#"{"id":"A-1","size":1}"#;
    assert_eq!(dev.ask("POST", "/api/v1/events/thing.happened.v1", &token, Some(event)).await.status, 202);
    crate::rig::until("the run's end", async || {
        let shown = dev.ask("GET", &format!("/api/v1/runs/{run}"), &token, None).await;
        String::from_utf8_lossy(&shown.body).contains("\"state\":\"compensated\"").then_some(())
    })
    .await;
    crate::rig::until("everybody is called", async || {
        (!chat.requests().is_empty() && keyed.requests().iter().any(|one| one.starts_with("POST /hook "))).then_some(())
    })
    .await;
    let forged = ["X-Hub-Signature-256: sha256=00", "Content-Type: application/json"];
    assert_eq!(dev.ask("POST", "/webhooks/repository", &forged, Some("{}")).await.status, 403);
    let asked = ["", "/history"].map(|more| format!("/api/v1/runs/{run}{more}"));
    let pages = [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/api/v1/runs",
        "/api/v1/sagas",
        "/api/v1/audit",
        "/api/v1/sagas/talkative",
        "/api/v1/subscriptions",
        "/api/v1/dead-letters",
        "/api/v1/locks",
        "/api/v1/journal/export",
    ];
    for page in pages.into_iter().chain(asked.iter().map(String::as_str)) {
        for headers in [&token[..], &["Authorization: Bearer wrong"]] {
            let method = if page.ends_with("export") { "POST" } else { "GET" };
            let answer = dev.ask(method, page, headers, None).await;
            said.push((format!("{method} {page}"), answer.body.to_vec()));
        }
    }
    let url = dev.url();
    for arguments in [
        &["config", "check"][..],
        &["doctor", "--url", &url],
        &["show", &run, "--url", &url],
        &["runs", "--url", &url],
        &["validate"],
    ] {
        let mut command = workspace.command(arguments);
        let output = command.env("BACKSTITCH_TOKEN", "needle-api-token").output().unwrap();
        said.push((format!("{arguments:?}"), [output.stdout, output.stderr].concat()));
    }
    let nats = "nats://shop:needle-password@127.0.0.1:1";
    let (_, out, err) = workspace.told(&["doctor", "--url", &url, "--config", "backstitch.yaml"]);
    said.push(("doctor without a token".to_owned(), (out + &err).into_bytes()));
    let mut away = workspace.command(&["doctor"]);
    let output = away.env("NATS_URL", nats).output().unwrap();
    said.push(("doctor, NATS away".to_owned(), [output.stdout, output.stderr].concat()));
    assert!(dev.stop().success());
    files(workspace.path(), &mut said);
    assert!(said.iter().any(|(name, text)| name.ends_with("process.log") && text.len() > 10_000), "it logs at length");
    assert!(said.iter().any(|(name, _)| name.contains("/data/")), "the journal is searched");

    let mut found = Vec::new();
    for (name, text) in &said {
        for (what, secret) in SECRETS {
            let mut places = text.windows(secret.len());
            if let Some(at) = places.position(|part| part == secret.as_bytes()) {
                let around = String::from_utf8_lossy(&text[at.saturating_sub(80)..(at + secret.len()).min(text.len())]);
                found.push(format!("21 {what} is in {name}: …{around}"));
            }
        }
    }
    let used = |peer: &Peer, secret: &str| peer.requests().iter().filter(|request| request.contains(secret)).count();
    let used = [
        ("bearer", used(&bearer, "needle-bearer")),
        ("basic", used(&basic, "c2FnYTpuZWVkbGUtYmFzaWM=")),
        ("api_key", used(&keyed, "needle-api-key")),
        ("notify.webhook", used(&chat, "needle-webhook")),
        ("oauth2, client", used(&tokens, "c2FnYTpuZWVkbGUtY2xpZW50LXNlY3JldA==")),
        ("oauth2, token", used(&basic, "needle-access-token")),
    ];
    (found, used.into())
}

/// All files but those that the test itself wrote.
fn files(folder: &Path, said: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let own = path.ends_with("secrets") || path.ends_with("backstitch.yaml");
        if path.is_dir() && !own {
            files(&path, said);
        } else if !own && entry.file_type().unwrap().is_file() {
            said.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere_but_in_use() {
    let (found, used) = seen(&[]).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(used.values().all(|times| *times > 0), "each is used: {used:?}");
}

/// The search finds what is there to be found.
#[cfg(feature = "planted")]
#[tokio::test(flavor = "multi_thread")]
async fn a_planted_mistake_that_tells_a_secret_is_found() {
    for name in backstitch::planted::PROCESS {
        let (found, _) = seen(&[("BACKSTITCH_PLANTED", name)]).await;
        println!("{name:36} {}", found.first().map_or("hidden", String::as_str).chars().take(110).collect::<String>());
        assert!(!found.is_empty() && found.iter().all(|one| one.starts_with("21 ")), "{name} stays hidden");
    }
    println!("process: {0} planted, {0} found", backstitch::planted::PROCESS.len());
}
