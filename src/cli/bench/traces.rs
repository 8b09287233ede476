//! `backstitch bench --traces`: what tracing costs. Two orchestrators side by side, one without traces and
//! one that sends every span to a receiver here, measured in turns, so that a machine that is busy for a
//! while is busy for both.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::load::{Work, generate};
use super::receiver::Receiver;
use super::usage::{self, Usage};
use super::{Args, Output, SAGA, SAGA_FILE, api_address, scrape};
use crate::cli::demo::processes::{Lifetime, Orchestrator, Participants};
use crate::cli::demo::workspace::Workspace;
use crate::cli::exit::{Code, Failure, Outcome};

/// Each side is measured so often for each number in flight, in turns.
const ROUNDS: u32 = 4;
const WARM_UP: Duration = Duration::from_secs(2);
/// Spans wait 200 ms for their export; a busy exporter has some batches in hand.
const SPANS_WAIT: Duration = Duration::from_secs(2);

/// What one side gave for one number in flight.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Side {
    pub runs: usize,
    pub failures: u64,
    pub runs_per_second: f64,
    /// Of the orchestrator.
    pub cpu_seconds_per_1000_runs: f64,
    pub spans_received: u64,
    pub spans_exported: u64,
    pub spans_dropped: u64,
    #[serde(skip)]
    seconds: f64,
    #[serde(skip)]
    cpu_seconds: f64,
    #[serde(skip)]
    runs_in_cpu_time: f64,
}

/// Both sides.
#[derive(Debug, Serialize)]
pub struct Row {
    pub in_flight: usize,
    pub off: Side,
    pub on: Side,
    pub cpu_more_percent: f64,
}

struct Stage {
    orchestrator: Orchestrator,
    // Removed with it.
    _workspace: Workspace,
}

impl Stage {
    async fn start(program: &Path, participants: &Participants, name: &str, otlp: &str) -> Result<Self, Failure> {
        let config = format!("telemetry: {{ otlp: \"{otlp}\" }}\n");
        let workspace = Workspace::create(&format!("bench-{name}"), &participants.addresses, &config)
            .and_then(|workspace| {
                std::fs::write(workspace.path().join("sagas/bench-order.yaml"), SAGA_FILE)?;
                Ok(workspace)
            })
            .map_err(|error| Failure::new(Code::Failed, format!("cannot make a temporary folder: {error}")))?;
        let options = ["--data", "data"];
        let mut orchestrator = Orchestrator::prepare(program, workspace.path(), "dev", &options, Lifetime::Bound)?;
        orchestrator.start().await?;
        Ok(Self { orchestrator, _workspace: workspace })
    }

    /// Measures one turn.
    async fn turn(&self, side: &mut Side, in_flight: usize, time: Duration) -> Result<(), Failure> {
        let pid = self.orchestrator.pid().unwrap_or_default();
        let work = Work::Runs { api: api_address(&self.orchestrator.client)?, saga: SAGA };
        let client = &self.orchestrator.client;
        let mut edge = async || (Usage::of(pid).cpu_seconds, scrape(client).await);
        let (runs, before, after) = generate(&work, in_flight, WARM_UP, time, &mut edge).await;
        if runs.latencies_us.is_empty() {
            let reason = runs.first_failure.unwrap_or_else(|| "none ended in time".to_owned());
            let log = self.orchestrator.log_end();
            return Err(Failure::new(Code::Failed, format!("no run came to its end: {reason}\n{log}")));
        }
        let ended = |edge: &(f64, std::collections::BTreeMap<String, f64>)| {
            edge.1.get("backstitch_runs_ended_total").copied().unwrap_or_default()
        };
        side.runs += runs.latencies_us.len();
        side.failures += runs.failures;
        side.seconds += runs.seconds;
        side.cpu_seconds += after.0 - before.0;
        side.runs_in_cpu_time += ended(&after) - ended(&before);
        Ok(())
    }

