//! One shard: a task that owns its runs. Inputs of a run are taken one at a time; while its transition
//! is on its way to the disk the others wait, and nothing leaves.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::answers::Answers;
use super::catalogue::Active;
use super::children::StartUndo;
use super::correlator::Correlator;
use super::execute;
use super::handle::{StartError, Started};
use super::locks::Locks;
use super::log;
use super::metrics::Metrics;
use super::news::News;
use super::notices::Notices;
use super::recovery::Definitions;
use super::render;
use super::run::{self, EventCheck, GoOn, Move, Reply, Run, carry_on};
use super::spans::Spans;
use super::timers::Timers;
use super::view::{RunFilter, RunSummary, RunView};
use crate::connector::Connector;
use crate::definition::{Action, SagaDefinition};
use crate::failpoint;
use crate::id::{EventType, Fingerprint, RunId};
use crate::journal::{Change, Durable, InboxMark, Journal, OutboxEntry};
use crate::payload::Payload;
use crate::planted;
use crate::saga::{
    self, Activity, ChildRun, Command, Fact, Input, LockState, Migration, ParentRun, Rejected, Rules, SagaState,
    StepAt, decide,
};
use crate::time::{Clock, Timestamp};

/// Messages taken in one go before commits are looked at again.
const DRAIN_MAX: usize = 64;

/// What the shards share. Nothing here is locked on the hot path.
pub struct Shared {
    pub journal: Arc<dyn Journal>,
    pub connector: Arc<dyn Connector>,
    pub clock: Arc<dyn Clock>,
    pub check: EventCheck,
    pub locks: Locks,
    pub outbox: mpsc::UnboundedSender<OutboxEntry>,
    /// Events stored and not yet published.
    pub outbox_waiting: Arc<AtomicUsize>,
    pub news: News,
    pub spans: Spans,
    pub metrics: Arc<Metrics>,
    pub notices: Notices,
    pub open_runs: AtomicU64,
    pub draining: AtomicBool,
    /// Why the process must end: the journal could not keep its promise.
    pub fatal: tokio::sync::watch::Sender<Option<String>>,
    pub catalogue: Arc<Active>,
    /// Those of finished runs, and those that runs have moved from, may be old.
    pub definitions: Mutex<Definitions>,
    pub correlator: Arc<Correlator>,
    pub answers: Answers,
}

impl Shared {
    /// Returns every event type that starts a run or is awaited.
    pub fn event_types(&self) -> Vec<EventType> {
        let mut types = self.catalogue.get().event_types();
        types.extend(self.correlator.types());
        types.sort();
        types.dedup();
        types
    }

    /// Finds a definition, loaded or stored.
    ///
    /// # Errors
    /// One line: what is missing or does not read.
    pub fn definition(&self, fingerprint: Fingerprint) -> Result<Arc<SagaDefinition>, String> {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner).get(fingerprint)
    }

    pub fn outbox_waiting(&self) -> usize {
        self.outbox_waiting.load(Ordering::Relaxed)
    }
}

/// Finds the shard of a run.
#[derive(Clone)]
pub struct Router(Arc<[mpsc::UnboundedSender<Message>]>);

impl Router {
    pub fn new(shards: Vec<mpsc::UnboundedSender<Message>>) -> Self {
        Self(shards.into())
    }

    /// Sends to the run's shard. Lost when the shard has ended, as everything is then.
    pub fn send(&self, run: RunId, message: Message) {
        let _ = self.0[self.index(run)].send(message);
    }

    /// Returns which shard a run belongs to.
    pub fn index(&self, run: RunId) -> usize {
        let (high, low) = run.0.as_u64_pair();
        ((high ^ low) % self.0.len() as u64) as usize
    }

    /// Returns every shard.
    pub fn all(&self) -> impl Iterator<Item = &mpsc::UnboundedSender<Message>> {
        self.0.iter()
    }
}

/// A run to begin.
pub struct StartRun {
    pub definition: Arc<SagaDefinition>,
    pub start: saga::Start,
    pub inbox: Option<InboxMark>,
    pub reply: oneshot::Sender<Result<Started, StartError>>,
}

