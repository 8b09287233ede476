//! The one thread that writes. It takes whatever is queued, writes it as one commit, syncs, makes it
//! visible to readers, and only then answers. While a sync runs the queue grows: that is the group, and
//! nobody waits for a timer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::head::{Head, HeadState};
use super::index::Place;
use super::janitor::Janitor;
use super::ledger::Ledger;
use super::pack::{self, CommitHeader};
use super::shared::{Request, Shared};
use super::store::Store;
use super::turn::Carry;
use crate::failpoint;
use crate::journal::record;
use crate::journal::{Change, Durable, Error};
use crate::time::{Clock, Timestamp, latency_bucket};

/// A commit takes in requests until it is this large: below it sled's batch and the sync stay well under
/// 100 ms, above it nothing is gained.
const GROUP_BYTES: usize = 4 << 20;
/// HEAD is synced at least this often while it changes: what a power cut may leave unnoticed.
const HEAD_SYNC: Duration = Duration::from_secs(1);
/// How often room is looked for while there is too little.
const ROOM_POLL: Duration = Duration::from_millis(100);

/// The writer's own state.
pub struct Writer {
    pub shared: Arc<Shared>,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<Store>,
    pub head: Head,
    /// What HEAD says.
    pub state: HeadState,
    pub ledger: Ledger,
    pub disk: Disk,
    pub head_synced: Instant,
    /// Reused: the stream of the commit being written.
    pub stream: Vec<u8>,
    /// Bytes of all commits of the live generation.
    pub live_bytes: u64,
    /// Bytes that were carried into the live generation.
    pub carried_bytes: u64,
    /// What has yet to be carried into the live generation.
    pub carry: Option<Carry>,
    pub janitor: Janitor,
}

