//! One run in a simulated world: virtual time, a journal that may lose what was not synced, services
//! with faults, crashes at any commit. Drives the real core the way the coordinator does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use backstitch::definition::{self, Compensate, SagaDefinition};
use backstitch::id::RunId;
use backstitch::payload::Payload;
use backstitch::problem::Problem;
use backstitch::request::{Again, Answer, Attempt, Direction, Effect};
use backstitch::saga::{
    self, Activity, Command, Fact, Input, LockState, Migration, Operation, Rejected, Rules, SagaState, Start, StepAt,
    StepState, Timer, decide, evolve,
};
use backstitch::time::{Span, Timestamp};
use backstitch::trace_context::{SpanId, TraceContext, TraceId};
use bytes::Bytes;

use super::observe::{Seen, line};
use super::services::{Behaviour, Change, Services};
use super::spec::Spec;

/// When every simulation begins: 2023-11-14T22:13:20Z.
pub const EPOCH_MS: u64 = 1_700_000_000_000;
const LATENCY_MS: u64 = 10;
/// Somebody else holds it so long.
const LOCK_MS: u64 = 300;
const TIMEOUT_MS: u64 = 1_000;
const RESTART_MS: u64 = 500;
/// No simulated run needs more; one that does never comes to rest.
const EVENTS_MAX: usize = 20_000;

/// What happens at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    No,
    /// Before the sync: the records are lost, and nothing of them was seen.
    Lost,
    /// After the sync: the records stand, and no command was carried out.
    Kept,
}

