//! Calls over other protocols than plain http, with a real process, a real nats-server and services that answer
//! over the wire: GraphQL, NATS, and operations of an OpenAPI document.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::api_process::{Dev, Workspace};
use crate::connector_peer::{Peer, Play, answer};
use crate::grpc_peer::{GrpcPeer, descriptor_set};
use crate::rig::until;
use crate::server::{NatsServer, Setup};

const SAGA: &str = r#"
saga: several
version: 1
defaults: { timeout: 5s, retry: { attempts: 3, delay: 50ms, jitter: none } }
steps:
  - id: open
    call: crm
    with:
      query: |
        mutation Open($order: ID!) { openCase(order: $order) { id } }
        mutation Close($case: ID!) { closeCase(case: $case) { id } }
      operation: Open
      variables: { order: "${ $input.order }" }
    compensate:
      with:
        query: "mutation ($case: ID!) { closeCase(case: $case) { id } }"
        variables: { case: "${ $forward.output.openCase.id // \"\" }" }
  - id: book
    call: ledger
    with: { operation: addEntry, parameters: { dry-run: "no" }, body: { case: "${ $steps.open.output.openCase.id }" } }
    compensate: { with: { operation: removeEntry, parameters: { id: "${ $input.order }" } } }
  - id: reserve
    call: stock
    with: { subject: "stock.reserve.${ $input.order }", data: { case: "${ $steps.open.output.openCase.id }" } }
    compensate: { with: { subject: "stock.release.${ $input.order }", data: { place: "${ $forward.output.place // null }" } } }
  - id: pack
    call: stock
    with: { subject: "stock.pack.${ $input.order }", data: { place: "${ $steps.reserve.output.place }" } }
    compensate: none
output: { packed: "${ $steps.pack.output }" }
"#;

const LEDGER: &str = r#"
openapi: 3.1.0
paths:
  /entries:
    post:
      operationId: addEntry
      parameters: [{ name: dry-run, in: query }]
      requestBody: { required: true, content: { application/json: { schema: { type: object } } } }
      responses: { '201': { description: done } }
  /entries/{id}/lines:
    delete:
      operationId: removeEntry
      parameters: [{ name: id, in: path, required: true }]
      responses: { '204': { description: gone } }
"#;

/// One request over NATS: subject, headers, data.
type Asked = (String, Option<HeaderMap>, Value);

/// The configuration of a server that takes nobody without TLS and a password.
pub const TLS: &str = concat!(
    "tls { cert_file: \"",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/tls/server.pem\", key_file: \"",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/it/tls/server.key\" }\nauthorization { user: stock, password: s3cret }",
);

async fn stock(url: &str, asked: Arc<Mutex<Vec<Asked>>>) -> tokio::task::JoinHandle<()> {
    serve_stock(async_nats::connect(url).await.unwrap(), asked).await
}

/// A service over NATS: reserves, releases, and packs what it can.
async fn serve_stock(client: async_nats::Client, asked: Arc<Mutex<Vec<Asked>>>) -> tokio::task::JoinHandle<()> {
    let mut requests = client.subscribe("stock.>").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let data = serde_json::from_slice(&request.payload).unwrap_or(Value::Null);
            let subject = request.subject.to_string();
            asked.lock().unwrap().push((subject.clone(), request.headers.clone(), data));
            let reply = request.reply.unwrap();
            let refused = |code: &str, words: &str| {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Service-Error-Code", code);
                headers.insert("Nats-Service-Error", words);
                headers
            };
            let answer = if subject.starts_with("stock.reserve") { "{\"place\":\"B7\"}" } else { "{\"boxes\":2}" };
            if subject.starts_with("stock.pack") && subject.ends_with("A-2") {
                client.publish_with_headers(reply, refused("409", "too large"), "".into()).await.unwrap();
            } else {
                client.publish(reply, answer.into()).await.unwrap();
            }
            client.flush().await.unwrap();
        }
    })
}

fn graphql(body: &str) -> Play {
    Play::Say(answer("200 OK", &["Content-Type: application/graphql-response+json"], body))
}

async fn start(dev: &Dev, order: &str) -> String {
    let (status, run) =
        dev.json("POST", "/api/v1/sagas/several/runs", Some(&json!({"input": {"order": order}}).to_string())).await;
    assert!((200..300).contains(&status), "{run}");
    run["id"].as_str().unwrap().to_owned()
}

