//! Child runs: started for their parent, their end reported, held until their root has ended, and undone
//! by a run of their own. Everything here can happen twice: a restart starts, asks and releases again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::handle::StartError;
use super::run::{GoOn, Run, carry_on, input_hash};
use super::shard::{Message, Shard, StartRun};
use super::spans::anchor_span;
use crate::definition::SagaDefinition;
use crate::id::RunId;
use crate::problem::{Problem, kind};
use crate::request::Direction;
use crate::saga::{
    self, ChildEnd, ChildRun, Fact, Final, Input, Operation, ParentRun, Rules, RunStarted, SagaState, StepAt,
};

/// Runs above a run; a saga that runs itself would go on for ever.
const DEPTH_MAX: u32 = 16;
/// How long a child waits that cannot be started at the moment.
const LATER: Duration = Duration::from_secs(1);

/// The undo of a child, on its way to the shard that will own it.
pub struct StartUndo {
    pub definition: Arc<SagaDefinition>,
    pub child: SagaState,
    pub begun: RunStarted,
}

impl Shard {
    /// Starts a child, or finds it.
    pub(super) fn start_child(&mut self, id: RunId, step: StepAt, direction: Direction, child: Arc<ChildRun>) {
        let Some(run) = self.runs.get(&id) else { return };
        let begun = &run.state.begun;
        let (depth, root) =
            begun.parent_run.as_ref().map_or((1, id), |parent| (parent.depth.saturating_add(1), parent.root));
        let parent = ParentRun { run: id, step, direction, depth, root };
        if let Some(of) = child.undo_of {
            self.router.send(of, Message::UndoChild { of, undo: child, parent });
            return;
        }
        let refused = |title: String| {
            let problem = Problem::new(kind::REFUSED, title);
            ended_input(&parent, ChildEnd::Compensated { problem: Some(problem) })
        };
        if depth > DEPTH_MAX {
            let title = format!("runs nest at most {DEPTH_MAX} deep");
            return self.router.send(id, refused(title));
        }
        let catalogue = self.shared.catalogue.get();
        let Some(entry) = catalogue.find(&child.saga, child.version) else {
            return self.router.send(id, refused(format!("there is no saga `{}` to run", child.saga)));
        };
        if let Some(Err(violations)) = entry.input.as_ref().map(|check| check(&child.input)) {
            let all: Vec<String> = violations.iter().map(|(at, why)| format!("{at}: {why}")).collect();
            let title = format!("the input does not fit saga `{}`: {}", child.saga, all.join("; "));
            return self.router.send(id, refused(title));
        }
        let start = saga::Start {
            run: child.run,
            key: None,
            correlation_id: begun.correlation_id.clone(),
            causation_id: None,
            trace: begun.trace.with_span(anchor_span(child.run)),
            parent: Some(begun.trace.span_id),
            link_after: begun.link_after,
            input_hash: input_hash(&child.input),
            input: child.input.clone(),
            event: None,
            parent_run: Some(parent.clone()),
        };
        let definition = Arc::clone(&entry.definition);
        let router = self.router.clone();
        tokio::spawn(async move {
            loop {
                let (reply, answer) = oneshot::channel();
                let request =
                    StartRun { definition: Arc::clone(&definition), start: start.clone(), inbox: None, reply };
                router.send(child.run, Message::Start(Box::new(request)));
                match answer.await {
                    Ok(Ok(_)) if child.wait => return,
                    Ok(Ok(_)) => return router.send(id, ended_input(&parent, ChildEnd::Accepted)),
                    // Stopping, or no room at the moment; the parent waits.
                    Ok(Err(StartError::Unavailable { .. })) => tokio::time::sleep(LATER).await,
                    Ok(Err(error)) => {
                        let problem = Problem::new(kind::REFUSED, error.to_string());
                        let end = ChildEnd::Compensated { problem: Some(problem) };
                        return router.send(id, ended_input(&parent, end));
                    }
                    Err(_) => return,
                }
            }
        });
    }

    /// Asks a child to take back what it did; one past its pivot goes on, and is waited for.
    pub(super) fn cancel_child(&self, child: RunId) {
        let reason = Some("the run that started it is being undone".to_owned());
        let input = Input::Operator(Operation::Cancel { reason });
        self.router.send(child, Message::Input { run: child, input, reply: None });
    }

