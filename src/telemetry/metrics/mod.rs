//! Figures in Prometheus' text format (version 0.0.4), and as OTLP metrics. Names and labels are fixed here;
//! a label's values come from configuration and definitions, never from data, and are bounded all the same.

mod series;

pub use self::series::{
    Counter, Family, Gauge, HISTOGRAM_SERIES_MAX, Histogram, SERIES_MAX, SecondsCounter, SecondsGauge,
};
use super::otlp::metric;

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
                $(self.$field.render(&mut text, $name, concat!($($help),+));)+
                text
            }

            /// Writes all figures as OTLP metrics, each ready for an export request.
            pub(super) fn encode(&self, began_ns: u64, now_ns: u64) -> Vec<Vec<u8>> {
                let mut all = Vec::new();
                $(all.extend(metric::encode($name, concat!($($help),+), &self.$field.points(), began_ns, now_ns));)+
                all
            }

            /// Returns every name.
            #[must_use]
            pub fn names() -> &'static [&'static str] {
                &[$($name),+]
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
    /// Steps ended, by how: done, refused, unknown, skipped.
    steps: "backstitch_steps_total" Counter ["saga", "step", "outcome"],
    /// Time from a step's start to its end, retries and waits in between.
    step_seconds: "backstitch_step_seconds" Histogram ["saga", "step"],
    /// Attempts at calls, by direction and effect: done, none, maybe.
    attempts: "backstitch_attempts_total" Counter ["service", "direction", "effect"],
    /// Attempts that were not the first.
    retries: "backstitch_retries_total" Counter ["service"],
    /// Time of an attempt.
    attempt_seconds: "backstitch_attempt_seconds" Histogram ["service"],
    /// Steps undone, by how it went: done, nothing, skipped.
    undos: "backstitch_undos_total" Counter ["saga", "outcome"],
    /// Time that calls waited for an open circuit, a rate limit or a socket.
    call_wait: "backstitch_call_wait_seconds_total" SecondsCounter ["service"],
    /// Calls under way.
    calls_in_flight: "backstitch_calls_in_flight" Gauge ["service"],
    /// Calls that wait for an open circuit, a rate limit or a socket.
    calls_waiting: "backstitch_calls_waiting" Gauge ["service"],
    /// Calls to a service at once, at most.
    calls_limit: "backstitch_calls_limit" Gauge ["service"],
    /// 1 for the state that a service's circuit is in: closed, open, half_open.
    circuit: "backstitch_circuit_state" Gauge ["service", "state"],
    /// Commits to the journal.
    commits: "backstitch_commits_total" Counter [],
    /// Transitions of runs committed.
    transitions: "backstitch_transitions_total" Counter [],
    /// Time of a commit with its sync.
    commit_seconds: "backstitch_commit_seconds" Histogram [],
    /// Bytes committed to the journal.
    commit_bytes: "backstitch_commit_bytes_total" Counter [],
    /// Syncs of the journal's file.
    syncs: "backstitch_syncs_total" Counter [],
    /// Keys written to the store.
    journal_keys: "backstitch_keys_total" Counter [],
    /// Records in the log.
    journal_records: "backstitch_records_total" Counter [],
    /// Size of the journal on disk.
    journal_bytes: "backstitch_journal_bytes" Gauge [],
    /// Free space on the journal's disk.
    disk_free: "backstitch_disk_free_bytes" Gauge [],
    /// Free space below which no new work is taken.
    disk_free_min: "backstitch_disk_free_bytes_min" Gauge [],
    /// 1 while new work is taken.
    intake_open: "backstitch_intake_open" Gauge [],
    /// 1 while NATS is connected and its streams are as they must be.
    nats_ready: "backstitch_nats_ready" Gauge [],
    /// Events taken from the bus, by type.
    events_consumed: "backstitch_events_consumed_total" Counter ["type"],
    /// Events taken that had been taken before.
    events_duplicate: "backstitch_events_duplicate_total" Counter [],
    /// How old the event was that was taken last, when it was taken; 0 once nothing waits.
    consumer_lag: "backstitch_consumer_lag_seconds" SecondsGauge [],
    /// Events in the stream that the consumer was never given, as of the last look (every 5 s).
    consumer_pending: "backstitch_consumer_pending" Gauge [],
    /// Events that the consumer was given and has not acknowledged, as of the last look (every 5 s).
    consumer_ack_pending: "backstitch_consumer_ack_pending" Gauge [],
    /// Events of subscriptions, by what became of them: delivered, put_aside; and attempts that failed: failed.
    subscription_events: "backstitch_subscription_events_total" Counter ["subscription", "outcome"],
    /// Events read for a subscription and not through yet.
    subscription_waiting: "backstitch_subscription_waiting" Gauge ["subscription"],
    /// 1 for a subscription that delivers nothing: its endpoint answered 410, or an operator disabled it.
    subscription_disabled: "backstitch_subscription_disabled" Gauge ["subscription"],
    /// Deliveries of webhooks, by what became of them: accepted, unsigned (the signature does not fit), failed.
    webhook_deliveries: "backstitch_webhook_deliveries_total" Counter ["webhook", "outcome"],
    /// Rows of outbox tables, by what became of them: published, put_aside.
    outbox_rows: "backstitch_outbox_rows_total" Counter ["outbox", "outcome"],
    /// 1 while the outbox table can be read.
    outbox_ready: "backstitch_outbox_ready" Gauge ["outbox"],
    /// Events acknowledged by the bus.
    events_published: "backstitch_events_published_total" Counter [],
    /// Messages put aside, by reason.
    dead_letters: "backstitch_dead_letters_total" Counter ["reason"],
    /// Notices of parked and compensated runs and of dead letters, by channel (bus, webhook) and what became of them:
    /// told, lost.
    notices: "backstitch_notices_total" Counter ["channel", "outcome"],
    /// Timers that are due and have not fired.
    timers_due: "backstitch_timers_due" Gauge [],
    /// Things waiting, by queue: journal, outbox, timers, spans.
    queue_len: "backstitch_queue_length" Gauge ["queue"],
    /// Spans that found no place in the queue or no collector.
    spans_dropped: "backstitch_spans_dropped_total" Counter [],
    /// Spans taken by the collector.
    spans_exported: "backstitch_spans_exported_total" Counter [],
    /// 1, with the program's version.
    build: "backstitch_build_info" Gauge ["version"],
    /// Memory of the process.
    memory: "process_resident_memory_bytes" Gauge [],
    /// CPU time of the process, user and system.
    cpu: "process_cpu_seconds_total" SecondsCounter [],
    /// Open files and sockets of the process.
    open_files: "process_open_fds" Gauge [],
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let page = include_str!("../../../docs/tracing.md");
        for name in Metrics::names() {
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
