//! Says what a fact means in one line for people.

use super::view::HistoryEntry;
use crate::definition::{Part, SagaDefinition};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::request::{Direction, Effect};
use crate::saga::{Emission, Fact, Fate, Outcome, ScopeAt, SettleCause, SkipReason, StepAt, UndoEnd};
use crate::time::Timestamp;

/// Returns a fact as an entry of a run's history.
pub fn entry(definition: &SagaDefinition, sequence: u64, at: Timestamp, fact: &Fact) -> HistoryEntry {
    let (name, data) = split(fact);
    HistoryEntry { sequence, at: at.to_string(), fact: name, data, text: line(definition, fact, at) }
}

/// Takes a fact's stored form apart: `{"step_started": {…}}`.
fn split(fact: &Fact) -> (String, Payload) {
    let stored = Payload::of(fact);
    let fields: std::collections::BTreeMap<String, Payload> = stored.read().unwrap_or_default();
    fields.into_iter().next().unwrap_or_default()
}

fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "",
        Direction::Compensate => " undo",
        Direction::Check => " check",
    }
}

fn because(problem: Option<&Problem>) -> String {
    match problem {
        None => String::new(),
        Some(Problem { title, detail: Some(detail), .. }) => format!(": {title} ({detail})"),
        Some(Problem { title, .. }) => format!(": {title}"),
    }
}

fn line(definition: &SagaDefinition, fact: &Fact, at: Timestamp) -> String {
    let path = |step: &StepAt| step.path(definition);
    match fact {
        Fact::RunStarted(begun) => match &begun.key {
            Some(key) => format!("run of {} v{} started, key {key}", begun.saga, begun.version),
            None => format!("run of {} v{} started", begun.saga, begun.version),
        },
        Fact::Migrated { version, by, .. } => {
            let by = by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
            format!("moved to version {version}{by}")
        }
        Fact::LockWanted { name } => format!("queues for the lock {name}"),
        Fact::LockGranted {} => "holds the lock".to_owned(),
        Fact::StepSkipped { step, why } => match why {
            SkipReason::Condition => format!("{}: skipped, its `if` is false", path(step)),
            SkipReason::NoMatch => format!("{}: skipped, no `when` is true", path(step)),
            SkipReason::Operator => format!("{}: skipped by an operator", path(step)),
        },
        Fact::ArmTaken { step, arm } => format!("{}: takes branch {}", path(step), arm + 1),
        Fact::StepStarted { step, request, attempt, round, .. } => {
            let round = if *round > 0 { format!("#{round}") } else { String::new() };
            let call = format!("{} {} at {}", request.method, request.target, request.service);
            format!("{}{round}: attempt {attempt}: {call}", path(step))
        }
        Fact::RoundEnded { step, due } => format!("{}: not yet, asks again in {}", path(step), due.since(at)),
        Fact::PageEnded { step, .. } => format!("{}: a page has come", path(step)),
        Fact::BlockEntered { block } => match block.owner(definition) {
            Some(owner) => format!("{}: {}", path(&owner), entered(definition, block)),
            None => "begins".to_owned(),
        },
        Fact::BranchesEntered { step } => format!("{}: its branches begin", path(step)),
        Fact::ItemsListed { step, items } => {
            let count = items.read::<Vec<Payload>>().map_or(0, |items| items.len());
            format!("{}: {count} items", path(step))
        }
        Fact::AwaitStarted { step, direction, wanted, due } => {
            let types: Vec<&str> = wanted.types.iter().map(|event| event.as_str()).collect();
            let until = due.map(|due| format!(" until {due}")).unwrap_or_default();
            format!("{}{}: waits for {}{until}", path(step), direction_word(*direction), types.join(", "))
        }
        Fact::EventTaken { step, direction, event, key, .. } => {
            format!("{}{}: {event} {key} has come", path(step), direction_word(*direction))
        }
        Fact::AwaitEnded { step, direction, problem, due } => {
            let next = due.map(|due| format!(", emitted again in {}", due.since(at))).unwrap_or_default();
            format!("{}{}: no{}{next}", path(step), direction_word(*direction), because(problem.as_ref()))
        }
        Fact::AskStarted { step, title, .. } => format!("{}: asks: {title}", path(step)),
        Fact::ChildStarted { step, direction, child } => {
            let word = if child.undo_of.is_some() { "undoes" } else { "starts" };
            format!("{}{}: {word} {} as run {}", path(step), direction_word(*direction), child.saga, child.run)
        }
        Fact::ChildEnded { step, direction, completed } => {
            let word = if *completed { "completed" } else { "compensated" };
            format!("{}{}: the child run is {word}", path(step), direction_word(*direction))
        }
        Fact::ScopeSettling { scope, cause, problem, undo, .. } => {
            let what = match (cause, undo) {
                (SettleCause::Lost, _) => "is not needed",
                (_, true) => "has failed and is undone",
                (_, false) => "has failed; what is unknown is cleared",
            };
            format!("{} {what}{}", scope_word(definition, scope), because(Some(problem)))
        }
        Fact::ScopeUndoing { scope } => format!("{}: undoing begins", scope_word(definition, scope)),
        Fact::ScopeEnded { scope } => format!("{}: nothing of it is left open", scope_word(definition, scope)),
        Fact::ParkingWanted { step, reason, .. } => {
            format!("{}: needs a person: {reason}; what is in flight is awaited", path(step))
        }
        Fact::StepExpired { step } => format!("{}: its time is over", path(step)),
        Fact::AttemptStarted { step, direction, attempt } => {
            format!("{}{}: attempt {attempt}", path(step), direction_word(*direction))
        }
        Fact::AttemptEnded { step, direction, attempt, effect, status, problem, fate, .. } => {
            let answer = match (effect, status) {
                (Effect::Done, Some(status)) => format!("done, answer {status}"),
                (Effect::Done, None) => "done".to_owned(),
                (Effect::None, _) => format!("no effect{}", because(problem.as_ref())),
                (Effect::Maybe, _) => format!("effect unknown{}", because(problem.as_ref())),
            };
            let next = match fate {
                Fate::RetryAt(due) => format!(", next in {}", due.since(at)),
                Fate::Over { .. } => String::new(),
            };
            format!("{}{}: attempt {attempt} {answer}{next}", path(step), direction_word(*direction))
        }
        Fact::AttemptInterrupted { step, direction, attempt } => format!(
            "{}{}: attempt {attempt} cut off by a restart, effect unknown",
            path(step),
            direction_word(*direction)
        ),
        Fact::CheckStarted { step, request, .. } => {
            format!("{}: asks whether it happened: {} {}", path(step), request.method, request.target)
        }
        Fact::AskDeferred { step } => format!("{}: is to be asked about when the run goes on", path(step)),
        Fact::CheckEnded { step, happened, conclusive, problem } => match (happened, conclusive) {
            (Some(true), _) => format!("{}: it happened", path(step)),
            (Some(false), true) => format!("{}: it did not happen", path(step)),
            (Some(false), false) => format!("{}: not seen yet", path(step)),
            (None, _) => format!("{}: could not find out{}", path(step), because(problem.as_ref())),
        },
        Fact::WaitStarted { step, due } => format!("{}: waits until {due}", path(step)),
        Fact::RetryScheduled { step, due } => format!("{}: next attempt in {}", path(step), due.since(at)),
        Fact::StepEnded { step, outcome, failure, .. } => {
            let word = match outcome {
                Outcome::Done => "done",
                Outcome::Refused => "refused",
                Outcome::Unknown => "unknown",
            };
            format!("{}: {word}{}", path(step), because(failure.as_ref()))
        }
        Fact::StepWithdrawn { step } => format!("{}: withdrawn", path(step)),
        Fact::ClearingBegan { step } => format!("{}: unknown and handled, so it is undone first", path(step)),
        Fact::FailureHandled { step, .. } => format!("{}: its failure is handled, the run goes on", path(step)),
        Fact::EventEmitted { emission, event, id, dead, .. } => {
            let from = match emission {
                Emission::Step(step) => format!("{}: ", path(step)),
                Emission::Undo(step) => format!("{} undo: ", path(step)),
                Emission::Completed | Emission::Compensated | Emission::Parked => "finally: ".to_owned(),
            };
            match dead {
                None => format!("{from}emits {event} {id}"),
                Some(why) => format!("{from}{event} {id} goes to dead letters: {why}"),
            }
        }
        Fact::SettlingBegan { cause, problem, .. } => {
            let word = match cause {
                SettleCause::Failed => "failed",
                SettleCause::Cancelled => "cancelled",
                SettleCause::Deadline => "past its timeout",
                SettleCause::Lost => "not needed",
            };
            format!("the run is {word}{}; what is in flight is awaited", because(Some(problem)))
        }
        Fact::UndoBegan {} => "undoing begins".to_owned(),
        Fact::UndoStarted { step, request, attempt, .. } => format!(
            "{} undo: attempt {attempt}: {} {} at {}",
            path(step),
            request.method,
            request.target,
            request.service
        ),
        Fact::UndoEnded { step, end } => match end {
            UndoEnd::Undone => format!("{}: undone", path(step)),
            UndoEnd::Nothing => format!("{}: nothing to undo", path(step)),
            UndoEnd::Skipped => format!("{}: its undo is skipped", path(step)),
        },
        Fact::Parked { step, reason, .. } => format!("parked at {}: {reason}", path(step)),
        Fact::OperatorActed { operation } => format!("operator: {}", operation.as_str()),
        Fact::DeadlineMissed {} => "the saga's timeout passed when nothing could be undone any more".to_owned(),
        Fact::Released {} => "nobody will undo it any more: the run that it was a child of has ended".to_owned(),
        Fact::UndoneBy { run } => format!("undone by run {run}"),
        Fact::Noted { text } => text.clone(),
        Fact::RunEnded { completed: true, .. } => "completed".to_owned(),
        Fact::RunEnded { completed: false, .. } => "compensated".to_owned(),
    }
}

