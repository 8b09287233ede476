//! Figures in Prometheus' text format (version 0.0.4). Names and labels are fixed here; a label's values
//! come from configuration and definitions, never from data, and are bounded all the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Series of one name. Beyond it everything is counted under `other`: an installation with more sagas,
/// services or event types than that is still told the sums.
pub const SERIES_MAX: usize = 500;
const OTHER: &str = "other";

/// Goes up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a figure that is counted elsewhere; never goes down.
    pub fn at_least(&self, count: u64) {
        self.0.fetch_max(count, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets.
    pub fn set(&self, value: u64) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Adds; negative takes away.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// Returns the value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper ends of the buckets in microseconds: from a fast disk's sync to a call that times out.
const BUCKETS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// Counts durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last is for all that is longer.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|end| *end < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(micros, Ordering::Relaxed);
    }
}

/// One kind of figure that can be written.
trait Series: Default {
    const KIND: &'static str;
    /// `labels` is empty or `a="1",b="2"`.
    fn write(&self, text: &mut String, name: &str, labels: &str);
}

impl Series for Counter {
    const KIND: &'static str = "counter";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &self.get().to_string());
    }
}

impl Series for Gauge {
    const KIND: &'static str = "gauge";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        line(text, name, labels, &self.get().to_string());
    }
}

impl Series for Histogram {
    const KIND: &'static str = "histogram";
    fn write(&self, text: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let end = BUCKETS_US.get(at).map_or("+Inf".to_owned(), |end| seconds(*end));
            line(text, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{end}\""), &count.to_string());
        }
        line(text, &format!("{name}_sum"), labels, &seconds(self.sum_us.load(Ordering::Relaxed)));
        line(text, &format!("{name}_count"), labels, &count.to_string());
    }
}

/// Writes microseconds as seconds: whole numbers, no rounding.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn line(text: &mut String, name: &str, labels: &str, value: &str) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// Figures of one name, by label values.
#[derive(Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    /// By the values with [`BETWEEN`] between them.
    series: RwLock<BTreeMap<Box<str>, Arc<T>>>,
}

/// Stands between label values in a key: a control character that no name holds.
const BETWEEN: char = '\u{1f}';

thread_local! {
    /// Keys are put together here: looking up a figure, several times for each transition, allocates nothing.
    static KEY: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<T: Default> Family<T> {
    fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, series: RwLock::default() }
    }

    /// Returns the figure of these label values, in the labels' order.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        debug_assert_eq!(values.len(), self.labels.len(), "one value per label");
        KEY.with_borrow_mut(|key| {
            key.clear();
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    key.push(BETWEEN);
                }
                key.push_str(value);
            }
            if let Some(found) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(key.as_str()) {
                return Arc::clone(found);
            }
            self.begun(key)
        })
    }

    fn begun(&self, key: &str) -> Arc<T> {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if series.len() < SERIES_MAX || series.contains_key(key) {
            return Arc::clone(series.entry(key.into()).or_default());
        }
        let other = vec![OTHER; self.labels.len()].join(BETWEEN.encode_utf8(&mut [0; 4]));
        Arc::clone(series.entry(other.into()).or_default())
    }

    /// Removes all series of the family, before they are set anew.
    pub fn clear(&self) {
        self.series.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $name:literal $kind:ident [$($label:literal),*],)+) => {
        /// Every figure there is.
        #[derive(Debug)]
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: Family<$kind>,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($field: Family::new(&[$($label),*]),)+ }
            }
        }

        impl Metrics {
            /// Writes all figures in Prometheus' text format.
            #[must_use]
            pub fn render(&self) -> String {
                let mut text = String::new();
                $(render(&mut text, $name, concat!($($help),+), &self.$field);)+
                text
            }
        }
    };
}