pub enum Message {
    Start(Box<StartRun>),
    /// A run read back at start, with what it was waiting for.
    Adopt(Box<Run>),
    Input {
        run: RunId,
        input: Input,
        reply: Option<Reply>,
    },
    /// The root of a child has ended.
    Release {
        run: RunId,
    },
    /// A child is to be undone: `of` by the run in `undo`.
    UndoChild {
        of: RunId,
        undo: Arc<ChildRun>,
        parent: ParentRun,
    },
    StartUndo(Box<StartUndo>),
    /// Finds the step that asks a person; dropped when the run is not open.
    Asking {
        run: RunId,
        step: String,
        reply: oneshot::Sender<Option<(StepAt, Form)>>,
    },
    /// Says why a run cannot move; dropped when it is not open.
    Obstacles {
        run: RunId,
        wanted: Box<Migration>,
        reply: oneshot::Sender<Vec<String>>,
    },
    Show {
        run: RunId,
        reply: oneshot::Sender<RunView>,
    },
    /// Answered when the run comes to rest; dropped when it is not open.
    Wait {
        run: RunId,
        reply: oneshot::Sender<RunView>,
    },
    /// Open runs that fit, newest first, at most `limit`, older than the cursor.
    List {
        filter: Arc<OpenFilter>,
        reply: oneshot::Sender<Vec<RunSummary>>,
    },
    Counts {
        reply: oneshot::Sender<Counts>,
    },
    /// Answered when no attempt and no commit is in flight.
    Drain {
        reply: oneshot::Sender<()>,
    },
}

/// What a person's answer must be.
pub struct Form {
    pub who: Vec<String>,
    pub form: Option<Payload>,
}

/// Finds the step of a path that asks a person.
fn asking(run: &Run, path: &str) -> Option<(StepAt, Form)> {
    let asks = |step: &&StepAt| {
        matches!(run.state.step(**step).activity, Activity::Asking { .. }) && step.path(&run.definition) == path
    };
    let step = *run.state.active.iter().find(asks)?;
    let Action::Ask(ask) = &run.definition.step(step.step).action else { return None };
    Some((step, Form { who: ask.who.clone(), form: ask.form.clone() }))
}

