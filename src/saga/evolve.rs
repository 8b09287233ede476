//! Applies facts. Costs what the fact costs, never what the run costs; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::active::Active;
use super::agenda::{Agenda, Todo};
use super::at::{BlockAt, StepAt};
use super::command::{Command, Timer, timers};
use super::fact::{Emission, Fact, Fate, Outcome, RunStarted, ScopeAt, SettleCause, SkipReason, UndoEnd};
use super::input::Operation;
use super::migrate;
use super::nesting;
use super::plan::{self, Mode};
use super::state::{
    Activity, Asked, Final, LockState, Parked, ParkingWish, Phase, SagaState, ScopePhase, StepState, StepStatus,
    UndoStatus,
};
use super::trace_part::TracePart;
use super::undo_walk;
use crate::definition::{Action, Part, SagaDefinition};
use crate::payload::Payload;
use crate::planted;
use crate::request::{Direction, Effect};
use crate::small_map::SmallMap;
use crate::time::Timestamp;

/// Makes the state that [`Fact::RunStarted`] leaves.
#[must_use]
pub fn begin(definition: &SagaDefinition, begun: &RunStarted, at: Timestamp) -> SagaState {
    let mut state = SagaState {
        begun: Arc::new(begun.clone()),
        started_at: at,
        phase: Phase::Forward,
        paused: false,
        lock: LockState::None,
        deadline: begun.deadline,
        deadline_passed: false,
        steps: SmallMap::default(),
        frames: SmallMap::default(),
        scopes: BTreeMap::new(),
        active: Active::default(),
        expiries: BTreeMap::new(),
        agenda: Agenda::default(),
        cursor: None,
        pivot: None,
        cause: None,
        settle_retries: false,
        error: None,
        others: Vec::new(),
        parking: Vec::new(),
        parked: None,
        parkings: 0,
        pivot_done: false,
        incomplete: false,
        notes: Vec::new(),
        emitted: 0,
        taken: BTreeSet::new(),
        output: None,
        released: false,
        undone_by: None,
        end: None,
        ended_at: None,
        facts: 1,
        trace: TracePart::first(begun.trace.clone(), at),
    };
    nesting::enter(definition, &mut state, BlockAt::ROOT);
    state
}

