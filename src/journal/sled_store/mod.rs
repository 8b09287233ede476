//! The journal on sled: a packed log in generations, written by one thread with group commit, durable
//! against loss of power. `docs/journal.md` describes what lies on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::record;
use super::{
    Change, Durable, Error, EventKey, FinishedFilter, InboxState, Journal, Recovered, Stats, StreamPosition,
    SummaryIndex, Tombstone,
};
use crate::id::RunId;
use crate::time::{Clock, Span, Timestamp};

mod backup;
mod disk;
mod export;
mod fold;
mod head;
mod import;
mod index;
mod janitor;
mod keys;
mod ledger;
mod line;
mod lock;
mod open;
mod pack;
mod pages;
mod quiet;
mod read;
mod repair;
mod sealed;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod turn;
mod verify;
mod write;
mod writer;

pub use backup::{BackupReport, backup, restore};
pub use export::export;
pub use import::{ImportReport, import};
pub use lock::is_in_use;
pub use store::Sync;
pub use verify::{GenerationReport, VerifyReport, verify};

use shared::{Request, Shared};
use writer::Writer;

/// How long finished runs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A generation goes when all that ended in it ended longer ago.
    pub age: Span,
    /// The oldest generations go while all of them take more than this on disk.
    pub bytes: Option<u64>,
}

/// Where the journal lies and how much it keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory.
    pub path: PathBuf,
    /// A generation ends when its commits have this many bytes.
    pub generation_bytes: u64,
    pub retention: Retention,
    /// How long the key of a finished run is known.
    pub keys_keep: Span,
    /// How many keys of finished runs are known; the oldest go first.
    pub keys_max: u64,
    /// How long events are known by source and id.
    pub inbox_window: Span,
    /// How many events are known by source and id.
    pub inbox_max: usize,
    /// No new work is taken when the file system has less room; on a small one at most a tenth of it.
    pub free_bytes_min: u64,
    pub sync: Sync,
}

impl Options {
    /// Returns the defaults for a data directory.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            generation_bytes: 256 << 20,
            retention: Retention { age: Span::from_secs(7 * 86_400), bytes: None },
            keys_keep: Span::from_secs(400 * 86_400),
            keys_max: 10_000_000,
            inbox_window: Span::from_secs(3_600),
            inbox_max: 1_000_000, // 48 bytes each
            free_bytes_min: 64 << 20,
            sync: Sync::Disk,
        }
    }

    /// Returns options that remove nothing, for tools that do not know the configuration.
    fn keeping_all(path: &std::path::Path) -> Self {
        Self {
            generation_bytes: u64::MAX,
            retention: Retention { age: Span(u64::MAX), bytes: None },
            keys_keep: Span(u64::MAX),
            keys_max: u64::MAX,
            inbox_window: Span(u64::MAX),
            ..Self::new(path)
        }
    }
}

/// The journal in a data directory. Dropping it writes what is queued and gives the directory free.
pub struct SledJournal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// Held until the writer has ended.
    _lock: lock::DirectoryLock,
}

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl SledJournal {
    /// Opens the journal of a data directory, or makes it where there is none.
    ///
    /// # Errors
    /// [`Error`] says which file is in the way and what to do.
    pub fn open(options: Options) -> Result<(Self, Recovered), Error> {
        Self::open_at(options, Arc::new(SystemClock))
    }

    /// Opens the journal with a given clock, by which retention and windows go.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(options: Options, clock: Arc<dyn Clock>) -> Result<(Self, Recovered), Error> {
        let opened = open::open(&options, clock.now())?;
        Self::start(options, clock, opened)
    }

    /// Starts the writer of an opened journal.
    fn start(options: Options, clock: Arc<dyn Clock>, opened: open::Opened) -> Result<(Self, Recovered), Error> {
        let disk = disk::Disk::new(&options.path, options.free_bytes_min);
        let open::Opened { lock, head, state, live_bytes, view, ledger, recovered } = opened;
        let store = view.live.store.clone();
        let shared = Arc::new(Shared::new(options, view, state));
        shared.set_accepts(disk.accepts(disk.free_bytes()));
        shared.stats().generation = state.generation;
        let mut writer = Writer {
            shared: shared.clone(),
            clock,
            store,
            head,
            state,
            ledger,
            disk,
            head_synced: Instant::now(),
            stream: Vec::new(),
            live_bytes,
            carried_bytes: 0,
            carry: None,
            janitor: janitor::Janitor::default(),
        };
        writer.resume_carry();
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|error| Error::io("start a thread for", &shared.path, &error))?;
        Ok((Self { shared, writer: Some(thread), _lock: lock }, recovered))
    }
}

