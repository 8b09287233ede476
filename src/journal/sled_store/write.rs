//! A batch given to sled, with a watch beside it. sled 0.34 can wait for ever for a write of its own that
//! failed: a buffer written after its last reservation ended (`Log::exit_reservation` in its
//! `pagecache/logger.rs`) notes the error and wakes nobody, and a panic in one of its threads notes nothing.
//! The first is mended from outside, since whoever flushes after the error wakes the others. After the
//! second only the end of the process helps: nothing was acknowledged that is not stored.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use super::quiet::{guarded, io_panic};
use super::store::Sync;
use crate::journal::Error;

/// How often the watch looks. Times are counted in looks: a process that was stopped for an hour (SIGSTOP, a
/// suspended machine) has not written for an hour.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks until a write counts as stuck: then sled is woken, and again each time the wait has doubled.
const STUCK: u32 = 2;
/// Looks from one waking to the next at most.
const WAKE_EVERY_MAX: u32 = 120;
/// Looks until the log tells of it.
const TELL: u32 = 10;
/// Looks until the process ends, for a write of the journal itself: 10 minutes, far beyond what a slow disk takes.
const GIVE_UP: u32 = 1_200;

static STORES: Mutex<Vec<Weak<WatchedDb>>> = Mutex::new(Vec::new());
static WATCH: Once = Once::new();

/// sled's handle of one store. One thread at a time writes.
pub struct WatchedDb {
    pub db: sled::Db,
    dir: PathBuf,
    sync: Sync,
    /// Counts beginnings and ends of writes: odd while one is under way.
    turns: AtomicU64,
    /// The watch's own: what it saw last, and how often it has seen that.
    seen: AtomicU64,
    looks: AtomicU32,
}

/// What the watch does about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Wake,
    Tell,
    GiveUp,
}

impl WatchedDb {
    /// Puts a store under the watch.
    pub fn new(db: sled::Db, dir: &Path, sync: Sync) -> Arc<Self> {
        let store = Arc::new(Self {
            db,
            dir: dir.to_owned(),
            sync,
            turns: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            looks: AtomicU32::new(0),
        });
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(&store));
        drop(stores);
        WATCH.call_once(|| {
            if let Err(error) = std::thread::Builder::new().name("journal-watch".to_owned()).spawn(watch) {
                tracing::warn!(%error, "no thread for the watch of the journal: a failed write may go unnoticed");
            }
        });
        store
    }

    /// Writes a batch and waits until sled has handed it to the kernel.
    ///
    /// # Errors
    /// Says why not; sled may not be written to any more.
    pub fn write(&self, batch: sled::Batch) -> Result<(), String> {
        self.turns.fetch_add(1, Ordering::Relaxed);
        let written = guarded(|| self.db.apply_batch(batch).and_then(|()| self.db.flush()));
        self.turns.fetch_add(1, Ordering::Relaxed);
        match written {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("a write failed: {error}")),
            Err(panic) => Err(panic),
        }
    }

    fn look(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        if turns.is_multiple_of(2) || turns != self.seen.swap(turns, Ordering::Relaxed) {
            self.looks.store(0, Ordering::Relaxed);
            return;
        }
        let looks = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        match due(looks, io_panic(), self.sync) {
            (Due::Nothing, _) => {}
            (Due::Wake, _) => self.wake(),
            (Due::Tell, _) => {
                tracing::warn!(path = %self.dir.display(), "a write takes long: the disk is slow or hangs");
            }
            (Due::GiveUp, reason) => self.give_up(reason),
        }
    }

    /// Has sled look at its error, which wakes all that wait.
    fn wake(&self) {
        let db = self.db.clone();
        // Waits as well where there is no error yet, so never on the watch's own thread.
        let flush = move || drop(guarded(|| db.flush()));
        if let Err(error) = std::thread::Builder::new().name("journal-wake".to_owned()).spawn(flush) {
            tracing::warn!(%error, "no thread to look after a write of the journal, will retry");
        }
    }

    fn give_up(&self, reason: String) {
        let error = Error::Stopped { path: self.dir.clone(), reason };
        // The writer's thread will never come back from sled, so nobody else can say it.
        anstream::eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn watch() {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let stores = STORES.lock().unwrap_or_else(PoisonError::into_inner).clone();
        stores.iter().filter_map(Weak::upgrade).for_each(|store| store.look());
    }
}

/// Decides at one look at a write; the second part is the reason for giving up. A store that is written
/// without sync is a backup or an import, and its disk may hang without the orchestrator being in doubt.
fn due(looks: u32, panic: Option<String>, sync: Sync) -> (Due, String) {
    match panic {
        Some(panic) if looks >= STUCK => return (Due::GiveUp, panic),
        _ if looks >= GIVE_UP && sync == Sync::Disk => {
            return (Due::GiveUp, "a write did not come back for 10 minutes".to_owned());
        }
        _ => {}
    }
    let wake = looks >= STUCK && (looks.is_power_of_two() || looks.is_multiple_of(WAKE_EVERY_MAX));
    let due = match looks {
        TELL => Due::Tell,
        _ if wake => Due::Wake,
        _ => Due::Nothing,
    };
    (due, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_takes_long_is_looked_after() {
        let with = |sync: Sync, wanted: Due| -> Vec<u32> {
            (1..=2 * GIVE_UP).filter(|looks| due(*looks, None, sync).0 == wanted).collect()
        };
        let looks_with = |wanted: Due| with(Sync::Disk, wanted);
        let wakes = looks_with(Due::Wake);
        assert_eq!(wakes[..9], [2, 4, 8, 16, 32, 64, 120, 128, 240], "after 1 s, 2 s, 4 s and so on");
        assert!(wakes.windows(2).all(|pair| pair[1] - pair[0] <= WAKE_EVERY_MAX), "at least once a minute");
        assert_eq!(looks_with(Due::Tell), [TELL]);
        assert_eq!(looks_with(Due::GiveUp)[0], GIVE_UP);
        assert!(with(Sync::Skipped, Due::GiveUp).is_empty(), "the disk of a backup hangs");
        assert_eq!(with(Sync::Skipped, Due::Tell), [TELL]);
        let after_panic = |looks| due(looks, Some("sled gave up".to_owned()), Sync::Disk);
        assert_eq!(after_panic(1).0, Due::Nothing, "it may be another store's");
        assert_eq!(after_panic(STUCK), (Due::GiveUp, "sled gave up".to_owned()));
    }

    #[test]
    fn only_a_write_that_stays_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = WatchedDb::new(sled::open(dir.path().join("store")).unwrap(), dir.path(), Sync::Disk);
        let looks = |store: &WatchedDb| {
            store.look();
            store.looks.load(Ordering::Relaxed)
        };
        assert_eq!([looks(&store), looks(&store)], [0, 0], "nothing is written");
        store.turns.store(5, Ordering::Relaxed);
        assert_eq!([looks(&store), looks(&store)], [0, 1], "the same write twice");
        store.turns.store(7, Ordering::Relaxed);
        assert_eq!([looks(&store), looks(&store)], [0, 1], "another one");
        store.turns.store(8, Ordering::Relaxed);
        assert_eq!(looks(&store), 0);
    }
}
