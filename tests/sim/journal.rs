//! The journal on disk against a model that is a few maps: random transitions, marks, turns of the
//! generation, closes and reopenings. After each opening everything must be there, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use backstitch::id::{Fingerprint, RunId};
use backstitch::journal::{
    Change, Ended, Error, EventKey, InboxMark, InboxState, Journal, Options, OutboxEntry, Recovered, SledJournal,
    StreamPosition, SummaryIndex, Tombstone, Transition,
};
use backstitch::time::{Clock, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

use crate::counted::count;
use crate::rng::Rng;

const DEFINITION: Fingerprint = Fingerprint([7; 32]);
/// What some runs move to.
const LATER: Fingerprint = Fingerprint([8; 32]);
/// Stories in an ordinary `cargo test`: some seconds.
const SEEDS: u64 = 40;
/// Operations of one story: several turns of a generation of 64 KiB.
const OPERATIONS: u64 = 400;

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(20_000)
    }
}

#[derive(Default)]
struct Run {
    facts: Vec<Bytes>,
    epoch: u64,
    ended: bool,
    moved: bool,
}

/// What must be there.
#[derive(Default)]
struct Model {
    runs: BTreeMap<u64, Run>,
    outbox: BTreeSet<(u64, u64)>,
    numbers: BTreeMap<u64, u64>,
    /// Marks by event, with the targets that have not moved.
    marks: BTreeMap<u64, Vec<u64>>,
    complete: BTreeSet<u64>,
    settings: BTreeMap<Arc<str>, Arc<str>>,
}

fn id(run: u64) -> RunId {
    RunId(Uuid::from_u128(u128::from(run) + 1))
}

/// Every third sequence: the gaps belong to others.
fn position(event: u64) -> StreamPosition {
    StreamPosition { stream: "EVENTS".into(), created: 5, consumer: "sagas".into(), sequence: event * 2 + event / 3 }
}

fn key(event: u64) -> EventKey {
    EventKey { source: "/shop".into(), id: format!("event-{event}") }
}

fn mark(event: u64, targets: &[u64]) -> InboxMark {
    InboxMark {
        position: Some(position(event)),
        event: key(event),
        targets: targets.iter().map(|run| id(*run)).collect(),
    }
}

fn fact(run: u64, sequence: usize, bytes: u64) -> Bytes {
    let seed = format!("run {run} fact {sequence} ");
    seed.bytes().cycle().take(usize::try_from(bytes).unwrap().max(seed.len())).collect()
}

struct Story {
    rng: Rng,
    model: Model,
    found: Vec<String>,
    epoch: u64,
}

impl Story {
    /// The next transition of a run; its last one ends it.
    fn transition(&mut self, run: u64, ends: bool, event: Option<InboxMark>) -> Transition {
        let bytes = match self.rng.below(40) {
            0 => 90_000,
            1..5 => 9_000,
            _ => 60 + self.rng.below(900),
        };
        let known = self.model.runs.entry(run).or_default();
        let sequence = known.facts.len();
        let fact = fact(run, sequence, bytes);
        known.facts.push(fact.clone());
        known.epoch = self.epoch;
        known.ended = ends;
        let outbox = if self.rng.chance(300) {
            let number = self.model.numbers.entry(run).or_default();
            let entry = OutboxEntry { run: id(run), number: *number, event: Bytes::from(format!("event {number}")) };
            self.model.outbox.insert((run, *number));
            *number += 1;
            vec![entry]
        } else {
            Vec::new()
        };
        let ended = ends.then(|| Ended {
            index: SummaryIndex {
                run: id(run),
                saga: "order".to_owned(),
                version: 1,
                state: "completed".to_owned(),
                key: Some(format!("K-{run}")),
                correlation_id: format!("C-{run}"),
                started_at: Timestamp(1_000),
                ended_at: Timestamp(10_000 + run),
            },
            summary: Bytes::from(format!("summary of {run}")),
            tombstone: Some(Tombstone { run: id(run), input_hash: [9; 16], ended_at: Timestamp(10_000 + run) }),
        });
        Transition {
            run: id(run),
            sequence: sequence as u64,
            epoch: self.epoch,
            at: Timestamp(1_000 + sequence as u64),
            facts: vec![fact],
            definition: (sequence == 0).then_some(DEFINITION),
            outbox,
            inbox: event,
            ended,
        }
    }

