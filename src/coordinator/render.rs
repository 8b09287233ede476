//! Shows runs: the views of the API from states, open ones from memory, finished ones from the journal.

use bytes::Bytes;

use super::locks::Locks;
use super::run::Run;
use super::shard::OpenFilter;
use super::view::{ParkedView, RunSummary, RunView, StepView, UndoView};
use crate::definition::{Action, SagaDefinition, StepIndex};
use crate::payload::Payload;
use crate::saga::{Activity, LockState, Phase, SagaState, StepStatus, UndoEnd, UndoStatus, remedies};

/// Returns a run as the API shows it.
pub fn view(run: &Run, locks: &Locks) -> RunView {
    let (definition, state) = (&*run.definition, &run.state);
    let begun = &state.begun;
    let mut notes = state.notes.clone();
    notes.extend(run.broken.clone());
    RunView {
        id: begun.run,
        saga: begun.saga.to_string(),
        version: begun.version,
        state: state.state().as_str().to_owned(),
        phase: state.phase.as_str().to_owned(),
        key: begun.key.clone(),
        correlation_id: begun.correlation_id.clone(),
        trace_id: begun.trace.trace_id.to_string(),
        input: begun.input.clone(),
        output: state.output.clone(),
        error: state.error.clone().or_else(|| parked_problem(state)),
        others: state.others.clone(),
        incomplete: state.incomplete,
        parked: state.parked.as_ref().map(|parked| ParkedView {
            step: definition.step(parked.step).path.to_string(),
            direction: parked.direction.as_str().to_owned(),
            reason: parked.reason.clone(),
            since: parked.since.to_string(),
            remedies: remedies(definition, state).into_iter().map(str::to_owned).collect(),
        }),
        waiting_for: waiting_for(definition, state, locks),
        steps: (0..definition.steps.len()).map(|at| step(definition, state, at as StepIndex)).collect(),
        notes,
        started_at: state.started_at.to_string(),
        ended_at: state.ended_at.map(|at| at.to_string()),
    }
}

/// A parked run shows why, though nothing has made it fail yet.
fn parked_problem(state: &SagaState) -> Option<crate::problem::Problem> {
    let parked = state.parked.as_ref()?;
    let at = state.step(parked.step);
    at.error.clone().or_else(|| at.undo.last_problem.clone())
}

fn waiting_for(definition: &SagaDefinition, state: &SagaState, locks: &Locks) -> Option<String> {
    if state.end.is_some() || state.parked.is_some() {
        return None;
    }
    if let LockState::Wanted { name } = &state.lock {
        let holder = locks.holder(name).map(|run| format!(", held by run {run}")).unwrap_or_default();
        return Some(format!("the lock `{name}`{holder}"));
    }
    let step = state.active?;
    let path = &definition.step(step).path;
    match state.step(step).activity {
        Activity::Sleeping { due } => Some(format!("`{path}` until {due}")),
        Activity::RetryAt { due, direction } => {
            let word = direction.as_str();
            Some(format!("the next attempt of `{path}` ({word}) at {due}"))
        }
        Activity::InFlight { direction, attempt } => {
            Some(format!("the answer to attempt {attempt} of `{path}` ({})", direction.as_str()))
        }
        Activity::Idle | Activity::AskPending | Activity::Interrupted { .. } => None,
    }
}

fn step(definition: &SagaDefinition, state: &SagaState, index: StepIndex) -> StepView {
    let (rule, at) = (definition.step(index), state.step(index));
    let undo = match at.undo.status {
        UndoStatus::NotStarted => None,
        UndoStatus::Undoing => Some("undoing"),
        UndoStatus::Failed => Some("undo_failed"),
        UndoStatus::Ended(UndoEnd::Undone) => Some("undone"),
        UndoStatus::Ended(UndoEnd::Nothing) => None,
        UndoStatus::Ended(UndoEnd::Skipped) => Some("undo_skipped"),
    };
    StepView {
        id: rule.path.to_string(),
        kind: kind(&rule.action).to_owned(),
        status: at.status_word().to_owned(),
        attempts: at.attempts_used,
        key: at.key_sent(),
        output: at.output.clone(),
        error: at.error.clone().or_else(|| match at.status {
            StepStatus::Begun => at.last_problem.clone(),
            StepStatus::NotStarted | StepStatus::Skipped(_) | StepStatus::Ended(_) | StepStatus::Withdrawn => None,
        }),
        undo: undo.map(|status| UndoView {
            status: status.to_owned(),
            attempts: at.undo.attempts_used,
            key: at.undo.key.map(|key| key.to_string()),
            error: at.undo.last_problem.clone(),
        }),
        started_at: at.started_at.map(|at| at.to_string()),
        ended_at: at.ended_at.map(|at| at.to_string()),
    }
}

