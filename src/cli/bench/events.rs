//! `backstitch bench --events`: events in and out, beside the same work done bare on the same server in the
//! same run. In: validated publishes through HTTP, against JetStream publishes. Out: from a backlog to the
//! inbox mark in the journal and the ack, against a pull with acks.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer};
use bytes::Bytes;
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use tokio::task::JoinSet;

use super::super::demo::processes::{Lifetime, Orchestrator, Participants};
use super::super::demo::workspace::Workspace;
use super::super::exit::{Code, Failure, Outcome};
use super::super::nats_server::NatsServer;
use super::load::Door;
use super::{Args, Output, api_address};

/// An event that is looked at and wanted by nobody: what is left is checking it and marking it.
const SAGA: &str = "\
saga: bench-events
version: 1
on:
  - event: bench.event.v1
    when: ${ $event.data.go }
    key: ${ $event.data.id }
steps:
  - id: note
    set: { id: \"${ $input.id }\" }
";
const SCHEMA: &str = r#"{
  "type": "object",
  "required": ["id", "go", "lines"],
  "properties": {
    "id": { "type": "string", "minLength": 1 },
    "go": { "type": "boolean" },
    "lines": { "type": "array", "items": { "type": "object", "required": ["sku", "qty"],
      "properties": { "sku": { "type": "string" }, "qty": { "type": "integer", "minimum": 1 } } } }
  }
}"#;
const TYPE: &str = "bench.event.v1";
/// Connections are opened and caches are filled before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// The backlog for consuming: a few seconds of it.
const BACKLOG: u64 = 40_000;
/// Backlogs, one after the other.
const TURNS: usize = 5;
/// Acknowledgements awaited at a time while the backlog is written.
const BACKLOG_IN_FLIGHT: usize = 512;
/// Messages pulled at a time, as our own consumer does.
const FETCH: usize = 256;
/// Longer than any of it takes.
const CONSUME_WAIT: Duration = Duration::from_secs(300);

#[derive(Debug, Serialize)]
struct Page {
    server: String,
    publish: Vec<Publish>,
    consume: Consume,
}

#[derive(Debug, Serialize)]
struct Publish {
    in_flight: usize,
    http_per_second: f64,
    bare_per_second: f64,
    ratio: f64,
    failures: u64,
}

#[derive(Debug, Serialize)]
struct Consume {
    /// Of each side; the figures are medians.
    turns: usize,
    events: u64,
    marked_per_second: f64,
    bare_per_second: f64,
    ratio: f64,
}

