//! Work that no commit waits for, on a thread of its own: sealing the generation before the present one,
//! and removing those whose retention has passed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keys::{Bounds, Keys};
use super::sealed::Sealed;
use super::shared::{Generation, Shared};
use super::writer::Writer;
use crate::failpoint;
use crate::journal::Error;
use crate::planted;
use crate::time::Timestamp;

/// After sealing failed (a full disk, mostly) it is tried again.
const SEAL_AGAIN: Duration = Duration::from_secs(5);
/// How often retention is looked at.
const RETENTION_EVERY: Duration = Duration::from_secs(1);

/// Directories of generations that were given up; whatever such a name holds is removed at open.
pub const REMOVED_PREFIX: &str = "removed-";

/// The thread, when one is at work.
#[derive(Default)]
pub struct Janitor {
    work: Option<JoinHandle<()>>,
    seal_not_before: Option<Instant>,
    looked: Option<Instant>,
}

impl Janitor {
    /// Waits for work in progress.
    pub fn finish(&mut self) {
        if let Some(work) = self.work.take() {
            // Its errors are logged; what it did not finish is found at the next open.
            let _ = work.join();
        }
    }

    fn is_busy(&mut self) -> bool {
        if self.work.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish();
        }
        self.work.is_some()
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) {
        match std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            Ok(thread) => self.work = Some(thread),
            Err(error) => tracing::warn!(%error, "the journal could not start a thread, will retry"),
        }
    }
}

impl Writer {
    /// True while the generation before the present one is being carried or sealed.
    pub fn has_previous(&self) -> bool {
        self.shared.view().previous.is_some()
    }

    /// Starts whatever is due.
    pub fn tidy(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.janitor.is_busy() {
            return Ok(());
        }
        let previous = self.shared.view().previous.clone();
        if let (None, Some(previous)) = (&self.carry, previous) {
            if self.janitor.seal_not_before.is_none_or(|at| now >= at) {
                self.janitor.seal_not_before = Some(now + SEAL_AGAIN);
                let (shared, now) = (self.shared.clone(), self.clock.now());
                self.janitor.start("journal-seal", move || {
                    if let Err(error) = seal(&shared, &previous, now) {
                        tracing::warn!(%error, "a generation of the journal was not sealed, will retry");
                    }
                });
            }
            return Ok(());
        }
        self.janitor.seal_not_before = None;
        if self.janitor.looked.is_some_and(|looked| now.duration_since(looked) < RETENTION_EVERY) {
            return Ok(());
        }
        self.janitor.looked = Some(now);
        self.retain()
    }

    /// Gives up the oldest generation when its retention has passed.
    fn retain(&mut self) -> Result<(), Error> {
        let view = self.shared.view();
        let Some(oldest) = view.sealed.first().cloned() else { return Ok(()) };
        let sealed_bytes: u64 = view.sealed.iter().map(|sealed| sealed.disk_bytes).sum();
        let bytes = sealed_bytes + view.live.store.disk_bytes();
        drop(view);
        let retention = self.shared.options.retention;
        let too_old = self.clock.now().since(oldest.at.max(oldest.last_end)) > retention.age;
        let too_many = retention.bytes.is_some_and(|limit| bytes > limit);
        if !too_old && !too_many {
            return Ok(());
        }
        let shared = self.shared.clone();
        let Some(_quiet) = shared.try_quiet() else { return Ok(()) };
        // HEAD first: from here on nobody misses the directory.
        self.state.oldest = oldest.number + 1;
        self.head.write_both(&self.state)?;
        failpoint::hit("retention.head_written");
        let mut view = self.shared.view_mut();
        view.sealed.retain(|sealed| sealed.number != oldest.number);
        self.shared.set_head(self.state);
        drop(view);
        self.shared.stores.forget(oldest.number);
        let aside = self.shared.path.join(format!("{REMOVED_PREFIX}{:08}", oldest.number));
        fs::rename(oldest.dir(), &aside).map_err(|error| Error::io("rename", oldest.dir(), &error))?;
        failpoint::hit("retention.renamed");
        tracing::info!(generation = oldest.number, "a generation of the journal was removed, its retention has passed");
        self.janitor.looked = None; // the next one may be due as well
        self.janitor.start("journal-remove", move || remove(&aside));
        Ok(())
    }
}

/// Removes a directory that was given up.
pub fn remove(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(path = %dir.display(), %error, "a removed generation still takes space, will retry at the next start");
    }
}

/// Writes the index of a generation and its tombstones, then serves it from there.
fn seal(shared: &Shared, previous: &Arc<Generation>, now: Timestamp) -> Result<(), Error> {
    let _quiet = shared.quiet();
    let keys = shared.view().keys.clone();
    let keys = add_keys(&keys, shared, previous, now)?;
    failpoint::hit("seal.keys_written");
    let sealed = Sealed::write(previous.store.dir(), previous.number, previous.at, &previous.index)?;
    failpoint::hit("seal.pages_written");
    let mut view = shared.view_mut();
    view.keys = Arc::new(keys);
    view.sealed.push(Arc::new(sealed));
    view.previous = None;
    let mut stats = shared.stats();
    stats.keys_known = view.keys.count();
    stats.keys_dropped = view.keys.dropped;
    Ok(())
}

fn add_keys(keys: &Keys, shared: &Shared, previous: &Generation, now: Timestamp) -> Result<Keys, Error> {
    let options = &shared.options;
    let bounds = Bounds { keep: options.keys_keep, max: options.keys_max };
    let tombstones = previous.index.tombstones.values().filter(|_| !planted::is("seal_forgets_keys")).copied();
    keys.with(&keys_dir(&shared.path), previous.number, tombstones, bounds, now)
}

/// Returns where the keys of finished runs lie.
pub fn keys_dir(path: &Path) -> PathBuf {
    path.join("keys")
}
