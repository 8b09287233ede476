//! Shows runs: the views of the API from states, open ones from memory, finished ones from the journal.

use bytes::Bytes;

use super::locks::Locks;
use super::run::Run;
use super::shard::OpenFilter;
use super::view::{ParkedView, RunSummary, RunView, StepView, UndoView};
use crate::definition::{SagaDefinition, StepIndex};
use crate::payload::Payload;
use crate::saga::{
    Activity, LockState, Phase, SagaState, StepAt, StepStatus, UndoEnd, UndoStatus, remedies, trace_part,
};

/// Returns a run as the API shows it.
pub fn view(run: &Run, locks: &Locks) -> RunView {
    let (definition, state) = (&*run.definition, &run.state);
    let begun = &state.begun;
    let mut notes = state.notes.clone();
    notes.extend(run.broken.clone());
    let steps = steps(definition, state, &mut notes);
    RunView {
        id: begun.run,
        saga: begun.saga.to_string(),
        version: begun.version,
        state: state.state().as_str().to_owned(),
        phase: state.phase.as_str().to_owned(),
        key: begun.key.clone(),
        correlation_id: begun.correlation_id.clone(),
        trace_id: begun.trace.trace_id.to_string(),
        linked_traces: (2..=state.trace.number).map(|part| trace_part(begun, part).trace_id.to_string()).collect(),
        input: begun.input.clone(),
        output: state.output.clone(),
        error: state.error.as_deref().cloned().or_else(|| parked_problem(state)),
        others: state.others.clone(),
        incomplete: state.incomplete,
        parked: state.parked.as_ref().map(|parked| ParkedView {
            step: parked.step.path(definition).into_owned(),
            direction: parked.direction.as_str().to_owned(),
            reason: parked.reason.clone(),
            since: parked.since.to_string(),
            remedies: remedies(definition, state).into_iter().map(str::to_owned).collect(),
        }),
        undone_by: state.undone_by,
        parent: begun.parent_run.as_ref().map(|parent| parent.run),
        waiting_for: waiting_for(definition, state, locks),
        steps,
        notes,
        started_at: state.started_at.to_string(),
        ended_at: state.ended_at.map(|at| at.to_string()),
    }
}

/// A parked run shows why, though nothing has made it fail yet.
fn parked_problem(state: &SagaState) -> Option<crate::problem::Problem> {
    let parked = state.parked.as_ref()?;
    let at = state.step(parked.step);
    at.error.as_deref().or(at.undo.last_problem.as_deref()).cloned()
}

fn waiting_for(definition: &SagaDefinition, state: &SagaState, locks: &Locks) -> Option<String> {
    if state.end.is_some() || state.parked.is_some() {
        return None;
    }
    if let LockState::Wanted { name } = &state.lock {
        let holder = locks.holder(name).map(|run| format!(", held by run {run}")).unwrap_or_default();
        return Some(format!("the lock `{name}`{holder}"));
    }
    // What is in flight says most; else what waits, in the order of the file.
    let in_flight = state.active.iter().find(|step| state.step(**step).in_flight());
    let step = *in_flight.or(state.active.first())?;
    let path = step.path(definition);
    let more = match state.active.len() {
        0 | 1 => String::new(),
        count => format!(", and {} more", count - 1),
    };
    let until = |due: Option<crate::time::Timestamp>| due.map(|due| format!(" until {due}")).unwrap_or_default();
    let at = state.step(step);
    let what = match at.activity {
        Activity::Sleeping { due } => format!("`{path}` until {due}"),
        Activity::RetryAt { due, direction } => {
            let word = direction.as_str();
            format!("the next attempt of `{path}` ({word}) at {due}")
        }
        Activity::InFlight { direction, attempt } => {
            format!("the answer to attempt {attempt} of `{path}` ({})", direction.as_str())
        }
        Activity::Awaiting { due, .. } => {
            let types: Vec<&str> =
                at.wanted.iter().flat_map(|wanted| wanted.types.iter().map(|event| event.as_str())).collect();
            format!("{} at `{path}`{}", types.join(" or "), until(due))
        }
        Activity::Asking { due } => {
            let title = at.asked.as_ref().map(|asked| asked.title.as_str()).unwrap_or_default();
            format!("an answer at `{path}`: {title}{}", until(due))
        }
        Activity::Child { direction } => {
            let child = if direction == crate::request::Direction::Compensate { &at.undo.child } else { &at.child };
            let run = child.as_ref().map(|child| child.run.to_string()).unwrap_or_default();
            format!("the run {run} at `{path}`")
        }
        Activity::Idle | Activity::AskPending | Activity::Interrupted { .. } => return None,
    };
    Some(what + &more)
}

/// Item steps that a view lists: what a person reads, and a page still carries.
const ITEM_STEPS_MAX: usize = 2_000;

