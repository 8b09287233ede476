//! Runs as people and programs see them: the JSON of the API and of `--output json`. A contract: fields
//! are added, never changed.

use serde::{Deserialize, Serialize};

use crate::id::RunId;
use crate::payload::Payload;
use crate::problem::Problem;

/// One run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunView {
    pub id: RunId,
    pub saga: String,
    pub version: u32,
    /// `running waiting paused settling compensating parked completed compensated`
    pub state: String,
    /// `forward settling undo done`
    pub phase: String,
    pub key: Option<String>,
    pub correlation_id: String,
    pub trace_id: String,
    /// Later traces of a run that rested for long, in their order; each is linked to the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_traces: Vec<String>,
    pub input: Payload,
    pub output: Option<Payload>,
    pub error: Option<Problem>,
    /// Failures after the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Problem>,
    /// An undo was skipped: the run's end is not a whole undo.
    #[serde(default)]
    pub incomplete: bool,
    /// Where and why the run is parked.
    pub parked: Option<ParkedView>,
    /// The run that undoes this completed child run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<RunId>,
    /// The run that this one is a child of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// What the run waits for, in words: a timer, a lock and its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    pub steps: Vec<StepView>,
    /// Fields of `finally` that could not be evaluated, and alarms raised on the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// RFC 3339.
    pub started_at: String,
    pub ended_at: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParkedView {
    /// The step's path.
    pub step: String,
    /// `forward` or `compensate`
    pub direction: String,
    pub reason: String,
    /// RFC 3339.
    pub since: String,
    /// Operator commands that apply: `retry skip resolve`.
    pub remedies: Vec<String>,
}

/// One step that the run has met; steps never reached are listed as `not_started`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepView {
    /// The step's path.
    pub id: String,
    /// The word of the file: `call emit set wait switch fail await ask parallel for try poll run`.
    pub kind: String,
    /// LANGUAGE "Outcome of a call".
    pub status: String,
    /// Attempts used up.
    pub attempts: u32,
    /// The idempotency key.
    pub key: Option<String>,
    pub output: Option<Payload>,
    pub error: Option<Problem>,
    pub undo: Option<UndoView>,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UndoView {
    /// `undoing undone undo_failed undo_skipped`
    pub status: String,
    pub attempts: u32,
    pub key: Option<String>,
    pub error: Option<Problem>,
}

/// A run in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSummary {
    pub id: RunId,
    pub saga: String,
    pub version: u32,
    pub state: String,
    pub phase: String,
    pub key: Option<String>,
    pub correlation_id: String,
    pub trace_id: String,
    #[serde(default)]
    pub incomplete: bool,
    /// The step it is at, or failed at.
    pub step: Option<String>,
    pub error: Option<String>,
    pub started_at: String,
    pub ended_at: Option<String>,
}

/// One page of a list, newest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunPage {
    pub runs: Vec<RunSummary>,
    /// Opaque; give it back for the next page. None at the end.
    pub cursor: Option<String>,
}

/// What to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunFilter {
    pub saga: Option<String>,
    /// One of the states.
    pub state: Option<String>,
    pub correlation_id: Option<String>,
    pub key: Option<String>,
    /// RFC 3339 or a duration back from now (`1h`): started at or after.
    pub since: Option<String>,
    /// 1 to 1,000; default 50.
    pub limit: Option<usize>,
    pub cursor: Option<String>,
}

/// One fact of a run's history, as stored, with its time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// From 0.
    pub sequence: u64,
    /// RFC 3339.
    pub at: String,
    /// The fact's name in snake case: `step_started`, `attempt_ended`, …
    pub fact: String,
    /// The fact's fields.
    pub data: Payload,
    /// One line for people: `reserve: attempt 2 answered 503, next in 400ms`.
    pub text: String,
}

/// Something that has happened in a run, after it is durable: what `watch` prints and `/stream` sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunNews {
    pub run: RunId,
    pub saga: String,
    pub key: Option<String>,
    /// The run's state after it.
    pub state: String,
    pub entry: HistoryEntry,
}

/// A semantic lock, held or waited for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LockView {
    pub name: String,
    pub holder: LockRun,
    /// In the order in which they will get it.
    pub waiting: Vec<LockRun>,
}

/// A run that holds a lock or waits for one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LockRun {
    pub run: String,
    pub saga: String,
    pub state: String,
    /// When the run began. RFC 3339.
    pub started_at: String,
}

/// When the clock starts a saga.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScheduleView {
    /// `every 5m`, or `cron 0 3 * * * (Europe/Berlin)`.
    pub rhythm: String,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Whether a run can move to another version of its saga, or has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationView {
    pub run: RunId,
    pub saga: String,
    /// The version that it was on.
    pub from: u32,
    pub to: u32,
    pub moved: bool,
    /// Why it cannot move; empty when it can, or has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// The runs of a saga, looked at for a migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationPage {
    /// Open runs that were on other versions, newest first.
    pub runs: Vec<MigrationView>,
    /// Set when there may be more: give it to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A share of a saga's starts for one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutView {
    pub saga: String,
    pub version: u32,
    /// Of the starts that name no version: so many of a hundred take this one, 0 to 100.
    pub percent: u8,
    /// What the others take: the newest of the other versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<u32>,
    /// False when the version is not loaded any more: then every start takes the newest.
    pub loaded: bool,
    /// RFC 3339.
    pub since: String,
    /// Who says that they did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A loaded saga.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SagaView {
    pub name: String,
    pub version: u32,
    pub summary: Option<String>,
    pub file: String,
    pub fingerprint: String,
    /// Event types that start it.
    pub events: Vec<String>,
    /// Webhooks that start it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<String>,
    /// When the clock starts it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleView>,
    /// Step paths in file order.
    pub steps: Vec<String>,
    /// Of the starts that name no version: so many of a hundred take this one.
    #[serde(default)]
    pub starts_percent: u8,
    /// Open runs of this version by state.
    pub open_runs: std::collections::BTreeMap<String, u64>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    /// One line per part: `nats`, `journal`, `intake`.
    pub parts: std::collections::BTreeMap<String, PartReadiness>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartReadiness {
    pub ready: bool,
    pub message: String,
}
