//! `backstitch trace CORRELATION_ID`: everything under one correlation id, across sagas: the event that
//! began it, the runs, their calls, the events that they emitted and the runs which those started.

use std::collections::BTreeMap;

use owo_colors::OwoColorize;
use serde::{Deserialize, Serialize};

use super::Connection;
use super::client::Client;
use super::exit::{Code, Failure, Outcome};
use super::output::{self, Output, coloured, line};
use super::timeline::{self, millis};
use crate::coordinator::view::{HistoryEntry, RunFilter, RunView};

/// Runs that are looked at; more than that under one id is a stream of work, not one piece of it.
const RUNS_MAX: usize = 200;
const PAGE: usize = 100;

/// Options of `backstitch trace`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The correlation id: of the event, of a run, or as a service saw it in `Correlation-Id`.
    #[arg(value_name = "CORRELATION_ID")]
    correlation_id: String,
    /// Where Jaeger's page is, for the links.
    #[arg(long, env = "BACKSTITCH_JAEGER_URL", default_value = super::JAEGER_DEFAULT, value_name = "URL")]
    jaeger: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// One run with what is known of it.
#[derive(Debug, Serialize)]
struct Told {
    run: RunView,
    /// The id of the event that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    caused_by: Option<Cause>,
    /// Events that it emitted: id and type.
    emitted: Vec<Emitted>,
    history: Vec<HistoryEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cause {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Emitted {
    id: String,
    event: String,
}

/// Prints everything under one correlation id.
///
/// # Errors
/// When nothing is known under it.
pub async fn run(args: Args) -> Outcome {
    let client = args.connection.client()?;
    let told = read(&client, &args.correlation_id).await?;
    if told.is_empty() {
        return Err(Failure::new(Code::BadInput, format!("no run has the correlation id `{}`", args.correlation_id))
            .help(
                "ids are kept as long as finished runs are (journal.retention); `backstitch list` shows what there is",
            ));
    }
    if args.output.is_json() {
        output::json(&serde_json::json!({ "correlation_id": args.correlation_id, "runs": told }))?;
        return Ok(());
    }
    print(&args, &told)?;
    Ok(())
}

async fn read(client: &Client, correlation_id: &str) -> Result<Vec<Told>, Failure> {
    let mut filter =
        RunFilter { correlation_id: Some(correlation_id.to_owned()), limit: Some(PAGE), ..RunFilter::default() };
    let mut told = Vec::new();
    loop {
        let page = client.runs(&filter).await?;
        for summary in &page.runs {
            let (run, history) = (client.run(summary.id).await?, client.history(summary.id).await?);
            told.push(of(run, history));
        }
        filter.cursor = page.cursor;
        if filter.cursor.is_none() || told.len() >= RUNS_MAX {
            told.sort_by(|a, b| a.run.started_at.cmp(&b.run.started_at));
            return Ok(told);
        }
    }
}

fn of(run: RunView, history: Vec<HistoryEntry>) -> Told {
    #[derive(Deserialize)]
    struct Begun {
        event: Option<Cause>,
    }
    let first = history.iter().find(|entry| entry.fact == "run_started");
    let caused_by = first.and_then(|entry| entry.data.read::<Begun>().ok()).and_then(|begun| begun.event);
    let emitted = history.iter().filter(|entry| entry.fact == "event_emitted");
    let emitted = emitted.filter_map(|entry| entry.data.read::<Emitted>().ok()).collect();
    Told { run, caused_by, emitted, history }
}

fn print(args: &Args, told: &[Told]) -> std::io::Result<()> {
    let events: usize = told.iter().map(|told| told.emitted.len()).sum();
    let calls: usize =
        told.iter().map(|told| timeline::bars(&told.history).iter().filter(|bar| bar.attempt > 0).count()).sum();
    line(format!(
        "correlation {}: {} runs, {events} events emitted, {calls} calls",
        args.correlation_id.bold(),
        told.len()
    ))?;
    let mut traces: Vec<&String> =
        told.iter().flat_map(|told| [&told.run.trace_id].into_iter().chain(&told.run.linked_traces)).collect();
    traces.sort();
    traces.dedup();
    for trace in traces {
        line(format!("trace       {}/trace/{trace}", args.jaeger.trim_end_matches('/')))?;
    }
    // Who emitted which event.
    let emitters: BTreeMap<&str, usize> = (0..)
        .zip(told)
        .flat_map(|(at, told)| told.emitted.iter().map(move |emitted| (emitted.id.as_str(), at)))
        .collect();
    let parent = |at: usize| {
        let cause = told[at].caused_by.as_ref()?;
        // A run cannot have caused itself; an id that comes twice is somebody's own.
        emitters.get(cause.id.as_str()).copied().filter(|parent| *parent != at)
    };
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    (0..told.len()).for_each(|at| children.entry(parent(at)).or_default().push(at));
    let mut seen = vec![false; told.len()];
    for at in children.get(&None).cloned().unwrap_or_default() {
        branch(told, &children, at, 0, &mut seen)?;
    }
    // A circle, which only ids made by others can form.
    for at in 0..told.len() {
        branch(told, &children, at, 0, &mut seen)?;
    }
    Ok(())
}

/// Prints one run, and below it the runs that its events started.
fn branch(
    told: &[Told],
    children: &BTreeMap<Option<usize>, Vec<usize>>,
    at: usize,
    depth: usize,
    seen: &mut [bool],
) -> std::io::Result<()> {
    if std::mem::replace(&mut seen[at], true) {
        return Ok(());
    }
    let Told { run, caused_by, emitted, history } = &told[at];
    let indent = "  ".repeat(depth);
    line("")?;
    if let Some(cause) = caused_by {
        line(format!("{indent}{} {} from {}", cause.event_type.magenta(), cause.id.dimmed(), cause.source))?;
    }
    let began = millis(&run.started_at).unwrap_or_default();
    let ended = run.ended_at.as_deref().and_then(millis);
    let now = ended.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond());
    let took = if ended.is_some() { format!("in {}", timeline::span(now - began)) } else { "so far".to_owned() };
    let key = run.key.as_deref().map(|key| format!(", key {key}")).unwrap_or_default();
    let id = run.id.bold();
    line(format!("{indent}{} v{} run {id}{key}: {} {took}", run.saga, run.version, coloured(&run.state)))?;
    for text in timeline::lines(&timeline::bars(history), began, now) {
        line(format!("{indent}  {text}"))?;
    }
    for event in emitted {
        line(format!("{indent}  emits {} {}", event.event.magenta(), event.id.dimmed()))?;
    }
    for child in children.get(&Some(at)).cloned().unwrap_or_default() {
        branch(told, children, child, depth + 1, seen)?;
    }
    Ok(())
}