fn body_of(request: &str) -> Value {
    serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_saga_over_graphql_openapi_and_nats() {
    let nats = NatsServer::start();
    let crm = Peer::start([graphql(r#"{"data":{"openCase":{"id":"C-1"}}}"#)]).await;
    let ledger = Peer::start([Play::Say(answer("201 Created", &[], "{}"))]).await;
    let workspace = Workspace::new();
    workspace.write("sagas/several.yaml", SAGA);
    workspace.write("ledger.yaml", LEDGER);
    workspace.write(
        "backstitch.yaml",
        &format!(
            "telemetry: {{ otlp: off }}\nservices:\n  crm: {{ url: \"http://{}/graphql\", protocol: graphql }}\n  \
             ledger: {{ url: \"http://{}/v1\", openapi: ledger.yaml }}\n  stock: {{ url: \"{}\" }}\n",
            crm.address,
            ledger.address,
            nats.url()
        ),
    );
    let dev = Dev::start(&workspace, &["--data", "data"]);
    // Nobody listens yet: nothing happened, so it is tried again, and then the run is undone.
    let run = start(&dev, "A-0").await;
    let view = dev.until(&run, "compensated").await;
    assert!(view.to_string().contains("nobody answers on stock.reserve.A-0"), "{view}");

    let asked = Arc::default();
    let service = stock(&nats.url(), Arc::clone(&asked)).await;
    let (crm_before, ledger_before) = (crm.requests().len(), ledger.requests().len());
    let run = start(&dev, "A-1").await;
    let view = dev.until(&run, "completed").await;
    assert_eq!(view["output"], json!({"packed": {"boxes": 2}}));

    let request = crm.requests()[crm_before].clone();
    assert!(request.starts_with("POST /graphql HTTP/1.1\r\n"), "{request}");
    let lower = request.to_ascii_lowercase();
    for header in ["accept: application/graphql-response+json", "content-type: application/json", "idempotency-key: "] {
        assert!(lower.contains(header), "no {header} in {request}");
    }
    let body = body_of(&request);
    assert_eq!((&body["operationName"], &body["variables"]), (&json!("Open"), &json!({"order": "A-1"})));
    assert!(body["query"].as_str().unwrap().starts_with("mutation Open($order: ID!)"), "{body}");
    let request = ledger.requests()[ledger_before].clone();
    assert!(request.starts_with("POST /v1/entries?dry-run=no HTTP/1.1\r\n"), "{request}");
    assert_eq!(body_of(&request), json!({"case": "C-1"}));
    {
        let asked = asked.lock().unwrap();
        let (subject, headers, data) = &asked[0];
        assert_eq!((subject.as_str(), data), ("stock.reserve.A-1", &json!({"case": "C-1"})));
        let header = |name: &str| headers.as_ref().and_then(|all| all.get(name)).map(|value| value.as_str().to_owned());
        assert_eq!(header("Saga-Run"), Some(run.clone()));
        assert_eq!(
            (header("Saga-Step").as_deref(), header("Saga-Direction").as_deref()),
            (Some("reserve"), Some("forward"))
        );
        for name in ["Idempotency-Key", "traceparent", "Correlation-Id"] {
            assert!(header(name).is_some_and(|value| !value.is_empty()), "{name} is missing: {headers:?}");
        }
        assert_eq!(asked[1].2, json!({"place": "B7"}));
    }

    // Refused at the end: undone in reverse, each in its own protocol.
    let (crm_before, ledger_before) = (crm.requests().len(), ledger.requests().len());
    let run = start(&dev, "A-2").await;
    let view = dev.until(&run, "compensated").await;
    assert!(view.to_string().contains("too large"), "{view}");
    let subjects: Vec<String> =
        asked.lock().unwrap().iter().map(|(subject, ..)| subject.clone()).filter(|one| one.ends_with("A-2")).collect();
    assert_eq!(subjects, ["stock.reserve.A-2", "stock.pack.A-2", "stock.release.A-2"]);
    let requests = ledger.requests();
    assert!(requests[ledger_before + 1].starts_with("DELETE /v1/entries/A-2/lines HTTP/1.1\r\n"), "{requests:?}");
    assert_eq!(body_of(&crm.requests()[crm_before + 1])["variables"], json!({"case": "C-1"}));

    // What comes from data names no other subject.
    let run = start(&dev, "A.1.>").await;
    let view = dev.until(&run, "compensated").await;
    assert!(view.to_string().contains("cannot hold `.`"), "{view}");
    assert!(asked.lock().unwrap().iter().all(|(subject, ..)| !subject.contains('>')));
    service.abort();
    assert!(dev.stop().success());
}

/// The service goes away in the middle: what was sent is in doubt, what comes later waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_nats_service_that_is_away_is_waited_for() {
    let mut nats = NatsServer::start();
    let workspace = Workspace::new();
    let saga = "saga: away\nversion: 1\nsteps:\n  - id: ask\n    call: stock\n    with: { subject: stock.reserve.A-1, data: { a: 1 } }\n    \
                timeout: 500ms\n    retry: { attempts: forever, delay: 50ms, max_delay: 200ms }\n    compensate: none\n";
    workspace.write("sagas/away.yaml", saga);
    let config = format!(
        "telemetry: {{ otlp: off }}\nservices:\n  stock: {{ url: \"{}\", connect_timeout: 300ms }}\n",
        nats.url()
    );
    workspace.write("backstitch.yaml", &config);
    let dev = Dev::start(&workspace, &["--data", "data"]);
    nats.kill();
    let (_, run) = dev.json("POST", "/api/v1/sagas/away/runs", Some("{}")).await;
    let run = run["id"].as_str().unwrap().to_owned();
    until("an attempt that finds no server", async || {
        let (_, view) = dev.json("GET", &format!("/api/v1/runs/{run}"), None).await;
        view.to_string().contains("stock: ").then_some(())
    })
    .await;
    nats.start_again();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Arc::default();
    let service = stock(&nats.url(), Arc::clone(&asked)).await;
    dev.until(&run, "completed").await;
    // It goes away again, with a connection that stood: the next run comes through as well.
    nats.kill();
    let (_, again) = dev.json("POST", "/api/v1/sagas/away/runs", Some("{}")).await;
    nats.start_again();
    dev.until(again["id"].as_str().unwrap(), "completed").await;
    service.abort();
    assert!(dev.stop().success());
}

/// Over TLS, with a password: nothing is sent to a server that nobody vouches for.
#[tokio::test(flavor = "multi_thread")]
async fn a_nats_service_is_called_over_tls() {
    let nats = NatsServer::start_with(Setup { sync_always: false, more: TLS });
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls");
    let options = ConnectOptions::with_user_and_password("stock".to_owned(), "s3cret".to_owned());
    let options = options.add_root_certificates(format!("{files}/ca.pem").into()).require_tls(true);
    let asked = Arc::default();
    let service = serve_stock(options.connect(nats.url()).await.unwrap(), Arc::clone(&asked)).await;
    let workspace = Workspace::new();
    let saga = "saga: over-tls\nversion: 1\nsteps:\n  - id: ask\n    call: stock\n    with: { subject: stock.reserve.A-1, data: { a: 1 } }\n    \
                retry: { attempts: 2, delay: 10ms }\n    compensate: none\n";
    workspace.write("sagas/tls.yaml", saga);
    let url = nats.url().replace("nats://", "tls://");
    for (ca, end) in [("", "compensated"), (&*format!(", ca_file: {files}/ca.pem"), "completed")] {
        let auth = "auth: { basic: { username: stock, password: s3cret } }";
        let config = format!("telemetry: {{ otlp: off }}\nservices:\n  stock: {{ url: \"{url}\", {auth}{ca} }}\n");
        workspace.write("backstitch.yaml", &config);
        let dev = Dev::start(&workspace, &[]);
        let (_, run) = dev.json("POST", "/api/v1/sagas/over-tls/runs?wait=30s", Some("{}")).await;
        assert_eq!(run["state"], end, "{run}");
        assert_eq!(asked.lock().unwrap().len(), usize::from(end == "completed"));
        assert!(end == "completed" || run.to_string().contains("UnknownIssuer"), "{run}");
        assert!(dev.stop().success());
    }
    service.abort();
}

const PARCEL: &str = r#"
saga: parcel
version: 1
defaults: { timeout: 2s, retry: { attempts: 3, delay: 50ms, jitter: none } }
steps:
  - id: announce
    call: tracking
    with:
      method: tracking.v1.Tracking/Announce
      message: { orderId: "${ $input.order }", to: { city: Bern }, grams: [1, 2] }
      metadata: { x-tenant: "${ $input.order }" }
    compensate: { with: { method: tracking.v1.Tracking/Withdraw, message: { order_id: "${ $input.order }" } } }
  - id: again
    if: ${ $input.order != "A-1" }
    call: tracking
    with: { method: tracking.v1.Tracking/Announce, message: { orderId: "${ $input.second }" } }
    compensate: none
output: { parcel: "${ $steps.announce.output.parcelId }", late: "${ $steps.announce.output.late }" }
"#;

fn track(path: &str, message: &Value) -> Result<Value, (u16, &'static str)> {
    match (path.rsplit('/').next().unwrap(), message["orderId"].as_str().unwrap_or_default()) {
        ("Announce", "refused") => Err((9, "the depot is closed")),
        ("Announce", "unknown") => Err((13, "it broke")),
        _ => Ok(json!({"parcelId": "P-7", "number": "9007199254740993"})),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_grpc_are_done_judged_and_undone() {
    let free = "127.0.0.1:0".parse().unwrap();
    let peer = GrpcPeer::start(free, track).await;
    let granted = r#"{"access_token":"t0","token_type":"bearer","expires_in":3600}"#;
    let tokens = Peer::start([Play::Say(answer("200 OK", &["Content-Type: application/json"], granted))]).await;
    let workspace = Workspace::new();
    workspace.write("sagas/parcel.yaml", PARCEL);
    std::fs::write(workspace.path().join("tracking.pb"), descriptor_set()).unwrap();
    let config = format!(
        "telemetry: {{ otlp: off }}\nservices:\n  tracking:\n    url: \"grpc://{}\"\n    descriptor: tracking.pb\n    \
         auth: {{ oauth2: {{ token_url: \"http://{}/token\", client_id: saga, client_secret: s3cret, scopes: [track] }} }}\n",
        peer.address, tokens.address
    );
    workspace.write("backstitch.yaml", &config);
    let dev = Dev::start(&workspace, &["--data", "data"]);
    let start = async |order: &str, second: &str| {
        let input = json!({"input": {"order": order, "second": second}}).to_string();
        let (_, run) = dev.json("POST", "/api/v1/sagas/parcel/runs", Some(&input)).await;
        run["id"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned()
    };
    let run = start("A-1", "").await;
    let view = dev.until(&run, "completed").await;
    // What has its default is there as well, and 64 bits are text, as protobuf's JSON has it.
    assert_eq!(view["output"], json!({"parcel": "P-7", "late": false}));
    {
        let asked = peer.asked.lock().unwrap();
        let (path, metadata, message) = &asked[0];
        assert_eq!(path, "/tracking.v1.Tracking/Announce");
        assert_eq!(*message, json!({"orderId": "A-1", "to": {"city": "Bern"}, "grams": ["1", "2"]}));
        let header = |name: &str| metadata.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("authorization").as_deref(), Some("Bearer t0"));
        assert_eq!((header("x-tenant").as_deref(), header("saga-run")), (Some("A-1"), Some(run)));
        for name in ["idempotency-key", "traceparent", "correlation-id", "grpc-timeout"] {
            assert!(header(name).is_some_and(|value| !value.is_empty()), "{name} is missing: {metadata:?}");
        }
    }
    let paths = |since: usize| -> Vec<String> {
        let asked = peer.asked.lock().unwrap();
        asked[since..].iter().map(|(path, ..)| path.rsplit('/').next().unwrap().to_owned()).collect()
    };

    // FAILED_PRECONDITION is a refusal: once, and what was done before is undone.
    let before = peer.asked.lock().unwrap().len();
    let view = dev.until(&start("A-2", "refused").await, "compensated").await;
    assert!(view.to_string().contains("the depot is closed"), "{view}");
    assert_eq!(paths(before), ["Announce", "Announce", "Withdraw"]);

    // INTERNAL leaves it in doubt: tried again under the same key.
    let before = peer.asked.lock().unwrap().len();
    dev.until(&start("A-3", "unknown").await, "compensated").await;
    assert_eq!(paths(before), ["Announce", "Announce", "Announce", "Announce", "Withdraw"]);
    let keys: std::collections::BTreeSet<_> = peer.asked.lock().unwrap()[before + 1..before + 4]
        .iter()
        .map(|(_, all, _)| all["idempotency-key"].clone())
        .map(|key| key.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 1);

    // A message that does not fit is refused before anything is sent.
    let before = peer.asked.lock().unwrap().len();
    let input = json!({"input": {"order": ["A-4"], "second": ""}}).to_string();
    let (_, run) = dev.json("POST", "/api/v1/sagas/parcel/runs", Some(&input)).await;
    let view = dev.until(run["id"].as_str().unwrap(), "compensated").await;
    assert!(paths(before).is_empty(), "{view}");
    assert!(dev.stop().success());
}

/// No server is no effect: the call waits for one, and comes through when there is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_service_that_is_away_is_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let workspace = Workspace::new();
    let saga = "saga: away\nversion: 1\nsteps:\n  - id: ask\n    call: tracking\n    with: { method: tracking.v1.Tracking/Announce, message: {} }\n    \
                retry: { attempts: forever, delay: 50ms, max_delay: 200ms }\n    compensate: none\n";
    workspace.write("sagas/away.yaml", saga);
    std::fs::write(workspace.path().join("tracking.pb"), descriptor_set()).unwrap();
    let config = format!(
        "telemetry: {{ otlp: off }}\nservices:\n  tracking: {{ url: \"grpc://{address}\", descriptor: tracking.pb }}\n"
    );
    workspace.write("backstitch.yaml", &config);
    let dev = Dev::start(&workspace, &["--data", "data"]);
    let (_, run) = dev.json("POST", "/api/v1/sagas/away/runs", Some("{}")).await;
    let run = run["id"].as_str().unwrap().to_owned();
    let view = until("an attempt that finds no server", async || {
        let (_, view) = dev.json("GET", &format!("/api/v1/runs/{run}/history"), None).await;
        view.to_string().contains("cannot connect").then_some(view)
    })
    .await;
    assert!(!view.to_string().contains("maybe"), "nothing was sent: {view}");
    let peer = GrpcPeer::start(address, track).await;
    dev.until(&run, "completed").await;
    assert_eq!(peer.asked.lock().unwrap().len(), 1);
    assert!(dev.stop().success());
}

/// Over TLS: by a certificate that is vouched for, and nothing is sent without one.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_over_tls_is_trusted_or_not_sent() {
    let peer = GrpcPeer::start_tls(track).await;
    let saga = "saga: tls\nversion: 1\nsteps:\n  - id: ask\n    call: SERVICE\n    with: { method: tracking.v1.Tracking/Announce, message: {} }\n    \
                retry: { attempts: 1 }\n    compensate: none\n";
    let workspace = Workspace::new();
    for name in ["trusted", "stranger"] {
        let text = saga.replace("saga: tls", &format!("saga: {name}")).replace("SERVICE", name);
        workspace.write(&format!("sagas/{name}.yaml"), &text);
    }
    std::fs::write(workspace.path().join("tracking.pb"), descriptor_set()).unwrap();
    workspace.write("ca.pem", include_str!("tls/ca.pem"));
    let url = format!("grpcs://{}", peer.address);
    let config = format!(
        "telemetry: {{ otlp: off }}\nservices:\n  trusted: {{ url: \"{url}\", descriptor: tracking.pb, ca_file: ca.pem }}\n  \
         stranger: {{ url: \"{url}\", descriptor: tracking.pb }}\n"
    );
    workspace.write("backstitch.yaml", &config);
    let dev = Dev::start(&workspace, &["--data", "data"]);
    for (name, state, asked) in [("trusted", "completed", 1), ("stranger", "compensated", 1)] {
        let (_, run) = dev.json("POST", &format!("/api/v1/sagas/{name}/runs"), Some("{}")).await;
        let view = dev.until(run["id"].as_str().unwrap(), state).await;
        assert_eq!(peer.asked.lock().unwrap().len(), asked, "{name}: {view}");
        assert_eq!(view.to_string().contains("certificate"), name == "stranger", "{view}");
    }
    assert!(dev.stop().success());
}

const COVER: &str = r##"
saga: cover
version: 1
defaults: { timeout: 2s, retry: { attempts: 1 } }
steps:
  - id: cover
    call: insurer
    with:
      action: urn:insure/Cover
      body: { "i:Cover": { "@xmlns:i": "urn:insure", order: "${ $input.order }", lines: [{ value: 7 }, { value: 8 }] } }
    output: { policy: "${ $result.body.Covered.policy }" }
    compensate: { with: { action: urn:insure/Release, body: { "i:Release": { "@xmlns:i": "urn:insure", policy: "${ $forward.output.policy // null }" } } } }
  - id: again
    call: insurer
    with: { action: urn:insure/Cover, body: { "i:Cover": { order: "<second>" } } }
    compensate: none
"##;

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_soap_are_done_judged_and_undone() {
    let soap = |status: &str, body: &str| {
        let text = format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}</s:Body></s:Envelope>"
        );
        Play::Say(answer(status, &["Content-Type: text/xml"], &text))
    };
    let peer = Peer::start([
        soap("200 OK", "<c:Covered xmlns:c=\"urn:insure\"><policy>P-1</policy></c:Covered>"),
        soap(
            "500 Internal Server Error",
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>covered twice</faultstring></s:Fault>",
        ),
        soap("200 OK", "<Released/>"),
    ])
    .await;
    let workspace = Workspace::new();
    workspace.write("sagas/cover.yaml", COVER);
    workspace.write(
        "backstitch.yaml",
        &format!(
            "telemetry: {{ otlp: off }}\nservices:\n  insurer: {{ url: \"http://{}/soap\", protocol: soap }}\n",
            peer.address
        ),
    );
    let dev = Dev::start(&workspace, &["--data", "data"]);
    let (_, run) = dev.json("POST", "/api/v1/sagas/cover/runs", Some(r#"{"input": {"order": "A-1 & <2>"}}"#)).await;
    let view = dev.until(run["id"].as_str().unwrap(), "compensated").await;
    assert!(view.to_string().contains("covered twice"), "{view}");
    let requests = peer.requests();
    let actions: Vec<&str> = requests
        .iter()
        .filter_map(|request| request.lines().find(|line| line.to_ascii_lowercase().starts_with("soapaction:")))
        .collect();
    assert_eq!(
        actions,
        ["soapaction: \"urn:insure/Cover\"", "soapaction: \"urn:insure/Cover\"", "soapaction: \"urn:insure/Release\""]
    );
    assert!(
        requests[0].starts_with("POST /soap HTTP/1.1\r\n")
            && requests[0].contains("content-type: text/xml; charset=utf-8")
    );
    let body = "<soap:Body><i:Cover xmlns:i=\"urn:insure\"><order>A-1 &amp; &lt;2&gt;</order><lines><value>7</value></lines><lines><value>8</value></lines></i:Cover></soap:Body>";
    assert!(requests[0].contains(body), "{}", requests[0]);
    assert!(requests[2].contains("<policy>P-1</policy>"), "{}", requests[2]);
    assert!(dev.stop().success());
}

/// A time that is over before the message could leave is no effect; one that is over behind it is doubt.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_tells_unsent_from_unanswered() {
    // Takes connections, and says nothing: HTTP/2 does not even begin.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(silent.accept().await.unwrap());
        }
    });
    let slow = GrpcPeer::start("127.0.0.1:0".parse().unwrap(), |_, _| {
        std::thread::sleep(Duration::from_secs(2));
        Ok(json!({}))
    })
    .await;
    // Nobody is behind this address (RFC 5737); as a name it would be refused.
    let nowhere = "192.0.2.1:9";
    let workspace = Workspace::new();
    std::fs::write(workspace.path().join("tracking.pb"), descriptor_set()).unwrap();
    let mut config = "telemetry: { otlp: off }\nservices:\n".to_owned();
    for (name, address) in
        [("silent", silent_at.to_string()), ("slow", slow.address.to_string()), ("nowhere", nowhere.to_owned())]
    {
        config += &format!("  {name}: {{ url: \"grpc://{address}\", descriptor: tracking.pb }}\n");
        let saga = format!(
            "saga: {name}\nversion: 1\nsteps:\n  - id: ask\n    call: {name}\n    with: {{ method: tracking.v1.Tracking/Announce, message: {{}} }}\n    \
             timeout: 400ms\n    retry: {{ attempts: 1 }}\n    compensate: none\n"
        );
        workspace.write(&format!("sagas/{name}.yaml"), &saga);
    }
    workspace.write("backstitch.yaml", &config);
    let dev = Dev::start(&workspace, &["--data", "data"]);
    for (name, effect) in [("slow", "maybe"), ("nowhere", "none")] {
        let (_, run) = dev.json("POST", &format!("/api/v1/sagas/{name}/runs"), Some("{}")).await;
        let run = run["id"].as_str().unwrap().to_owned();
        dev.until(&run, "compensated").await;
        let (_, history) = dev.json("GET", &format!("/api/v1/runs/{run}/history"), None).await;
        assert!(history.to_string().contains(&format!("\"effect\":\"{effect}\"")), "{name}: {history}");
    }
    // With its preface the client may send at once, before the other side has said anything.
    let (_, run) = dev.json("POST", "/api/v1/sagas/silent/runs", Some("{}")).await;
    dev.until(run["id"].as_str().unwrap(), "compensated").await;
    accepting.abort();
    assert!(dev.stop().success());
}
