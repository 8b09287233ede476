//! Runs as people read them on a terminal.

use std::io;

use comfy_table::Cell;
use owo_colors::OwoColorize;

use super::output::{coloured, line, print_table, state_cell, table};
use super::timeline;
use crate::coordinator::view::{HistoryEntry, LockView, RunPage, RunView, SagaView, StepView};
use crate::problem::Problem;

/// Payloads longer than this are cut in tables; `--output json` has them whole.
const SHOWN_CHARS_MAX: usize = 200;

/// Returns an RFC 3339 time without its date's `T` and zone: `2026-01-31 12:00:00.123`.
#[must_use]
pub fn time(text: &str) -> String {
    text.trim_end_matches('Z').replacen('T', " ", 1)
}

fn cut(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX).chain("…".chars()).collect()
}

fn failure(problem: &Problem) -> String {
    let mut text = format!("{}: {}", problem.kind, problem.title);
    if let Some(detail) = &problem.detail {
        text = format!("{text} ({detail})");
    }
    if let Some(step) = &problem.step {
        text = format!("{text}, at {step}");
    }
    cut(&text)
}

/// Prints one run.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(run: &RunView) -> io::Result<()> {
    let row = |name: &str, value: &str| line(format!("{:<12} {value}", name.dimmed()));
    row("run", &run.id.bold().to_string())?;
    row("saga", &format!("{} v{}", run.saga, run.version))?;
    let incomplete = if run.incomplete { " (incomplete: an undo was skipped)" } else { "" };
    let phase = if run.phase == "done" { String::new() } else { format!(", {}", run.phase) };
    row("state", &format!("{}{phase}{incomplete}", coloured(&run.state)))?;
    if let Some(waiting) = &run.waiting_for {
        row("waits for", waiting)?;
    }
    if let Some(key) = &run.key {
        row("key", key)?;
    }
    row("correlation", &run.correlation_id)?;
    row("trace", &run.trace_id)?;
    row("started", &time(&run.started_at))?;
    if let Some(ended) = &run.ended_at {
        row("ended", &time(ended))?;
    }
    row("input", &cut(run.input.text()))?;
    if let Some(output) = &run.output {
        row("output", &cut(output.text()))?;
    }
    for problem in run.error.iter().chain(&run.others) {
        row("error", &failure(problem))?;
    }
    for note in &run.notes {
        row("note", note)?;
    }
    line("")?;
    let mut steps = table(&["STEP", "KIND", "STATUS", "ATTEMPTS", "UNDO", "DETAIL"]);
    for step in &run.steps {
        steps.add_row(step_row(step));
    }
    print_table(&steps)?;
    if let Some(parked) = &run.parked {
        line("")?;
        let undo = if parked.direction == "compensate" { "the undo of " } else { "" };
        line(format!(
            "{} at {undo}{} since {}: {}",
            coloured("parked"),
            parked.step,
            time(&parked.since),
            parked.reason
        ))?;
        for remedy in &parked.remedies {
            let more = if remedy == "resolve" { " --done | --not-done" } else { "" };
            line(format!("  backstitch {remedy} {}{more}", run.id))?;
        }
    }
    Ok(())
}

/// Prints what took how long in a run.
///
/// # Errors
/// When stdout cannot be written.
pub fn timeline(run: &RunView, history: &[HistoryEntry]) -> io::Result<()> {
    let bars = timeline::bars(history);
    let Some(began) = timeline::millis(&run.started_at).filter(|_| !bars.is_empty()) else { return Ok(()) };
    let ended = run.ended_at.as_deref().and_then(timeline::millis);
    let until = ended.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond());
    line("")?;
    line(format!("{}", format_args!("TIMELINE of {}", timeline::span(until - began)).bold()))?;
    timeline::lines(&bars, began, until).into_iter().try_for_each(line)
}

/// Prints where a run's traces can be seen.
///
/// # Errors
/// When stdout cannot be written.
pub fn trace_links(run: &RunView, jaeger: &str) -> io::Result<()> {
    line("")?;
    let traces = [&run.trace_id].into_iter().chain(&run.linked_traces);
    traces.into_iter().try_for_each(|trace| line(format!("{}/trace/{trace}", jaeger.trim_end_matches('/'))))
}