/// Applies one fact that became durable at `at`, and says what the outside must now do.
pub fn evolve(definition: &SagaDefinition, state: &mut SagaState, fact: &Fact, at: Timestamp) -> Vec<Command> {
    if state.trace.moved(&state.begun, at) && !state.in_flight() {
        state.trace.go_on(&state.begun, state.facts);
    }
    state.facts += 1;
    match fact {
        // `begin` has applied it.
        Fact::RunStarted(_) => {
            state.facts -= 1;
            state.deadline.map(|due| Command::SetTimer { timer: Timer::Deadline, due }).into_iter().collect()
        }
        Fact::LockWanted { name } => {
            state.lock = LockState::Wanted { name: name.clone() };
            vec![Command::AcquireLock { name: name.clone() }]
        }
        Fact::LockGranted {} => {
            if let LockState::Wanted { name } = &state.lock {
                state.lock = LockState::Held { name: name.clone() };
            }
            Vec::new()
        }
        Fact::StepSkipped { step, why } => {
            let this = touch(definition, state, *step);
            match why {
                // The pivot itself happened; only what was wrong with its answer is skipped.
                SkipReason::Operator if this.status == StepStatus::Ended(Outcome::Done) => {}
                SkipReason::Operator | SkipReason::Condition | SkipReason::NoMatch => {
                    this.status = StepStatus::Skipped(*why);
                }
            }
            this.ended_at = Some(at);
            nesting::advance(definition, state, *step);
            Vec::new()
        }
        Fact::ArmTaken { step, arm } => {
            let commands = begin_composite(definition, state, *step, at);
            state.step_mut(*step).arm = Some(*arm);
            if let Action::Switch(arms) = &definition.step(step.step).action
                && let Some(arm) = arms.get(*arm as usize)
            {
                nesting::enter(definition, state, step.part(arm.block));
            }
            commands
        }
        Fact::BranchesEntered { step } => {
            let commands = begin_composite(definition, state, *step, at);
            if let Action::Parallel(parallel) = &definition.step(step.step).action {
                for (_, block) in &parallel.branches {
                    nesting::enter(definition, state, step.part(*block));
                }
            }
            commands
        }
        Fact::ItemsListed { step, items } => {
            let commands = begin_composite(definition, state, *step, at);
            // What is stored was checked to be a list when it was decided.
            state.step_mut(*step).nest_mut().items = items.read().unwrap_or_default();
            nesting::join(definition, state, *step);
            commands
        }
        Fact::BlockEntered { block } => {
            let mut commands = Vec::new();
            if let Some(owner) = block.owner(definition) {
                if state.step(owner).status == StepStatus::NotStarted {
                    commands = begin_composite(definition, state, owner, at);
                }
                state.agenda.remove(Todo::Begin(owner));
                state.agenda.remove(Todo::Failed(owner));
                state.agenda.remove(Todo::Join(owner));
                state.agenda.remove(Todo::Scope(ScopeAt::Step(owner)));
                state.scopes.remove(&ScopeAt::Step(owner));
            }
            nesting::enter(definition, state, *block);
            if let Some(owner) = block.owner(definition) {
                match definition.block(block.block).part {
                    // Nobody waits any more for what did not come.
                    Part::OnTimeout => commands.extend(rest(definition, state, owner)),
                    Part::Fallback => {
                        let error = state.step(owner).error.as_deref().cloned();
                        state.step_mut(owner).nest_mut().caught = error;
                    }
                    Part::Root | Part::Arm(_) | Part::Branch(_) | Part::Item | Part::Body | Part::Handler(_) => {}
                }
                nesting::join(definition, state, owner);
            }
            commands
        }
        Fact::StepStarted { step, key, key_number, sent_key, request, attempt, round } => {
            let this = touch(definition, state, *step);
            let first = this.round == 0;
            this.status = StepStatus::Begun;
            this.key = Some(*key);
            this.key_number = *key_number;
            this.sent_key.clone_from(sent_key);
            this.request = Some(Arc::clone(request));
            this.started_at.get_or_insert(at);
            this.round = *round;
            if *round > 1 {
                this.attempts_used = 0;
            }
            this.first_attempt_at = Some(at);
            let mut commands = launch(state, *step, Direction::Forward, *attempt, at);
            if first && let Action::Poll(poll) = &definition.step(step.step).action {
                commands.extend(expire(state, *step, poll.timeout.map(|span| at.plus(span))));
            }
            commands
        }
        Fact::AttemptStarted { step, direction, attempt } => {
            let this = state.step_mut(*step);
            match direction {
                Direction::Forward => {
                    this.first_attempt_at.get_or_insert(at);
                }
                Direction::Compensate => {
                    this.undo.first_attempt_at.get_or_insert(at);
                }
                Direction::Check => {}
            }
            state.agenda.remove(Todo::Undo(*step));
            launch(state, *step, *direction, *attempt, at)
        }
        Fact::AttemptEnded { step, direction, effect, proof, refused, problem, fate, .. } => {
            let this = state.step_mut(*step);
            match direction {
                Direction::Forward => {
                    this.attempts_used += 1;
                    let before = this.in_doubt && !planted::is("forget_maybe");
                    this.in_doubt = !proof && (before || *effect == Effect::Maybe);
                    this.last_problem = problem.clone().map(Box::new);
                }
                Direction::Check => this.check.attempts_used += 1,
                Direction::Compensate => {
                    this.undo.attempts_used += 1;
                    this.undo.refusals += u32::from(*refused);
                    this.undo.last_problem = problem.clone().map(Box::new);
                }
            }
            match fate {
                Fate::RetryAt(due) => {
                    this.activity = Activity::RetryAt { direction: *direction, due: *due };
                    let timer = Command::SetTimer { timer: Timer::Step(*step), due: *due };
                    if planted::is("retry_is_not_timed") { Vec::new() } else { vec![timer] }
                }
                Fate::Over { again } => {
                    if *direction == Direction::Forward {
                        this.again = *again;
                    }
                    rest(definition, state, *step)
                }
            }
        }
        Fact::AttemptInterrupted { step, direction, attempt } => {
            let this = state.step_mut(*step);
            if *direction == Direction::Forward {
                this.in_doubt = !planted::is("restart_forgets_doubt");
                this.again = true;
            }
            this.activity = Activity::Interrupted { direction: *direction, attempt: *attempt };
            state.agenda.add(Todo::Resume(*step));
            Vec::new()
        }
        Fact::CheckStarted { step, key, request, attempt } => {
            let this = state.step_mut(*step);
            this.check.key = Some(*key);
            this.check.request = Some(Arc::clone(request));
            this.check.attempts_used = 0;
            this.check.asked += 1;
            this.check.started_at = Some(at);
            launch(state, *step, Direction::Check, *attempt, at)
        }
        Fact::AskDeferred { step } => {
            state.step_mut(*step).activity = Activity::AskPending;
            state.active.insert(*step);
            state.agenda.add(Todo::Resume(*step));
            Vec::new()
        }
        Fact::CheckEnded { step, conclusive, happened, .. } => {
            if (*conclusive || planted::is("not_seen_yet_is_a_no")) && *happened == Some(false) {
                state.step_mut(*step).in_doubt = false;
            }
            rest(definition, state, *step)
        }
        Fact::RoundEnded { step, due } => wait(definition, state, *step, Activity::Sleeping { due: *due }, Some(*due)),
        Fact::PageEnded { step, items, next } => {
            let this = state.step_mut(*step);
            this.pages.push(items.clone());
            this.next_page.clone_from(next);
            if next.is_some() {
                state.agenda.add(Todo::Begin(*step));
            }
            rest(definition, state, *step)
        }
        Fact::AwaitStarted { step, direction, wanted, due } => {
            match direction {
                Direction::Forward | Direction::Check => {
                    let replied = matches!(&definition.step(step.step).action, Action::Emit(_));
                    let this = touch(definition, state, *step);
                    this.status = StepStatus::Begun;
                    this.started_at.get_or_insert(at);
                    this.first_attempt_at.get_or_insert(at);
                    this.in_doubt |= replied;
                    this.attempt += u32::from(replied);
                }
                Direction::Compensate => {
                    state.agenda.remove(Todo::Undo(*step));
                    let undo = &mut state.step_mut(*step).undo;
                    undo.status = UndoStatus::Undoing;
                    undo.attempt += 1;
                    undo.first_attempt_at.get_or_insert(at);
                }
            }
            state.step_mut(*step).wanted = Some(Arc::clone(wanted));
            let mut commands =
                vec![Command::AwaitEvents { step: *step, direction: *direction, wanted: Arc::clone(wanted) }];
            commands.extend(wait(
                definition,
                state,
                *step,
                Activity::Awaiting { direction: *direction, due: *due },
                *due,
            ));
            commands
        }
        Fact::AwaitEnded { step, direction, problem, due } => {
            let this = state.step_mut(*step);
            match direction {
                Direction::Forward | Direction::Check => {
                    this.attempts_used += 1;
                    this.last_problem = problem.clone().map(Box::new);
                }
                Direction::Compensate => {
                    this.undo.attempts_used += 1;
                    this.undo.last_problem = problem.clone().map(Box::new);
                }
            }
            let mut commands = rest(definition, state, *step);
            if let Some(due) = due {
                let activity = Activity::RetryAt { direction: *direction, due: *due };
                commands.extend(wait(definition, state, *step, activity, Some(*due)));
            }
            commands
        }
        Fact::EventTaken { step, key, event, content, .. } => {
            state.taken.insert(key.clone());
            state.step_mut(*step).events.push((event.clone(), content.clone()));
            Vec::new()
        }
        Fact::AskStarted { step, title, show, due } => {
            let this = touch(definition, state, *step);
            this.status = StepStatus::Begun;
            this.started_at = Some(at);
            this.asked = Some(Arc::new(Asked { title: title.clone(), show: show.clone() }));
            wait(definition, state, *step, Activity::Asking { due: *due }, *due)
        }
        Fact::ChildStarted { step, direction, child } => {
            match direction {
                Direction::Forward | Direction::Check => {
                    let this = touch(definition, state, *step);
                    this.status = StepStatus::Begun;
                    this.started_at.get_or_insert(at);
                    this.child = Some(Arc::clone(child));
                }
                Direction::Compensate => {
                    state.agenda.remove(Todo::Undo(*step));
                    let undo = &mut state.step_mut(*step).undo;
                    undo.status = UndoStatus::Undoing;
                    undo.child = Some(Arc::clone(child));
                }
            }
            state.step_mut(*step).activity = Activity::Child { direction: *direction };
            state.active.insert(*step);
            vec![Command::StartChild { step: *step, direction: *direction, child: Arc::clone(child) }]
        }
        Fact::ChildEnded { step, .. } => rest(definition, state, *step),
        Fact::WaitStarted { step, due } => {
            let this = touch(definition, state, *step);
            this.status = StepStatus::Begun;
            this.started_at = Some(at);
            wait(definition, state, *step, Activity::Sleeping { due: *due }, Some(*due))
        }
        Fact::RetryScheduled { step, due } => {
            let activity = Activity::RetryAt { direction: Direction::Forward, due: *due };
            wait(definition, state, *step, activity, Some(*due))
        }
        Fact::StepEnded { step, outcome, output, failure } => {
            let mode = plan::mode(definition, state, *step);
            let commands = step_ended(definition, state, *step, *outcome, at);
            let this = state.step_mut(*step);
            this.output = not_null(output);
            this.error = failure.clone().map(Box::new);
            match (mode, failure) {
                (Mode::Forward, Some(_)) => state.agenda.add(Todo::Failed(*step)),
                (Mode::Forward, None) => nesting::advance(definition, state, *step),
                (Mode::Settling { .. }, None)
                    if state.phase == Phase::Forward && planted::is("settling_scope_goes_on") =>
                {
                    nesting::begin_next(definition, state, *step);
                    undo_walk::look_again(definition, state, *step);
                }
                (Mode::Settling { .. } | Mode::Undo, failure) => {
                    if state.phase != Phase::Forward
                        && let Some(problem) = failure
                        && state.error.as_deref() != Some(problem)
                    {
                        state.others.push(problem.clone());
                    }
                    undo_walk::look_again(definition, state, *step);
                }
            }
            commands
        }
        Fact::StepWithdrawn { step } => {
            let this = touch(definition, state, *step);
            this.status = StepStatus::Withdrawn;
            this.ended_at = Some(at);
            state.expiries.remove(step);
            rest(definition, state, *step)
        }
        Fact::StepExpired { step } => {
            state.step_mut(*step).expired = true;
            state.expiries.remove(step);
            Vec::new()
        }
        Fact::ClearingBegan { step } => {
            state.agenda.remove(Todo::Failed(*step));
            nesting::begin_clearing(definition, state, *step);
            Vec::new()
        }
        Fact::FailureHandled { step, output } => {
            state.agenda.remove(Todo::Failed(*step));
            state.agenda.remove(Todo::Join(*step));
            state.agenda.remove(Todo::Scope(ScopeAt::Step(*step)));
            state.scopes.remove(&ScopeAt::Step(*step));
            let this = touch(definition, state, *step);
            if this.status == StepStatus::Begun {
                this.status = StepStatus::Ended(Outcome::Done);
                this.ended_at = Some(at);
            }
            if output.is_some() {
                this.output = not_null(output);
            }
            nesting::advance(definition, state, *step);
            nesting::settle_further(definition, state, *step);
            Vec::new()
        }
        Fact::ScopeSettling { scope, from, cause, problem, undo, catch, cancel } => {
            let one = super::state::Scope {
                phase: ScopePhase::Settling,
                undo: *undo,
                cause: *cause,
                problem: problem.clone(),
                catch: *catch,
                retries: !cancel && *cause == SettleCause::Failed,
            };
            nesting::begin_settling(definition, state, *scope, *from, one);
            cancel_children(definition, state, Some(*scope))
        }
        Fact::ScopeUndoing { scope } => {
            nesting::begin_undo(definition, state, *scope);
            Vec::new()
        }
        Fact::ScopeEnded { scope } => {
            nesting::end_scope(definition, state, *scope);
            Vec::new()
        }
        Fact::EventEmitted { emission, .. } => {
            state.emitted += u64::from(!planted::is("outbox_number_stands_still"));
            if let Emission::Step(step) = emission {
                touch(definition, state, *step).started_at.get_or_insert(at);
            }
            Vec::new()
        }
        Fact::SettlingBegan { cause, problem, cancel } => {
            state.phase = Phase::Settling;
            state.cause = Some(*cause);
            state.settle_retries = *cause == SettleCause::Failed && !cancel;
            state.error.get_or_insert_with(|| Box::new(problem.clone()));
            state.deadline_passed |= *cause == SettleCause::Deadline;
            nesting::settle_run(definition, state);
            let mut commands = cancel_children(definition, state, None);
            // A run that never got its lock gives up its place in the queue.
            if let LockState::Wanted { name } = &state.lock {
                commands.push(Command::ReleaseLock { name: name.clone() });
                state.lock = LockState::None;
            }
            commands
        }
        Fact::UndoBegan {} => {
            state.phase = Phase::Undo;
            state.expiries.clear();
            if undo_walk::begin_block(definition, state, BlockAt::ROOT) {
                state.agenda.add(Todo::Finish);
            }
            Vec::new()
        }
        Fact::UndoStarted { step, key, request, attempt } => {
            state.agenda.remove(Todo::Undo(*step));
            let undo = &mut state.step_mut(*step).undo;
            undo.status = UndoStatus::Undoing;
            if planted::is("undo_counts_as_done_when_sent") {
                undo.status = UndoStatus::Ended(UndoEnd::Undone);
                undo_walk::step_undone(definition, state, *step);
                return vec![Command::RunAttempt { step: *step, direction: Direction::Compensate, attempt: *attempt }];
            }
            undo.key = Some(*key);
            undo.request = Some(Arc::clone(request));
            undo.first_attempt_at = Some(at);
            launch(state, *step, Direction::Compensate, *attempt, at)
        }
        Fact::UndoEnded { step, end } => {
            let mut commands = unpark(state, *step, at);
            state.agenda.remove(Todo::Undo(*step));
            state.step_mut(*step).undo.status = UndoStatus::Ended(*end);
            state.incomplete |= *end == UndoEnd::Skipped;
            commands.extend(rest(definition, state, *step));
            undo_walk::step_undone(definition, state, *step);
            commands
        }
        Fact::ParkingWanted { step, direction, reason } => {
            let commands = stop_for(definition, state, *step, *direction);
            state.parking.push(ParkingWish { step: *step, direction: *direction, reason: reason.clone() });
            commands
        }
        Fact::Parked { step, direction, reason } => {
            let commands = stop_for(definition, state, *step, *direction);
            state.parking.retain(|wish| wish.step != *step);
            state.parkings += 1;
            // At rest it needs a person in any case: what he does next shall not wait for a `resume` as well.
            state.paused = false;
            state.parked = Some(Parked { step: *step, direction: *direction, reason: reason.clone(), since: at });
            commands
        }
        Fact::OperatorActed { operation } => operator_acted(state, operation, at),
        // The caller has the new definition at hand by now.
        Fact::Migrated { version, definition: fingerprint, next, .. } => {
            migrate::moved(definition, state, *version, *fingerprint, next);
            Vec::new()
        }
        Fact::DeadlineMissed {} => {
            state.deadline_passed = true;
            state.notes.push("the saga's timeout passed when nothing could be undone any more".to_owned());
            Vec::new()
        }
        Fact::Released {} => {
            state.released = true;
            release_children(state)
        }
        Fact::UndoneBy { run } => {
            state.undone_by = Some(*run);
            Vec::new()
        }
        Fact::Noted { text } => {
            state.notes.push(text.clone());
            Vec::new()
        }
        Fact::RunEnded { completed, output } => {
            state.phase = Phase::Done;
            state.agenda.remove(Todo::Finish);
            state.end = Some(if *completed { Final::Completed } else { Final::Compensated });
            state.output = not_null(output);
            state.ended_at = Some(at);
            // A child is held until its root has ended.
            let mut commands = if state.begun.parent_run.is_none() { release_children(state) } else { Vec::new() };
            match std::mem::replace(&mut state.lock, LockState::None) {
                LockState::Wanted { name } | LockState::Held { name } => commands.push(Command::ReleaseLock { name }),
                LockState::None => {}
            }
            commands
        }
    }
}

