//! The door to the runs for everything above: API, CLI, demo, benchmark.

use std::time::Duration;

use futures_util::stream::BoxStream;

use super::view::{HistoryEntry, Readiness, RunFilter, RunNews, RunPage, RunView, SagaView};
use crate::bus::Published;
use crate::envelope::Event;
use crate::id::{RunId, SagaName};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::trace_context::TraceContext;

/// A cheap, shared reference to a running coordinator.
#[derive(Clone)]
pub struct Handle {}

/// How to start a run by hand.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub saga: SagaName,
    /// None: the newest loaded version.
    pub version: Option<u32>,
    pub input: Payload,
    pub key: Option<String>,
    /// None: the run's own id.
    pub correlation_id: Option<String>,
    /// The caller's trace; none starts a new one.
    pub trace: Option<TraceContext>,
}

/// What came of a start. Durable when returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    Created(RunId),
    /// A repeated key with the same input: the first run's id.
    Existing(RunId),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    #[error("no saga `{saga}`{hint}")]
    UnknownSaga { saga: String, hint: String },
    /// Each violation with a JSON pointer into the input.
    #[error("the input does not fit the schema of saga `{saga}`")]
    InvalidInput { saga: String, violations: Vec<(String, String)> },
    #[error("key `{key}` belongs to run {run}, which began with other input")]
    KeyConflict { key: String, run: RunId },
    /// The disk is nearly full, the process drains, or too many runs are open: try later.
    #[error("no new work is taken: {reason}")]
    Unavailable { reason: String },
}

/// Operator commands (LANGUAGE "Runs").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Cancel { reason: Option<String> },
    Pause,
    Resume,
    Retry { new_key: bool },
    Skip,
    ResolveDone { output: Option<Payload> },
    ResolveNotDone,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum OperateError {
    #[error("no run {0}")]
    NoRun(RunId),
    /// 409 with the reason.
    #[error("{0}")]
    Conflict(String),
    #[error("no command is taken: {reason}")]
    Unavailable { reason: String },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Each violation with a JSON pointer into the data.
    #[error("the data does not fit {event_type}")]
    Invalid { event_type: String, violations: Vec<(String, String)> },
    #[error("no schema for event type `{event_type}`{hint}")]
    UnknownType { event_type: String, hint: String },
    #[error("NATS is away: {reason}")]
    Unavailable { reason: String },
    #[error("the bus refuses the event: {reason}")]
    Refused { reason: String },
}

impl Handle {
    /// Starts a run by hand. Durable when it returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(&self, _request: StartRequest) -> Result<Started, StartError> {
        todo!()
    }

    /// Waits until the run has ended or parked, at most `timeout`; returns it as it is then.
    pub async fn wait(&self, _run: RunId, _timeout: Duration) -> Option<RunView> {
        todo!()
    }

    /// Returns a run, open or finished.
    ///
    /// # Errors
    /// [`Problem`] when the journal cannot be read.
    pub async fn show(&self, _run: RunId) -> Result<Option<RunView>, Problem> {
        todo!()
    }

    /// Lists runs, newest first.
    ///
    /// # Errors
    /// [`Problem`] for a bad filter or cursor, or when the journal cannot be read.
    pub async fn list(&self, _filter: RunFilter) -> Result<RunPage, Problem> {
        todo!()
    }

    /// Returns a run's facts in order.
    ///
    /// # Errors
    /// [`Problem`] when the journal cannot be read.
    pub async fn history(&self, _run: RunId) -> Result<Option<Vec<HistoryEntry>>, Problem> {
        todo!()
    }

    /// Follows one run or all of them from now on. Slow readers miss entries and are told so by a gap
    /// in `sequence`.
    #[must_use]
    pub fn watch(&self, _run: Option<RunId>) -> BoxStream<'static, RunNews> {
        todo!()
    }

    /// Gives an operator's command to a run. Durable when it returns; returns the run after it.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn operate(&self, _run: RunId, _operation: Operation) -> Result<RunView, OperateError> {
        todo!()
    }

    /// Validates and publishes events in order; stops at the first failure of the bus. Every event is
    /// validated before the first is published.
    ///
    /// # Errors
    /// The index of the event and what is wrong with it.
    pub async fn publish(&self, _events: Vec<Event>) -> Result<Vec<Published>, (usize, PublishError)> {
        todo!()
    }

    /// Lists the loaded sagas by name, newest version first.
    #[must_use]
    pub fn sagas(&self) -> Vec<SagaView> {
        todo!()
    }

    /// Says whether work is taken, part by part.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        todo!()
    }

    /// Returns the Prometheus page.
    #[must_use]
    pub fn metrics(&self) -> String {
        todo!()
    }

    /// Stops intake, lets attempts in flight end (at most `timeout`), closes the journal. What has not
    /// ended goes on at the next start.
    pub async fn drain(&self, _timeout: Duration) {
        todo!()
    }
}