/// Who decides what goes wrong.
pub trait Plan {
    fn forward(&mut self, path: &str, attempt: u32) -> Behaviour;
    fn undo(&mut self, path: &str, attempt: u32) -> Behaviour;
    fn check(&mut self, path: &str, attempt: u32) -> Behaviour;
    /// Asked at every commit, counted from 1.
    fn crash(&mut self, commit: usize) -> Crash;
    /// Asked after every commit: an operator may act, after that many milliseconds.
    fn operate(&mut self, state: &str) -> Option<(u64, Operation)>;
    /// Told of every record that became durable, with its step.
    fn recorded(&mut self, _path: Option<&str>) {}
    /// Asked at every timer: the clock may be ahead of itself and fire it early.
    fn early(&mut self) -> bool {
        false
    }
    /// Asked at every answer: it may come twice.
    fn twice(&mut self) -> bool {
        false
    }
    /// Asked when a run is parked and nothing else is to come.
    fn parked(&mut self, remedies: &[&str]) -> Option<Operation>;
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request that was under way lands at the service.
    Land {
        path: String,
        key: String,
    },
    Reply {
        epoch: u64,
        step: StepAt,
        direction: Direction,
        attempt: u32,
        reply: ReplyKind,
    },
    Timer {
        epoch: u64,
        timer: Timer,
    },
    Lock {
        epoch: u64,
    },
    /// An event that a step waits for comes.
    Arrive {
        epoch: u64,
        step: StepAt,
        direction: Direction,
        event: String,
    },
    /// A person answers.
    Answer {
        step: StepAt,
    },
    /// A child run ends.
    Child {
        epoch: u64,
        step: StepAt,
        direction: Direction,
        completed: bool,
    },
    Operator(u64),
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ReplyKind {
    /// How often this has been said, this time included.
    Done(u32),
    Applied(bool),
    Refused,
    /// A check that is not answered: the caller may not look.
    Denied,
    Busy,
    Error,
    Silence,
}

pub struct World<P> {
    pub definition: Arc<SagaDefinition>,
    /// The version that the run is moved to, and back, after every so many events.
    pub moves: Option<(Arc<SagaDefinition>, u64)>,
    /// The states in which it moved.
    pub moved: Vec<&'static str>,
    pub not_moved: usize,
    pub services: Services,
    pub plan: P,
    pub seen: Vec<(u64, Seen)>,
    pub state: Option<SagaState>,
    pub now: u64,
    pub commits: usize,
    pub crashes: usize,
    /// Compares the state before and after each decision: costs more than the run itself.
    pub careful: bool,
    /// What the run begins with, what comes to a step that waits, what a person answers.
    pub input: Payload,
    pub event: Payload,
    pub answer: Payload,
    stored: Vec<(Timestamp, Vec<Bytes>)>,
    epoch: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    operations: Vec<Option<Operation>>,
    sequence: u64,
    events: usize,
    /// Gathers (state, input) pairs that were met.
    pub pairs: std::collections::BTreeSet<(&'static str, &'static str)>,
}

/// Loads a spec as a definition.
pub fn load(spec: &Spec) -> Arc<SagaDefinition> {
    load_file(&spec.yaml()).unwrap_or_else(|why| panic!("{why}"))
}

/// Loads the text of a drawn saga.
///
/// # Errors
/// What the file's findings are, with the file.
pub fn load_file(yaml: &str) -> Result<Arc<SagaDefinition>, String> {
    definition::reload("sim.yaml", yaml).map(Arc::new).map_err(|found| {
        let all: Vec<String> =
            found.iter().map(|one| format!("{}:{}: {}", one.line, one.column, one.message)).collect();
        format!("the drawn file does not load:\n{}\n{yaml}", all.join("\n"))
    })
}

fn check_event(_: &backstitch::id::EventType, _: &Payload) -> Result<(), String> {
    Ok(())
}

impl<P: Plan> World<P> {
    pub fn new(definition: Arc<SagaDefinition>, plan: P) -> Self {
        Self {
            definition,
            moves: None,
            moved: Vec::new(),
            not_moved: 0,
            services: Services::default(),
            plan,
            seen: Vec::new(),
            state: None,
            now: EPOCH_MS,
            commits: 0,
            crashes: 0,
            careful: true,
            input: Payload::parse(r#"{"order":"A-1","amount":7,"items":[1,2,3]}"#).expect("a literal"),
            event: Payload::parse(r#"{"data":{"order":"A-1"}}"#).expect("a literal"),
            answer: Payload::parse(r#"{"yes":true}"#).expect("a literal"),
            stored: Vec::new(),
            epoch: 1,
            queue: BinaryHeap::new(),
            operations: Vec::new(),
            sequence: 0,
            events: 0,
            pairs: std::collections::BTreeSet::new(),
        }
    }

    /// Runs until the run has ended, or is parked and nobody does anything about it.
    ///
    /// # Errors
    /// What is wrong when it never comes to rest.
    pub fn run(&mut self) -> Result<(), String> {
        self.begin();
        loop {
            while let Some(Reverse((at, _, event))) = self.queue.pop() {
                self.now = self.now.max(at);
                self.events += 1;
                if self.events > EVENTS_MAX {
                    return Err(format!("no rest after {EVENTS_MAX} events"));
                }
                self.happen(event);
                self.move_on();
            }
            let Some(state) = &self.state else { return Err("the orchestrator never came back".to_owned()) };
            if state.end.is_some() {
                break;
            }
            let remedies = saga::remedies(&self.definition, state);
            let operation = if state.parked.is_some() {
                self.plan.parked(&remedies)
            } else if state.paused {
                Some(Operation::Resume)
            } else {
                return Err(format!("1 stuck: {}, nothing in flight, no timer", state.state().as_str()));
            };
            match operation {
                Some(operation) => {
                    if self.operate(operation.clone()).is_err() && self.queue.is_empty() {
                        // Not applicable after all: the plan is asked again a bounded number of times.
                        self.events += 100;
                        if self.events > EVENTS_MAX {
                            return Err(format!("no remedy works: last {operation:?} of {remedies:?}"));
                        }
                    }
                }
                None => break,
            }
        }
        self.check_replay()
    }

    /// Invariant 10: replay of the journal equals the live state.
    fn check_replay(&self) -> Result<(), String> {
        let live = format!("{:?}", self.state);
        let replayed = format!("{:?}", self.rebuild());
        if live == replayed {
            return Ok(());
        }
        let same = live.chars().zip(replayed.chars()).take_while(|(a, b)| a == b).count().saturating_sub(60);
        let part = |text: &str| text.chars().skip(same).take(200).collect::<String>();
        Err(format!("10 replay differs\nlive     …{}\nreplayed …{}", part(&live), part(&replayed)))
    }

    fn see(&mut self, seen: Seen) {
        self.seen.push((self.now, seen));
    }

    fn push(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence, event)));
    }