    /// Returns how many runs have ended in its life, and how large its metrics page is behind them.
    async fn page(&self) -> (u64, usize) {
        let wait = Duration::from_secs(10);
        match self.orchestrator.client.request(http::Method::GET, "/metrics", &[], None, wait).await {
            Ok(answer) => {
                let page = usage::metrics(&String::from_utf8_lossy(&answer.body));
                (page.get("backstitch_runs_ended_total").copied().unwrap_or_default() as u64, answer.body.len())
            }
            Err(_) => (0, 0),
        }
    }

    async fn spans(&self) -> (u64, u64) {
        let page = scrape(&self.orchestrator.client).await;
        let of = |name: &str| page.get(name).copied().unwrap_or_default() as u64;
        (of("backstitch_spans_exported_total"), of("backstitch_spans_dropped_total"))
    }
}

/// Measures and prints.
pub async fn measure(args: &Args, output: Output, program: &Path) -> Outcome {
    let receiver =
        Receiver::start().await.map_err(|error| Failure::new(Code::Failed, format!("no receiver: {error}")))?;
    let participants = Participants::start(program, &["--bench"], Lifetime::Bound).await?;
    let mut off = Stage::start(program, &participants, "off", "off").await?;
    let mut on = Stage::start(program, &participants, "on", &receiver.endpoint()).await?;
    let rows = rows(args, output, &receiver, &off, &on).await;
    let (ended, page_bytes) = on.page().await;
    off.orchestrator.stop().await;
    on.orchestrator.stop().await;
    participants.stop().await;
    let rows = rows?;
    match output {
        Output::Text => {
            rows.iter().for_each(print);
            anstream::println!("the metrics page has {page_bytes} bytes after {ended} runs");
        }
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&rows).unwrap_or_default()),
    }
    Ok(())
}

async fn rows(args: &Args, output: Output, receiver: &Receiver, off: &Stage, on: &Stage) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let turn = Duration::from_secs(args.seconds) / ROUNDS;
    for in_flight in &args.in_flight {
        if output == Output::Text {
            anstream::println!(
                "measuring {in_flight} in flight, {ROUNDS} turns of {} s for each side …",
                turn.as_secs_f32()
            );
        }
        let (mut plain, mut traced) = (Side::default(), Side::default());
        let (received, (exported, dropped)) = (receiver.spans(), on.spans().await);
        for round in 0..ROUNDS {
            // Whoever comes second finds the machine warmer.
            if round % 2 == 0 {
                off.turn(&mut plain, *in_flight, turn).await?;
                on.turn(&mut traced, *in_flight, turn).await?;
            } else {
                on.turn(&mut traced, *in_flight, turn).await?;
                off.turn(&mut plain, *in_flight, turn).await?;
            }
        }
        tokio::time::sleep(SPANS_WAIT).await;
        let now = on.spans().await;
        traced.spans_received = receiver.spans() - received;
        traced.spans_exported = now.0 - exported;
        traced.spans_dropped = now.1 - dropped;
        for side in [&mut plain, &mut traced] {
            side.runs_per_second = side.runs as f64 / side.seconds.max(f64::MIN_POSITIVE);
            side.cpu_seconds_per_1000_runs = 1_000.0 * side.cpu_seconds / side.runs_in_cpu_time.max(1.0);
        }
        let more = traced.cpu_seconds_per_1000_runs / plain.cpu_seconds_per_1000_runs - 1.0;
        rows.push(Row { in_flight: *in_flight, off: plain, on: traced, cpu_more_percent: 100.0 * more });
    }
    Ok(rows)
}

fn print(row: &Row) {
    let side = |name: &str, side: &Side| {
        anstream::println!(
            "{:>4} in flight, traces {name:<3}  {:>7.0} runs/s   {:.3} CPU s per 1,000 runs   {} failed",
            row.in_flight,
            side.runs_per_second,
            side.cpu_seconds_per_1000_runs,
            side.failures,
        );
    };
    side("off", &row.off);
    side("on", &row.on);
    let Side { spans_received, spans_exported, spans_dropped, .. } = row.on;
    anstream::println!(
        "     tracing costs {:+.1} % CPU; spans: {spans_received} received, {spans_exported} exported, {spans_dropped} dropped",
        row.cpu_more_percent,
    );
}