/// Lets the child runs that were started go, undos of children among them.
fn release_children(state: &SagaState) -> Vec<Command> {
    let children = state.steps.values().flat_map(|step| step.child.iter().chain(&step.undo.child));
    children.map(|child| Command::ReleaseChild { run: child.run }).collect()
}

/// Cancels the child runs that run in what settles now.
fn cancel_children(definition: &SagaDefinition, state: &SagaState, scope: Option<ScopeAt>) -> Vec<Command> {
    if planted::is("child_is_not_cancelled") {
        return Vec::new();
    }
    let inside = |step: &&StepAt| scope.is_none_or(|scope| plan::contains(definition, scope, **step));
    state
        .active
        .iter()
        .filter(inside)
        .filter_map(|step| {
            let at = state.step(*step);
            let runs = at.activity == (Activity::Child { direction: Direction::Forward });
            at.child.as_ref().filter(|_| runs).map(|child| Command::CancelChild { run: child.run })
        })
        .collect()
}

/// Makes the state of a run that undoes a completed child: the child's own, at the beginning of its undo.
#[must_use]
pub fn begin_undo(definition: &SagaDefinition, begun: &RunStarted, child: &SagaState, at: Timestamp) -> SagaState {
    let mut state = SagaState {
        begun: Arc::new(begun.clone()),
        started_at: at,
        phase: Phase::Undo,
        paused: false,
        lock: LockState::None,
        deadline: None,
        end: None,
        ended_at: None,
        output: None,
        released: false,
        undone_by: None,
        parkings: 0,
        emitted: 0,
        notes: Vec::new(),
        facts: 1,
        trace: TracePart::first(begun.trace.clone(), at),
        ..child.clone()
    };
    state.error.get_or_insert_with(|| {
        let title = "the run that this one was a child of is undone";
        Box::new(crate::problem::Problem::new(crate::problem::kind::CANCELLED, title))
    });
    if undo_walk::begin_block(definition, &mut state, BlockAt::ROOT) {
        state.agenda.add(Todo::Finish);
    }
    state
}

