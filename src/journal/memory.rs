//! A journal in memory, for tests: the same rules as the real one, a queue of commits that a test can
//! hold back, and a crash that loses what was not yet on "stable storage".

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::inbox::Inbox;
use super::{
    Change, Durable, Ended, Error, EventKey, FinishedFilter, InboxState, Journal, OpenRun, OutboxEntry, Recovered,
    Stats, StreamPosition, SummaryIndex, Tombstone, Transition, check_next,
};
use crate::id::{Fingerprint, RunId};
use crate::time::{Span, Timestamp};

/// As long as the real journal's default.
const INBOX_WINDOW: Span = Span::from_secs(3_600);
/// More events than a test sends.
const INBOX_EVENTS_MAX: usize = 1_000_000;

/// The journal in memory. Clones share one store.
#[derive(Clone)]
pub struct MemoryJournal {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    store: Store,
    /// Commits not yet on stable storage, oldest first; empty unless held.
    queue: VecDeque<Held>,
    holding: bool,
    accepts_work: bool,
    closed: Option<Error>,
    stats: Stats,
}

struct Held {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<Durable<()>, Error>>,
}

/// What is on "stable storage".
struct Store {
    open: BTreeMap<RunId, Run>,
    finished: BTreeMap<RunId, (Run, Ended)>,
    by_end: BTreeMap<(Timestamp, RunId), ()>,
    tombstones: BTreeMap<RunId, Tombstone>,
    outbox: BTreeMap<(RunId, u64), Bytes>,
    definitions: BTreeMap<Fingerprint, Arc<str>>,
    settings: BTreeMap<Arc<str>, Arc<str>>,
    inbox: Inbox,
    /// The latest time in any transition.
    now: Timestamp,
}

#[derive(Clone)]
struct Run {
    definition: Fingerprint,
    epoch: u64,
    facts: Vec<(Timestamp, Bytes)>,
}