/// Lists the steps of the file in its order, and behind each those of the items that were begun.
fn steps(definition: &SagaDefinition, state: &SagaState, notes: &mut Vec<String>) -> Vec<StepView> {
    let mut out = Vec::with_capacity(definition.steps.len());
    let mut items = 0;
    let mut left_out = 0_usize;
    for (index, rule) in definition.steps.iter().enumerate() {
        let index = index as StepIndex;
        if rule.items == 0 {
            out.push(step(definition, state, index.into()));
            continue;
        }
        let from = StepAt::from(index).items_from();
        for at in state.steps.range(from..).map(|(at, _)| *at).take_while(|at| at.step == index) {
            if items < ITEM_STEPS_MAX {
                out.push(step(definition, state, at));
                items += 1;
            } else {
                left_out += 1;
            }
        }
    }
    if left_out > 0 {
        notes.push(format!("{left_out} more steps of items are in the history"));
    }
    out
}

fn step(definition: &SagaDefinition, state: &SagaState, index: StepAt) -> StepView {
    let (rule, at) = (definition.step(index.step), state.step(index));
    let undo = match at.undo.status {
        UndoStatus::NotStarted => None,
        UndoStatus::Undoing => Some("undoing"),
        UndoStatus::Failed => Some("undo_failed"),
        UndoStatus::Ended(UndoEnd::Undone) => Some("undone"),
        UndoStatus::Ended(UndoEnd::Nothing) => None,
        UndoStatus::Ended(UndoEnd::Skipped) => Some("undo_skipped"),
    };
    StepView {
        id: index.path(definition).into_owned(),
        kind: rule.action.word().to_owned(),
        status: status(definition, state, index).to_owned(),
        attempts: at.attempts_used,
        key: at.key_sent(),
        output: at.output.clone(),
        error: at.error.as_deref().cloned().or_else(|| match at.status {
            StepStatus::Begun => at.last_problem.as_deref().cloned(),
            StepStatus::NotStarted | StepStatus::Skipped(_) | StepStatus::Ended(_) | StepStatus::Withdrawn => None,
        }),
        undo: undo.map(|status| UndoView {
            status: status.to_owned(),
            attempts: at.undo.attempts_used,
            key: at.undo.key.map(|key| key.to_string()),
            error: at.undo.last_problem.as_deref().cloned(),
        }),
        started_at: at.started_at.map(|at| at.to_string()),
        ended_at: at.ended_at.map(|at| at.to_string()),
    }
}

/// Returns the word for a step. One with others inside that failed says what became of those.
fn status(definition: &SagaDefinition, state: &SagaState, at: StepAt) -> &'static str {
    let step = state.step(at);
    let composite = definition.step(at.step).action.is_composite();
    if composite && step.status == StepStatus::Begun && state.end.is_some() {
        return "undone";
    }
    if step.status == StepStatus::NotStarted && lost(definition, state, at) {
        return "lost";
    }
    step.status_word()
}

/// True for a step in a branch that lost a race.
fn lost(definition: &SagaDefinition, state: &SagaState, at: StepAt) -> bool {
    std::iter::once(at).chain(at.around(definition)).any(|at| {
        let block = at.block(definition);
        matches!(definition.block(block.block).part, crate::definition::Part::Branch(_)) && state.lost(&block)
    })
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
    let at = state.parked.as_ref().map(|parked| parked.step).or(state.active.first().copied()).or(match state.phase {
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
        step: at.map(|at| at.path(definition).into_owned()),
        error: state.error.as_deref().cloned().or_else(|| parked_problem(state)).map(|problem| problem.title),
        started_at: state.started_at.to_string(),
        ended_at: state.ended_at.map(|at| at.to_string()),
    }
}

/// Puts finished runs behind the open ones. A run that ended while it was being listed is in both, and is told
/// as what it is now.
pub fn each_once(mut open: Vec<RunSummary>, finished: Vec<RunSummary>) -> Vec<RunSummary> {
    let ended: std::collections::HashSet<_> = finished.iter().map(|run| run.id).collect();
    open.retain(|run| !ended.contains(&run.id));
    open.extend(finished);
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;

    #[test]
    fn a_run_that_ends_while_it_is_listed_is_there_once() {
        let summary = |number: u128, state: &str| RunSummary {
            id: RunId(uuid::Uuid::from_u128(number)),
            saga: "order".to_owned(),
            version: 1,
            state: state.to_owned(),
            phase: "forward".to_owned(),
            key: None,
            correlation_id: number.to_string(),
            trace_id: String::new(),
            incomplete: false,
            step: None,
            error: None,
            started_at: String::new(),
            ended_at: None,
        };
        let open = vec![summary(1, "waiting"), summary(2, "running"), summary(3, "waiting")];
        let runs = each_once(open, vec![summary(2, "completed"), summary(4, "compensated")]);
        let told: Vec<_> = runs.iter().map(|run| (run.correlation_id.as_str(), run.state.as_str())).collect();
        assert_eq!(told, [("1", "waiting"), ("3", "waiting"), ("2", "completed"), ("4", "compensated")]);
    }
}