/// Saga, version, state.
pub type OpenKey = (String, u32, &'static str);

/// What a shard holds.
#[derive(Default)]
pub struct Counts {
    /// Open runs.
    pub runs: HashMap<OpenKey, u64>,
    pub timers: usize,
    pub timers_due: usize,
}

/// What open runs are listed by.
pub struct OpenFilter {
    pub filter: RunFilter,
    pub since: Option<Timestamp>,
    /// Older than this start (or the same moment and a smaller id).
    pub before: Option<(Timestamp, RunId)>,
    pub limit: usize,
}

/// What follows a commit.
struct Pending {
    run: RunId,
    moved: Move,
    at: Timestamp,
    outbox: Vec<OutboxEntry>,
    reply: Option<Reply>,
    started: Option<oneshot::Sender<Result<Started, StartError>>>,
    result: Result<Durable<()>, crate::journal::Error>,
}

pub struct Shard {
    pub(super) shared: Arc<Shared>,
    pub(super) router: Router,
    inbox: mpsc::UnboundedReceiver<Message>,
    pub(super) runs: HashMap<RunId, Box<Run>>,
    timers: Timers,
    commits: FuturesUnordered<BoxFuture<'static, Pending>>,
    /// Repeated starts of a run whose own start is not durable yet.
    repeated: HashMap<RunId, Vec<oneshot::Sender<Result<Started, StartError>>>>,
    attempts_in_flight: usize,
    drained: Vec<oneshot::Sender<()>>,
}

impl Shard {
    pub fn new(shared: Arc<Shared>, router: Router, inbox: mpsc::UnboundedReceiver<Message>) -> Self {
        Self {
            shared,
            router,
            inbox,
            runs: HashMap::new(),
            timers: Timers::default(),
            commits: FuturesUnordered::new(),
            repeated: HashMap::new(),
            attempts_in_flight: 0,
            drained: Vec::new(),
        }
    }

    /// Runs until every sender has gone.
    pub async fn work(mut self) {
        loop {
            // Timers do not fire while the process drains: one that is due must not keep this loop turning
            // (issue 3).
            let draining = self.shared.draining.load(Ordering::Relaxed);
            let next = if draining { None } else { self.timers.sleep(self.shared.clock.now()) };
            let sleep = next.unwrap_or(Duration::from_secs(3_600));
            tokio::select! {
                biased;
                Some(pending) = self.commits.next(), if !self.commits.is_empty() => {
                    if !self.committed(pending) {
                        return;
                    }
                }
                message = self.inbox.recv() => {
                    let Some(message) = message else { return };
                    self.take(message);
                    for _ in 1..DRAIN_MAX {
                        let Ok(message) = self.inbox.try_recv() else { break };
                        self.take(message);
                    }
                }
                () = tokio::time::sleep(sleep) => {}
            }
            self.fire_timers();
            self.answer_drained();
        }
    }

    fn fire_timers(&mut self) {
        if self.shared.draining.load(Ordering::Relaxed) {
            return;
        }
        let now = self.shared.clock.now();
        while let Some((run, timer)) = self.timers.take_due(now) {
            self.input(run, Input::TimerFired(timer), None);
        }
    }

    fn answer_drained(&mut self) {
        if self.attempts_in_flight == 0 && self.commits.is_empty() {
            for reply in self.drained.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Start(start) => self.start(*start),
            Message::Adopt(run) => self.adopt(run),
            Message::Input { run, input, reply } => {
                if let Input::AttemptEnded { .. } = &input {
                    self.attempts_in_flight -= 1;
                }
                self.input(run, input, reply);
            }
            Message::Release { run } => self.release_child(run),
            Message::UndoChild { of, undo, parent } => self.undo_child(of, undo, parent),
            Message::StartUndo(start) => self.start_undo(*start),
            Message::Asking { run, step, reply } => {
                if let Some(run) = self.runs.get(&run) {
                    let _ = reply.send(asking(run, &step));
                }
            }
            Message::Obstacles { run, wanted, reply } => {
                if let Some(run) = self.runs.get(&run) {
                    let _ = reply.send(saga::obstacles(&run.definition, &run.state, &wanted));
                }
            }
            Message::Show { run, reply } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    if run.committing {
                        // What is on its way to the disk is not to be seen before it is there.
                        run.shows.push(reply);
                    } else {
                        let _ = reply.send(render::view(run, &self.shared.locks));
                    }
                }
            }
            Message::Wait { run, reply } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    if run.state.parked.is_some() && !run.committing {
                        let _ = reply.send(render::view(run, &self.shared.locks));
                    } else {
                        run.waiters.retain(|waiter| !waiter.is_closed());
                        run.waiters.push(reply);
                    }
                }
            }
            Message::List { filter, reply } => {
                let _ = reply.send(render::list_open(self.runs.values().map(Box::as_ref), &filter));
            }
            Message::Counts { reply } => {
                let (timers, timers_due) = self.timers.count(self.shared.clock.now());
                let mut counts = Counts { timers, timers_due, ..Counts::default() };
                for run in self.runs.values() {
                    let version = run.definition.version;
                    let key = (run.state.begun.saga.to_string(), version, run.state.state().as_str());
                    *counts.runs.entry(key).or_default() += 1;
                }
                let _ = reply.send(counts);
            }
            Message::Drain { reply } => self.drained.push(reply),
        }
    }

    fn start(&mut self, request: StartRun) {
        let StartRun { definition, start, inbox, reply } = request;
        let id = start.run;
        if self.shared.draining.load(Ordering::Relaxed) {
            let _ = reply.send(Err(StartError::Unavailable { reason: "the process is stopping".to_owned() }));
            return;
        }
        if let Some(first) = self.runs.get(&id) {
            if start.parent_run.is_some() && first.state.end.is_some() && !first.committing {
                self.report_child(id);
                let _ = reply.send(Ok(Started::Existing(id)));
                return;
            }
            if first.state.begun.input_hash != start.input_hash {
                let _ = reply.send(Err(conflict(&start)));
            } else if let Some(waiting) =
                self.repeated.get_mut(&id).filter(|_| !planted::is("repeat_answered_before_commit"))
            {
                waiting.push(reply);
            } else {
                let _ = reply.send(Ok(Started::Existing(id)));
            }
            return;
        }
        if start.key.is_some() {
            match self.shared.journal.tombstone(id) {
                Ok(None) => {}
                Ok(Some(tombstone)) => {
                    let same = tombstone.input_hash == run::hash_bytes(&start.input_hash);
                    let _ = reply.send(if same { Ok(Started::Existing(id)) } else { Err(conflict(&start)) });
                    return;
                }
                Err(error) => {
                    let _ = reply.send(Err(StartError::Unavailable { reason: error.to_string() }));
                    return;
                }
            }
        }
        let now = self.shared.clock.now();
        let check = Arc::clone(&self.shared.check);
        let rules = Rules { definition: &definition, check_event: check.as_ref() };
        // A panic in the core is this start's alone.
        let begun = catch_unwind(AssertUnwindSafe(|| begin(&rules, start, now, &self.shared.locks)));
        let Ok(Some((state, moved))) = begun else {
            let reason = "an internal error; report it".to_owned();
            let _ = reply.send(Err(StartError::Unavailable { reason }));
            return;
        };
        self.shared.open_runs.fetch_add(1, Ordering::Relaxed);
        self.runs.insert(id, Box::new(Run::new(Arc::clone(&definition), state, 1)));
        self.repeated.insert(id, Vec::new());
        self.commit(id, moved, now, inbox, None, Some(reply));
    }

    fn adopt(&mut self, run: Box<Run>) {
        let id = run.id();
        let commands = saga::outstanding(&run.definition, &run.state);
        let epoch = run.epoch;
        let in_flight = run.state.active.iter().any(|step| run.state.step(*step).in_flight());
        self.shared.open_runs.fetch_add(1, Ordering::Relaxed);
        self.runs.insert(id, run);
        for command in commands {
            // Attempts were cut off with the process before: the core decides what follows.
            match command {
                Command::RunAttempt { .. } => {}
                _ if planted::is("restart_forgets_timers") => {}
                Command::AwaitEvents { step, direction, wanted } => {
                    self.shared.correlator.wait(id, step, direction, &wanted, &self.router, true);
                }
                command => self.carry_out(id, command),
            }
        }
        if !planted::is("restart_forgets_attempts") {
            self.input(id, Input::Restarted { epoch }, None);
        }
        if !in_flight {
            self.input(id, Input::Continue, None);
        }
    }

    fn input(&mut self, id: RunId, input: Input, reply: Option<Reply>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if run.committing {
            run.queue.push_back((input, reply));
            return;
        }
        let now = self.shared.clock.now();
        let go_on = if self.shared.draining.load(Ordering::Relaxed) { GoOn::No } else { GoOn::Yes };
        match run.advance(&self.shared.check, input, now, go_on) {
            Ok(moved) if moved.facts.is_empty() => {
                if let Some(reply) = reply {
                    let _ = reply.send(Ok(render::view(run, &self.shared.locks)));
                }
            }
            Ok(moved) => self.commit(id, moved, now, None, reply, None),
            Err(Rejected::Early { due }) => {
                // The clock went back: wait again.
                if let Some(timer) =
                    saga::outstanding(&run.definition, &run.state).into_iter().find_map(|command| match command {
                        Command::SetTimer { timer, due: at } if at == due => Some(timer),
                        _ => None,
                    })
                {
                    self.timers.set(due, id, timer);
                }
            }
            Err(rejected) => {
                if let Some(reply) = reply {
                    let _ = reply.send(Err(rejected));
                }
            }
        }
    }

    pub(super) fn commit(
        &mut self,
        id: RunId,
        moved: Move,
        at: Timestamp,
        inbox: Option<InboxMark>,
        reply: Option<Reply>,
        started: Option<oneshot::Sender<Result<Started, StartError>>>,
    ) {
        failpoint::hit("transition.decided");
        let (reply, started) = self.planted_before_commit(id, &moved, reply, started);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.committing = true;
        let locks = &self.shared.locks;
        let transition = run.transition(&moved, at, inbox, || render::summary_bytes(run, locks));
        let outbox = transition.outbox.clone();
        if planted::is("event_leaves_before_commit") {
            outbox.iter().for_each(|entry| drop(self.shared.outbox.send(entry.clone())));
        }
        let committed = self.shared.journal.commit(vec![Change::Run(transition)]);
        self.commits.push(Box::pin(async move {
            let result = committed.await;
            Pending { run: id, moved, at, outbox, reply, started, result }
        }));
    }

    /// Mistakes of the tests' own: what leaves here leaves before it is durable. Compiled to nothing
    /// without the feature `planted`.
    fn planted_before_commit(
        &mut self,
        id: RunId,
        moved: &Move,
        reply: Option<Reply>,
        started: Option<oneshot::Sender<Result<Started, StartError>>>,
    ) -> (Option<Reply>, Option<oneshot::Sender<Result<Started, StartError>>>) {
        if planted::is("call_before_commit") {
            moved.commands.iter().for_each(|command| self.carry_out(id, command.clone()));
        }
        match (reply, started, self.runs.get(&id)) {
            (Some(reply), started, Some(run)) if planted::is("operator_answered_before_commit") => {
                let _ = reply.send(Ok(render::view(run, &self.shared.locks)));
                (None, started)
            }
            (reply, Some(started), _) if planted::is("start_answered_before_commit") => {
                let _ = started.send(Ok(Started::Created(id)));
                (reply, None)
            }
            (reply, started, _) => (reply, started),
        }
    }

    /// Acts on what has become durable. False ends the shard: the journal has failed.
    fn committed(&mut self, pending: Pending) -> bool {
        let Pending { run: id, moved, at, outbox, reply, started, result } = pending;
        let durable = match result {
            Ok(durable) => durable,
            Err(error) => {
                self.shared.fatal.send_replace(Some(error.to_string()));
                return false;
            }
        };
        failpoint::hit("commit.durable");
        if let Some(run) = self.runs.get_mut(&id) {
            run.committing = false;
        }
        self.act(&durable, id, moved, at, outbox, reply, started);
        true
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one pending commit, taken apart once")]
    fn act(
        &mut self,
        _durable: &Durable<()>,
        id: RunId,
        moved: Move,
        at: Timestamp,
        outbox: Vec<OutboxEntry>,
        reply: Option<Reply>,
        started: Option<oneshot::Sender<Result<Started, StartError>>>,
    ) {
        for entry in outbox {
            let _ = self.shared.outbox.send(entry);
            failpoint::hit("commit.outbox_handed_over");
        }
        if let Some(run) = self.runs.get(&id) {
            self.shared.spans.record(run, &moved, at);
            self.shared.news.publish(run, &moved.facts, at);
            self.shared.metrics.moved(run, &moved, at);
            log::moved(run, &moved, at);
            self.shared.notices.moved(run, &moved, at);
        }
        if let Some(started) = started {
            let _ = started.send(Ok(Started::Created(id)));
            for repeated in self.repeated.remove(&id).unwrap_or_default() {
                let _ = repeated.send(Ok(Started::Existing(id)));
            }
        }
        for command in moved.commands {
            self.carry_out(id, command);
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        let at_rest = run.state.end.is_some() || run.state.parked.is_some();
        if reply.is_some() || !run.shows.is_empty() || (at_rest && !run.waiters.is_empty()) {
            let view = render::view(run, &self.shared.locks);
            for show in run.shows.drain(..) {
                let _ = show.send(view.clone());
            }
            if at_rest {
                for waiter in run.waiters.drain(..) {
                    let _ = waiter.send(view.clone());
                }
            }
            if let Some(reply) = reply {
                let _ = reply.send(Ok(view));
            }
        }
        let (is_over, held, cut) = (run.is_over(), run.state.end.is_some(), moved.cut);
        if held && !is_over {
            self.child_ended(id, &moved.facts);
        }
        if is_over {
            let ended = self.runs.remove(&id);
            self.shared.open_runs.fetch_sub(1, Ordering::Relaxed);
            for (input, reply) in ended.into_iter().flat_map(|run| run.queue) {
                if let (Input::Operator(operation), Some(reply)) = (input, reply) {
                    let why = format!("{}: the run has ended", operation.as_str());
                    let _ = reply.send(Err(Rejected::Conflict(why)));
                }
            }
            return;
        }
        if let (true, Some(run)) = (cut, self.runs.get_mut(&id)) {
            run.queue.push_front((Input::Continue, None));
        }
        while let Some(run) = self.runs.get_mut(&id) {
            if run.committing {
                return;
            }
            let Some((input, reply)) = run.queue.pop_front() else { return };
            self.input(id, input, reply);
        }
    }

    fn carry_out(&mut self, id: RunId, command: Command) {
        match command {
            Command::RunAttempt { step, direction, attempt } => {
                let Some(run) = self.runs.get(&id) else { return };
                // A move may launch only one attempt; anything else was overtaken by a later fact.
                if run.state.step(step).activity != (Activity::InFlight { direction, attempt }) {
                    return;
                }
                let Some(call) = execute::call(&run.definition, &run.state, step, direction, attempt) else {
                    return;
                };
                self.attempts_in_flight += 1;
                if let Some(known) = self.shared.answers.find(&call.request, self.shared.clock.now()) {
                    let input = Input::AttemptEnded { step, direction, attempt, result: known.into() };
                    return self.router.send(id, Message::Input { run: id, input, reply: None });
                }
                let (shared, router) = (Arc::clone(&self.shared), self.router.clone());
                tokio::spawn(async move {
                    failpoint::hit("attempt.before_send");
                    let place = Answers::place(&call.request);
                    let result = execute::send(shared.connector.as_ref(), call).await;
                    failpoint::hit("attempt.answered");
                    if let Some(place) = place {
                        shared.answers.keep(place, &result, shared.clock.now());
                    }
                    let result = result.into();
                    let input = Input::AttemptEnded { step, direction, attempt, result };
                    router.send(id, Message::Input { run: id, input, reply: None });
                });
            }
            Command::SetTimer { timer, due } => self.timers.set(due, id, timer),
            Command::AwaitEvents { step, direction, wanted } => {
                self.shared.correlator.wait(id, step, direction, &wanted, &self.router, false);
            }
            Command::ForgetEvents { step } => self.shared.correlator.forget(id, step),
            Command::StartChild { step, direction, child } => self.start_child(id, step, direction, child),
            Command::CancelChild { run } => self.cancel_child(run),
            Command::ReleaseChild { run } => self.router.send(run, Message::Release { run }),
            Command::AcquireLock { name } => {
                if self.shared.locks.acquire(&name, id) || planted::is("lock_goes_to_everybody") {
                    self.router.send(id, Message::Input { run: id, input: Input::LockGranted, reply: None });
                }
            }
            Command::ReleaseLock { name } => {
                if let Some(next) = self.shared.locks.release(&name, id)
                    && !planted::is("lock_is_never_passed_on")
                {
                    self.router.send(next, Message::Input { run: next, input: Input::LockGranted, reply: None });
                }
            }
        }
    }
}

/// Begins a run. A lock that is free is taken in the same move: that saves a commit, and nobody sees it
/// before the commit.
fn begin(rules: &Rules, start: saga::Start, now: Timestamp, locks: &Locks) -> Option<(SagaState, Move)> {
    let facts = saga::start(rules, start, now);
    let Some(Fact::RunStarted(begun)) = facts.first() else { return None };
    let mut state = saga::begin(rules.definition, begun, now);
    let mut moved = carry_on(rules, &mut state, facts, now, GoOn::Yes);
    let wanted = match &state.lock {
        LockState::Wanted { name } => Some(name.clone()),
        LockState::None | LockState::Held { .. } => None,
    };
    if wanted.is_some_and(|name| locks.acquire(&name, state.begun.run)) {
        let granted = decide(rules, &state, Input::LockGranted, now).unwrap_or_default();
        let more = carry_on(rules, &mut state, granted, now, GoOn::Yes);
        moved.facts.extend(more.facts);
        moved.commands.extend(more.commands);
        moved.cut |= more.cut;
    }
    Some((state, moved))
}

fn conflict(start: &saga::Start) -> StartError {
    StartError::KeyConflict { key: start.key.clone().unwrap_or_default(), run: start.run }
}