/// A null is no output: stored, the two cannot be told apart.
fn not_null(output: &Option<Payload>) -> Option<Payload> {
    output.clone().filter(|output| !output.is_null())
}

/// Makes a step the cursor and returns it.
fn touch<'a>(definition: &SagaDefinition, state: &'a mut SagaState, step: StepAt) -> &'a mut StepState {
    state.cursor = Some(step);
    let rule = definition.step(step.step);
    if rule.pivot {
        state.pivot = Some(step);
    }
    state.agenda.remove(Todo::Begin(step));
    state.agenda.remove(Todo::Failed(step));
    if let Some(frame) = state.frames.get_mut(&step.block(definition)) {
        frame.at = Some(frame.at.map_or(rule.position, |at| at.max(rule.position)));
    }
    state.step_mut(step)
}

/// A step with others inside begins.
fn begin_composite(definition: &SagaDefinition, state: &mut SagaState, step: StepAt, at: Timestamp) -> Vec<Command> {
    let this = touch(definition, state, step);
    this.status = StepStatus::Begun;
    this.started_at = Some(at);
    this.nest_mut();
    let total = definition.step(step.step).total_timeout;
    expire(state, step, total.map(|span| at.plus(span)))
}

fn expire(state: &mut SagaState, step: StepAt, due: Option<Timestamp>) -> Vec<Command> {
    let Some(due) = due else { return Vec::new() };
    state.expiries.insert(step, due);
    vec![Command::SetTimer { timer: Timer::Total(step), due }]
}

