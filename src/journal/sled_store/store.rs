//! One sled store: one generation of the log. Makes it so that a power cut keeps what was acknowledged
//! (sled's own `flush` does not, spacejam/sled#1452), and opens it whatever state it is in: with the
//! data, or with an error that names the file.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pack;
use super::quiet::guarded;
use super::write::WatchedDb;
use crate::failpoint;
use crate::journal::error::RESTORE;
use crate::journal::{Error, record};

/// Memory for pages of the generation being written: what was just written is read again only by
/// `history` and when a run is carried along.
const CACHE_BYTES: u64 = 64 << 20;

const FULL: &str = "the journal cannot be opened on a full disk; free some space and start again";
/// Far longer than sled's threads take to let go of a file.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Whether commits reach the disk before they are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Always, but for tests that prove that the tests would notice.
    #[default]
    Disk,
    /// Commits are left to sled, which does not sync: a power cut loses data.
    Skipped,
}

/// An open store.
pub struct Store {
    watched: Arc<WatchedDb>,
    /// A second handle on sled's file, because sled offers no way to sync it.
    file: File,
    dir: PathBuf,
    sync: Sync,
}

/// One commit read back.
pub struct Commit {
    pub header: pack::CommitHeader,
    /// The header and all records.
    pub stream: Vec<u8>,
}

impl Store {
    /// Makes a new store in a directory that does not exist yet, and everything that leads to it durable.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn create(dir: &Path, sync: Sync) -> Result<Self, Error> {
        fs::create_dir(dir).map_err(|error| Error::io("create", dir, &error))?;
        let store = Self::open(dir, sync)?;
        store.sync_names()?;
        Ok(store)
    }

    /// Opens a store as it lies there.
    ///
    /// # Errors
    /// [`Error::Damaged`] when sled cannot read it, [`Error::Io`] when the kernel refuses.
    pub fn open(dir: &Path, sync: Sync) -> Result<Self, Error> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .use_compression(false)
            .print_profile_on_drop(false);
        let started = Instant::now();
        let db = match guarded(|| open_patiently(&config, started)) {
            Ok(Ok(db)) => db,
            // Nothing is wrong with the data: no repair, and no restore.
            Ok(Err(sled::Error::Io(error))) if error.kind() == ErrorKind::StorageFull => {
                return Err(Error::Refused { path: dir.to_owned(), reason: FULL.to_owned() });
            }
            Ok(Err(sled::Error::Io(error))) if says_nothing_of_data(&error) => {
                return Err(Error::io("open", dir, &error));
            }
            Ok(Err(error)) => return Err(Error::damaged(dir, format!("sled cannot open it: {error}"))),
            Err(panic) => return Err(Error::damaged(dir, panic)),
        };
        let path = dir.join("db");
        let file =
            File::options().read(true).write(true).open(&path).map_err(|error| Error::io("open", &path, &error))?;
        Ok(Self { watched: WatchedDb::new(db, dir, sync), file, dir: dir.to_owned(), sync })
    }

    /// Makes the names and the fixed content of the store durable: sled never does.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn sync_names(&self) -> Result<(), Error> {
        for name in ["conf", "db", "blobs"] {
            sync_path(&self.dir.join(name))?;
        }
        sync_path(&self.dir)?;
        self.dir.parent().map_or(Ok(()), sync_path)
    }

    /// Makes durable what was found: a commit that a killed process wrote but did not sync is acted on
    /// from here on.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn sync_found(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| Error::io("sync", &self.dir.join("db"), &error))?;
        self.sync_names()
    }

    /// Makes every further sync fail, as a dying disk would.
    #[cfg(test)]
    pub fn break_sync(&mut self) {
        self.file = File::open("/dev/null").unwrap(); // a device without storage refuses fdatasync
    }

    /// Returns where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the bytes that it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// Writes one commit and waits until it is on stable storage; returns how many keys it took.
    ///
    /// # Errors
    /// [`Error::Stopped`]: whether the commit is stored is not known, and nothing more may be written.
    pub fn append(&self, commit: u64, stream: &[u8]) -> Result<u64, Error> {
        let mut batch = sled::Batch::default();
        let mut keys = 0;
        for (number, piece) in pack::pieces(stream) {
            batch.insert(&pack::key(commit, number), piece);
            keys += 1;
        }
        self.watched.write(batch).map_err(|reason| self.stopped(reason))?;
        failpoint::hit("journal.written");
        if self.sync == Sync::Disk {
            // Never tried again: after a failed sync the kernel may drop the pages and report success.
            self.file.sync_data().map_err(|error| self.stopped(format!("a sync failed: {error}")))?;
        }
        failpoint::hit("journal.synced");
        Ok(keys)
    }

    fn stopped(&self, reason: String) -> Error {
        Error::Stopped { path: self.dir.clone(), reason }
    }

    /// Calls `visit` for every commit in order.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a commit is not whole, or what `visit` says.
    pub fn scan(&self, mut visit: impl FnMut(Commit) -> Result<(), Error>) -> Result<(), Error> {
        let mut next: Option<Vec<u8>> = None;
        let mut current = (0_u64, 0_u32);
        let mut entries = self.watched.db.iter();
        let damaged = |reason: String| Error::damaged(&self.dir, reason);
        loop {
            let entry = match guarded(|| entries.next()) {
                Ok(None) => break,
                Ok(Some(Ok(entry))) => entry,
                Ok(Some(Err(error))) => return Err(damaged(format!("commit {}: {error}", current.0))),
                Err(panic) => return Err(damaged(format!("commit {}: {panic}", current.0))),
            };
            let (commit, piece) =
                pack::read_key(&entry.0).ok_or_else(|| damaged("it holds a key that is none of ours".to_owned()))?;
            match &mut next {
                Some(stream) if commit == current.0 => {
                    if piece != current.1 + 1 {
                        return Err(damaged(format!("commit {commit}: piece {} is missing", current.1 + 1)));
                    }
                    stream.extend_from_slice(&entry.1);
                }
                _ => {
                    if piece != 0 {
                        return Err(damaged(format!("commit {commit}: piece 0 is missing")));
                    }
                    if let Some(stream) = next.replace(entry.1.to_vec()) {
                        visit(self.whole(current.0, stream)?)?;
                    }
                }
            }
            current = (commit, piece);
        }
        match next {
            Some(stream) => visit(self.whole(current.0, stream)?),
            None => Ok(()),
        }
    }

    fn whole(&self, commit: u64, stream: Vec<u8>) -> Result<Commit, Error> {
        let damaged = |reason: String| Error::damaged(&self.dir, format!("commit {commit}: {reason}"));
        let (header, length) = pack::read_header(&stream).map_err(|error| damaged(error.to_string()))?;
        if header.commit != commit || length != stream.len() {
            return Err(damaged(format!("it has {} bytes where {length} were written", stream.len())));
        }
        Ok(Commit { header, stream })
    }

    /// Reads the record at `offset` of a commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not there or fails its checksum.
    pub fn read(&self, commit: u64, offset: u32) -> Result<record::Record, Error> {
        let damaged = |reason: String| Error::damaged(&self.dir, format!("commit {commit}: {reason}"));
        let piece = |number: u32| match guarded(|| self.watched.db.get(pack::key(commit, number))) {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) => Err(damaged(format!("piece {number} is missing"))),
            Ok(Err(error)) => Err(damaged(error.to_string())),
            Err(panic) => Err(damaged(panic)),
        };
        let mut number = offset / pack::PIECE_BYTES as u32;
        let mut bytes = piece(number)?[offset as usize % pack::PIECE_BYTES..].to_vec();
        while bytes.len() < 4 || bytes.len() < record::length(&bytes) {
            number += 1;
            bytes.extend_from_slice(&piece(number)?);
        }
        let (record, _) = record::read(&bytes).map_err(|error| damaged(error.to_string()))?;
        Ok(record)
    }
}

