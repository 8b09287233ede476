//! What the coordinator counts, in the figures that telemetry has names for.

use std::sync::Arc;

use super::run::{Move, Run};
use super::spans::Spans;
use crate::bus::Backlog;
use crate::definition::Action;
use crate::id::ServiceName;
use crate::journal::Stats;
use crate::saga::{Fact, Fate, Outcome, StepAt, UndoEnd};
use crate::telemetry;
use crate::time::Timestamp;

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
pub struct Queues {
    pub outbox: u64,
    pub timers: u64,
    pub timers_due: u64,
    pub intake_open: bool,
    pub nats_ready: bool,
    pub backlog: Backlog,
}

pub struct Metrics(Arc<telemetry::metrics::Metrics>);

impl Metrics {
    pub fn new(figures: Arc<telemetry::metrics::Metrics>) -> Self {
        Self(figures)
    }

    /// Counts one committed move of a run.
    pub fn moved(&self, run: &Run, moved: &Move, at: Timestamp) {
        let saga = run.state.begun.saga.as_str();
        for fact in &moved.facts {
            match fact {
                Fact::RunStarted(_) => self.0.runs_started.with(&[saga]).inc(),
                Fact::AttemptEnded { step, direction, effect, fate, .. } => {
                    let service = service(run, *step);
                    self.0.attempts.with(&[service, direction.as_str(), effect.as_str()]).inc();
                    if let Some(launched) = moved.launched_at(*step) {
                        self.0.attempt_seconds.with(&[service]).observe(at.since(launched).to_std());
                    }
                    if matches!(fate, Fate::RetryAt(_)) {
                        self.0.retries.with(&[service]).inc();
                    }
                }
                Fact::UndoEnded { end, .. } => {
                    let word = match end {
                        UndoEnd::Undone => "done",
                        UndoEnd::Nothing => "nothing",
                        UndoEnd::Skipped => "skipped",
                    };
                    self.0.undos.with(&[saga, word]).inc();
                }
                Fact::StepEnded { step, outcome, .. } => {
                    let word = match outcome {
                        Outcome::Done => "done",
                        Outcome::Refused => "refused",
                        Outcome::Unknown => "unknown",
                    };
                    let path = &*run.definition.step(step.step).path;
                    self.0.steps.with(&[saga, path, word]).inc();
                    if let Some(started) = run.state.step(*step).started_at {
                        self.0.step_seconds.with(&[saga, path]).observe(at.since(started).to_std());
                    }
                }
                Fact::StepSkipped { step, .. } => {
                    self.0.steps.with(&[saga, &run.definition.step(step.step).path, "skipped"]).inc();
                }
                Fact::Parked { .. } => self.0.runs_parked.with(&[saga]).inc(),
                Fact::RunEnded { completed, .. } => {
                    let word = if *completed { "completed" } else { "compensated" };
                    self.0.runs_ended.with(&[saga, word]).inc();
                    self.0.run_seconds.with(&[saga]).observe(at.since(run.state.started_at).to_std());
                }
                _ => {}
            }
        }
    }

    pub fn event_consumed(&self, event: &str) {
        self.0.events_consumed.with(&[event]).inc();
    }

    /// Counts a delivery of a configured webhook.
    pub fn webhook_delivery(&self, webhook: &ServiceName, outcome: &str) {
        self.0.webhook_deliveries.with(&[webhook.as_str(), outcome]).inc();
    }

    /// Notes how old an event was when it was taken.
    pub fn event_age(&self, published_at: Timestamp, now: Timestamp) {
        self.0.consumer_lag.with(&[]).set_ms(now.since(published_at).0);
    }

    /// Counts a notice.
    pub fn notice(&self, channel: &'static str, outcome: &'static str) {
        self.0.notices.with(&[channel, outcome]).inc();
    }

    pub fn event_duplicate(&self) {
        self.0.events_duplicate.with(&[]).inc();
    }

    pub fn events_published(&self, count: u64) {
        self.0.events_published.with(&[]).add(count);
    }

    pub fn dead_letter(&self, reason: &'static str) {
        self.0.dead_letters.with(&[reason]).inc();
    }

    /// Returns the page.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Takes over the figures that are counted elsewhere.
    pub fn refresh<'a>(
        &self,
        open: impl Iterator<Item = (&'a str, &'static str, u64)>,
        journal: &Stats,
        queues: &Queues,
        spans: &Spans,
    ) {
        let figures = &self.0;
        figures.build.with(&[env!("CARGO_PKG_VERSION")]).set(1);
        figures.runs.clear();
        for (saga, state, count) in open {
            figures.runs.with(&[saga, state]).set(count);
        }
        figures.commits.with(&[]).at_least(journal.commits);
        figures.syncs.with(&[]).at_least(journal.syncs);
        figures.transitions.with(&[]).at_least(journal.transitions);
        figures.journal_keys.with(&[]).at_least(journal.keys);
        figures.journal_records.with(&[]).at_least(journal.records);
        figures.journal_bytes.with(&[]).set(journal.disk_bytes);
        figures.queue_len.with(&["journal"]).set(journal.queue_len);
        figures.queue_len.with(&["outbox"]).set(queues.outbox);
        figures.queue_len.with(&["timers"]).set(queues.timers);
        figures.timers_due.with(&[]).set(queues.timers_due);
        figures.intake_open.with(&[]).set(u64::from(queues.intake_open));
        figures.nats_ready.with(&[]).set(u64::from(queues.nats_ready));
        figures.consumer_pending.with(&[]).set(queues.backlog.pending);
        figures.consumer_ack_pending.with(&[]).set(queues.backlog.ack_pending);
        // Of the last event there was nothing is said any more: an alert on it would never end.
        if queues.backlog == Backlog::default() {
            figures.consumer_lag.with(&[]).set_ms(0);
        }
        figures.commit_bytes.with(&[]).at_least(journal.payload_bytes);
        let counts = spans.counts();
        figures.queue_len.with(&["spans"]).set(counts.queue_len);
        figures.spans_dropped.with(&[]).at_least(counts.dropped);
        figures.spans_exported.with(&[]).at_least(counts.exported);
        figures.commit_seconds.with(&[]).set(&journal.commit_times, journal.commit_us);
    }
}

fn service(run: &Run, step: StepAt) -> &str {
    match &run.definition.step(step.step).action {
        Action::Call(call) => call.service.as_str(),
        Action::Poll(poll) => poll.call.service.as_str(),
        // An undo of a `set` calls a service that its own rule names.
        Action::Set(_)
        | Action::Emit(_)
        | Action::Wait(_)
        | Action::Switch(_)
        | Action::Fail(_)
        | Action::Await(_)
        | Action::Ask(_)
        | Action::Parallel(_)
        | Action::For(_)
        | Action::Try(_)
        | Action::Run(_) => "",
    }
}