fn launch(state: &mut SagaState, step: StepAt, direction: Direction, attempt: u32, at: Timestamp) -> Vec<Command> {
    let run = state.begun.run;
    let this = state.step_mut(step);
    this.launched_at = at;
    if planted::is("new_key_for_each_attempt") && direction == Direction::Forward {
        this.key = Some(run.effect_key("", "forward", attempt));
    }
    match direction {
        Direction::Forward => this.attempt = attempt,
        Direction::Check => this.check.attempt = attempt,
        Direction::Compensate => this.undo.attempt = attempt,
    }
    this.activity = Activity::InFlight { direction, attempt };
    state.active.insert(step);
    state.agenda.remove(Todo::Resume(step));
    let times = if direction == Direction::Check && planted::is("one_record_for_two_checks") { 2 } else { 1 };
    vec![Command::RunAttempt { step, direction, attempt }; times]
}

/// Something is waited for.
fn wait(
    definition: &SagaDefinition,
    state: &mut SagaState,
    step: StepAt,
    activity: Activity,
    due: Option<Timestamp>,
) -> Vec<Command> {
    let mut commands = rest(definition, state, step);
    state.step_mut(step).activity = activity;
    state.active.insert(step);
    commands.extend(due.map(|due| Command::SetTimer { timer: Timer::Step(step), due }));
    commands
}