fn entered(definition: &SagaDefinition, block: &crate::saga::BlockAt) -> String {
    match definition.block(block.block).part {
        Part::Root => "begins".to_owned(),
        Part::Arm(arm) => format!("takes branch {}", arm + 1),
        Part::Branch(branch) => format!("branch {} begins", branch + 1),
        Part::Item => {
            let item = block.items.iter().last().unwrap_or_default();
            format!("item {item} begins")
        }
        Part::Body => "begins".to_owned(),
        Part::Handler(handler) => format!("catch {} takes over", handler + 1),
        Part::Fallback => "its fallback takes over".to_owned(),
        Part::OnTimeout => "nothing came in time".to_owned(),
    }
}

fn scope_word(definition: &SagaDefinition, scope: &ScopeAt) -> String {
    match scope {
        ScopeAt::Step(step) => step.path(definition).into_owned(),
        ScopeAt::Block(block) => {
            let owner = block.owner(definition).map(|owner| owner.path(definition).into_owned()).unwrap_or_default();
            match definition.block(block.block).part {
                Part::Item => format!("{owner}[{}]", block.items.iter().last().unwrap_or_default()),
                Part::Branch(branch) => format!("{owner}, branch {}", branch + 1),
                Part::Root | Part::Arm(_) | Part::Body | Part::Handler(_) | Part::Fallback | Part::OnTimeout => owner,
            }
        }
    }
}