const fn kind(action: &Action) -> &'static str {
    match action {
        Action::Call(_) => "call",
        Action::Emit(_) => "emit",
        Action::Set(_) => "set",
        Action::Wait(_) => "wait",
        Action::Switch(_) => "switch",
        Action::Fail(_) => "fail",
    }
}

/// Returns what the journal keeps of a finished run: its view.
pub fn summary_bytes(run: &Run, locks: &Locks) -> Bytes {
    Payload::of(&view(run, locks)).text().to_owned().into()
}

/// Shortens a view to a line of a list.
pub fn summary(view: &RunView) -> RunSummary {
    let at = view.parked.as_ref().map(|parked| parked.step.clone()).or_else(|| {
        view.error.as_ref().and_then(|error| error.step.clone()).or_else(|| {
            let begun = |step: &&StepView| matches!(step.status.as_str(), "running" | "waiting" | "undoing");
            view.steps.iter().find(begun).map(|step| step.id.clone())
        })
    });
    RunSummary {
        id: view.id,
        saga: view.saga.clone(),
        version: view.version,
        state: view.state.clone(),
        phase: view.phase.clone(),
        key: view.key.clone(),
        correlation_id: view.correlation_id.clone(),
        trace_id: view.trace_id.clone(),
        incomplete: view.incomplete,
        step: at,
        error: view.error.as_ref().map(|error| error.title.clone()),
        started_at: view.started_at.clone(),
        ended_at: view.ended_at.clone(),
    }
}

/// Returns the open runs that fit, newest first.
pub fn list_open<'a>(runs: impl Iterator<Item = &'a Run>, wanted: &OpenFilter) -> Vec<RunSummary> {
    let filter = &wanted.filter;
    let fits = |run: &&Run| {
        let begun = &run.state.begun;
        let place = (run.state.started_at, begun.run);
        filter.saga.as_deref().is_none_or(|saga| saga == begun.saga.as_str())
            && filter.state.as_deref().is_none_or(|state| state == run.state.state().as_str())
            && filter.correlation_id.as_deref().is_none_or(|id| id == begun.correlation_id)
            && filter.key.as_deref().is_none_or(|key| begun.key.as_deref() == Some(key))
            && wanted.since.is_none_or(|since| run.state.started_at >= since)
            && wanted.before.is_none_or(|before| place < before)
    };
    let mut found: Vec<&Run> = runs.filter(fits).collect();
    found.sort_unstable_by_key(|run| std::cmp::Reverse((run.state.started_at, run.state.begun.run)));
    found.truncate(wanted.limit);
    found.into_iter().map(open_summary).collect()
}

fn open_summary(run: &Run) -> RunSummary {
    let (definition, state) = (&*run.definition, &run.state);
    let begun = &state.begun;
    let at = state.parked.as_ref().map(|parked| parked.step).or(state.active).or(match state.phase {
        Phase::Forward | Phase::Settling | Phase::Undo => state.cursor,
        Phase::Done => None,
    });
    RunSummary {
        id: begun.run,
        saga: begun.saga.to_string(),
        version: begun.version,
        state: state.state().as_str().to_owned(),
        phase: state.phase.as_str().to_owned(),
        key: begun.key.clone(),
        correlation_id: begun.correlation_id.clone(),
        trace_id: begun.trace.trace_id.to_string(),
        incomplete: state.incomplete,
        step: at.map(|at| definition.step(at).path.to_string()),
        error: state.error.clone().or_else(|| parked_problem(state)).map(|problem| problem.title),
        started_at: state.started_at.to_string(),
        ended_at: state.ended_at.map(|at| at.to_string()),
    }
}