    fn begin(&mut self) {
        let run = RunId(uuid::Uuid::from_u128(0x5151));
        let trace = TraceContext::new(TraceId([1; 16]), SpanId([2; 8]), true);
        let start = Start {
            run,
            key: None,
            correlation_id: "c-1".to_owned(),
            link_after: None,
            causation_id: None,
            trace,
            parent: None,
            input: self.input.clone(),
            event: None,
            input_hash: "00".to_owned(),
            parent_run: None,
        };
        let now = Timestamp(self.now);
        let definition = Arc::clone(&self.definition);
        let rules = Rules { definition: &definition, check_event: &check_event };
        let facts = saga::start(&rules, start, now);
        let Fact::RunStarted(begun) = &facts[0] else { panic!("a run begins with its start") };
        self.state = Some(saga::begin(&definition, begun, now));
        // The start is acknowledged when it is durable; a simulation without it has nothing to check.
        self.apply(facts, now, false);
    }

    /// Gives one input, commits what follows, carries out the commands.
    fn give(&mut self, input: Input) -> Result<(), Rejected> {
        let Some(state) = &self.state else { return Ok(()) };
        let now = Timestamp(self.now);
        self.pairs.insert((state.state().as_str(), input_word(&input)));
        let definition = Arc::clone(&self.definition);
        let rules = Rules { definition: &definition, check_event: &check_event };
        let before = self.careful.then(|| format!("{state:?}"));
        let moves_to = match &input {
            Input::Migrate(wanted) => Some(Arc::clone(&wanted.to)),
            _ => None,
        };
        let facts = decide(&rules, state, input, now);
        if let Some(before) = before {
            assert_eq!(before, format!("{state:?}"), "decide leaves the state as it was");
        }
        let facts = facts?;
        self.definition = moves_to.unwrap_or(definition);
        self.apply(facts, now, true);
        Ok(())
    }

    /// Moves the run to the other version, if it is time and it can.
    fn move_on(&mut self) {
        let (Some((to, every)), Some(state)) = (&self.moves, &self.state) else { return };
        if !(self.events as u64).is_multiple_of(*every) || state.end.is_some() {
            return;
        }
        let (to, word) = (Arc::clone(to), state.state().as_str());
        let every = *every;
        let wanted = Migration { to: Arc::clone(&to), new_undo: false, by: None };
        let before = Arc::clone(&self.definition);
        if self.give(Input::Migrate(Box::new(wanted))).is_ok() {
            self.moved.push(word);
            self.moves = Some((before, every));
        } else {
            self.not_moved += 1;
        }
    }

    fn apply(&mut self, first: Vec<Fact>, now: Timestamp, may_crash: bool) {
        let definition = Arc::clone(&self.definition);
        let rules = Rules { definition: &definition, check_event: &check_event };
        let Some(mut state) = self.state.take() else { return };
        let (mut facts, mut all, mut commands) = (first, Vec::new(), Vec::new());
        while !facts.is_empty() {
            for fact in facts {
                commands.extend(evolve(&definition, &mut state, &fact, now));
                all.push(fact);
            }
            facts = decide(&rules, &state, Input::Continue, now).unwrap_or_default();
        }
        if all.is_empty() {
            self.state = Some(state);
            return;
        }
        self.commits += 1;
        let crash = if may_crash { self.plan.crash(self.commits) } else { Crash::No };
        if crash == Crash::Lost {
            self.crash();
            return;
        }
        self.stored.push((now, all.iter().map(saga::encode).collect()));
        for fact in &all {
            self.record(fact);
        }
        let word = state.state().as_str();
        self.state = Some(state);
        for fact in &all {
            if let Fact::AskStarted { step, .. } = fact
                && self.plan.forward("", 1) == Behaviour::Ok
            {
                self.push(250, Event::Answer { step: *step });
            }
        }
        self.see(Seen::State { state: word.to_owned() });
        if crash == Crash::Kept {
            self.crash();
            return;
        }
        for command in commands {
            self.carry_out(command);
        }
        if let Some((after, operation)) = self.plan.operate(word) {
            self.operations.push(Some(operation));
            self.push(after, Event::Operator(self.operations.len() as u64 - 1));
        }
    }

