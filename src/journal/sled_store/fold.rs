//! Reads generations back, from the oldest that is needed to the newest: index, inbox, ledger, and every
//! fact of the runs that are open at the end.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::index::{Index, Place};
use super::ledger::Ledger;
use super::pack;
use super::store::{Commit, Store};
use crate::id::RunId;
use crate::journal::inbox::Inbox;
use crate::journal::record::{self, GenerationStart, Record};
use crate::journal::{Change, Error, OpenRun, OutboxEntry, Recovered};
use crate::small_map::SmallMap;
use crate::time::Timestamp;

/// What was read so far.
pub struct Fold {
    pub ledger: Ledger,
    pub inbox: Inbox,
    facts: HashMap<RunId, SmallMap<u64, (Timestamp, Bytes)>>,
    outbox: BTreeMap<(RunId, u64), Bytes>,
}

/// What one generation gave.
#[derive(Debug, Default)]
pub struct Folded {
    pub index: Index,
    pub start: Option<GenerationStart>,
    /// It needs no generation before it.
    pub carry_done: bool,
    pub first_commit: u64,
    pub last_commit: u64,
    pub last_at: Timestamp,
    pub records: u64,
    /// Bytes of all commits.
    pub bytes: u64,
}

impl Fold {
    /// Starts with nothing.
    pub fn new(inbox: Inbox) -> Self {
        Self { ledger: Ledger::default(), inbox, facts: HashMap::new(), outbox: BTreeMap::new() }
    }

    /// Reads one generation on top of those before it.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the commit that cannot be read.
    pub fn generation(&mut self, store: &Store, number: u64, journal: [u8; 8]) -> Result<Folded, Error> {
        let mut folded = Folded::default();
        self.ledger.written.clear();
        let mut order = CommitCheck::new(number, journal);
        store.scan(|commit| {
            let damaged =
                |reason: String| Error::damaged(store.dir(), format!("commit {}: {reason}", commit.header.commit));
            order.check(&commit.header).map_err(damaged)?;
            if folded.first_commit == 0 {
                folded.first_commit = commit.header.commit;
            }
            folded.last_commit = commit.header.commit;
            folded.last_at = folded.last_at.max(commit.header.at);
            folded.bytes += commit.stream.len() as u64;
            let records =
                each_record(&commit, |record, place| self.record(record, place, number, &commit, &mut folded));
            folded.records += records.map_err(|unreadable| damaged(unreadable.to_string()))?;
            Ok(())
        })?;
        Ok(folded)
    }

    fn record(&mut self, record: &Record, place: Place, generation: u64, commit: &Commit, folded: &mut Folded) {
        self.ledger.restore(record, generation, place, |run| folded.index.has_ended(run));
        match record {
            Record::Change(Change::Run(transition)) => {
                for entry in &transition.outbox {
                    self.outbox.insert((entry.run, entry.number), entry.event.clone());
                }
                if let Some(mark) = &transition.inbox {
                    self.inbox.note(mark, Some(transition.run), commit.header.at);
                }
                if transition.ended.is_some() {
                    self.facts.remove(&transition.run);
                } else {
                    let facts = transition.facts.iter().map(|fact| (transition.at, fact.clone()));
                    self.facts.entry(transition.run).or_default().extend((transition.sequence..).zip(facts));
                }
            }
            Record::Change(Change::Inbox(mark)) => self.inbox.note(mark, None, commit.header.at),
            Record::Change(Change::Published { run, number }) => {
                self.outbox.remove(&(*run, *number));
            }
            Record::Change(Change::Definition { .. } | Change::Setting { .. }) => {}
            Record::Generation(start) => folded.start = Some(start.clone()),
            Record::CarriedFacts(carried) => {
                if !folded.index.has_ended(carried.run) {
                    let facts = carried.facts.iter().cloned();
                    self.facts.entry(carried.run).or_default().extend((carried.sequence..).zip(facts));
                }
            }
            Record::CarriedOutbox(entry) => {
                self.outbox.insert((entry.run, entry.number), entry.event.clone());
            }
            Record::CarriedPositions { .. } | Record::CarriedMark { .. } | Record::CarriedEvents(_) => {
                self.inbox.restore(record);
            }
            Record::CarryDone => folded.carry_done = true,
        }
        folded.index.apply(record, place);
    }

    /// Ends the reading: checks that no open run misses a fact.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the run.
    pub fn finish(self, store: &Store) -> Result<(Ledger, Inbox, Recovered), Error> {
        let Self { ledger, inbox, mut facts, outbox } = self;
        let damaged = |run: RunId, reason: String| Error::damaged(store.dir(), format!("run {run}: {reason}"));
        let mut runs = Vec::with_capacity(ledger.open.len());
        for (run, open) in &ledger.open {
            let facts = facts.remove(run).unwrap_or_default();
            if let Some((expected, _)) = (0..).zip(facts.keys()).find(|(expected, found)| expected != *found) {
                return Err(damaged(*run, format!("fact {expected} is missing")));
            }
            let definition = open.definitions.first().copied();
            let definition = definition.ok_or_else(|| damaged(*run, "it has no definition".to_owned()))?;
            if facts.len() as u64 != open.next {
                return Err(damaged(*run, format!("{} facts are there where {} were stored", facts.len(), open.next)));
            }
            runs.push(OpenRun { run: *run, definition, epoch: open.epoch, facts: facts.into_values() });
        }
        runs.sort_by_key(|run| run.run);
        let outbox = outbox.into_iter().map(|((run, number), event)| OutboxEntry { run, number, event }).collect();
        let (definitions, settings) = (ledger.definitions.clone(), ledger.settings.clone());
        let recovered = Recovered { runs, outbox, definitions, settings, notes: Vec::new() };
        Ok((ledger, inbox, recovered))
    }
}

/// Checks that each commit is the one that belongs there.
pub struct CommitCheck {
    generation: u64,
    journal: [u8; 8],
    last: u64,
}

impl CommitCheck {
    /// Begins with a generation's first commit.
    pub fn new(generation: u64, journal: [u8; 8]) -> Self {
        Self { generation, journal, last: 0 }
    }

    /// Checks the next commit.
    ///
    /// # Errors
    /// Says what is wrong with its place.
    pub fn check(&mut self, header: &pack::CommitHeader) -> Result<(), String> {
        if header.journal != self.journal {
            return Err("it belongs to another journal".to_owned());
        }
        if header.generation != self.generation {
            return Err(format!("it belongs to generation {}", header.generation));
        }
        if self.last != 0 && header.commit != self.last + 1 {
            return Err(format!("the commits from {} on are missing", self.last + 1));
        }
        self.last = header.commit;
        Ok(())
    }
}

/// Calls `visit` for each record of a commit; returns how many there are.
///
/// # Errors
/// [`Unreadable`](crate::journal::bytes::Unreadable) for a damaged record.
pub fn each_record(
    commit: &Commit,
    mut visit: impl FnMut(&Record, Place),
) -> Result<u64, crate::journal::bytes::Unreadable> {
    let mut offset = pack::HEADER_BYTES;
    let mut count = 0;
    while offset < commit.stream.len() {
        let (record, length) = record::read(&commit.stream[offset..])?;
        visit(&record, Place { commit: commit.header.commit, offset: u32::try_from(offset).unwrap_or(u32::MAX) });
        offset += length;
        count += 1;
    }
    if count == u64::from(commit.header.records) {
        Ok(count)
    } else {
        Err(crate::journal::bytes::Unreadable("the number of records"))
    }
}
