//! The contract as others see it: an event published by a client that is not ours, services and a
//! subscriber in another language, and what they see on the wire.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};

use backstitch::cli::demo::processes::{Lifetime, Orchestrator};
use backstitch::cli::demo::workspace::Workspace;
use backstitch::cli::participant::Addresses;
use serde_json::{Value, json};

use crate::rig::{EVENT, LONG, order, program, run_of, until};
use crate::server::NatsServer;
use crate::skip::skip;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/foreign").join(name)
}

/// A Python process whose lines are read as they come. Killed when dropped.
struct Python {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Python {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .arg("-u")
            .arg(script(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output: ChildStdout = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).expect("the Python process says something")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All three services. Their lines come through three pipes, so the order is that of the times in them.
struct Services {
    _processes: Vec<Python>,
    addresses: Addresses,
    calls: Arc<Mutex<Vec<Value>>>,
}

impl Services {
    fn start() -> Self {
        let calls: Arc<Mutex<Vec<Value>>> = Arc::default();
        let mut processes = Vec::new();
        let mut ports = Vec::new();
        for name in ["inventory", "payments", "shipping"] {
            let mut process = Python::start("service.py", &[name]);
            let port: u16 = process.line().parse().unwrap();
            ports.push(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
            let (_, none) = mpsc::channel();
            let lines = std::mem::replace(&mut process.lines, none);
            let calls = calls.clone();
            std::thread::spawn(move || {
                while let Ok(line) = lines.recv() {
                    calls.lock().unwrap().push(serde_json::from_str(&line).unwrap());
                }
            });
            processes.push(process);
        }
        let addresses = Addresses {
            inventory: ports[0],
            payments: ports[1],
            shipping: ports[2],
            control: ports[0],
            pid: std::process::id(),
        };
        Self { _processes: processes, addresses, calls }
    }

    /// Returns the calls of one order's run.
    fn calls_of(&self, order: &str) -> Vec<Value> {
        let run = run_of(order).to_string();
        let calls = self.calls.lock().unwrap();
        let of_run = calls.iter().filter(|call| call["headers"]["saga-run"] == run.as_str());
        let mut of_run: Vec<Value> = of_run.cloned().collect();
        of_run.sort_by_key(|call| call["at"].as_u64().unwrap());
        of_run
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Publishes an order as a CloudEvent in binary mode; returns what the stream answered.
fn publish(nats: &str, id: &str) -> Value {
    let traceparent = format!("traceparent=00-{TRACE}-00f067aa0ba902b7-01");
    let python = Python::start(
        "nats_client.py",
        &[
            "publish",
            nats,
            &format!("events.{EVENT}"),
            order(id).text(),
            "ce-specversion=1.0",
            &format!("ce-id=shop-{id}"),
            "ce-source=/shop",
            &format!("ce-type={EVENT}"),
            &format!("ce-correlationid=correlation-{id}"),
            &format!("ce-{traceparent}"),
            &traceparent,
            "content-type=application/json",
            &format!("Nats-Msg-Id=/shop/shop-{id}"),
        ],
    );
    serde_json::from_str(&python.line()).unwrap()
}

/// What a service must have seen of one call: service, method, target, body, step, direction.
fn shape(call: &Value) -> Value {
    json!([
        call["service"],
        call["method"],
        call["target"],
        call["headers"]["saga-step"],
        call["headers"]["saga-direction"],
    ])
}

fn header<'a>(call: &'a Value, name: &str) -> &'a str {
    call["headers"][name].as_str().unwrap_or_else(|| panic!("no header {name} in {call}"))
}

/// Headers that every call of an order carries.
fn check_headers(order: &str, calls: &[Value]) {
    for call in calls {
        uuid::Uuid::parse_str(header(call, "idempotency-key")).unwrap();
        assert_eq!(header(call, "correlation-id"), format!("correlation-{order}"));
        let parts: Vec<&str> = header(call, "traceparent").split('-').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "one trace from the publisher on");
        assert_ne!(parts[2], "00f067aa0ba902b7", "each attempt has a span of its own");
    }
    let mut keys: Vec<&str> = calls.iter().map(|call| header(call, "idempotency-key")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), calls.len(), "one key for each step and direction");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_publisher_services_and_subscriber() {
    if let Err(error) = Command::new("python3").arg("--version").output() {
        return skip("services in another language", &format!("no python3 here ({error})"));
    }
    let nats = NatsServer::start();
    let services = Services::start();
    let monitor = format!("nats: {{ monitor_url: \"{}\" }}\n", nats.monitor_url());
    let workspace = Workspace::create("foreign", &services.addresses, &monitor).unwrap();
    let options = ["--data", "data", "--nats", &nats.url()];
    let mut orchestrator =
        Orchestrator::prepare(program(), workspace.path(), "dev", &options, Lifetime::Bound).unwrap();
    orchestrator.start().await.unwrap();

    let url = nats.url();
    let address = url.trim_start_matches("nats://");
    // Two orders placed, and what comes of them: shipped and fulfilled, rejected.
    let subscriber = Python::start("nats_client.py", &["subscribe", address, "events.order.>", "5"]);
    assert_eq!(subscriber.line(), "ready");
    for id in ["GOOD-1", "REFUSED-1"] {
        let answer = publish(address, id);
        assert_eq!(answer["stream"], "EVENTS", "{answer}");
    }

    let good = until("three calls for the good order", async || {
        Some(services.calls_of("GOOD-1")).filter(|calls| calls.len() >= 3)
    })
    .await;
    let refused = until("five calls for the refused order", async || {
        Some(services.calls_of("REFUSED-1")).filter(|calls| calls.len() >= 5)
    })
    .await;
    check_headers("GOOD-1", &good);
    check_headers("REFUSED-1", &refused);

    let shapes: Vec<Value> = good.iter().map(shape).collect();
    assert_eq!(
        shapes,
        [
            json!(["inventory", "POST", "/reservations", "reserve", "forward"]),
            json!(["payments", "POST", "/charges", "charge", "forward"]),
            json!(["shipping", "POST", "/shipments", "ship", "forward"]),
        ]
    );
    assert_eq!(good[0]["body"]["reservationId"], header(&good[0], "idempotency-key"));
    assert_eq!(good[1]["body"], json!({"amount": 2190, "reference": "GOOD-1"}));
    assert_eq!(good[2]["body"], json!({"orderId": "GOOD-1"}));

    // The refusal at step 3 undoes 2, then 1, each naming the key of what it undoes.
    let (charge_key, reserve_key) = (header(&refused[1], "idempotency-key"), header(&refused[0], "idempotency-key"));
    let shapes: Vec<Value> = refused[2..].iter().map(shape).collect();
    assert_eq!(
        shapes,
        [
            json!(["shipping", "POST", "/shipments", "ship", "forward"]),
            json!(["payments", "POST", "/refunds", "charge", "compensate"]),
            json!(["inventory", "DELETE", format!("/reservations/{reserve_key}"), "reserve", "compensate"]),
        ]
    );
    assert_eq!(header(&refused[3], "saga-forward-key"), charge_key);
    assert_eq!(header(&refused[4], "saga-forward-key"), reserve_key);

    let mut events: Vec<Value> = (0..5).map(|_| serde_json::from_str(&subscriber.line()).unwrap()).collect();
    events.retain(|event| event["subject"] != format!("events.{EVENT}").as_str());
    for event in &events {
        let order = event["data"]["orderId"].as_str().unwrap();
        let headers = &event["headers"];
        assert_eq!(headers["ce-correlationid"], format!("correlation-{order}").as_str(), "{event}");
        assert_eq!(headers["ce-specversion"], "1.0");
        assert!(headers["ce-traceparent"].as_str().or(headers["traceparent"].as_str()).unwrap().contains(TRACE));
        assert_eq!(event["subject"], format!("events.{}", headers["ce-type"].as_str().unwrap()).as_str());
    }
    let mut names: Vec<(&str, &str)> = events
        .iter()
        .map(|event| (event["data"]["orderId"].as_str().unwrap(), event["subject"].as_str().unwrap()))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            ("GOOD-1", "events.order.fulfilled.v1"),
            ("GOOD-1", "events.order.shipped.v1"),
            ("REFUSED-1", "events.order.rejected.v1"),
        ]
    );
    // No call came after the last one that was expected.
    assert_eq!((services.calls_of("GOOD-1").len(), services.calls_of("REFUSED-1").len()), (3, 5));
    assert!(orchestrator.stop().await.is_some_and(|status| status.success()));
}