    /// Tells a parent what became of a child of this shard.
    pub(super) fn report_child(&self, child: RunId) {
        let Some(run) = self.runs.get(&child) else { return };
        let (Some(parent), Some(end)) = (&run.state.begun.parent_run, run.state.end) else { return };
        let end = match end {
            Final::Completed => ChildEnd::Completed { output: run.state.output.clone() },
            Final::Compensated => ChildEnd::Compensated { problem: run.state.error.as_deref().cloned() },
        };
        self.router.send(parent.run, ended_input(parent, end));
    }

    /// The root of a child has ended: the child need not be held.
    pub(super) fn release_child(&mut self, child: RunId) {
        let Some(run) = self.runs.get_mut(&child) else { return };
        run.release_wanted = true;
        if run.state.end.is_none() || run.state.released || run.committing {
            return; // when it has ended
        }
        self.append(child, Fact::Released {});
    }

    /// Commits one fact that the core has no part in.
    fn append(&mut self, id: RunId, fact: Fact) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let now = self.shared.clock.now();
        let definition = Arc::clone(&run.definition);
        let check = Arc::clone(&self.shared.check);
        let rules = Rules { definition: &definition, check_event: check.as_ref() };
        let moved = carry_on(&rules, &mut run.state, vec![fact], now, GoOn::No);
        self.commit(id, moved, now, None, None, None);
    }

    /// Undoes a completed child by a run of its own; one that runs is cancelled first.
    pub(super) fn undo_child(&mut self, of: RunId, undo: Arc<ChildRun>, parent: ParentRun) {
        let report = |router: &super::shard::Router| {
            router.send(parent.run, ended_input(&parent, ChildEnd::Compensated { problem: None }));
        };
        let Some(run) = self.runs.get_mut(&of) else {
            // It never began, so there is nothing to undo.
            return report(&self.router);
        };
        if run.committing {
            let router = self.router.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                router.send(of, Message::UndoChild { of, undo, parent });
            });
            return;
        }
        match run.state.end {
            None => {
                run.undo_wanted.push((undo, parent));
                self.cancel_child(of);
            }
            Some(Final::Compensated) => report(&self.router),
            Some(Final::Completed) => {
                let child = &run.state.begun;
                let begun = RunStarted {
                    run: undo.run,
                    key: None,
                    trace: child.trace.with_span(anchor_span(undo.run)),
                    parent: Some(child.trace.span_id),
                    deadline: None,
                    parent_run: Some(parent),
                    undo_of: Some(of),
                    ..RunStarted::clone(child)
                };
                let start = StartUndo { definition: Arc::clone(&run.definition), child: run.state.clone(), begun };
                let known = run.state.undone_by.is_some();
                self.router.send(undo.run, Message::StartUndo(Box::new(start)));
                if !known {
                    self.append(of, Fact::UndoneBy { run: undo.run });
                }
            }
        }
    }

    /// Begins the undo of a child; found again when it is there already.
    pub(super) fn start_undo(&mut self, start: StartUndo) {
        let StartUndo { definition, child, begun } = start;
        let id = begun.run;
        if let Some(run) = self.runs.get(&id) {
            if run.state.end.is_some() && !run.committing {
                self.report_child(id);
            }
            return;
        }
        let now = self.shared.clock.now();
        let mut state = saga::begin_undo(&definition, &begun, &child, now);
        let check = Arc::clone(&self.shared.check);
        let rules = Rules { definition: &definition, check_event: check.as_ref() };
        let facts = vec![Fact::RunStarted(Box::new(begun))];
        let moved = carry_on(&rules, &mut state, facts, now, GoOn::Yes);
        self.shared.open_runs.fetch_add(1, Ordering::Relaxed);
        self.runs.insert(id, Box::new(Run::new(Arc::clone(&definition), state, 1)));
        self.commit(id, moved, now, None, None, None);
    }

    /// Something of a child that has come to its end is durable.
    pub(super) fn child_ended(&mut self, id: RunId, facts: &[Fact]) {
        if facts.iter().any(|fact| matches!(fact, Fact::RunEnded { .. })) {
            self.report_child(id);
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (wanted, release) = (std::mem::take(&mut run.undo_wanted), run.release_wanted);
        for (undo, parent) in wanted {
            self.undo_child(id, undo, parent);
        }
        if release {
            self.release_child(id);
        }
    }
}

fn ended_input(parent: &ParentRun, end: ChildEnd) -> Message {
    let input = Input::ChildEnded { step: parent.step, direction: parent.direction, end };
    Message::Input { run: parent.run, input, reply: None }
}
