//! The figures of a measurement, one column for each number in flight.

use std::collections::BTreeMap;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use owo_colors::OwoColorize;
use serde::Serialize;

use super::Edge;
use super::load::Measured;

/// Names on the orchestrator's `/metrics` page.
mod name {
    pub const COMMITS: &str = "backstitch_commits_total";
    pub const SYNCS: &str = "backstitch_syncs_total";
    pub const KEYS: &str = "backstitch_keys_total";
    pub const TRANSITIONS: &str = "backstitch_transitions_total";
}

/// The processes that take part in bare calls.
const BARE: [&str; 2] = ["load generator", "services"];

/// What one number in flight gave.
#[derive(Debug, Serialize)]
pub struct Level {
    pub in_flight: usize,
    pub runs: usize,
    pub failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_failure: Option<String>,
    pub runs_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub commits_per_second: f64,
    pub syncs_per_second: f64,
    pub runs_per_commit: f64,
    pub keys_per_transition: f64,
    pub transitions_per_run: f64,
    /// By process.
    pub cpu_seconds_per_1000_runs: BTreeMap<&'static str, f64>,
    pub rss_peak_bytes: BTreeMap<&'static str, u64>,
    /// Sent towards the disk by the orchestrator and by nats-server.
    pub written_bytes_per_run: f64,
    /// The same three calls without an orchestrator.
    pub bare_per_second: f64,
    pub bare_p50_ms: f64,
    pub bare_p99_ms: f64,
    /// Of the load generator and the services.
    pub bare_cpu_seconds_per_1000: f64,
    /// Runs per second over bare ones per second.
    pub ratio: f64,
}

