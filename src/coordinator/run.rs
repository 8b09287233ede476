//! One open run in memory: its state, and one transition at a time: decide, evolve, and what has to be
//! committed before anything may be seen.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::view::RunView;
use crate::definition::SagaDefinition;
use crate::envelope::Event;
use crate::id::{EventType, RunId};
use crate::journal::{Ended, InboxMark, OutboxEntry, SummaryIndex, Tombstone, Transition};
use crate::payload::Payload;
use crate::saga::{
    ChildRun, Command, Fact, Input, ParentRun, Rejected, Rules, SagaState, StepAt, decide, encode, evolve,
};
use crate::time::Timestamp;

/// Says what is wrong with the data of an event that a run wants to emit.
pub type EventCheck = Arc<dyn Fn(&EventType, &Payload) -> Result<(), String> + Send + Sync>;

/// Facts in one commit. A longer chain of steps without calls goes on in the next one, so that one run
/// cannot hold the writer up.
const FACTS_PER_COMMIT_MAX: usize = 256;

/// An open run.
pub struct Run {
    pub definition: Arc<SagaDefinition>,
    pub state: SagaState,
    pub epoch: u64,
    /// A transition is on its way to the disk: inputs wait here until it has arrived.
    pub committing: bool,
    pub queue: VecDeque<(Input, Option<Reply>)>,
    /// Told when the run comes to rest.
    pub waiters: Vec<oneshot::Sender<RunView>>,
    /// Its root has ended: it need not be held when it ends.
    pub release_wanted: bool,
    /// Parents that want this child undone as soon as it has come to its end.
    pub undo_wanted: Vec<(Arc<ChildRun>, ParentRun)>,
    /// Asked for while a transition was on its way to the disk.
    pub shows: Vec<oneshot::Sender<RunView>>,
    /// Stopped because the core failed on it; shown, never continued by this process.
    pub broken: Option<String>,
}

/// Where the answer to an input goes.
pub type Reply = oneshot::Sender<Result<RunView, Rejected>>;

/// What one input led to: to be committed, then acted on.
pub struct Move {
    pub facts: Vec<Fact>,
    pub commands: Vec<Command>,
    /// When the attempts that this input ended or cut off had left.
    pub launched: SmallVec<[(StepAt, Timestamp); 1]>,
    /// The chain was cut at [`FACTS_PER_COMMIT_MAX`]: give `Continue` after the commit.
    pub cut: bool,
}

impl Move {
    /// Returns when the attempt of a step that this move ended had left.
    pub fn launched_at(&self, step: StepAt) -> Option<Timestamp> {
        self.launched.iter().find(|(at, _)| *at == step).map(|(_, at)| *at)
    }
}

/// What an outbox entry holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct OutboxEvent {
    pub event: Event,
    /// Set when the event goes to dead letters instead, with why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<String>,
}

/// Whether the next move follows at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum GoOn {
    Yes,
    /// The process drains: what is in flight is recorded, nothing new begins.
    No,
}

impl Run {
    pub fn new(definition: Arc<SagaDefinition>, state: SagaState, epoch: u64) -> Self {
        Self {
            definition,
            state,
            epoch,
            committing: false,
            queue: VecDeque::new(),
            waiters: Vec::new(),
            release_wanted: false,
            undo_wanted: Vec::new(),
            shows: Vec::new(),
            broken: None,
        }
    }

    /// Gives one input to the core and applies what it decides.
    ///
    /// # Errors
    /// [`Rejected`]; the state is unchanged. A panic in the core stops this run alone.
    pub fn advance(&mut self, check: &EventCheck, input: Input, now: Timestamp, go_on: GoOn) -> Result<Move, Rejected> {
        if let Some(why) = &self.broken {
            return Err(Rejected::Conflict(why.clone()));
        }
        let launched = launched(&self.state, &input);
        let moves_to = match &input {
            Input::Migrate(wanted) => Some(Arc::clone(&wanted.to)),
            _ => None,
        };
        let result = catch_unwind(AssertUnwindSafe(|| {
            let rules = Rules { definition: &self.definition, check_event: check.as_ref() };
            let facts = decide(&rules, &self.state, input, now)?;
            if let Some(definition) = moves_to {
                self.definition = definition;
            }
            let rules = Rules { definition: &self.definition, check_event: check.as_ref() };
            Ok(Move { launched, ..carry_on(&rules, &mut self.state, facts, now, go_on) })
        }));
        result.unwrap_or_else(|_| {
            let why = "an internal error stopped this run; the others go on; restart to try again, and report it";
            self.broken = Some(why.to_owned());
            Err(Rejected::Conflict(why.to_owned()))
        })
    }