fn step_row(step: &StepView) -> Vec<Cell> {
    let undo = match &step.undo {
        None => Cell::new(""),
        Some(undo) if undo.attempts > 1 => {
            state_cell(&undo.status, format_args!("{} after {} attempts", undo.status, undo.attempts))
        }
        Some(undo) => state_cell(&undo.status, &undo.status),
    };
    let detail = match (&step.error, step.undo.as_ref().and_then(|undo| undo.error.as_ref()), &step.output) {
        (_, Some(error), _) => format!("undo: {}", failure(error)),
        (Some(error), None, _) => failure(error),
        (None, None, Some(output)) => cut(output.text()),
        (None, None, None) => String::new(),
    };
    let attempts = if step.attempts == 0 { String::new() } else { step.attempts.to_string() };
    vec![
        Cell::new(&step.id),
        Cell::new(&step.kind),
        state_cell(&step.status, &step.status),
        Cell::new(attempts),
        undo,
        Cell::new(detail),
    ]
}

/// Prints one page of runs.
///
/// # Errors
/// When stdout cannot be written.
pub fn page(page: &RunPage) -> io::Result<()> {
    if page.runs.is_empty() {
        return line("no runs");
    }
    let mut runs = table(&["RUN", "SAGA", "STATE", "KEY", "STARTED", "ENDED", "STEP", "ERROR"]);
    for run in &page.runs {
        let incomplete = if run.incomplete { " (incomplete)" } else { "" };
        runs.add_row([
            Cell::new(run.id),
            Cell::new(format_args!("{} v{}", run.saga, run.version)),
            state_cell(&run.state, format_args!("{}{incomplete}", run.state)),
            Cell::new(run.key.as_deref().unwrap_or_default()),
            Cell::new(time(&run.started_at)),
            Cell::new(run.ended_at.as_deref().map(time).unwrap_or_default()),
            Cell::new(run.step.as_deref().unwrap_or_default()),
            Cell::new(run.error.as_deref().map(cut).unwrap_or_default()),
        ]);
    }
    print_table(&runs)?;
    match &page.cursor {
        Some(cursor) => line(format!("more with: --cursor {cursor}")),
        None => Ok(()),
    }
}

/// Prints the locks.
///
/// # Errors
/// When stdout cannot be written.
pub fn locks(locks: &[LockView]) -> io::Result<()> {
    let mut rows = table(&["LOCK", "HELD BY", "SAGA", "STATE", "SINCE", "WAITING"]);
    for LockView { name, holder, waiting } in locks {
        rows.add_row([
            name.clone(),
            holder.run.clone(),
            holder.saga.clone(),
            holder.state.clone(),
            holder.started_at.clone(),
            waiting.iter().map(|run| run.run.clone()).collect::<Vec<_>>().join(", "),
        ]);
    }
    print_table(&rows)
}

fn started_by(saga: &SagaView) -> String {
    let next = |next: &String| format!(", next {next}");
    let schedules = saga.schedules.iter().map(|schedule| {
        let next = schedule.next.as_ref().map(next).unwrap_or_default();
        format!("{}{next}", schedule.rhythm)
    });
    let webhooks = saga.webhooks.iter().map(|name| format!("webhook {name}"));
    saga.events.iter().cloned().chain(webhooks).chain(schedules).collect::<Vec<_>>().join(", ")
}

/// Prints the loaded sagas.
///
/// # Errors
/// When stdout cannot be written.
pub fn sagas(sagas: &[SagaView]) -> io::Result<()> {
    let mut rows = table(&["SAGA", "VERSION", "STARTS", "STARTED BY", "STEPS", "OPEN RUNS", "FILE"]);
    for saga in sagas {
        let open: Vec<String> = saga.open_runs.iter().map(|(state, count)| format!("{count} {state}")).collect();
        rows.add_row([
            saga.name.clone(),
            saga.version.to_string(),
            format!("{} %", saga.starts_percent),
            started_by(saga),
            saga.steps.join(", "),
            open.join(", "),
            saga.file.clone(),
        ]);
    }
    print_table(&rows)
}
