//! `backstitch bench --shapes`: what large sagas and many waiting runs cost. A saga of 1,000 steps beside
//! one of 10, a `for` over 10,000 items, 100,000 runs that wait for timers and events, and a start with
//! them; each on a journal that has already seen as many finished runs as are asked for.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::StatusCode;
use serde::Serialize;
use tokio::task::JoinSet;

use super::load::Door;
use super::usage::Usage;
use super::{Args, Output, api_address};
use crate::cli::demo::processes::{Lifetime, Orchestrator, Participants};
use crate::cli::demo::workspace::Workspace;
use crate::cli::exit::{Code, Failure, Outcome};

const WORKERS: usize = 64;
const SMALL_STEPS: usize = 10;
const LARGE_STEPS: usize = 1_000;
/// Both sagas make as many calls in all.
const LARGE_RUNS: u64 = 20;
/// Runs of a saga go on side by side, so that a commit is shared as it is in use.
const LARGE_IN_FLIGHT: usize = 4;
const FOR_ITEMS: usize = 10_000;
const WAITING: u64 = 100_000;
/// Every run's input has this much text.
const INPUT_BYTES: usize = 1_024;

/// What was measured.
#[derive(Debug, Default, Serialize)]
struct Shapes {
    finished_before: u64,
    finished_per_second: f64,
    /// Of the orchestrator, for each step.
    cpu_us_per_step_of_10: f64,
    cpu_us_per_step_of_1000: f64,
    ms_per_step_of_10: f64,
    ms_per_step_of_1000: f64,
    for_items: usize,
    for_seconds: f64,
    for_cpu_us_per_item: f64,
    waiting: u64,
    waiting_started_per_second: f64,
    bytes_per_waiting_run: f64,
    start_seconds_with_waiting: f64,
    bytes_per_waiting_run_after_start: f64,
}

fn calls(name: &str, steps: usize) -> String {
    let mut text = format!("saga: {name}\nversion: 1\nsteps:\n");
    for step in 0..steps {
        let _ = writeln!(
            text,
            "  - {{ id: s{step}, call: inventory, with: {{ method: POST, path: /reservations, body: {{ reservationId: \"${{ $step.key }}\" }} }}, \
             compensate: {{ with: {{ method: DELETE, path: \"/reservations/${{ $forward.key }}\" }} }} }}"
        );
    }
    text
}

const OTHERS: &[(&str, &str)] = &[
    ("bench-quick", "saga: bench-quick\nversion: 1\nsteps:\n  - { id: noted, set: \"${ $input.number }\" }\n"),
    (
        "bench-for",
        "saga: bench-for\nversion: 1\nsteps:\n  - id: all\n    for: { in: \"${ $input.items }\", concurrency: 50 }\n    do:\n      \
         - id: one\n        call: inventory\n        \
         with: { method: POST, path: /reservations, body: { reservationId: \"${ $step.key }\", item: \"${ $item }\" } }\n        \
         compensate: { with: { method: DELETE, path: \"/reservations/${ $forward.key }\" } }\n",
    ),
    ("bench-timer", "saga: bench-timer\nversion: 1\nsteps:\n  - { id: nap, wait: 24h }\n"),
    (
        "bench-event",
        "saga: bench-event\nversion: 1\nsteps:\n  - id: shipped\n    await: order.shipped.v1\n    \
         where: { data.orderId: \"${ $input.orderId }\" }\n    timeout: 24h\n    compensate: none\n",
    ),
];