    fn record(&mut self, fact: &Fact) {
        let json = serde_json::to_value(fact).expect("facts serialise");
        let (name, fields) = json.as_object().and_then(|object| object.iter().next()).expect("one variant");
        let path = fields
            .get("step")
            .and_then(|step| serde_json::from_value::<StepAt>(step.clone()).ok())
            .map(|step| step.path(&self.definition).into_owned());
        let word = fields
            .get("outcome")
            .or_else(|| fields.get("end"))
            .or_else(|| fields.get("cause"))
            .or_else(|| fields.get("effect"))
            .and_then(serde_json::Value::as_str);
        let (name, word) = (name.clone(), word.map(str::to_owned));
        self.plan.recorded(path.as_deref());
        if let Fact::EventEmitted { id, event, number, .. } = fact {
            self.see(Seen::Emitted { id: id.clone(), event: event.to_string(), number: *number });
        }
        self.see(Seen::Recorded { fact: name, path, word });
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.see(Seen::Crashed);
        self.state = None;
        self.epoch += 1;
        self.push(RESTART_MS, Event::Restart);
    }

    /// Rebuilds the state from what is stored.
    fn rebuild(&self) -> Option<SagaState> {
        let mut state: Option<SagaState> = None;
        for (at, facts) in &self.stored {
            for bytes in facts {
                let fact = saga::decode(bytes).expect("what was stored reads");
                if let Fact::RunStarted(begun) = &fact {
                    state = Some(saga::begin(&self.definition, begun, *at));
                }
                let state = state.as_mut().expect("the start comes first");
                evolve(&self.definition, state, &fact, *at);
            }
        }
        state
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Land { path, key } => {
                if self.services.forward(&path, &key) == Change::Applied {
                    self.see(Seen::Applied { path });
                }
            }
            Event::Restart => {
                self.see(Seen::Restarted);
                self.state = self.rebuild();
                let Some(state) = &self.state else { return };
                let commands = saga::outstanding(&self.definition, state);
                for command in commands {
                    if !matches!(command, Command::RunAttempt { .. }) {
                        self.carry_out(command);
                    }
                }
                let epoch = self.epoch;
                let _ = self.give(Input::Restarted { epoch });
                let _ = self.give(Input::Continue);
            }
            Event::Timer { epoch, timer } => {
                if epoch == self.epoch
                    && let Err(Rejected::Early { due }) = self.give(Input::TimerFired(timer))
                {
                    self.push(due.0 - self.now, Event::Timer { epoch, timer });
                }
            }
            Event::Lock { epoch } => {
                if epoch == self.epoch {
                    let _ = self.give(Input::LockGranted);
                }
            }
            Event::Arrive { epoch, step, direction, event } => {
                if epoch == self.epoch {
                    let key = format!("/sim#{}{}", step.path(&self.definition), direction.as_str());
                    let content = self.event.clone();
                    let event = backstitch::id::EventType::parse(&event).expect("a type of the file");
                    let _ = self.give(Input::EventArrived { step, direction, key, event, content });
                }
            }
            // Who finds nobody there, or hears nothing, answers again later.
            Event::Answer { step } if self.state.is_none() => self.push(RESTART_MS, Event::Answer { step }),
            Event::Answer { step } => {
                let answer = self.answer.clone();
                let _ = self.give(Input::Operator(Operation::Answer { step, by: "ann".to_owned(), answer }));
                if self.state.is_none() {
                    self.push(RESTART_MS, Event::Answer { step });
                }
            }
            Event::Child { epoch, step, direction, completed } => {
                if epoch == self.epoch {
                    let end = if completed {
                        saga::ChildEnd::Completed { output: None }
                    } else {
                        saga::ChildEnd::Compensated { problem: None }
                    };
                    if direction == Direction::Forward {
                        self.see(Seen::ChildEnded { path: step.path(&self.definition).into_owned() });
                    }
                    let _ = self.give(Input::ChildEnded { step, direction, end });
                }
            }
            Event::Operator(at) => {
                if let Some(operation) = self.operations[at as usize].take() {
                    let _ = self.operate(operation);
                }
            }
            Event::Reply { epoch, step, direction, attempt, reply } => {
                if epoch != self.epoch {
                    return;
                }
                let result = attempt_of(reply);
                let path = step.path(&self.definition).into_owned();
                let waited = self.state.as_ref().map(|state| state.step(step).activity);
                if waited != Some(Activity::InFlight { direction, attempt }) {
                    // It came twice: nobody waits for it.
                    let again = self.give(Input::AttemptEnded { step, direction, attempt, result: Arc::new(result) });
                    assert!(again.is_err(), "{path} took an answer that nobody waits for");
                    return;
                }
                let effect = match result.effect {
                    Effect::Done => "done",
                    Effect::None => "none",
                    Effect::Maybe => "maybe",
                };
                let times = if let ReplyKind::Done(times) = reply { times } else { 0 };
                self.see(Seen::Answered { path, direction: direction.as_str(), effect, times });
                let _ = self.give(Input::AttemptEnded { step, direction, attempt, result: Arc::new(result) });
            }
        }
    }