fn failed(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Failure {
    let what = what.to_owned();
    move |error| Failure::new(Code::Failed, format!("{what}: {error}"))
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or events are not taken.
pub async fn run(args: &Args, output: Output, program: &Path, participants: &Participants) -> Outcome {
    let prepared = Workspace::create("bench-events", &participants.addresses, "api: { rate: 10000000/s }\n").and_then(
        |workspace| {
            std::fs::write(workspace.path().join("sagas/bench-events.yaml"), SAGA)?;
            std::fs::create_dir_all(workspace.path().join("schemas/bench.event"))?;
            std::fs::write(workspace.path().join("schemas/bench.event/v1.json"), SCHEMA)?;
            Ok(workspace)
        },
    );
    let workspace = prepared.map_err(|error| failed("cannot make a temporary folder")(&error))?;
    let (server, url, monitor) = match &args.nats {
        Some(url) => (None, url.clone(), None),
        None => {
            let server = NatsServer::start(&workspace.path().join("nats"))?;
            let (url, monitor) = (server.url(), server.monitor_url());
            (Some(server), url, Some(monitor))
        }
    };
    let mut options = vec!["--data", "data", "--nats", &url];
    options.extend(monitor.iter().flat_map(|monitor| ["--nats-monitor", monitor.as_str()]));
    let mut orchestrator = Orchestrator::prepare(program, workspace.path(), "dev", &options, Lifetime::Bound)?;
    let outcome = measure(args, output, &mut orchestrator, &url).await;
    orchestrator.stop().await;
    drop(server);
    outcome
}

async fn measure(args: &Args, output: Output, orchestrator: &mut Orchestrator, url: &str) -> Outcome {
    orchestrator.start().await?;
    let api = api_address(&orchestrator.client)?;
    let client = async_nats::connect(url).await.map_err(|error| failed("cannot connect to NATS")(&error))?;
    let server = format!("nats-server {}", client.server_info().version);
    let stream = jetstream::new(client);
    let time = Duration::from_secs(args.seconds);
    let mut publish = Vec::new();
    for in_flight in &args.in_flight {
        if output == Output::Text {
            anstream::println!("publishing, {in_flight} in flight, twice {} s …", args.seconds);
        }
        // Half of the bare ones before, half behind: the machine may be busy with other things for a while.
        let bare = || publish_bare(stream.clone());
        let (before, _) = many(*in_flight, time / 2, bare).await;
        let (http, failures) = many(*in_flight, time, || publish_http(api)).await;
        let (behind, _) = many(*in_flight, time / 2, bare).await;
        let bare_per_second = f64::midpoint(before, behind);
        publish.push(Publish {
            in_flight: *in_flight,
            http_per_second: http,
            bare_per_second,
            ratio: http / bare_per_second.max(1.0),
            failures,
        });
    }
    if output == Output::Text {
        anstream::println!("consuming {BACKLOG} events, {TURNS} times …");
    }
    let consume = consume(orchestrator, &stream).await?;
    let page = Page { server, publish, consume };
    match output {
        Output::Json => {
            anstream::println!("{}", serde_json::to_string_pretty(&page).unwrap_or_default());
        }
        Output::Text => page.print(),
    }
    Ok(())
}

impl Page {
    fn print(&self) {
        anstream::println!("{}, each write synced unless its configuration says otherwise", self.server);
        for row in &self.publish {
            anstream::println!(
                "publish, {:>4} in flight: {:>7.0}/s validated through HTTP, {:>7.0}/s bare, {:.0}% ({} failed)",
                row.in_flight,
                row.http_per_second,
                row.bare_per_second,
                row.ratio * 100.0,
                row.failures
            );
        }
        let Consume { turns, events, marked_per_second, bare_per_second, ratio } = self.consume;
        anstream::println!(
            "consume, {turns} times {events} events: {marked_per_second:>7.0}/s to a committed inbox mark, {bare_per_second:>7.0}/s bare pull, {:.0}%",
            ratio * 100.0
        );
    }
}

/// One publisher; does one thing after the other.
trait Publisher: Send + 'static {
    fn publish(&mut self, number: u64) -> impl Future<Output = Result<(), String>> + Send;
}

struct Http(Door);
struct Bare(jetstream::Context);

fn publish_http(api: SocketAddr) -> Http {
    Http(Door::new(api))
}

fn publish_bare(stream: jetstream::Context) -> Bare {
    Bare(stream)
}

fn data(number: u64) -> String {
    format!(r#"{{"id":"E-{number}","go":false,"lines":[{{"sku":"needle","qty":2}},{{"sku":"thread","qty":1}}]}}"#)
}

/// The headers of a message as we write it ourselves: the same bytes go to the disk.
fn headers(id: &str) -> async_nats::HeaderMap {
    let mut headers = async_nats::HeaderMap::new();
    let message_id = format!("/bench/{id}");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", id),
        ("ce-source", "/bench"),
        ("ce-type", TYPE),
        ("ce-datacontenttype", "application/json"),
        ("Nats-Msg-Id", message_id.as_str()),
    ] {
        headers.insert(name, value);
    }
    headers
}

impl Publisher for Http {
    async fn publish(&mut self, number: u64) -> Result<(), String> {
        let id = uuid::Uuid::now_v7();
        let target = format!("/api/v1/events/{TYPE}?id={id}&source=/bench");
        let (status, answer) = self.0.post(&target, &[], data(number)).await?;
        if status.as_u16() == 202 { Ok(()) } else { Err(format!("{status}: {}", String::from_utf8_lossy(&answer))) }
    }
}

impl Publisher for Bare {
    async fn publish(&mut self, number: u64) -> Result<(), String> {
        let id = uuid::Uuid::now_v7().to_string();
        let sent = self.0.publish_with_headers(format!("events.{TYPE}"), headers(&id), data(number).into()).await;
        sent.map_err(|error| error.to_string())?.await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// Keeps so many publishers busy; returns how many events a second were acknowledged, and the failures.
async fn many<P: Publisher>(in_flight: usize, time: Duration, make: impl Fn() -> P) -> (f64, u64) {
    let (counting, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (count, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut workers = JoinSet::new();
    for worker in 0..in_flight {
        let mut publisher = make();
        let (counting, stop, count, failures) = (counting.clone(), stop.clone(), count.clone(), failures.clone());
        workers.spawn(async move {
            let mut number = worker as u64;
            while !stop.load(Ordering::Relaxed) {
                let done = publisher.publish(number).await;
                number += 1;
                match done {
                    Ok(()) if counting.load(Ordering::Relaxed) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(()) => {}
                    Err(_) => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
    }
    tokio::time::sleep(WARM_UP).await;
    counting.store(true, Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(time).await;
    let (done, seconds) = (count.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    workers.join_all().await;
    (done as f64 / seconds, failures.load(Ordering::Relaxed))
}

/// Stops the orchestrator's process in its tracks, writes a backlog, and lets it go on; and pulls as much bare
/// before and behind. Several times, with the medians of both sides: a busy moment of the machine decides
/// nothing.
async fn consume(orchestrator: &Orchestrator, stream: &jetstream::Context) -> Result<Consume, Failure> {
    wait_until_consumed(stream).await?;
    let pid = orchestrator.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or_else(|| Failure::new(Code::Failed, "the orchestrator does not run"))?;
    let signal = |signal| kill_process(pid, signal).map_err(|error| failed("cannot signal the orchestrator")(&error));
    let (mut marked, mut bare) = (Vec::new(), vec![pull_bare(stream, "bench-0").await?]);
    for turn in 1..=TURNS {
        signal(Signal::STOP)?;
        let written = backlog(stream).await;
        signal(Signal::CONT)?;
        written?;
        let began = Instant::now();
        wait_until_consumed(stream).await?;
        marked.push(BACKLOG as f64 / began.elapsed().as_secs_f64());
        bare.push(pull_bare(stream, &format!("bench-{turn}")).await?);
    }
    let (marked_per_second, bare_per_second) = (median(marked), median(bare));
    let ratio = marked_per_second / bare_per_second.max(1.0);
    Ok(Consume { turns: TURNS, events: BACKLOG, marked_per_second, bare_per_second, ratio })
}

/// Returns the middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 if middle > 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values.get(middle).copied().unwrap_or_default(),
    }
}

async fn backlog(stream: &jetstream::Context) -> Result<(), Failure> {
    let publish = |number: u64| async move {
        let id = uuid::Uuid::now_v7().to_string();
        let sent = stream.publish_with_headers(format!("events.{TYPE}"), headers(&id), Bytes::from(data(number)));
        let sent = sent.await.map_err(|error| failed("cannot publish")(&error))?;
        sent.await.map(|_| ()).map_err(|error| failed("a publish was not acknowledged")(&error))
    };
    let mut sent = futures_util::stream::iter((0..BACKLOG).map(publish)).buffer_unordered(BACKLOG_IN_FLIGHT);
    while let Some(result) = sent.next().await {
        result?;
    }
    Ok(())
}

/// Waits until our consumer has acknowledged everything, which it does after the journal has the marks.
async fn wait_until_consumed(stream: &jetstream::Context) -> Result<(), Failure> {
    let deadline = Instant::now() + CONSUME_WAIT;
    let consumer: consumer::PullConsumer = stream
        .get_consumer_from_stream("backstitch", "EVENTS")
        .await
        .map_err(|error| failed("consumer backstitch cannot be looked at")(&error))?;
    let mut consumer = consumer;
    loop {
        let info = consumer.info().await.map_err(|error| failed("consumer backstitch cannot be looked at")(&error))?;
        if info.num_pending == 0 && info.num_ack_pending == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(Code::Failed, format!("{} events are left", info.num_pending)));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Pulls as many events as the backlog has, each acknowledged; returns how many a second.
async fn pull_bare(stream: &jetstream::Context, name: &str) -> Result<f64, Failure> {
    let cannot = failed("cannot pull");
    let config = consumer::pull::Config {
        durable_name: Some(name.to_owned()),
        max_ack_pending: 4_096,
        ..consumer::pull::Config::default()
    };
    let consumer: consumer::PullConsumer =
        stream.create_consumer_on_stream(config, "EVENTS").await.map_err(|error| cannot(&error))?;
    let mut messages =
        consumer.stream().max_messages_per_batch(FETCH).messages().await.map_err(|error| cannot(&error))?;
    let (began, mut count) = (Instant::now(), 0_u64);
    while count < BACKLOG {
        match tokio::time::timeout(Duration::from_secs(2), messages.next()).await {
            Ok(Some(message)) => {
                let message = message.map_err(|error| cannot(&error))?;
                message.ack().await.map_err(|error| cannot(&error))?;
                count += 1;
            }
            Ok(None) | Err(_) => break, // fewer than the backlog lie there
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let _ = stream.delete_consumer_from_stream(name, "EVENTS").await;
    Ok(count as f64 / seconds.max(f64::MIN_POSITIVE))
}
