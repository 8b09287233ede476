//! What must not be lost: the facts of runs, inbox marks, the outbox, tombstones, summaries and saga
//! definitions. Facts are opaque bytes here; what they mean is the core's business. No sled type leaves
//! this module.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::id::{Fingerprint, RunId};
use crate::planted;
use crate::time::{LATENCY_BUCKETS_US, Timestamp};

mod bytes;
mod error;
mod inbox;
pub mod memory;
mod record;
#[cfg(test)]
mod record_tests;
pub mod sled_store;

pub use error::Error;
pub use memory::MemoryJournal;
pub use sled_store::{Options, Retention, SledJournal};

/// Proof that a value's journal records are on stable storage. Only this module can make one.
#[derive(Debug)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value, for acting on it.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// One step of one run: everything in it becomes durable together or not at all.
#[derive(Debug, Clone)]
pub struct Transition {
    pub run: RunId,
    /// Number of the run's first fact in `facts`, from 0: gapless per run.
    pub sequence: u64,
    /// Owner's epoch when the facts were decided.
    pub epoch: u64,
    pub at: Timestamp,
    /// Encoded facts in order.
    pub facts: Vec<Bytes>,
    /// Set on a run's first transition: the definition it stays on.
    pub definition: Option<Fingerprint>,
    /// Events to publish, in the run's order.
    pub outbox: Vec<OutboxEntry>,
    /// The inbox mark that this transition strikes itself out of (and makes, if it is not there yet).
    pub inbox: Option<InboxMark>,
    /// Set on a run's last transition.
    pub ended: Option<Ended>,
}

/// An event waiting to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxEntry {
    pub run: RunId,
    /// Place in the run's order of events, from 0.
    pub number: u64,
    /// The encoded event.
    pub event: Bytes,
}

/// Where an event came from and which runs it concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxMark {
    /// None for an event that did not come over the bus.
    pub position: Option<StreamPosition>,
    /// The event's identity: its source and id.
    pub event: EventKey,
    /// Every run that the event concerns; empty for one that concerns none (kept for dedupe only).
    pub targets: Vec<RunId>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventKey {
    pub source: String,
    pub id: String,
}

/// A message's place in a stream. `created` tells a stream made anew apart from the one before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamPosition {
    pub stream: Arc<str>,
    /// The stream's creation time, in nanoseconds since 1970.
    pub created: u64,
    pub consumer: Arc<str>,
    pub sequence: u64,
}

/// What remains of a run in lists when it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What `list` filters by.
    pub index: SummaryIndex,
    /// The encoded summary: what `list` and `show` print.
    pub summary: Bytes,
    /// Kept for `keys.keep`, for runs with a key.
    pub tombstone: Option<Tombstone>,
}

/// What finished runs are found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryIndex {
    pub run: RunId,
    pub saga: String,
    pub version: u32,
    /// `completed` or `compensated`.
    pub state: String,
    pub key: Option<String>,
    pub correlation_id: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
}

/// What remains of a key when its run has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub run: RunId,
    /// First 16 bytes of the SHA-256 of the canonical input.
    pub input_hash: [u8; 16],
    pub ended_at: Timestamp,
}

/// One thing to commit. Changes of one group commit are independent of each other.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every change is a transition; a box would cost each an allocation"
)]
#[derive(Debug, Clone)]
pub enum Change {
    Run(Transition),
    /// An event that starts or concerns several runs, or none: noted before its targets move.
    Inbox(InboxMark),
    /// The bus has it. `position` is where, for the hold (FINDINGS, "Outbox hold").
    Published {
        run: RunId,
        number: u64,
    },
    /// Stored once per fingerprint, before the first run that uses it.
    Definition {
        fingerprint: Fingerprint,
        source: Arc<str>,
    },
    /// A value that the owner keeps under a name; none takes it away.
    Setting {
        name: Arc<str>,
        value: Option<Arc<str>>,
    },
}

/// An open run as read back.
#[derive(Debug)]
pub struct OpenRun {
    pub run: RunId,
    pub definition: Fingerprint,
    /// Highest epoch in its records.
    pub epoch: u64,
    /// Every fact from the first, with the time of its transition.
    pub facts: Vec<(Timestamp, Bytes)>,
}

/// What opening a journal gives the coordinator.
#[derive(Debug, Default)]
pub struct Recovered {
    pub runs: Vec<OpenRun>,
    /// Not yet published, in per-run order.
    pub outbox: Vec<OutboxEntry>,
    pub definitions: BTreeMap<Fingerprint, Arc<str>>,
    /// What was kept under a name.
    pub settings: BTreeMap<Arc<str>, Arc<str>>,
    /// Lines for the log: what was repaired, what was read, how long it took.
    pub notes: Vec<String>,
}

/// What the inbox knows of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InboxState {
    /// Never seen, or beyond the window.
    New,
    /// Marked; these targets have not moved yet.
    Partly { targets_left: Vec<RunId> },
    /// Every target has it: acknowledge and drop.
    Complete,
}