    fn operate(&mut self, operation: Operation) -> Result<(), Rejected> {
        if self.state.is_none() {
            return Ok(());
        }
        let word = operation.as_str().to_owned();
        let at = self.seen.len();
        self.give(Input::Operator(operation))?;
        self.seen.insert(at, (self.now, Seen::Operated { command: word }));
        Ok(())
    }

    fn carry_out(&mut self, command: Command) {
        let epoch = self.epoch;
        match command {
            Command::RunAttempt { step, direction, attempt } => self.send(step, direction, attempt),
            Command::SetTimer { timer, due } => {
                let wait = due.0.saturating_sub(self.now);
                let wait = if self.plan.early() { wait / 2 } else { wait };
                self.push(wait, Event::Timer { epoch, timer });
            }
            Command::AcquireLock { .. } => {
                if matches!(self.state.as_ref().map(|state| &state.lock), Some(LockState::Wanted { .. })) {
                    self.push(LOCK_MS, Event::Lock { epoch });
                }
            }
            Command::ReleaseLock { .. } => {}
            Command::AwaitEvents { step, direction, wanted } => {
                let path = step.path(&self.definition).into_owned();
                let behaviour = self.plan.forward(&path, 1);
                let event = match behaviour {
                    Behaviour::Ok | Behaviour::LoseReply => wanted.types.first(),
                    Behaviour::Refuse => wanted.types.last(),
                    // It never comes.
                    Behaviour::LoseRequest | Behaviour::Busy | Behaviour::Late(_) | Behaviour::Error => None,
                };
                if let Some(event) = event {
                    self.push(300, Event::Arrive { epoch, step, direction, event: event.to_string() });
                }
            }
            Command::StartChild { step, direction, child } => {
                let path = step.path(&self.definition).into_owned();
                self.see(Seen::Child { path: path.clone(), undo: direction == Direction::Compensate });
                let completed = child.undo_of.is_none() && self.plan.forward(&path, 1) != Behaviour::Refuse;
                self.push(200, Event::Child { epoch, step, direction, completed });
            }
            Command::CancelChild { run } => {
                let asked = self.state.as_ref().and_then(|state| {
                    let of = |step: &saga::StepState| step.child.as_ref().is_some_and(|child| child.run == run);
                    state.steps.iter().find(|(_, step)| of(step)).map(|(step, _)| *step)
                });
                let path = asked.map(|step| step.path(&self.definition).into_owned());
                self.see(Seen::ChildCancelled { path: path.expect("a child that was started") });
            }
            Command::ForgetEvents { .. } | Command::ReleaseChild { .. } => {}
        }
    }