/// Nothing is being done for the step any more.
fn rest(definition: &SagaDefinition, state: &mut SagaState, step: StepAt) -> Vec<Command> {
    let this = state.step_mut(step);
    let waited = matches!(this.activity, Activity::Awaiting { .. });
    this.activity = Activity::Idle;
    state.active.remove(&step);
    state.agenda.remove(Todo::Resume(step));
    nesting::settle_further(definition, state, step);
    if waited { vec![Command::ForgetEvents { step }] } else { Vec::new() }
}

fn step_ended(
    definition: &SagaDefinition,
    state: &mut SagaState,
    step: StepAt,
    outcome: Outcome,
    at: Timestamp,
) -> Vec<Command> {
    let mut commands = unpark(state, step, at);
    let this = touch(definition, state, step);
    this.status = StepStatus::Ended(outcome);
    this.in_doubt = outcome == Outcome::Unknown;
    this.started_at.get_or_insert(at);
    this.ended_at = Some(at);
    this.pages = Vec::new();
    this.events = Vec::new();
    state.expiries.remove(&step);
    state.agenda.remove(Todo::Join(step));
    commands.extend(rest(definition, state, step));
    state.pivot_done |= definition.step(step.step).pivot && outcome == Outcome::Done;
    commands
}

/// A step needs a person before anything further is done about it.
fn stop_for(definition: &SagaDefinition, state: &mut SagaState, step: StepAt, direction: Direction) -> Vec<Command> {
    if direction == Direction::Compensate {
        state.step_mut(step).undo.status = UndoStatus::Failed;
    }
    state.agenda.remove(Todo::Failed(step));
    state.agenda.remove(Todo::Undo(step));
    rest(definition, state, step)
}