impl Default for MemoryJournal {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryJournal {
    /// Makes an empty journal that commits at once.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Store {
            open: BTreeMap::new(),
            finished: BTreeMap::new(),
            by_end: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            outbox: BTreeMap::new(),
            definitions: BTreeMap::new(),
            settings: BTreeMap::new(),
            inbox: Inbox::new(INBOX_WINDOW, INBOX_EVENTS_MAX),
            now: Timestamp::default(),
        })
    }

    fn over(store: Store) -> Self {
        let inner = Inner {
            store,
            queue: VecDeque::new(),
            holding: false,
            accepts_work: true,
            closed: None,
            stats: Stats::default(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every commit from here on until it is released.
    pub fn hold(&self) {
        self.lock().holding = true;
    }

    /// Returns how many commits are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().queue.len()
    }

    /// Makes the oldest `count` held commits durable and answers them; returns how many there were.
    pub fn release(&self, count: usize) -> usize {
        self.lock().release(count)
    }

    /// Makes all held commits durable and holds no further ones.
    pub fn resume(&self) -> usize {
        let mut inner = self.lock();
        inner.holding = false;
        inner.release(usize::MAX)
    }

    /// Says whether new work is taken, as a full disk would.
    pub fn set_accepts_work(&self, accepts: bool) {
        self.lock().accepts_work = accepts;
    }

    /// Fails every held and further commit, as a failed sync would.
    pub fn fail(&self, reason: &str) {
        let error = Error::Stopped { path: "memory".into(), reason: reason.to_owned() };
        self.lock().close(error);
    }

    /// Loses power. Of the held commits the oldest `stored` reached the disk (nobody was told), the rest
    /// is lost. Returns what opening the journal after that gives; this handle is closed.
    #[must_use]
    pub fn crash(&self, stored: usize) -> (Self, Recovered) {
        let mut inner = self.lock();
        for _ in 0..stored {
            let Some(held) = inner.queue.pop_front() else { break };
            // The changes are kept, the answer is not given: the process is gone.
            let _ = inner.store.apply(&held.changes);
        }
        inner.close(Error::Closed);
        let empty = Self::new();
        std::mem::swap(&mut inner.store, &mut empty.lock().store);
        let recovered = empty.lock().store.recovered();
        (empty, recovered)
    }
}

impl Inner {
    fn release(&mut self, count: usize) -> usize {
        let mut released = 0;
        while released < count
            && let Some(held) = self.queue.pop_front()
        {
            let result = self.commit(&held.changes);
            // A dropped receiver is a task that went away: the commit stands all the same.
            let _ = held.answer.send(result);
            released += 1;
        }
        released
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Durable<()>, Error> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        if let Err(error) = self.store.apply(changes) {
            self.close(error.clone());
            return Err(error);
        }
        let transitions = changes.iter().filter(|change| matches!(change, Change::Run(_))).count();
        self.stats.commits += 1;
        self.stats.syncs += 1;
        self.stats.transitions += transitions as u64;
        self.stats.records += changes.len() as u64;
        Ok(Durable::new(()))
    }

    fn close(&mut self, error: Error) {
        for held in self.queue.drain(..) {
            let _ = held.answer.send(Err(error.clone()));
        }
        self.closed.get_or_insert(error);
    }
}

impl Store {
    fn apply(&mut self, changes: &[Change]) -> Result<(), Error> {
        changes.iter().try_for_each(|change| match change {
            Change::Run(transition) => self.transition(transition),
            Change::Inbox(mark) => {
                self.inbox.note(mark, None, self.now);
                Ok(())
            }
            Change::Published { run, number } => {
                self.outbox.remove(&(*run, *number));
                Ok(())
            }
            Change::Definition { fingerprint, source } => {
                self.definitions.insert(*fingerprint, source.clone());
                Ok(())
            }
            Change::Setting { name, value } => {
                match value {
                    Some(value) => self.settings.insert(Arc::clone(name), Arc::clone(value)),
                    None => self.settings.remove(name),
                };
                Ok(())
            }
        })
    }

    fn transition(&mut self, transition: &Transition) -> Result<(), Error> {
        let known = self.open.get(&transition.run).map(|run| (run.facts.len() as u64, run.epoch));
        check_next(known, self.finished.contains_key(&transition.run), transition)?;
        self.now = self.now.max(transition.at);
        let run = self.open.entry(transition.run).or_insert_with(|| Run {
            definition: transition.definition.unwrap_or(Fingerprint([0; 32])),
            epoch: transition.epoch,
            facts: Vec::new(),
        });
        run.epoch = transition.epoch;
        run.facts.extend(transition.facts.iter().map(|fact| (transition.at, fact.clone())));
        for entry in &transition.outbox {
            self.outbox.insert((transition.run, entry.number), entry.event.clone());
        }
        if let Some(mark) = &transition.inbox {
            self.inbox.note(mark, Some(transition.run), self.now);
        }
        if let Some(ended) = &transition.ended
            && let Some(run) = self.open.remove(&transition.run)
        {
            if let Some(tombstone) = ended.tombstone {
                self.tombstones.insert(transition.run, tombstone);
            }
            self.by_end.insert((ended.index.ended_at, transition.run), ());
            self.finished.insert(transition.run, (run, ended.clone()));
        }
        Ok(())
    }

    fn recovered(&self) -> Recovered {
        let open = |(id, run): (&RunId, &Run)| OpenRun {
            run: *id,
            definition: run.definition,
            epoch: run.epoch,
            facts: run.facts.clone(),
        };
        let entry = |((run, number), event): (&(RunId, u64), &Bytes)| OutboxEntry {
            run: *run,
            number: *number,
            event: event.clone(),
        };
        Recovered {
            runs: self.open.iter().map(open).collect(),
            outbox: self.outbox.iter().map(entry).collect(),
            definitions: self.definitions.clone(),
            settings: self.settings.clone(),
            notes: vec![format!("memory journal: {} open runs", self.open.len())],
        }
    }
}

impl Journal for MemoryJournal {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Durable<()>, Error>> {
        let mut inner = self.lock();
        if !inner.holding || inner.closed.is_some() {
            let result = inner.commit(&changes);
            return Box::pin(std::future::ready(result));
        }
        let (answer, answered) = oneshot::channel();
        inner.queue.push_back(Held { changes, answer });
        Box::pin(async move { answered.await.unwrap_or(Err(Error::Closed)) })
    }

    fn inbox(&self, position: Option<&StreamPosition>, event: &EventKey) -> InboxState {
        self.lock().store.inbox.state(position, event)
    }

    fn tombstone(&self, run: RunId) -> Result<Option<Tombstone>, Error> {
        Ok(self.lock().store.tombstones.get(&run).copied())
    }

    fn summary(&self, run: RunId) -> Result<Option<Bytes>, Error> {
        Ok(self.lock().store.finished.get(&run).map(|(_, ended)| ended.summary.clone()))
    }

    fn history(&self, run: RunId) -> Result<Vec<(Timestamp, Bytes)>, Error> {
        let inner = self.lock();
        let finished = inner.store.finished.get(&run).map(|(run, _)| run);
        let found = inner.store.open.get(&run).or(finished);
        Ok(found.map(|run| run.facts.clone()).unwrap_or_default())
    }

    fn finished(&self, filter: &FinishedFilter) -> Result<Vec<(SummaryIndex, Bytes)>, Error> {
        let inner = self.lock();
        let newest_first =
            inner.store.by_end.keys().rev().filter(|place| filter.after.is_none_or(|after| **place < after));
        let found = newest_first
            .filter_map(|(_, run)| inner.store.finished.get(run))
            .filter(|(_, ended)| filter.matches(&ended.index))
            .take(filter.limit)
            .map(|(_, ended)| (ended.index.clone(), ended.summary.clone()));
        Ok(found.collect())
    }

    fn accepts_work(&self) -> bool {
        self.lock().accepts_work
    }

    fn stats(&self) -> Stats {
        let inner = self.lock();
        Stats { queue_len: inner.queue.len() as u64, ..inner.stats }
    }

    fn path(&self) -> Option<&std::path::Path> {
        None
    }

    fn verify(&self) -> Result<super::sled_store::VerifyReport, Error> {
        Err(no_directory())
    }

    fn backup(&self, _: &std::path::Path) -> Result<super::sled_store::BackupReport, Error> {
        Err(no_directory())
    }

    fn export(&self, _: &mut dyn std::io::Write) -> Result<u64, Error> {
        Err(no_directory())
    }

    fn close(&self) -> BoxFuture<'static, Result<(), Error>> {
        let mut inner = self.lock();
        inner.release(usize::MAX);
        inner.close(Error::Closed);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn no_directory() -> Error {
    Error::Refused { path: "memory".into(), reason: "this journal is in memory: there are no files".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn transition(run: u128, sequence: u64) -> Vec<Change> {
        let definition = (sequence == 0).then_some(Fingerprint([7; 32]));
        vec![Change::Run(Transition {
            run: RunId(Uuid::from_u128(run)),
            sequence,
            epoch: 1,
            at: Timestamp(sequence),
            facts: vec![Bytes::from(format!("fact {sequence}"))],
            definition,
            outbox: Vec::new(),
            inbox: None,
            ended: None,
        })]
    }

    #[tokio::test]
    async fn a_crash_loses_exactly_what_was_held() {
        let journal = MemoryJournal::new();
        journal.commit(transition(1, 0)).await.unwrap();
        journal.hold();
        let held: Vec<_> = (1..4).map(|sequence| journal.commit(transition(1, sequence))).collect();
        assert_eq!(journal.held(), 3);
        assert_eq!(journal.release(1), 1);
        let (after, recovered) = journal.crash(1);
        assert_eq!(recovered.runs.len(), 1);
        let facts: Vec<_> = recovered.runs[0].facts.iter().map(|(_, fact)| fact.clone()).collect();
        assert_eq!(facts, ["fact 0", "fact 1", "fact 2"], "one answered, one stored without an answer, one lost");
        let mut answers = Vec::new();
        for commit in held {
            answers.push(commit.await.is_ok());
        }
        assert_eq!(answers, [true, false, false]);
        assert!(matches!(journal.commit(transition(1, 3)).await, Err(Error::Closed)));
        after.commit(transition(1, 3)).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_next_fact_of_a_run_is_taken() {
        let journal = MemoryJournal::new();
        journal.commit(transition(1, 0)).await.unwrap();
        let gap = journal.commit(transition(1, 2)).await;
        assert!(matches!(gap, Err(Error::Sequence { expected: 1, got: 2, .. })));
        assert!(journal.commit(transition(1, 1)).await.is_err(), "a refused commit is final");
    }
}