/// Measures and prints.
pub async fn measure(args: &Args, output: Output, program: &Path) -> Outcome {
    let participants = Participants::start(program, &["--bench"], Lifetime::Bound).await?;
    let workspace = Workspace::create(
        "bench-shapes",
        &participants.addresses,
        "telemetry: { otlp: off }\napi: { rate: 1000000/s }\n",
    )
    .and_then(|workspace| {
        let folder = workspace.path().join("sagas");
        for steps in [SMALL_STEPS, LARGE_STEPS] {
            let name = format!("bench-{steps}");
            std::fs::write(folder.join(format!("{name}.yaml")), calls(&name, steps))?;
        }
        for (name, text) in OTHERS {
            std::fs::write(folder.join(format!("{name}.yaml")), text)?;
        }
        Ok(workspace)
    })
    .map_err(|error| Failure::new(Code::Failed, format!("cannot make a temporary folder: {error}")))?;
    let options = ["--data", "data"];
    let mut orchestrator = Orchestrator::prepare(program, workspace.path(), "dev", &options, Lifetime::Bound)?;
    let outcome = all(args, output, &mut orchestrator).await;
    orchestrator.stop().await;
    participants.stop().await;
    let shapes = outcome?;
    match output {
        Output::Text => print(&shapes),
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&shapes).unwrap_or_default()),
    }
    Ok(())
}

async fn all(args: &Args, output: Output, orchestrator: &mut Orchestrator) -> Result<Shapes, Failure> {
    let say = |text: &str| {
        if output == Output::Text {
            anstream::println!("{text} …");
        }
    };
    orchestrator.start().await?;
    let api = api_address(&orchestrator.client)?;
    let pid = orchestrator.pid().unwrap_or_default();
    let mut shapes =
        Shapes { finished_before: args.finished, for_items: FOR_ITEMS, waiting: WAITING, ..Shapes::default() };
    if args.finished > 0 {
        say(&format!("{} runs that finish", args.finished));
        let began = Instant::now();
        starts(api, args.finished, WORKERS * 4, Ends::Awaited, |number| ("bench-quick", input(number, ""))).await?;
        shapes.finished_per_second = args.finished as f64 / began.elapsed().as_secs_f64();
    }

    for (saga, steps, runs) in [
        ("bench-10", SMALL_STEPS, LARGE_RUNS * (LARGE_STEPS / SMALL_STEPS) as u64),
        ("bench-1000", LARGE_STEPS, LARGE_RUNS),
    ] {
        say(&format!("{runs} runs of {steps} steps"));
        let (cpu, began) = (Usage::of(pid).cpu_seconds, Instant::now());
        starts(api, runs, LARGE_IN_FLIGHT, Ends::Awaited, move |number| (saga, input(number, ""))).await?;
        let all = runs as f64 * steps as f64;
        let us = 1e6 * (Usage::of(pid).cpu_seconds - cpu) / all;
        let ms = 1e3 * began.elapsed().as_secs_f64() / all;
        if steps == SMALL_STEPS {
            (shapes.cpu_us_per_step_of_10, shapes.ms_per_step_of_10) = (us, ms);
        } else {
            (shapes.cpu_us_per_step_of_1000, shapes.ms_per_step_of_1000) = (us, ms);
        }
    }

    say(&format!("one run of a `for` over {FOR_ITEMS} items, 50 side by side"));
    let items: Vec<String> = (0..FOR_ITEMS).map(|item| item.to_string()).collect();
    let items = format!(",\"items\":[{}]", items.join(","));
    let (cpu, began) = (Usage::of(pid).cpu_seconds, Instant::now());
    starts(api, 1, 1, Ends::Awaited, move |number| ("bench-for", input(number, &items))).await?;
    shapes.for_seconds = began.elapsed().as_secs_f64();
    shapes.for_cpu_us_per_item = 1e6 * (Usage::of(pid).cpu_seconds - cpu) / FOR_ITEMS as f64;

    // What the process holds without them is what it holds when it is just up.
    orchestrator.stop().await;
    orchestrator.start().await?;
    let pid = orchestrator.pid().unwrap_or_default();
    let empty = Usage::of(pid).rss_bytes;
    say(&format!("{WAITING} runs that wait, half for a timer, half for an event"));
    let began = Instant::now();
    starts(api, WAITING, WORKERS, Ends::Accepted, |number| {
        (if number % 2 == 0 { "bench-timer" } else { "bench-event" }, input(number, ""))
    })
    .await?;
    shapes.waiting_started_per_second = WAITING as f64 / began.elapsed().as_secs_f64();
    shapes.bytes_per_waiting_run = Usage::of(pid).rss_bytes.saturating_sub(empty) as f64 / WAITING as f64;
    say("a start with them");
    orchestrator.stop().await;
    let began = Instant::now();
    orchestrator.start().await?;
    shapes.start_seconds_with_waiting = began.elapsed().as_secs_f64();
    let pid = orchestrator.pid().unwrap_or_default();
    shapes.bytes_per_waiting_run_after_start = Usage::of(pid).rss_bytes.saturating_sub(empty) as f64 / WAITING as f64;
    Ok(shapes)
}