metrics! {
    /// Runs that have not ended, by state.
    runs: "backstitch_runs" Gauge ["saga", "state"],
    /// Runs begun.
    runs_started: "backstitch_runs_started_total" Counter ["saga"],
    /// Runs ended: completed or compensated.
    runs_ended: "backstitch_runs_ended_total" Counter ["saga", "state"],
    /// Times that a run parked and somebody must act.
    runs_parked: "backstitch_runs_parked_total" Counter ["saga"],
    /// Time from a run's start to its end.
    run_seconds: "backstitch_run_seconds" Histogram ["saga"],
    /// Attempts at calls, by direction and effect: done, none, maybe.
    attempts: "backstitch_attempts_total" Counter ["service", "direction", "effect"],
    /// Attempts that were not the first.
    retries: "backstitch_retries_total" Counter ["service"],
    /// Time of an attempt.
    attempt_seconds: "backstitch_attempt_seconds" Histogram ["service"],
    /// Steps undone, by how it went: done, nothing, skipped.
    undos: "backstitch_undos_total" Counter ["saga", "outcome"],
    /// Time that calls waited for an open circuit, a rate limit or a socket.
    call_wait_ms: "backstitch_call_wait_milliseconds_total" Counter ["service"],
    /// Calls under way.
    calls_in_flight: "backstitch_calls_in_flight" Gauge ["service"],
    /// Calls that wait for an open circuit, a rate limit or a socket.
    calls_waiting: "backstitch_calls_waiting" Gauge ["service"],
    /// 1 while a service's circuit is not closed.
    circuit_open: "backstitch_circuit_open" Gauge ["service"],
    /// Commits to the journal.
    commits: "backstitch_commits_total" Counter [],
    /// Transitions of runs committed.
    transitions: "backstitch_transitions_total" Counter [],
    /// Time of a commit with its sync.
    commit_seconds: "backstitch_commit_seconds" Histogram [],
    /// Syncs of the journal's file.
    syncs: "backstitch_syncs_total" Counter [],
    /// Keys written to the store.
    journal_keys: "backstitch_keys_total" Counter [],
    /// Records in the log.
    journal_records: "backstitch_records_total" Counter [],
    /// Size of the journal on disk.
    journal_bytes: "backstitch_journal_bytes" Gauge [],
    /// Events taken from the bus, by type.
    events_consumed: "backstitch_events_consumed_total" Counter ["type"],
    /// Events taken that had been taken before.
    events_duplicate: "backstitch_events_duplicate_total" Counter [],
    /// Events acknowledged by the bus.
    events_published: "backstitch_events_published_total" Counter [],
    /// Messages put aside, by reason.
    dead_letters: "backstitch_dead_letters_total" Counter ["reason"],
    /// Things waiting, by queue: journal, outbox, timers, runs, spans.
    queue_len: "backstitch_queue_length" Gauge ["queue"],
    /// Spans that found no place in the queue or no collector.
    spans_dropped: "backstitch_spans_dropped_total" Counter [],
    /// Spans taken by the collector.
    spans_exported: "backstitch_spans_exported_total" Counter [],
}

fn render<T: Series>(text: &mut String, name: &str, help: &str, family: &Family<T>) {
    let series = family.series.read().unwrap_or_else(PoisonError::into_inner);
    if series.is_empty() && !family.labels.is_empty() {
        return;
    }
    let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", help.trim(), T::KIND);
    if series.is_empty() {
        // A figure without labels is there from the start, at zero.
        return T::default().write(text, name, "");
    }
    for (key, one) in series.iter() {
        let values = family.labels.iter().zip(key.split(BETWEEN));
        let labels: Vec<String> = values.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        one.write(text, name, &labels.join(","));
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written() {
        let metrics = Metrics::default();
        metrics.runs.with(&["order", "running"]).set(3);
        metrics.runs_ended.with(&["order", "completed"]).inc();
        metrics.runs_ended.with(&["order", "completed"]).add(2);
        metrics.dead_letters.with(&["a\"b\\c\nd"]).inc();
        metrics.commit_seconds.with(&[]).observe(Duration::from_micros(250));
        metrics.commit_seconds.with(&[]).observe(Duration::from_micros(251));
        metrics.commit_seconds.with(&[]).observe(Duration::from_secs(3_600));
        let text = metrics.render();
        for line in [
            "# TYPE backstitch_runs gauge",
            "# HELP backstitch_runs Runs that have not ended, by state.",
            "backstitch_runs{saga=\"order\",state=\"running\"} 3",
            "backstitch_runs_ended_total{saga=\"order\",state=\"completed\"} 3",
            "backstitch_dead_letters_total{reason=\"a\\\"b\\\\c\\nd\"} 1",
            "backstitch_commit_seconds_bucket{le=\"0.00025\"} 1",
            "backstitch_commit_seconds_bucket{le=\"0.0005\"} 2",
            "backstitch_commit_seconds_bucket{le=\"30\"} 2",
            "backstitch_commit_seconds_bucket{le=\"+Inf\"} 3",
            "backstitch_commit_seconds_sum 3600.000501",
            "backstitch_commit_seconds_count 3",
            "backstitch_commits_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "`{line}` is not in\n{text}");
        }
        assert!(!text.contains("backstitch_retries_total"), "nothing is said of labels that nobody used");
    }

    #[test]
    fn every_figure_is_explained() {
        let page = include_str!("../../docs/tracing.md");
        let source = include_str!("metrics.rs");
        let product = source.split("mod tests").next().unwrap_or_default();
        let names: Vec<&str> = product.split('"').filter(|word| word.starts_with("backstitch_")).collect();
        assert!(names.len() > 20);
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")), "docs/tracing.md lacks {name}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let metrics = Metrics::default();
        for number in 0..2 * SERIES_MAX {
            metrics.events_consumed.with(&[&format!("type.v{number}")]).inc();
        }
        let text = metrics.render();
        let series = text.lines().filter(|line| line.starts_with("backstitch_events_consumed_total{")).count();
        assert_eq!(series, SERIES_MAX + 1);
        assert!(text.contains(&format!("{{type=\"other\"}} {SERIES_MAX}")));
    }
}
