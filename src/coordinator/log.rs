//! What happens to runs, as log lines: what somebody must do is an error, what is odd a warning, what was
//! asked for and what ended badly information; what goes well is there for `debug`. Each line has the
//! run, its correlation id and its trace; none has a payload.

use tracing::{Level, debug, enabled, error, info, warn};

use super::run::{Move, Run};
use crate::problem::Problem;
use crate::request::Effect;
use crate::saga::{Fact, Fate, Operation, SettleCause, StepAt, UndoEnd};
use crate::time::Timestamp;

/// Writes the lines of a committed move.
pub fn moved(run: &Run, moved: &Move, at: Timestamp) {
    if !enabled!(Level::ERROR) {
        return;
    }
    for fact in moved.facts.iter().filter(|fact| is_told(fact)) {
        told(run, fact, at);
    }
}

/// Most facts have no line unless somebody looks closely: nothing is formatted for them.
fn is_told(fact: &Fact) -> bool {
    match fact {
        Fact::RunStarted(_) | Fact::RunEnded { completed: true, .. } => enabled!(Level::DEBUG),
        Fact::AttemptEnded { effect, .. } => *effect != Effect::Done,
        Fact::EventEmitted { dead, .. } => dead.is_some(),
        Fact::UndoEnded { end, .. } => *end == UndoEnd::Skipped,
        Fact::AttemptInterrupted { .. }
        | Fact::SettlingBegan { .. }
        | Fact::Parked { .. }
        | Fact::OperatorActed { .. }
        | Fact::DeadlineMissed {}
        | Fact::RunEnded { completed: false, .. } => true,
        _ => false,
    }
}

fn told(of: &Run, fact: &Fact, at: Timestamp) {
    let begun = &of.state.begun;
    let saga = begun.saga.as_str();
    let (run, correlation_id) = (begun.run.to_string(), begun.correlation_id.as_str());
    let trace_id = of.state.trace.context.trace_id.to_string();
    let path = |step: &StepAt| step.path(&of.definition);
    let words = |problem: Option<&Problem>| problem.map(|problem| problem.title.clone()).unwrap_or_default();
    match fact {
        Fact::RunStarted(_) => debug!(run, saga, correlation_id, trace_id, "a run has started"),
        Fact::AttemptEnded { step, direction, attempt, refused, problem, fate, .. } => {
            let step = path(step);
            let (step, direction, error) = (&*step, direction.as_str(), words(problem.as_ref()));
            match fate {
                Fate::RetryAt(due) => {
                    let wait_ms = due.since(at).0;
                    warn!(
                        run,
                        saga,
                        step,
                        direction,
                        attempt,
                        wait_ms,
                        error,
                        correlation_id,
                        trace_id,
                        "an attempt failed, will retry"
                    );
                }
                Fate::Over { .. } if *refused => {
                    info!(run, saga, step, direction, attempt, error, correlation_id, trace_id, "a service refused");
                }
                Fate::Over { .. } => {
                    warn!(run, saga, step, direction, attempt, error, correlation_id, trace_id, "an attempt failed");
                }
            }
        }
        Fact::AttemptInterrupted { step, direction, attempt } => {
            let step = path(step);
            let (step, direction) = (&*step, direction.as_str());
            warn!(run, saga, step, direction, attempt, correlation_id, trace_id, "a restart cut an attempt off");
        }
        Fact::EventEmitted { event, dead: Some(error), .. } => {
            let event = event.as_str();
            error!(run, saga, event, error, correlation_id, trace_id, "an event of a run goes to dead letters");
        }
        Fact::SettlingBegan { cause, problem, .. } => {
            let cause = match cause {
                SettleCause::Failed => "failed",
                SettleCause::Cancelled => "cancelled",
                SettleCause::Deadline => "late",
                SettleCause::Lost => "lost",
            };
            let error = problem.title.as_str();
            info!(run, saga, cause, error, correlation_id, trace_id, "a run is going to be undone");
        }
        Fact::UndoEnded { step, .. } => {
            let step = &*path(step);
            warn!(run, saga, step, correlation_id, trace_id, "an undo was skipped, what the step did is left");
        }
        Fact::Parked { step, reason, .. } => {
            let step = &*path(step);
            error!(run, saga, step, reason, correlation_id, trace_id, "a run is parked and waits for a person");
        }
        Fact::OperatorActed { operation } => {
            let (command, reason) = match operation {
                Operation::Cancel { reason } => ("cancel", reason.as_deref().unwrap_or_default()),
                other => (other.as_str(), ""),
            };
            info!(run, saga, command, reason, correlation_id, trace_id, "an operator acted on a run");
        }
        Fact::DeadlineMissed {} => {
            warn!(run, saga, correlation_id, trace_id, "a run is past its timeout and cannot be undone any more");
        }
        Fact::RunEnded { completed: true, .. } => debug!(run, saga, correlation_id, trace_id, "a run has completed"),
        Fact::RunEnded { completed: false, .. } => {
            let error = words(of.state.error.as_deref());
            info!(run, saga, error, correlation_id, trace_id, "a run was compensated");
        }
        _ => {}
    }
}