    fn open_run(&mut self) -> Option<u64> {
        let open: Vec<u64> = self.model.runs.iter().filter(|(_, run)| !run.ended).map(|(run, _)| *run).collect();
        (!open.is_empty()).then(|| *self.rng.pick(&open))
    }

    async fn operate(&mut self, journal: &SledJournal) {
        let next = self.model.runs.len() as u64;
        let event = (self.model.complete.len() + self.model.marks.len()) as u64;
        let changes = match self.rng.below(14) {
            // An event starts one run, or is noted for two.
            0 => {
                self.model.complete.insert(event);
                vec![Change::Run(self.transition(next, false, Some(mark(event, &[next]))))]
            }
            1 => {
                let targets = vec![next, next + 1];
                for run in &targets {
                    let begun = self.transition(*run, false, None);
                    commit(journal, vec![Change::Run(begun)]).await;
                }
                self.model.marks.insert(event, targets.clone());
                vec![Change::Inbox(mark(event, &targets))]
            }
            2 => {
                // One of an event's targets moves.
                let open: Vec<(u64, u64)> = self.model.marks.iter().map(|(event, left)| (*event, left[0])).collect();
                let Some((event, run)) = (!open.is_empty()).then(|| *self.rng.pick(&open)) else { return };
                let left = self.model.marks.get_mut(&event).unwrap();
                let targets = left.clone();
                left.remove(0);
                if left.is_empty() {
                    self.model.marks.remove(&event);
                    self.model.complete.insert(event);
                }
                vec![Change::Run(self.transition(run, false, Some(mark(event, &targets))))]
            }
            3 => {
                let Some((run, number)) = self.model.outbox.pop_first() else { return };
                vec![Change::Published { run: id(run), number }]
            }
            4 | 5 => {
                let Some(run) = self.open_run().filter(|run| !self.model.marks.values().any(|left| left.contains(run)))
                else {
                    return;
                };
                vec![Change::Run(self.transition(run, true, None))]
            }
            6 => return self.refused(journal).await,
            12 => {
                let name: Arc<str> = format!("setting {}", self.rng.below(3)).into();
                let value = self.rng.chance(700).then(|| Arc::from(format!("value {next}")));
                match &value {
                    Some(value) => self.model.settings.insert(Arc::clone(&name), Arc::clone(value)),
                    None => self.model.settings.remove(&name),
                };
                vec![Change::Setting { name, value }]
            }
            13 => {
                let Some(run) = self.open_run().filter(|run| !self.model.runs[run].moved) else { return };
                let mut transition = self.transition(run, false, None);
                transition.definition = Some(LATER);
                self.model.runs.get_mut(&run).unwrap().moved = true;
                vec![Change::Definition { fingerprint: LATER, source: "saga: later".into() }, Change::Run(transition)]
            }
            7 => vec![Change::Run(self.transition(next, false, None))],
            _ => {
                let Some(run) = self.open_run() else { return };
                vec![Change::Run(self.transition(run, false, None))]
            }
        };
        commit(journal, changes).await;
    }

    /// A second owner, or facts out of order: neither may be stored.
    async fn refused(&mut self, journal: &SledJournal) {
        let Some(run) = self.open_run() else { return };
        let known = &self.model.runs[&run];
        let (sequence, epoch) = (known.facts.len() as u64, known.epoch);
        let wrong = if self.rng.chance(500) { (sequence + 1, epoch) } else { (sequence, epoch.saturating_sub(1)) };
        if wrong.1 == epoch && wrong.0 == sequence {
            return;
        }
        let transition = Transition {
            run: id(run),
            sequence: wrong.0,
            epoch: wrong.1,
            at: Timestamp(1),
            facts: vec![Bytes::from_static(b"wrong")],
            definition: None,
            outbox: Vec::new(),
            inbox: None,
            ended: None,
        };
        match journal.commit(vec![Change::Run(transition)]).await {
            Err(Error::Sequence { .. } | Error::Epoch { .. }) => {}
            other => self.found.push(format!("a transition out of order was taken: {other:?}")),
        }
    }

