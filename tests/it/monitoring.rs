//! Dashboard, alert rules and their runbooks: every figure that they name is one that there is, and what
//! Prometheus' own tool says of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backstitch::telemetry::metrics::{HISTOGRAM_SERIES_MAX, Metrics};
use serde_json::Value;

use crate::skip::skip;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn alerts() -> Vec<Value> {
    let text = fs::read_to_string(root().join("monitoring/prometheus/alerts.yaml")).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The names of figures in an expression.
fn named(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("backstitch_") || word.starts_with("process_")).map(str::to_owned).collect()
}

fn check_known(why: &str, expression: &str) {
    let names = named(expression);
    assert!(!names.is_empty(), "{why}: `{expression}` asks for nothing of ours");
    for name in names {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        let known = Metrics::names().contains(&name.as_str()) || Metrics::names().contains(&bare);
        assert!(known, "{why}: there is no figure `{name}`");
    }
}

#[test]
fn every_alert_asks_for_figures_that_there_are_and_has_its_page() {
    let alerts = alerts();
    let mut pages = BTreeSet::new();
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        check_known(name, alert["expr"].as_str().unwrap());
        let page = alert["annotations"]["runbook_url"].as_str().unwrap();
        let text = fs::read_to_string(root().join(page)).unwrap_or_else(|_| panic!("{name}: {page} is not there"));
        for expected in [&format!("# {name}\n"), "\n## What it means\n", "\n## What to do\n\n1. "] {
            assert!(text.contains(expected), "{page} lacks `{expected}`");
        }
        assert!(text.contains(alert["expr"].as_str().unwrap()), "{page} shows another rule");
        pages.insert(PathBuf::from(page));
    }
    let there: BTreeSet<PathBuf> = fs::read_dir(root().join("docs/runbooks"))
        .unwrap()
        .map(|entry| Path::new("docs/runbooks").join(entry.unwrap().file_name()))
        .collect();
    assert_eq!(pages, there, "each page belongs to an alert");
}

#[test]
fn runbooks_name_commands_that_there_are() {
    let help = Command::new(crate::rig::program()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    for entry in fs::read_dir(root().join("docs/runbooks")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for command in text.split("`backstitch ").skip(1) {
            let command = command.split([' ', '`']).next().unwrap();
            assert!(known.contains(command), "{}: no command `{command}` in\n{help}", path.display());
        }
    }
}

#[test]
fn the_dashboard_asks_for_figures_that_there_are() {
    let text = fs::read_to_string(root().join("monitoring/grafana/dashboards/backstitch.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 15);
    let mut shown = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            check_known(panel["title"].as_str().unwrap(), expression);
            shown.extend(named(expression));
        }
    }
    for name in ["backstitch_runs", "backstitch_queue_length", "backstitch_circuit_state", "backstitch_journal_bytes"] {
        assert!(shown.contains(name), "the dashboard does not show {name}");
    }
}

fn promtool() -> Option<PathBuf> {
    let found = Command::new(root().join("scripts/get-promtool")).arg("--find").stderr(Stdio::null()).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    (!path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
}

/// A page on which every name has a series.
fn full_page() -> String {
    let metrics = Metrics::default();
    metrics.runs.with(&["order", "parked"]).set(1);
    metrics.runs_started.with(&["order"]).inc();
    metrics.runs_ended.with(&["order", "completed"]).inc();
    metrics.runs_parked.with(&["order"]).inc();
    metrics.run_seconds.with(&["order"]).observe(Duration::from_millis(7));
    metrics.steps.with(&["order", "charge", "done"]).inc();
    metrics.step_seconds.with(&["order", "charge"]).observe(Duration::from_millis(7));
    metrics.attempts.with(&["pay", "forward", "done"]).inc();
    metrics.retries.with(&["pay"]).inc();
    metrics.attempt_seconds.with(&["pay"]).observe(Duration::from_millis(7));
    metrics.undos.with(&["order", "done"]).inc();
    metrics.call_wait.with(&["pay"]).at_least_ms(7);
    metrics.calls_in_flight.with(&["pay"]).set(1);
    metrics.circuit.with(&["pay", "open"]).set(1);
    metrics.dead_letters.with(&["invalid_data"]).inc();
    metrics.queue_len.with(&["outbox"]).set(1);
    metrics.build.with(&["0.1.0"]).set(1);
    metrics.render()
}

#[test]
fn prometheus_own_tool_agrees() {
    let Some(promtool) = promtool() else {
        return skip("alert rules with promtool", "no promtool in the PATH and none in .tools/bin: make promtool");
    };
    let folder = root().join("monitoring/prometheus");
    let rows: &[&[&str]] = &[
        &["check", "rules", "alerts.yaml"],
        &["test", "rules", "alerts.test.yaml"],
        &["check", "config", "--syntax-only", "prometheus.yaml"],
    ];
    for arguments in rows {
        let output = Command::new(&promtool).args(*arguments).current_dir(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "promtool {arguments:?}: {said}");
    }
    use std::io::Write;
    let page = full_page();
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool check metrics: {said}\n{page}");
}

#[test]
fn the_page_stays_small_whatever_runs() {
    // Eight sagas of eight steps with all that can happen in them, and 100,000 runs.
    let metrics = Metrics::default();
    for number in 0..100_000_u64 {
        let saga = format!("saga-{}", number % 8);
        let step = format!("step-{}", number / 8 % 8);
        let service = format!("service-{}", number % 12);
        metrics.runs_started.with(&[&saga]).inc();
        metrics.runs_ended.with(&[&saga, if number % 9 == 0 { "compensated" } else { "completed" }]).inc();
        metrics.run_seconds.with(&[&saga]).observe(Duration::from_millis(number % 900));
        metrics.step_seconds.with(&[&saga, &step]).observe(Duration::from_millis(number % 90));
        for outcome in ["done", "refused", "unknown", "skipped"] {
            metrics.steps.with(&[&saga, &step, outcome]).inc();
        }
        for direction in ["forward", "compensate", "check"] {
            for effect in ["done", "none", "maybe"] {
                metrics.attempts.with(&[&service, direction, effect]).inc();
            }
        }
        metrics.attempt_seconds.with(&[&service]).observe(Duration::from_millis(number % 90));
        metrics.events_consumed.with(&[&format!("event-{}.v1", number % 50)]).inc();
    }
    let page = metrics.render();
    assert!(page.len() < 200_000, "{} bytes", page.len());
    let steps = page.lines().filter(|line| line.starts_with("backstitch_step_seconds_count")).count();
    assert_eq!(steps, HISTOGRAM_SERIES_MAX + 1, "what is beyond is counted under `other`");
}