/// True where the kernel refuses for reasons of its own. Damaged data may end in an error of the kernel too: an
/// offset that no file has.
fn says_nothing_of_data(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::IO, Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|refusal| refusal.raw_os_error() == code))
}

/// Opens, and waits where a store of this process that was just dropped still has the file: sled's
/// threads let go of it a moment later. Other processes are kept away by the journal's own lock.
fn open_patiently(config: &sled::Config, started: Instant) -> sled::Result<sled::Db> {
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && started.elapsed() < LOCK_WAIT =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// Refuses a directory that is no store, before sled makes an empty one of it.
///
/// # Errors
/// [`Error::Damaged`] when the data file is missing or a blob file is there.
pub fn check_files(dir: &Path) -> Result<(), Error> {
    let db = dir.join("db");
    match fs::metadata(&db) {
        Ok(metadata) if metadata.len() > 0 => {}
        Ok(_) => return Err(Error::damaged(&db, "the file is empty")),
        Err(error) => return Err(Error::damaged(&db, error.to_string())),
    }
    let blobs = dir.join("blobs");
    if let Ok(mut entries) = fs::read_dir(&blobs)
        && let Some(Ok(blob)) = entries.next()
    {
        return Err(Error::Damaged {
            path: blob.path(),
            reason: "a blob file, which no release of ours writes".to_owned(),
            remedy: RESTORE.to_owned(),
        });
    }
    Ok(())
}

/// Removes half-written snapshots; returns what was removed. sled refuses to open where one is left
/// (spacejam/sled#1533), and a snapshot is only a short cut: all data is in `db`.
///
/// # Errors
/// [`Error::Io`] when the disk refuses.
pub fn remove_half_snapshots(dir: &Path) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    for name in names(dir, |name| name.ends_with(".generating"))? {
        let path = dir.join(&name);
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
        removed.push(name);
    }
    Ok(removed)
}

/// Moves aside what sled can do without or make again: its snapshots and its settings. Returns the names.
///
/// # Errors
/// [`Error::Io`] when the disk refuses.
pub fn move_aside(dir: &Path) -> Result<Vec<String>, Error> {
    let found = names(dir, |name| name.starts_with("snap.") || name == "conf")?;
    for name in &found {
        let (from, to) = (dir.join(name), dir.join(format!("aside.{name}")));
        fs::rename(&from, &to).map_err(|error| Error::io("rename", &from, &error))?;
    }
    sync_path(dir)?;
    Ok(found)
}

fn names(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(dir).map_err(|error| Error::io("read", dir, &error))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| wanted(name)).collect();
    names.sort();
    Ok(names)
}

/// Makes a file's or a directory's content durable.
///
/// # Errors
/// [`Error::Io`] when the disk refuses.
pub fn sync_path(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", path, &error))
}