    /// Compares everything that opening gives with what must be there.
    fn compare(&mut self, journal: &SledJournal, recovered: &Recovered) {
        let model = &self.model;
        let found = &mut self.found;
        let open: BTreeMap<RunId, Vec<Bytes>> = recovered
            .runs
            .iter()
            .map(|open| (open.run, open.facts.iter().map(|(_, fact)| fact.clone()).collect()))
            .collect();
        for (run, known) in &model.runs {
            match open.get(&id(*run)) {
                Some(_) if known.ended => found.push(format!("run {run} has ended and is open")),
                None if !known.ended => found.push(format!("run {run} is lost")),
                Some(facts) if *facts != known.facts => {
                    found.push(format!("run {run} has {} facts where {} were written", facts.len(), known.facts.len()));
                }
                Some(_) | None => {}
            }
            let history = journal.history(id(*run)).map(|facts| facts.len());
            if !matches!(history, Ok(count) if count == known.facts.len()) {
                found.push(format!("the history of run {run}: {history:?} of {} facts", known.facts.len()));
            }
            let (summary, tombstone) = (journal.summary(id(*run)), journal.tombstone(id(*run)));
            let ended = (matches!(summary, Ok(Some(_))), matches!(tombstone, Ok(Some(_))));
            if ended != (known.ended, known.ended) {
                found.push(format!("run {run} ended: {}; summary {summary:?}, key {tombstone:?}", known.ended));
            }
        }
        if open.len() > model.runs.len() {
            found.push("runs that nobody wrote are open".to_owned());
        }
        let outbox: BTreeSet<(RunId, u64)> = recovered.outbox.iter().map(|entry| (entry.run, entry.number)).collect();
        let expected: BTreeSet<(RunId, u64)> = model.outbox.iter().map(|(run, number)| (id(*run), *number)).collect();
        if outbox != expected {
            found.push(format!("{} events wait to be published where {} should", outbox.len(), expected.len()));
        }
        if !open.is_empty() && !recovered.definitions.contains_key(&DEFINITION) {
            found.push("the definition of open runs is lost".to_owned());
        }
        let moved = model.runs.values().any(|run| run.moved && !run.ended);
        if moved && !recovered.definitions.contains_key(&LATER) {
            found.push("the definition that a run moved to is lost".to_owned());
        }
        if recovered.settings != model.settings {
            found.push(format!("settings are {:?} where {:?} were written", recovered.settings, model.settings));
        }
        for event in &model.complete {
            for at in [None, Some(position(*event))] {
                let state = journal.inbox(at.as_ref(), &key(*event));
                if state != InboxState::Complete {
                    found.push(format!("event {event} has been taken in, and the inbox says {state:?}"));
                }
            }
        }
        for (event, left) in &model.marks {
            let expected = InboxState::Partly { targets_left: left.iter().map(|run| id(*run)).collect() };
            let state = journal.inbox(Some(&position(*event)), &key(*event));
            if state != expected {
                found.push(format!("event {event} waits for {left:?}, and the inbox says {state:?}"));
            }
        }
        let taken: BTreeSet<u64> =
            model.complete.iter().chain(model.marks.keys()).map(|event| position(*event).sequence).collect();
        for sequence in (0..200).filter(|sequence| !taken.contains(sequence)) {
            let state = journal.inbox(Some(&StreamPosition { sequence, ..position(0) }), &key(1_000_000));
            if state != InboxState::New {
                found.push(format!("message {sequence} was never taken in, and the inbox says {state:?}"));
            }
        }
    }
}

async fn commit(journal: &SledJournal, changes: Vec<Change>) {
    journal.commit(changes).await.unwrap();
}