impl Drop for SledJournal {
    fn drop(&mut self) {
        self.shared.queue().closing = true;
        self.shared.wake();
        if let Some(thread) = self.writer.take() {
            // The writer catches its own panics and has answered everybody.
            let _ = thread.join();
        }
    }
}

impl Journal for SledJournal {
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'static, Result<Durable<()>, Error>> {
        let mut bytes = Vec::with_capacity(1_024);
        changes.iter().for_each(|change| record::put_change(&mut bytes, change));
        if bytes.len() > pack::COMMIT_BYTES_MAX {
            let error = Error::TooLarge { bytes: bytes.len(), max: pack::COMMIT_BYTES_MAX };
            return Box::pin(std::future::ready(Err(error)));
        }
        let (answer, answered) = oneshot::channel();
        let mut queue = self.shared.queue();
        if queue.closing {
            let error = queue.stopped.clone().unwrap_or(Error::Closed);
            return Box::pin(std::future::ready(Err(error)));
        }
        queue.requests.push_back(Request { changes, bytes, answer });
        let first = queue.requests.len() == 1;
        drop(queue);
        if first {
            self.shared.wake();
        }
        Box::pin(async move { answered.await.unwrap_or(Err(Error::Closed)) })
    }

    fn inbox(&self, position: Option<&StreamPosition>, event: &EventKey) -> InboxState {
        self.shared.view().inbox.state(position, event)
    }

    fn tombstone(&self, run: RunId) -> Result<Option<Tombstone>, Error> {
        self.shared.tombstone(run)
    }

    fn summary(&self, run: RunId) -> Result<Option<Bytes>, Error> {
        self.shared.summary(run)
    }

    fn history(&self, run: RunId) -> Result<Vec<(Timestamp, Bytes)>, Error> {
        self.shared.history(run)
    }

    fn finished(&self, filter: &FinishedFilter) -> Result<Vec<(SummaryIndex, Bytes)>, Error> {
        self.shared.finished(filter)
    }

    fn accepts_work(&self) -> bool {
        self.shared.accepts()
    }

    fn stats(&self) -> Stats {
        let queue_len = self.shared.queue().requests.len() as u64;
        let disk_bytes = self.shared.disk_bytes();
        Stats { queue_len, disk_bytes, ..*self.shared.stats() }
    }

    fn path(&self) -> Option<&std::path::Path> {
        Some(&self.shared.path)
    }

    fn verify(&self) -> Result<VerifyReport, Error> {
        self.verify_in_use()
    }

    fn backup(&self, to: &std::path::Path) -> Result<BackupReport, Error> {
        self.backup_in_use(to)
    }

    fn export(&self, out: &mut dyn std::io::Write) -> Result<u64, Error> {
        self.export_in_use(out)
    }

    fn close(&self) -> BoxFuture<'static, Result<(), Error>> {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.shared.queue();
        if let Some(stopped) = &queue.stopped {
            let result = if matches!(stopped, Error::Closed) { Ok(()) } else { Err(stopped.clone()) };
            return Box::pin(std::future::ready(result));
        }
        queue.closing = true;
        queue.close_answers.push(answer);
        drop(queue);
        self.shared.wake();
        Box::pin(async move { answered.await.unwrap_or(Err(Error::Closed)) })
    }
}