/// The saga's timeout stops while parked: the deadline moves by the time spent so. What waited meanwhile
/// is looked at again.
fn unpark(state: &mut SagaState, step: StepAt, at: Timestamp) -> Vec<Command> {
    if state.parked.as_ref().is_none_or(|parked| parked.step != step) {
        return Vec::new();
    }
    if let Some(parked) = state.parked.take()
        && let Some(due) = &mut state.deadline
    {
        *due = due.plus(at.since(parked.since));
    }
    let mut commands = timers(state);
    if let Some(due) = state.deadline
        && !state.deadline_passed
        && state.phase == Phase::Forward
    {
        commands.push(Command::SetTimer { timer: Timer::Deadline, due });
    }
    commands
}

fn operator_acted(state: &mut SagaState, operation: &Operation, at: Timestamp) -> Vec<Command> {
    let parked = state.parked.as_ref().map(|parked| (parked.step, parked.direction));
    match operation {
        Operation::Cancel { .. } => {
            let Some((step, direction)) = parked else { return Vec::new() };
            // An undo that needed a person needs one still.
            if direction == Direction::Compensate || state.step(step).walk.is_some_and(|walk| walk.own) {
                state.agenda.add(Todo::Undo(step));
            }
            unpark(state, step, at)
        }
        Operation::Pause => {
            state.paused = true;
            Vec::new()
        }
        Operation::Resume => {
            state.paused = false;
            // Timers that were due meanwhile came to nothing.
            timers(state)
        }
        Operation::Retry { new_key } => {
            let Some((step, direction)) = parked else { return Vec::new() };
            let commands = unpark(state, step, at);
            let this = state.step_mut(step);
            match direction {
                Direction::Compensate => {
                    this.undo.attempts_used = 0;
                    this.undo.refusals = 0;
                    this.undo.first_attempt_at = None;
                    // Without a request its expressions failed, or it is no call: it is decided again.
                    let again = this.undo.request.is_none();
                    this.undo.status = if again { UndoStatus::NotStarted } else { UndoStatus::Undoing };
                    if again {
                        state.agenda.add(Todo::Undo(step));
                    }
                }
                Direction::Forward | Direction::Check => {
                    this.attempts_used = 0;
                    this.first_attempt_at = None;
                    this.error = None;
                    if *new_key {
                        this.key_number += 1;
                        this.request = None;
                    }
                    this.status = StepStatus::Begun;
                    this.ended_at = None;
                    if this.request.is_none() {
                        this.status = StepStatus::NotStarted;
                        state.agenda.add(Todo::Begin(step));
                    }
                }
            }
            commands
        }
        // The facts behind it say what becomes of the step.
        Operation::Skip | Operation::ResolveDone { .. } => {
            parked.map_or_else(Vec::new, |(step, _)| unpark(state, step, at))
        }
        Operation::ResolveNotDone => match parked {
            // An undo that is known to be not done stays parked.
            Some((_, Direction::Compensate)) | None => Vec::new(),
            Some((step, Direction::Forward | Direction::Check)) => unpark(state, step, at),
        },
        Operation::Answer { .. } => Vec::new(),
        Operation::ReleaseLock { .. } => match std::mem::replace(&mut state.lock, LockState::None) {
            LockState::Wanted { name } | LockState::Held { name } => {
                state.notes.push(format!("an operator took its lock {name} away; it goes on without it"));
                vec![Command::ReleaseLock { name }]
            }
            LockState::None => Vec::new(),
        },
    }
}
