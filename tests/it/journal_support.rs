//! What the journal's tests share: small transitions, a clock that is moved, a journal in a directory.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstitch::id::{Fingerprint, RunId};
use backstitch::journal::{
    Change, Ended, EventKey, InboxMark, Journal, Options, OutboxEntry, Recovered, SledJournal, StreamPosition,
    SummaryIndex, Tombstone, Transition,
};
use backstitch::time::{Clock, Timestamp};
use bytes::Bytes;
use uuid::Uuid;

pub const DEFINITION: Fingerprint = Fingerprint([7; 32]);

pub fn run_id(number: u64) -> RunId {
    RunId(Uuid::from_u128(u128::from(number) + 1))
}

/// The content of a fact: of that length, and different for every (run, sequence).
pub fn fact(run: u64, sequence: u64, bytes: usize) -> Bytes {
    let seed = format!("run {run} fact {sequence} ");
    seed.bytes().cycle().take(bytes.max(seed.len())).collect()
}

/// One fact of a run.
pub fn step(run: u64, sequence: u64, bytes: usize) -> Transition {
    Transition {
        run: run_id(run),
        sequence,
        epoch: 1,
        at: Timestamp(1_000 + sequence),
        facts: vec![fact(run, sequence, bytes)],
        definition: (sequence == 0).then_some(DEFINITION),
        outbox: Vec::new(),
        inbox: None,
        ended: None,
    }
}

/// A run's last transition.
pub fn end(run: u64, sequence: u64, ended_at: u64) -> Transition {
    let index = SummaryIndex {
        run: run_id(run),
        saga: if run.is_multiple_of(2) { "even".to_owned() } else { "odd".to_owned() },
        version: 1,
        state: "completed".to_owned(),
        key: Some(format!("K-{run}")),
        correlation_id: format!("C-{}", run / 10),
        started_at: Timestamp(1_000),
        ended_at: Timestamp(ended_at),
    };
    let tombstone = Tombstone { run: run_id(run), input_hash: [run as u8; 16], ended_at: Timestamp(ended_at) };
    let summary = Bytes::from(format!("summary of {run}"));
    Transition { ended: Some(Ended { index, summary, tombstone: Some(tombstone) }), ..step(run, sequence, 50) }
}

pub fn publish(run: u64, number: u64) -> OutboxEntry {
    OutboxEntry { run: run_id(run), number, event: Bytes::from(format!("event {number} of {run}")) }
}

pub fn mark(id: u64, targets: &[u64]) -> InboxMark {
    InboxMark {
        position: Some(position(id)),
        event: event(id),
        targets: targets.iter().map(|run| run_id(*run)).collect(),
    }
}

pub fn event(id: u64) -> EventKey {
    EventKey { source: "/shop".into(), id: format!("event-{id}") }
}

pub fn position(sequence: u64) -> StreamPosition {
    StreamPosition { stream: "EVENTS".into(), created: 5, consumer: "sagas".into(), sequence }
}

pub fn definition() -> Change {
    Change::Definition { fingerprint: DEFINITION, source: "saga: order".into() }
}

/// A clock that a test moves.
#[derive(Clone)]
pub struct Moved(Arc<AtomicU64>);

impl Moved {
    pub fn at(millis: u64) -> Self {
        Self(Arc::new(AtomicU64::new(millis)))
    }

    pub fn to(&self, millis: u64) {
        self.0.store(millis, Ordering::SeqCst);
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Small limits, so that a test meets them.
pub fn options(path: &Path) -> Options {
    Options { generation_bytes: 64 << 10, free_bytes_min: 1 << 20, ..Options::new(path) }
}

/// Opens a journal at 20 s past 1970, when the runs of these tests have just ended.
pub fn open(path: &Path) -> (SledJournal, Recovered) {
    SledJournal::open_at(options(path), Arc::new(Moved::at(20_000))).unwrap()
}

pub async fn commit(journal: &SledJournal, transition: Transition) {
    journal.commit(vec![Change::Run(transition)]).await.unwrap();
}

/// Checks that an open run has exactly its first `count` facts.
pub fn check_facts(recovered: &Recovered, run: u64, count: u64, bytes: usize) {
    let found = recovered.runs.iter().find(|open| open.run == run_id(run));
    let found = found.unwrap_or_else(|| panic!("run {run} is not open"));
    let facts: Vec<_> = found.facts.iter().map(|(_, fact)| fact.clone()).collect();
    let expected: Vec<_> = (0..count).map(|sequence| fact(run, sequence, bytes)).collect();
    assert!(facts == expected, "run {run}: {} facts, expected {count}", facts.len());
    assert_eq!(found.definition, DEFINITION);
}

/// Runs a program of the system; the error is what it printed.
pub fn tool(program: &str, args: &[&str]) -> Result<(), String> {
    let out = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    if out.status.success() { Ok(()) } else { Err(format!("{program} {}: {}", args.join(" "), text.trim())) }
}
