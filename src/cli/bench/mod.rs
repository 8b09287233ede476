//! `backstitch bench`: a measurement, not a test. Three-step runs at several numbers in flight, against
//! services in a process of their own, beside the same calls made bare by the same load generator.

mod events;
mod load;
mod receiver;
mod report;
mod shapes;
mod traces;
mod usage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::Method;

use self::load::{Work, generate};
use self::report::{Level, Page};
use self::usage::Usage;
use super::client::Client;
use super::demo::processes::{Lifetime, Orchestrator, Participants};
use super::demo::workspace::Workspace;
use super::exit::{Code, Failure, Outcome};

const SAGA: &str = "bench-order";
const SAGA_FILE: &str = include_str!("order.yaml");
/// Connections are opened and caches are filled before anything counts.
const WARM_UP: Duration = Duration::from_secs(3);
/// The bare calls need less time to give a steady figure: a fourth of the runs' time, at least this.
const BARE_SECONDS_MIN: u64 = 5;

/// Options of `backstitch bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure each number in flight for so many seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Numbers of runs in flight.
    #[arg(long, default_value = "1,64,512", value_delimiter = ',', value_name = "N,N,…")]
    in_flight: Vec<usize>,
    /// Measure events in and out instead, beside bare JetStream publishes and pulls.
    #[arg(long)]
    events: bool,
    /// Use a NATS server that runs already.
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Measure what tracing costs instead: with every span sent to a receiver, against none.
    #[arg(long)]
    traces: bool,
    /// Measure large sagas and many waiting runs instead.
    #[arg(long)]
    shapes: bool,
    /// With --shapes: let so many runs finish first.
    #[arg(long, default_value_t = 0, value_name = "N")]
    finished: u64,
}

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

/// All that is read at the beginning and at the end of a measured time.
struct Edge {
    processes: BTreeMap<&'static str, Usage>,
    metrics: BTreeMap<String, f64>,
}

/// Measures and prints.
///
/// # Errors
/// When something cannot be started, or the runs fail.
pub async fn run(args: Args, output: Output) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot find this program itself: {error}")))?;
    if args.traces {
        return tokio::select! {
            outcome = traces::measure(&args, output, &program) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted; everything is stopped")),
        };
    }
    if args.shapes {
        return tokio::select! {
            outcome = shapes::measure(&args, output, &program) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted; everything is stopped")),
        };
    }
    let participants = Participants::start(&program, &["--bench"], Lifetime::Bound).await?;
    if args.events {
        let outcome = events::run(&args, output, &program, &participants).await;
        participants.stop().await;
        return outcome;
    }
    let workspace = Workspace::create("bench", &participants.addresses, "")
        .and_then(|workspace| {
            std::fs::write(workspace.path().join("sagas/bench-order.yaml"), SAGA_FILE)?;
            Ok(workspace)
        })
        .map_err(|error| Failure::new(Code::Failed, format!("cannot make a temporary folder: {error}")))?;
    let mut options = vec!["--data", "data"];
    if let Some(nats) = &args.nats {
        options.extend(["--nats", nats]);
    }
    let mut orchestrator = Orchestrator::prepare(&program, workspace.path(), "dev", &options, Lifetime::Bound)?;
    let outcome = tokio::select! {
        outcome = measure(&args, output, &participants, &mut orchestrator) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Code::Interrupted, "interrupted; everything is stopped")),
    };
    orchestrator.stop().await;
    participants.stop().await;
    outcome
}

async fn measure(args: &Args, output: Output, participants: &Participants, orchestrator: &mut Orchestrator) -> Outcome {
    orchestrator.start().await?;
    let api = api_address(&orchestrator.client)?;
    let pid = orchestrator.pid().unwrap_or_default();
    let mut processes: Vec<(&'static str, u32)> =
        vec![("orchestrator", pid), ("services", participants.addresses.pid), ("load generator", std::process::id())];
    if let Some((nats, _)) = usage::children(pid).into_iter().find(|(_, name)| name.contains("nats")) {
        processes.push(("nats-server", nats));
    }
    let mut page = Page { durability: durability(&orchestrator.client).await, ..Page::default() };
    if output == Output::Text {
        page.print_head();
    }
    let client = orchestrator.client.clone();
    let addresses = &participants.addresses;
    let bare = Work::Bare { services: [addresses.inventory, addresses.payments, addresses.shipping] };
    let time = Duration::from_secs(args.seconds);
    let bare_time = Duration::from_secs((args.seconds / 4).max(BARE_SECONDS_MIN.min(args.seconds)));
    for in_flight in &args.in_flight {
        if output == Output::Text {
            anstream::println!("measuring {in_flight} in flight for {} s …", args.seconds);
        }
        let mut edge = async || Edge {
            processes: processes.iter().map(|(name, pid)| (*name, Usage::of(*pid))).collect(),
            metrics: scrape(&client).await,
        };
        // The machine may be busy with other things for a while: half of the bare calls before, half behind.
        let (mut calls, begun, ended) = generate(&bare, *in_flight, WARM_UP / 3, bare_time / 2, &mut edge).await;
        let mut bare_edges = vec![(begun, ended)];
        let work = Work::Runs { api, saga: SAGA };
        let (runs, before, after) = generate(&work, *in_flight, WARM_UP, time, &mut edge).await;
        let (more, begun, ended) = generate(&bare, *in_flight, WARM_UP / 3, bare_time / 2, &mut edge).await;
        bare_edges.push((begun, ended));
        calls.add(more);
        if runs.latencies_us.is_empty() {
            let reason = runs.first_failure.unwrap_or_else(|| "none ended in time".to_owned());
            return Err(Failure::new(
                Code::Failed,
                format!("no run came to its end with {in_flight} in flight: {reason}\n{}", orchestrator.log_end()),
            ));
        }
        page.levels.push(Level::of(*in_flight, &runs, &calls, (&before, &after), &bare_edges));
    }
    match output {
        Output::Text => page.print(),
        Output::Json => {
            let text = serde_json::to_string_pretty(&page).unwrap_or_default();
            anstream::println!("{text}");
        }
    }
    Ok(())
}

fn api_address(client: &Client) -> Result<SocketAddr, Failure> {
    let address = client.url().trim_start_matches("http://").parse();
    address.map_err(|error| Failure::new(Code::Failed, format!("{} is no address: {error}", client.url())))
}

async fn scrape(client: &Client) -> BTreeMap<String, f64> {
    match client.request(Method::GET, "/metrics", &[], None, Duration::from_secs(10)).await {
        Ok(answer) => usage::metrics(&String::from_utf8_lossy(&answer.body)),
        Err(_) => BTreeMap::new(),
    }
}

/// Returns what is promised while it is measured, the same as with `serve`.
async fn durability(client: &Client) -> Vec<String> {
    let mut lines =
        vec!["durability as with `serve`: every commit is synced to the disk before anything leaves".to_owned()];
    lines.extend(parts(client).await);
    lines
}

/// Returns what the orchestrator says about its parts.
async fn parts(client: &Client) -> Vec<String> {
    match client.readiness().await {
        Ok(readiness) => readiness.parts.iter().map(|(name, part)| format!("{name}: {}", part.message)).collect(),
        Err(error) => vec![error.to_string()],
    }
}
