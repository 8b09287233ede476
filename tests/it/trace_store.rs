//! Where tests read traces back: a real Jaeger where there is one, else the receiver of these tests. The
//! same assertions run on both, and a line says which it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backstitch::cli::client::Client;
use backstitch::cli::demo::processes::free_port;
use http::Method;
use serde_json::Value;

use crate::otlp::{Collector, Taken};
use crate::rig::until;

/// A Jaeger starts within a second.
const READY_WAIT: Duration = Duration::from_secs(60);
const CALL_WAIT: Duration = Duration::from_secs(10);

/// One span as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub trace: String,
    pub id: String,
    /// None for the root.
    pub parent: Option<String>,
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i64,
    /// Nanoseconds.
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, String>,
    /// The words of a status that is an error.
    pub error: Option<String>,
    /// Trace ids.
    pub links: Vec<String>,
}

impl Seen {
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

enum Kind {
    Jaeger { child: Child, client: Box<Client> },
    Own(Collector),
}

pub struct Store {
    kind: Kind,
    /// For `telemetry.otlp`.
    pub otlp: String,
    /// Where people look.
    pub page: Option<String>,
}

impl Store {
    pub async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = Command::new(root.join("scripts/get-jaeger")).arg("--find").output().unwrap();
        let program = String::from_utf8(found.stdout).unwrap();
        let (store, name) = match program.trim() {
            "" => (Self::own().await, "a receiver of the tests (no Jaeger: make jaeger)".to_owned()),
            program => {
                let said = String::from_utf8_lossy(&found.stderr);
                let version = said.rsplit('(').next().and_then(|rest| rest.split(')').next()).unwrap_or("?").to_owned();
                (Self::jaeger(program).await, format!("Jaeger {version}"))
            }
        };
        let line = format!("traces checked in: {name}");
        println!("{line}");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut file = std::fs::File::create(target.join("traces.txt")).unwrap();
        writeln!(file, "{line}").unwrap();
        store
    }

    async fn own() -> Self {
        let collector = Collector::start().await;
        Self { otlp: collector.endpoint(), kind: Kind::Own(collector), page: None }
    }

