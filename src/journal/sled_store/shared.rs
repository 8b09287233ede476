//! What the writer and the readers share: the queue of commits, the indexes of what is durable, figures.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use tokio::sync::oneshot;

use super::Options;
use super::head::HeadState;
use super::index::Index;
use super::keys::Keys;
use super::sealed::{OpenStores, Sealed};
use super::store::Store;
use crate::id::RunId;
use crate::journal::inbox::Inbox;
use crate::journal::{Change, Durable, Error, Stats};
use crate::time::Timestamp;

/// A commit waiting to be written: one call of [`Journal::commit`](crate::journal::Journal::commit).
pub struct Request {
    pub changes: Vec<Change>,
    /// The changes as records, encoded by the caller so that the writer only copies.
    pub bytes: Vec<u8>,
    pub answer: oneshot::Sender<Result<Durable<()>, Error>>,
}

/// What waits for the writer. It is as long as the callers make it: each has the commits of its runs in
/// flight here, and the coordinator bounds those.
#[derive(Default)]
pub struct Queue {
    pub requests: VecDeque<Request>,
    /// Set once; nothing is taken in afterwards.
    pub closing: bool,
    pub close_answers: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Why the writer stopped.
    pub stopped: Option<Error>,
}

/// A generation that is read through sled and an index in memory.
pub struct Generation {
    pub number: u64,
    pub store: Arc<Store>,
    pub index: Index,
    /// For the one before: when its last commit was written.
    pub at: Timestamp,
}

/// What is durable, for readers.
pub struct View {
    pub inbox: Inbox,
    pub live: Generation,
    /// The one before, until all that is needed of it is carried and it is sealed.
    pub previous: Option<Arc<Generation>>,
    /// Oldest first.
    pub sealed: Vec<Arc<Sealed>>,
    pub keys: Arc<Keys>,
}

impl View {
    /// True when the run ended in a generation whose index is in memory.
    pub fn has_just_ended(&self, run: RunId) -> bool {
        self.live.index.has_ended(run) || self.previous.as_ref().is_some_and(|previous| previous.index.has_ended(run))
    }
}

/// Everything shared.
pub struct Shared {
    pub options: Options,
    pub path: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    view: RwLock<View>,
    stats: Mutex<Stats>,
    accepts: AtomicBool,
    /// Stores of sealed generations.
    pub stores: OpenStores,
    /// What HEAD said after the last commit.
    head: Mutex<HeadState>,
    /// Held while files are copied or read as a whole: nothing is sealed, merged or removed meanwhile.
    quiet: Mutex<()>,
}

/// What is durable at one moment, to be read at leisure.
pub struct Snapshot {
    pub live_number: u64,
    pub live: Arc<Store>,
    pub previous: Option<Arc<Generation>>,
    pub sealed: Vec<Arc<Sealed>>,
    pub keys: Arc<Keys>,
}

impl Shared {
    /// Shares what was opened.
    pub fn new(options: Options, view: View, head: HeadState) -> Self {
        Self {
            path: options.path.clone(),
            options,
            queue: Mutex::default(),
            wake: Condvar::new(),
            view: RwLock::new(view),
            stats: Mutex::default(),
            accepts: AtomicBool::new(true),
            stores: OpenStores::default(),
            head: Mutex::new(head),
            quiet: Mutex::default(),
        }
    }

    /// Returns the queue. Code of ours never panics while it holds a lock, so a poisoned one is whole.
    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until [`Self::wake`] or the time is over.
    pub fn wait<'a>(&self, queue: MutexGuard<'a, Queue>, time: std::time::Duration) -> MutexGuard<'a, Queue> {
        match self.wake.wait_timeout(queue, time) {
            Ok((queue, _)) => queue,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what HEAD says, with the commits that readers may see.
    pub fn set_head(&self, head: HeadState) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    /// Keeps the janitor from its work until the guard is dropped.
    pub fn quiet(&self) -> MutexGuard<'_, ()> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::quiet`], if nobody holds it.
    pub fn try_quiet(&self) -> Option<MutexGuard<'_, ()>> {
        match self.quiet.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns HEAD and the generations that belong to it.
    pub fn snapshot(&self) -> (HeadState, Snapshot) {
        let view = self.view();
        let head = *self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = Snapshot {
            live_number: view.live.number,
            live: view.live.store.clone(),
            previous: view.previous.clone(),
            sealed: view.sealed.clone(),
            keys: view.keys.clone(),
        };
        (head, snapshot)
    }

    pub fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn accepts(&self) -> bool {
        self.accepts.load(Ordering::Relaxed)
    }

    pub fn set_accepts(&self, accepts: bool) {
        self.accepts.store(accepts, Ordering::Relaxed);
    }
}