fn open(dir: &Path) -> Result<(SledJournal, Recovered), Error> {
    let options = Options { generation_bytes: 64 << 10, free_bytes_min: 1 << 20, ..Options::new(dir) };
    SledJournal::open_at(options, Arc::new(Fixed))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Tells one story; returns what was wrong, and how many generations there were.
async fn tell(seed: u64) -> (Vec<String>, u64) {
    // In memory where that is possible: nothing here is about syncing.
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = dir.path().join("journal");
    let mut story = Story { rng: Rng::new(seed), model: Model::default(), found: Vec::new(), epoch: 1 };
    let (mut journal, _) = open(&path).unwrap();
    commit(&journal, vec![Change::Definition { fingerprint: DEFINITION, source: "saga: order".into() }]).await;
    for _ in 0..OPERATIONS {
        story.operate(&journal).await;
        if story.rng.chance(15) {
            // Some generations are carried only in part, or not sealed yet.
            if story.rng.chance(500) {
                journal.close().await.unwrap();
            }
            drop(journal);
            let recovered;
            (journal, recovered) = match open(&path) {
                Ok(opened) => opened,
                Err(error) => return ([story.found, vec![error.to_string()]].concat(), 0),
            };
            story.epoch += 1;
            story.compare(&journal, &recovered);
            if !story.found.is_empty() {
                return (story.found, 0);
            }
        }
    }
    let generations = journal.stats().generation;
    drop(journal);
    older_copy(&path, &mut story).await;
    (story.found, generations)
}

/// An older copy of the present generation beside the present HEAD must be refused by name.
async fn older_copy(path: &Path, story: &mut Story) {
    let old = path.with_file_name("old");
    copy(path, &old);
    let Ok((journal, _)) = open(path) else { return story.found.push("it does not open".to_owned()) };
    let generation = journal.stats().generation;
    story.operate(&journal).await;
    let run = story.model.runs.len() as u64;
    let last = story.transition(run, false, None);
    commit(&journal, vec![Change::Run(last)]).await;
    drop(journal);
    let live = format!("generations/{generation:08}");
    if path.join(format!("generations/{:08}", generation + 1)).exists() || !old.join(&live).exists() {
        return; // a turn came between
    }
    fs::remove_dir_all(path.join(&live)).unwrap();
    copy(&old.join(&live), &path.join(&live));
    match open(path).map(|_| ()) {
        Err(Error::BehindHead { .. }) => {}
        other => story.found.push(format!("an older copy beside the present HEAD: {other:?}")),
    }
}

fn run(seed: u64) -> (Vec<String>, u64) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(tell(seed))
}

#[test]
fn the_journal_is_what_its_model_says() {
    #[cfg(feature = "planted")]
    let _planting = crate::planted::PLANTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut generations = 0;
    for seed in 1..=SEEDS {
        let (found, turns) = run(seed);
        assert!(found.is_empty(), "seed {seed}:\n{}", found.join("\n"));
        generations += turns;
    }
    count(&format!("{SEEDS} stories of the journal, {generations} generations"));
    assert!(generations > 2 * SEEDS, "too few turns to test them");
}

/// Every mistake that can be planted into the journal is found: `make planted`.
#[cfg(feature = "planted")]
#[test]
fn every_planted_mistake_of_the_journal_is_found() {
    use backstitch::planted::{JOURNAL, plant_everywhere};
    const STORIES: u64 = 60;
    let _planting = crate::planted::PLANTING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut hidden = Vec::new();
    for name in JOURNAL {
        plant_everywhere(Some(name));
        let begun = std::time::Instant::now();
        let found = (1..=STORIES).find_map(|seed| {
            let found = std::panic::catch_unwind(|| run(seed).0).unwrap_or_else(|_| vec!["an assertion".to_owned()]);
            found.first().map(|first| (seed, first.clone()))
        });
        plant_everywhere(None);
        match found {
            Some((seed, why)) => {
                let why: String = why.lines().next().unwrap_or_default().chars().take(110).collect();
                println!("{name:36} seed {seed:5}, {:5} ms: {why}", begun.elapsed().as_millis());
            }
            None => {
                println!("{name:36} hidden");
                hidden.push(*name);
            }
        }
    }
    println!("journal: {} planted, {} found", JOURNAL.len(), JOURNAL.len() - hidden.len());
    assert!(hidden.is_empty(), "not found in {STORIES} stories each: {hidden:?}");
}