/// A run's input, of 1 KiB and what more is wanted.
fn input(number: u64, more: &str) -> String {
    let filling = "x".repeat(INPUT_BYTES);
    format!(r#"{{"number":{number},"orderId":"W-{number}","text":"{filling}"{more}}}"#)
}

/// How long a start is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Awaited,
    Accepted,
}

/// Starts so many runs, some side by side, and waits as is said.
async fn starts(
    api: SocketAddr,
    runs: u64,
    in_flight: usize,
    ends: Ends,
    what: impl Fn(u64) -> (&'static str, String) + Clone + Send + 'static,
) -> Result<(), Failure> {
    let numbers = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (numbers, what) = (numbers.clone(), what.clone());
        workers.spawn(async move {
            let mut door = Door::new(api);
            loop {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if number >= runs {
                    return Ok(());
                }
                let (saga, input) = what(number);
                let wait = if ends == Ends::Awaited { "?wait=60s" } else { "" };
                let target = format!("/api/v1/sagas/{saga}/runs{wait}");
                let (status, answer) = door.post(&target, &[], format!(r#"{{"input":{input}}}"#)).await?;
                let text = String::from_utf8_lossy(&answer);
                let good = match ends {
                    Ends::Awaited => text.contains(r#""state":"completed""#),
                    Ends::Accepted => status == StatusCode::CREATED || status == StatusCode::ACCEPTED,
                };
                if !good {
                    return Err(format!(
                        "a start of {saga} answered {status}: {}",
                        text.chars().take(300).collect::<String>()
                    ));
                }
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        let ended = worker.unwrap_or_else(|error| Err(error.to_string()));
        ended.map_err(|reason| Failure::new(Code::Failed, reason))?;
    }
    Ok(())
}

fn print(shapes: &Shapes) {
    if shapes.finished_before > 0 {
        anstream::println!(
            "{} runs have finished before, {:.0} each second",
            shapes.finished_before,
            shapes.finished_per_second
        );
    }
    anstream::println!(
        "a step of 10: {:.0} µs CPU, {:.2} ms; of 1,000: {:.0} µs CPU, {:.2} ms (ratio of CPU {:.2})",
        shapes.cpu_us_per_step_of_10,
        shapes.ms_per_step_of_10,
        shapes.cpu_us_per_step_of_1000,
        shapes.ms_per_step_of_1000,
        shapes.cpu_us_per_step_of_1000 / shapes.cpu_us_per_step_of_10.max(f64::MIN_POSITIVE),
    );
    anstream::println!(
        "a `for` over {} items: {:.1} s, {:.0} µs CPU for each",
        shapes.for_items,
        shapes.for_seconds,
        shapes.for_cpu_us_per_item
    );
    anstream::println!(
        "{} waiting runs: {:.0} started each second; {:.0} bytes of memory for each, {:.0} after a start; the start took {:.2} s",
        shapes.waiting,
        shapes.waiting_started_per_second,
        shapes.bytes_per_waiting_run,
        shapes.bytes_per_waiting_run_after_start,
        shapes.start_seconds_with_waiting,
    );
}