    async fn jaeger(program: &str) -> Self {
        let port = |what: &str| format!("--{what}.host-port=127.0.0.1:{}", free_port().unwrap());
        let (otlp, query) = (free_port().unwrap(), free_port().unwrap());
        let child = Command::new(program)
            .env("COLLECTOR_OTLP_ENABLED", "true")
            .arg(format!("--collector.otlp.grpc.host-port=127.0.0.1:{otlp}"))
            .arg(format!("--query.http-server.host-port=127.0.0.1:{query}"))
            .args(["admin.http", "collector.grpc-server", "collector.http-server"].map(port))
            .args(["collector.otlp.http", "query.grpc-server"].map(port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let page = format!("http://127.0.0.1:{query}");
        let client = Client::new(&page, None).unwrap();
        let began = Instant::now();
        while client.request(Method::GET, "/api/v3/services", &[], None, CALL_WAIT).await.is_err() {
            assert!(began.elapsed() < READY_WAIT, "Jaeger does not answer at {page}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            kind: Kind::Jaeger { child, client: Box::new(client) },
            otlp: format!("http://127.0.0.1:{otlp}"),
            page: Some(page),
        }
    }

    /// Returns every span there is.
    pub async fn spans(&self) -> Vec<Seen> {
        match &self.kind {
            Kind::Own(collector) => collector.spans().iter().map(taken).collect(),
            Kind::Jaeger { client, .. } => {
                let times = "query.start_time_min=2000-01-01T00:00:00Z&query.start_time_max=2100-01-01T00:00:00Z";
                let target = format!("/api/v3/traces?query.service_name=backstitch&{times}&query.num_traces=1000");
                read(client, &target).await
            }
        }
    }

    /// Returns the spans of one trace, by its id.
    pub async fn trace(&self, id: &str) -> Vec<Seen> {
        match &self.kind {
            Kind::Own(_) => self.spans().await.into_iter().filter(|span| span.trace == id).collect(),
            Kind::Jaeger { client, .. } => read(client, &format!("/api/v3/traces/{id}")).await,
        }
    }

    /// Waits until a trace has a span of each name.
    pub async fn trace_with(&self, id: &str, names: &[&str]) -> Vec<Seen> {
        until(&format!("{names:?} in trace {id}"), async || {
            let spans = self.trace(id).await;
            names.iter().all(|name| spans.iter().any(|span| span.name == *name)).then_some(spans)
        })
        .await
    }

    /// Waits for the trace of a key's run.
    pub async fn trace_of(&self, key: &str, names: &[&str]) -> Vec<Seen> {
        let id = until(&format!("a trace of {key}"), async || {
            self.spans().await.into_iter().find(|span| span.get("saga.key") == key).map(|span| span.trace)
        })
        .await;
        self.trace_with(&id, names).await
    }

    pub async fn stop(mut self) {
        match &mut self.kind {
            Kind::Jaeger { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Kind::Own(_) => {}
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Kind::Jaeger { child, .. } = &mut self.kind {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn read(client: &Client, target: &str) -> Vec<Seen> {
    let Ok(answer) = client.request(Method::GET, target, &[], None, CALL_WAIT).await else { return Vec::new() };
    if !answer.status.is_success() {
        return Vec::new();
    }
    let mut seen = Vec::new();
    // Large answers come in several documents, one behind the other.
    for document in serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>().map_while(Result::ok) {
        let resources = document["result"]["resourceSpans"].as_array().cloned().unwrap_or_default();
        for scope in resources.iter().flat_map(|resource| resource["scopeSpans"].as_array().into_iter().flatten()) {
            seen.extend(scope["spans"].as_array().into_iter().flatten().map(from_json));
        }
    }
    seen
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn from_json(span: &Value) -> Seen {
    let value = |value: &Value| {
        let value = value.as_object().and_then(|kinds| kinds.values().next()).cloned().unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let number = |name: &str| span[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    let attributes = span["attributes"].as_array().into_iter().flatten();
    let links = span["links"].as_array().into_iter().flatten();
    Seen {
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        parent: Some(text(&span["parentSpanId"])).filter(|id| !id.is_empty()),
        name: text(&span["name"]),
        kind: span["kind"].as_i64().unwrap_or_default(),
        start: number("startTimeUnixNano"),
        end: number("endTimeUnixNano"),
        attributes: attributes.map(|pair| (text(&pair["key"]), value(&pair["value"]))).collect(),
        error: (span["status"]["code"] == 2).then(|| text(&span["status"]["message"])),
        links: links.map(|link| text(&link["traceId"])).collect(),
    }
}

fn taken(taken: &Taken) -> Seen {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let span = &taken.span;
    Seen {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: Some(hex(&span.parent_span_id)).filter(|id| !id.is_empty()),
        name: span.name.clone(),
        kind: i64::from(span.kind),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        attributes: taken.attributes.iter().cloned().collect(),
        error: span.status.as_ref().filter(|status| status.code == 2).map(|status| status.message.clone()),
        links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
    }
}

/// Checks what holds for every trace: one trace, no id twice, one root, every parent there.
pub fn check_whole(why: &str, spans: &[Seen]) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{why}: a span twice: {names:?}");
    let traces: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len(), 1, "{why}: {traces:?}");
    let roots: Vec<&str> = spans.iter().filter(|span| span.parent.is_none()).map(|span| span.name.as_str()).collect();
    assert_eq!(roots.len(), 1, "{why}: roots {roots:?} of {names:?}");
    for span in spans {
        let parent = span.parent.as_deref();
        assert!(parent.is_none_or(|id| ids.contains(id)), "{why}: {} is an orphan: {parent:?}", span.name);
        assert!(span.end >= span.start, "{why}: {} ends before it begins", span.name);
    }
}