impl Level {
    pub fn of(
        in_flight: usize,
        runs: &Measured,
        bare: &Measured,
        (before, after): (&Edge, &Edge),
        bare_edges: &[(Edge, Edge)],
    ) -> Self {
        let count = runs.latencies_us.len();
        let counted = |name: &str| {
            let at = |edge: &Edge| edge.metrics.get(name).copied().unwrap_or_default();
            at(after) - at(before)
        };
        let per = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
        let used = |name: &&'static str| {
            let at = |edge: &Edge| edge.processes.get(name).copied().unwrap_or_default();
            (at(before), at(after))
        };
        let names: Vec<&'static str> = after.processes.keys().copied().collect();
        let written: u64 = names
            .iter()
            .filter(|name| matches!(**name, "orchestrator" | "nats-server"))
            .map(|name| {
                let (before, after) = used(name);
                after.written_bytes.saturating_sub(before.written_bytes)
            })
            .sum();
        let cpu = |edge: &Edge, name: &str| edge.processes.get(name).map_or(0.0, |usage| usage.cpu_seconds);
        let bare_cpu: f64 =
            bare_edges.iter().flat_map(|(begun, ended)| BARE.map(|name| cpu(ended, name) - cpu(begun, name))).sum();
        Self {
            in_flight,
            runs: count,
            failures: runs.failures,
            first_failure: runs.first_failure.clone(),
            runs_per_second: runs.per_second(),
            p50_ms: runs.percentile_ms(50),
            p99_ms: runs.percentile_ms(99),
            commits_per_second: per(counted(name::COMMITS), runs.seconds),
            syncs_per_second: per(counted(name::SYNCS), runs.seconds),
            runs_per_commit: per(count as f64, counted(name::COMMITS)),
            keys_per_transition: per(counted(name::KEYS), counted(name::TRANSITIONS)),
            transitions_per_run: per(counted(name::TRANSITIONS), count as f64),
            cpu_seconds_per_1000_runs: names
                .iter()
                .map(|name| {
                    let (before, after) = used(name);
                    (*name, per((after.cpu_seconds - before.cpu_seconds) * 1_000.0, count as f64))
                })
                .collect(),
            rss_peak_bytes: names.iter().map(|name| (*name, used(name).1.rss_peak_bytes)).collect(),
            written_bytes_per_run: per(written as f64, count as f64),
            bare_per_second: bare.per_second(),
            bare_p50_ms: bare.percentile_ms(50),
            bare_p99_ms: bare.percentile_ms(99),
            bare_cpu_seconds_per_1000: per(bare_cpu * 1_000.0, bare.latencies_us.len() as f64),
            ratio: per(runs.per_second(), bare.per_second()),
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub struct Page {
    /// What the orchestrator says about its parts.
    pub durability: Vec<String>,
    pub levels: Vec<Level>,
}

impl Page {
    pub fn print_head(&self) {
        anstream::println!("{}", "Backstitch bench: three calls a run, each run waited for".bold());
        for line in &self.durability {
            anstream::println!("  {line}");
        }
    }

    pub fn print(&self) {
        anstream::println!("{}", self.table());
        for level in self.levels.iter().filter(|level| level.failures > 0) {
            let first = level.first_failure.as_deref().unwrap_or("no reason");
            anstream::println!("{} in flight: {} failures, the first: {first}", level.in_flight, level.failures);
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let head = std::iter::once("in flight".to_owned()).chain(self.levels.iter().map(|l| l.in_flight.to_string()));
        table.load_style(UTF8_BORDERS_ONLY).set_header(head);
        let mut row = |name: &str, value: &dyn Fn(&Level) -> String| {
            table.add_row(std::iter::once(name.to_owned()).chain(self.levels.iter().map(value)));
        };
        row("runs/s", &|level| format!("{:.0}", level.runs_per_second));
        row("p50 ms", &|level| format!("{:.2}", level.p50_ms));
        row("p99 ms", &|level| format!("{:.2}", level.p99_ms));
        row("commits/s", &|level| format!("{:.0}", level.commits_per_second));
        row("syncs/s", &|level| format!("{:.0}", level.syncs_per_second));
        row("runs per commit", &|level| format!("{:.2}", level.runs_per_commit));
        row("transitions per run", &|level| format!("{:.2}", level.transitions_per_run));
        row("keys per transition", &|level| format!("{:.3}", level.keys_per_transition));
        let names: Vec<&'static str> = self
            .levels
            .first()
            .map_or_else(Vec::new, |level| level.cpu_seconds_per_1000_runs.keys().copied().collect());
        for name in &names {
            let cpu = |level: &Level| {
                format!("{:.3}", level.cpu_seconds_per_1000_runs.get(name).copied().unwrap_or_default())
            };
            row(&format!("CPU s per 1,000 runs, {name}"), &cpu);
        }
        for name in &names {
            let rss = |level: &Level| {
                format!("{:.0}", level.rss_peak_bytes.get(name).copied().unwrap_or_default() as f64 / 1_048_576.0)
            };
            row(&format!("RSS peak MiB, {name}"), &rss);
        }
        row("CPU s per 1,000 runs, all", &|level| {
            format!("{:.3}", level.cpu_seconds_per_1000_runs.values().sum::<f64>())
        });
        row("KiB written per run", &|level| format!("{:.2}", level.written_bytes_per_run / 1_024.0));
        row("bare: three calls/s", &|level| format!("{:.0}", level.bare_per_second));
        row("bare: p50 ms", &|level| format!("{:.2}", level.bare_p50_ms));
        row("bare: p99 ms", &|level| format!("{:.2}", level.bare_p99_ms));
        row("bare: CPU s per 1,000", &|level| format!("{:.3}", level.bare_cpu_seconds_per_1000));
        row("ratio to bare", &|level| format!("{:.3}", level.ratio));
        for column in 1..=self.levels.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::usage::Usage;

    #[test]
    fn figures_are_differences_between_the_edges() {
        let edge = |cpu_seconds: f64, commits: f64| Edge {
            processes: BTreeMap::from([(
                "orchestrator",
                Usage { cpu_seconds, written_bytes: 1_000, ..Usage::default() },
            )]),
            metrics: BTreeMap::from([(name::COMMITS.to_owned(), commits)]),
        };
        let runs = Measured { latencies_us: vec![1_000; 200], seconds: 2.0, ..Measured::default() };
        let bare = Measured { latencies_us: vec![500; 400], seconds: 2.0, ..Measured::default() };
        let level = Level::of(4, &runs, &bare, (&edge(1.0, 100.0), &edge(2.0, 150.0)), &[]);
        assert_eq!((level.runs_per_second, level.commits_per_second, level.runs_per_commit), (100.0, 25.0, 4.0));
        assert_eq!((level.cpu_seconds_per_1000_runs["orchestrator"], level.ratio), (5.0, 0.5));
        let page = Page { durability: vec![], levels: vec![level] };
        assert!(page.table().to_string().contains("0.500"));
        assert!(serde_json::to_string(&page).unwrap().contains("\"ratio\":0.5"));
    }
}