/// Which finished runs to list, newest end first.
#[derive(Debug, Clone, Default)]
pub struct FinishedFilter {
    pub saga: Option<String>,
    pub state: Option<String>,
    pub correlation_id: Option<String>,
    pub key: Option<String>,
    /// Ended at or after.
    pub since: Option<Timestamp>,
    /// Continue behind this (end time, run).
    pub after: Option<(Timestamp, RunId)>,
    pub limit: usize,
}

/// Figures for metrics and the benchmark, counted since open.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Stats {
    pub commits: u64,
    pub syncs: u64,
    pub transitions: u64,
    pub records: u64,
    /// sled keys written.
    pub keys: u64,
    pub payload_bytes: u64,
    pub generation: u64,
    pub disk_bytes: u64,
    pub queue_len: u64,
    /// Keys of finished runs in files, and how many were dropped because there were too many.
    pub keys_known: u64,
    pub keys_dropped: u64,
    /// Times of commits with their syncs, by [`crate::time::latency_bucket`].
    pub commit_times: [u64; LATENCY_BUCKETS_US.len() + 1],
    /// Their sum, in microseconds.
    pub commit_us: u64,
}

/// Append, read back, look up. Shared between tasks; a failed commit is final (the owner ends the process).
pub trait Journal: Send + Sync + 'static {
    /// Queues changes of one run or none; resolves when they are on stable storage. Changes given in
    /// one call are committed together, and calls are committed in the order they were made.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Durable<()>, Error>>;

    /// Tells what is known of an event (in memory, no IO).
    fn inbox(&self, position: Option<&StreamPosition>, event: &EventKey) -> InboxState;

    /// Finds the tombstone of a finished run with a key.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn tombstone(&self, run: RunId) -> Result<Option<Tombstone>, Error>;

    /// Returns a finished run's summary while its generation is kept.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn summary(&self, run: RunId) -> Result<Option<Bytes>, Error>;

    /// Returns all facts of a run, open or finished, while its generation is kept.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn history(&self, run: RunId) -> Result<Vec<(Timestamp, Bytes)>, Error>;

    /// Lists finished runs' summaries, newest end first.
    ///
    /// # Errors
    /// [`Error`] when the store cannot be read.
    fn finished(&self, filter: &FinishedFilter) -> Result<Vec<(SummaryIndex, Bytes)>, Error>;

    /// True while new work may be taken: false when the disk is nearly full.
    fn accepts_work(&self) -> bool;

    /// Returns the figures.
    fn stats(&self) -> Stats;

    /// Returns the directory that it lies in; none in memory.
    fn path(&self) -> Option<&std::path::Path>;

    /// Reads everything while it is in use and says what is wrong. Blocks.
    ///
    /// # Errors
    /// [`Error`] when it cannot be read at all.
    fn verify(&self) -> Result<sled_store::VerifyReport, Error>;

    /// Backs it up while it is in use, into a directory that does not exist yet. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] when the directory is there, and [`Error::Io`].
    fn backup(&self, to: &std::path::Path) -> Result<sled_store::BackupReport, Error>;

    /// Exports it while it is in use; returns the number of lines. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a record cannot be read, [`Error::Io`] when the output cannot be written.
    fn export(&self, out: &mut dyn std::io::Write) -> Result<u64, Error>;

    /// Writes HEAD, syncs and closes; nothing may be committed afterwards.
    fn close(&self) -> BoxFuture<'static, Result<(), Error>>;
}

impl FinishedFilter {
    /// True for a run that the filter asks for, wherever the list continues.
    pub(crate) fn matches(&self, index: &SummaryIndex) -> bool {
        self.saga.as_ref().is_none_or(|saga| *saga == index.saga)
            && self.state.as_ref().is_none_or(|state| *state == index.state)
            && self.correlation_id.as_ref().is_none_or(|id| *id == index.correlation_id)
            && self.key.as_ref().is_none_or(|key| Some(key) == index.key.as_ref())
            && self.since.is_none_or(|since| index.ended_at >= since)
    }
}

/// Checks that a transition is the next one of its run. `known` is the number of its next fact and its
/// highest epoch; none for a run that is not open.
fn check_next(known: Option<(u64, u64)>, ended: bool, transition: &Transition) -> Result<(), Error> {
    let run = transition.run;
    let (expected, epoch) = known.unwrap_or((0, 0));
    if known.is_none() && ended {
        return Err(Error::Ended { run });
    }
    if transition.sequence != expected && !planted::is("sequence_is_not_checked") {
        return Err(Error::Sequence { run, expected, got: transition.sequence });
    }
    if transition.epoch < epoch && !planted::is("epoch_is_not_checked") {
        return Err(Error::Epoch { run, known: epoch, got: transition.epoch });
    }
    Ok(())
}