    fn send(&mut self, step: StepAt, direction: Direction, attempt: u32) {
        let Some(state) = &self.state else { return };
        let at = state.step(step);
        let path = step.path(&self.definition).into_owned();
        let (key, forward_key) = match direction {
            Direction::Forward => (at.key, None),
            Direction::Check => (at.check.key, None),
            Direction::Compensate => {
                assert!(matches!(self.definition.step(step.step).compensate, Compensate::Call(_)));
                (at.undo.key, at.key.map(|key| key.to_string()))
            }
        };
        let key = key.map(|key| key.to_string()).unwrap_or_default();
        self.see(Seen::Sent {
            path: path.clone(),
            direction: direction.as_str(),
            key: key.clone(),
            forward_key,
            item: at_item(at, direction),
            attempt,
        });
        let (after, reply) = match direction {
            Direction::Forward => {
                let proof = self.definition.step(step.step).classify.proof.is_some();
                self.arrive_forward(&path, &key, attempt, proof)
            }
            Direction::Compensate => self.arrive_undo(&path, attempt),
            Direction::Check => match self.plan.check(&path, attempt) {
                Behaviour::Ok => {
                    let applied = self.services.applied(&path);
                    let check = self.definition.step(step.step).on_unknown.check.as_ref();
                    if !applied && check.is_some_and(|check| check.conclusive) {
                        self.services.rule_out(&path);
                    }
                    (LATENCY_MS, ReplyKind::Applied(applied))
                }
                Behaviour::Busy => (LATENCY_MS, ReplyKind::Busy),
                Behaviour::Error => (LATENCY_MS, ReplyKind::Error),
                Behaviour::Refuse => (LATENCY_MS, ReplyKind::Denied),
                Behaviour::LoseReply | Behaviour::LoseRequest | Behaviour::Late(_) => (TIMEOUT_MS, ReplyKind::Silence),
            },
        };
        let epoch = self.epoch;
        self.push(after, Event::Reply { epoch, step, direction, attempt, reply });
        if self.plan.twice() {
            self.push(after + 5, Event::Reply { epoch, step, direction, attempt, reply });
        }
    }

    fn arrive_forward(&mut self, path: &str, key: &str, attempt: u32, proof: bool) -> (u64, ReplyKind) {
        let known = self.services.effects.get(path).is_some_and(|effect| effect.keys.iter().any(|k| k == key));
        let mut behaviour = self.plan.forward(path, attempt);
        // A service that has done it answers a repeat as it did the first time.
        if behaviour == Behaviour::Refuse && known {
            behaviour = Behaviour::Ok;
        }
        match behaviour {
            Behaviour::Ok => match self.land(path, key) {
                Change::Applied | Change::Nothing | Change::Undone => {
                    let effect = self.services.effects.entry(path.to_owned()).or_default();
                    effect.answers += 1;
                    (LATENCY_MS, ReplyKind::Done(effect.answers))
                }
                Change::Refused => (LATENCY_MS, ReplyKind::Refused),
            },
            Behaviour::Refuse => {
                if proof {
                    self.services.rule_out(path);
                }
                (LATENCY_MS, ReplyKind::Refused)
            }
            Behaviour::Busy => (LATENCY_MS, ReplyKind::Busy),
            Behaviour::Error => (LATENCY_MS, ReplyKind::Error),
            Behaviour::LoseRequest => (TIMEOUT_MS, ReplyKind::Silence),
            Behaviour::LoseReply => {
                self.land(path, key);
                (TIMEOUT_MS, ReplyKind::Silence)
            }
            Behaviour::Late(after) => {
                self.push(TIMEOUT_MS + after, Event::Land { path: path.to_owned(), key: key.to_owned() });
                (TIMEOUT_MS, ReplyKind::Silence)
            }
        }
    }

    fn land(&mut self, path: &str, key: &str) -> Change {
        let change = self.services.forward(path, key);
        if change == Change::Applied {
            self.see(Seen::Applied { path: path.to_owned() });
        }
        change
    }