    /// Packs a move for the journal. `first` is the sequence number of its first fact.
    pub fn transition(
        &self,
        moved: &Move,
        now: Timestamp,
        inbox: Option<InboxMark>,
        summary: impl FnOnce() -> Bytes,
    ) -> Transition {
        let begun = &self.state.begun;
        let count = moved.facts.len() as u64;
        let sequence = self.state.facts - count;
        let outbox = moved.facts.iter().filter_map(|fact| match fact {
            Fact::EventEmitted { number, dead, content: Some(event), .. } => {
                let stored = OutboxEvent { event: Event::clone(event), dead: dead.clone() };
                let event = Payload::of(&stored).text().to_owned().into();
                Some(OutboxEntry { run: begun.run, number: *number, event })
            }
            _ => None,
        });
        let ended = self.state.ended_at.filter(|_| self.is_over()).map(|ended_at| Ended {
            index: SummaryIndex {
                run: begun.run,
                saga: begun.saga.to_string(),
                version: begun.version,
                state: self.state.state().as_str().to_owned(),
                key: begun.key.clone(),
                correlation_id: begun.correlation_id.clone(),
                started_at: self.state.started_at,
                ended_at,
            },
            summary: summary(),
            tombstone: begun.key.as_ref().map(|_| Tombstone {
                run: begun.run,
                input_hash: hash_bytes(&begun.input_hash),
                ended_at,
            }),
        });
        Transition {
            run: begun.run,
            sequence,
            epoch: self.epoch,
            at: now,
            facts: moved.facts.iter().map(encode).collect(),
            definition: (sequence == 0 || moved.facts.iter().any(|fact| matches!(fact, Fact::Migrated { .. })))
                .then_some(begun.definition),
            outbox: outbox.collect(),
            inbox,
            ended,
        }
    }

    /// True when it has ended, and is not held as a child that may be undone.
    pub fn is_over(&self) -> bool {
        self.state.end.is_some() && (self.state.begun.parent_run.is_none() || self.state.released)
    }

    pub fn id(&self) -> RunId {
        self.state.begun.run
    }
}

/// Returns when the attempts that an input may end had left.
fn launched(state: &SagaState, input: &Input) -> SmallVec<[(StepAt, Timestamp); 1]> {
    let of = |step: StepAt| (step, state.step(step).launched_at);
    match input {
        Input::AttemptEnded { step, .. } => SmallVec::from_elem(of(*step), 1),
        Input::Restarted { .. } => state.active.iter().map(|step| of(*step)).collect(),
        _ => SmallVec::new(),
    }
}

/// Evolves facts and goes on until the core has nothing more to say.
pub fn carry_on(rules: &Rules, state: &mut SagaState, first: Vec<Fact>, now: Timestamp, go_on: GoOn) -> Move {
    let mut moved = Move { facts: Vec::with_capacity(4), commands: Vec::new(), launched: SmallVec::new(), cut: false };
    let mut facts = first;
    loop {
        if facts.is_empty() {
            return moved;
        }
        for fact in facts {
            moved.commands.extend(evolve(rules.definition, state, &fact, now));
            moved.facts.push(fact);
        }
        if go_on == GoOn::No {
            return moved;
        }
        if moved.facts.len() >= FACTS_PER_COMMIT_MAX {
            moved.cut = true;
            return moved;
        }
        facts = decide(rules, state, Input::Continue, now).unwrap_or_default();
    }
}

/// Returns what a repeated key's input is compared with: the first 16 bytes of the SHA-256 of the
/// canonical input, in hexadecimal.
pub fn input_hash(input: &Payload) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(crate::payload::canonical(input).as_bytes());
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a hash back from its text.
pub fn hash_bytes(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    bytes
}