impl Writer {
    /// Writes until the journal is closed or something fails; then answers whoever still waits.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        let result = catch_unwind(AssertUnwindSafe(|| self.serve()));
        drop(self); // closes the store before anybody hears that it is closed
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Stopped {
                path: shared.path.clone(),
                reason: "the writer met a mistake of its own; its message is in the log".to_owned(),
            }),
        };
        let mut queue = shared.queue();
        let error = outcome.as_ref().err().cloned().unwrap_or(Error::Closed);
        queue.closing = true;
        queue.stopped = Some(error.clone());
        for request in queue.requests.drain(..) {
            // A dropped receiver is a task that went away.
            let _ = request.answer.send(Err(error.clone()));
        }
        for answer in queue.close_answers.drain(..) {
            let _ = answer.send(outcome.clone());
        }
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            let Some(requests) = self.take() else {
                self.janitor.finish();
                return self.head.write_both(&self.state);
            };
            if !requests.is_empty() {
                self.group(requests)?;
            }
            self.carry_slice()?;
            self.turn_if_due()?;
            self.tidy()?;
            if self.head.is_dirty() && self.head_synced.elapsed() >= HEAD_SYNC {
                self.head.sync()?;
                self.head_synced = Instant::now();
            }
        }
    }

    /// Waits for requests, at most until HEAD is to be synced. None: closed, and all is written.
    fn take(&mut self) -> Option<Vec<Request>> {
        let mut queue = self.shared.queue();
        if queue.requests.is_empty() && !queue.closing && !self.can_carry() {
            queue = self.shared.wait(queue, HEAD_SYNC);
        }
        if queue.requests.is_empty() {
            let closing = queue.closing;
            drop(queue);
            self.look_at_disk();
            return (!closing).then(Vec::new);
        }
        let mut bytes = 0;
        let mut taken = Vec::new();
        while let Some(request) = queue.requests.front()
            && (taken.is_empty() || bytes + request.bytes.len() <= GROUP_BYTES)
        {
            bytes += request.bytes.len();
            taken.extend(queue.requests.pop_front());
        }
        Some(taken)
    }

    fn look_at_disk(&self) -> u64 {
        let free = self.disk.free_bytes();
        self.shared.set_accepts(self.disk.accepts(free));
        free
    }

    /// Waits until a commit of that size fits: sled would stop for good in the middle of it.
    fn wait_for_room(&self, bytes: usize) -> Result<(), Error> {
        loop {
            let free = self.look_at_disk();
            if self.disk.has_room(free, bytes as u64) {
                return Ok(());
            }
            let queue = self.shared.queue();
            if queue.closing {
                let reason = "the disk is full; what was not acknowledged is not stored".to_owned();
                return Err(Error::Stopped { path: self.shared.path.clone(), reason });
            }
            drop(self.shared.wait(queue, ROOM_POLL));
        }
    }

    /// Writes one group as one commit.
    fn group(&mut self, requests: Vec<Request>) -> Result<(), Error> {
        failpoint::hit("journal.taken");
        let started = Instant::now();
        let at = self.clock.now();
        let commit = self.state.commit + 1;
        let mut stream = std::mem::take(&mut self.stream);
        pack::begin(&mut stream);
        let mut records = 0_u32;
        let mut transitions = 0;
        let mut accepted: Vec<(Request, usize)> = Vec::with_capacity(requests.len());
        for request in requests {
            if let Err(error) = self.check(&request.changes) {
                // The owner ends the process; what others asked for in this group still stands.
                let _ = request.answer.send(Err(error));
                continue;
            }
            records += self.missing_definitions(&request.changes, &mut stream);
            let start = stream.len();
            stream.extend_from_slice(&request.bytes);
            records += u32::try_from(request.changes.len()).unwrap_or(u32::MAX);
            for (change, place) in places(&request.changes, &stream, start, commit) {
                self.ledger.change(change, self.state.generation, place);
                transitions += u64::from(matches!(change, Change::Run(_)));
            }
            accepted.push((request, start));
        }
        if accepted.is_empty() {
            self.stream = stream;
            return Ok(());
        }
        let keys = match self.append(&mut stream, records, at) {
            Ok(keys) => keys,
            Err(error) => {
                for (request, _) in accepted {
                    let _ = request.answer.send(Err(error.clone()));
                }
                return Err(error);
            }
        };

        let mut view = self.shared.view_mut();
        for (request, start) in &accepted {
            for (change, place) in places(&request.changes, &stream, *start, commit) {
                view.live.index.change(change, place);
                match change {
                    Change::Run(transition) => {
                        if let Some(mark) = &transition.inbox {
                            view.inbox.note(mark, Some(transition.run), at);
                        }
                    }
                    Change::Inbox(mark) => view.inbox.note(mark, None, at),
                    Change::Published { .. } | Change::Definition { .. } | Change::Setting { .. } => {}
                }
            }
        }
        self.shared.set_head(self.state);
        drop(view);
        let mut stats = self.shared.stats();
        stats.transitions += transitions;
        stats.records += u64::from(records);
        stats.keys += keys;
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        stats.commit_times[latency_bucket(took_us)] += 1;
        stats.commit_us = stats.commit_us.saturating_add(took_us);
        drop(stats);
        for (request, _) in accepted {
            // A dropped receiver is a task that went away: the commit stands all the same.
            let _ = request.answer.send(Ok(Durable::new(())));
        }
        failpoint::hit("journal.answered");
        self.stream = stream;
        Ok(())
    }

    /// Writes a finished stream as the next commit, and HEAD.
    pub fn append(&mut self, stream: &mut [u8], records: u32, at: Timestamp) -> Result<u64, Error> {
        let commit = self.state.commit + 1;
        let header = CommitHeader {
            journal: pack::journal_mark(self.state.journal),
            generation: self.state.generation,
            commit,
            at,
            records,
        };
        pack::finish(stream, &header);
        self.wait_for_room(stream.len())?;
        let keys = self.store.append(commit, stream)?;
        self.state.commit = commit;
        self.head.write(&self.state)?;
        failpoint::hit("journal.head_written");
        self.live_bytes += stream.len() as u64;
        let mut stats = self.shared.stats();
        stats.commits += 1;
        stats.syncs += 1;
        stats.payload_bytes += stream.len() as u64;
        stats.generation = self.state.generation;
        Ok(keys)
    }

    fn check(&self, changes: &[Change]) -> Result<(), Error> {
        changes.iter().try_for_each(|change| match change {
            Change::Run(transition) => self.ledger.check(transition, |run| self.shared.view().has_just_ended(run)),
            Change::Inbox(_) | Change::Published { .. } | Change::Definition { .. } | Change::Setting { .. } => Ok(()),
        })
    }

    /// Appends the definitions that these changes use and that lie only in an older generation.
    fn missing_definitions(&mut self, changes: &[Change], stream: &mut Vec<u8>) -> u32 {
        let mut records = 0;
        for change in changes {
            if let Change::Run(transition) = change
                && let Some(fingerprint) = transition.definition
                && !self.ledger.written.contains(&fingerprint)
                && let Some(source) = self.ledger.definitions.get(&fingerprint)
            {
                record::put_change(stream, &Change::Definition { fingerprint, source: source.clone() });
                self.ledger.written.insert(fingerprint);
                records += 1;
            }
        }
        records
    }
}

/// Returns each change with the place of its record; the records begin at `start` of the stream.
fn places<'a>(
    changes: &'a [Change],
    stream: &'a [u8],
    start: usize,
    commit: u64,
) -> impl Iterator<Item = (&'a Change, Place)> {
    let mut offset = start;
    changes.iter().map(move |change| {
        let place = Place { commit, offset: u32::try_from(offset).unwrap_or(u32::MAX) };
        offset += record::length(&stream[offset..]);
        (change, place)
    })
}