    fn arrive_undo(&mut self, path: &str, attempt: u32) -> (u64, ReplyKind) {
        match self.plan.undo(path, attempt) {
            Behaviour::Ok => {
                self.services.undo(path);
                self.see(Seen::Undone { path: path.to_owned() });
                (LATENCY_MS, ReplyKind::Done(0))
            }
            Behaviour::Refuse => (LATENCY_MS, ReplyKind::Refused),
            Behaviour::Busy => (LATENCY_MS, ReplyKind::Busy),
            Behaviour::Error => (LATENCY_MS, ReplyKind::Error),
            Behaviour::LoseRequest | Behaviour::Late(_) => (TIMEOUT_MS, ReplyKind::Silence),
            Behaviour::LoseReply => {
                self.services.undo(path);
                self.see(Seen::Undone { path: path.to_owned() });
                (TIMEOUT_MS, ReplyKind::Silence)
            }
        }
    }

    /// Tells what happened, line by line.
    pub fn story(&self) -> String {
        story(&self.seen)
    }
}

/// Tells what was seen, line by line.
pub fn story(seen: &[(u64, Seen)]) -> String {
    seen.iter().map(|(at, seen)| line(*at, seen)).collect::<Vec<_>>().join("\n")
}

fn attempt_of(reply: ReplyKind) -> Attempt {
    let answer = |status: u16, body: &str| {
        Some(Answer {
            status,
            headers: std::collections::BTreeMap::new(),
            body: Payload::parse(body).expect("a literal"),
        })
    };
    let problem = |kind: &str, title: &str| Some(Problem::new(kind, title));
    let (effect, again, answer, problem, retry_after) = match reply {
        ReplyKind::Done(times) => {
            (Effect::Done, Again::No, answer(200, &format!(r#"{{"id":"x-1","times":{times}}}"#)), None, None)
        }
        ReplyKind::Applied(applied) => {
            let body = if applied { r#"{"applied":true}"# } else { r#"{"applied":false}"# };
            (Effect::Done, Again::No, answer(200, body), None, None)
        }
        ReplyKind::Refused => (
            Effect::None,
            Again::No,
            answer(409, r#"{"applied":false}"#),
            problem("refused", "the service said no"),
            None,
        ),
        ReplyKind::Denied => {
            (Effect::None, Again::No, answer(403, r#"{}"#), problem("refused", "not allowed to look"), None)
        }
        ReplyKind::Busy => {
            (Effect::None, Again::Yes, answer(503, "null"), problem("busy", "come again"), Some(Span(200)))
        }
        ReplyKind::Error => (Effect::Maybe, Again::Yes, answer(500, "null"), problem("unknown", "answer 500"), None),
        ReplyKind::Silence => (Effect::Maybe, Again::Yes, None, problem("timeout", "no answer"), None),
    };
    Attempt { effect, again, answer, problem, retry_after }
}

fn input_word(input: &Input) -> &'static str {
    match input {
        Input::Continue => "continue",
        Input::AttemptEnded { direction: Direction::Forward, .. } => "attempt_ended",
        Input::AttemptEnded { direction: Direction::Check, .. } => "check_ended",
        Input::AttemptEnded { direction: Direction::Compensate, .. } => "undo_ended",
        Input::TimerFired(Timer::Step(_)) => "timer",
        Input::TimerFired(Timer::Total(_)) => "total",
        Input::TimerFired(Timer::Deadline) => "deadline",
        Input::EventArrived { .. } => "event",
        Input::ChildEnded { .. } => "child",
        Input::LockGranted => "lock",
        Input::Restarted { .. } => "restarted",
        Input::Operator(operation) => operation.as_str(),
        Input::Migrate(_) => "migrate",
    }
}

/// Returns the item that a request tells of.
fn at_item(at: &StepState, direction: Direction) -> Option<String> {
    let request = match direction {
        Direction::Forward => at.request.as_ref(),
        Direction::Check => None,
        Direction::Compensate => at.undo.request.as_ref(),
    };
    request?.target.split_once("item=").map(|(_, item)| item.to_owned())
}
