//! Copies of a whole journal: taken while it is in use or at rest, checked, and put back in its place.
//! A backup is itself a journal directory.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::head::Head;
use super::janitor::keys_dir;
use super::lock::DirectoryLock;
use super::open::generation_dir;
use super::store::{Store, Sync, sync_path};
use super::verify::{VerifyReport, verify};
use super::{Options, SledJournal};
use crate::journal::Error;

/// What was copied.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackupReport {
    pub from: PathBuf,
    pub to: PathBuf,
    /// The last commit in the copy.
    pub commit: u64,
    /// Where the journal that was replaced lies.
    pub before: Option<PathBuf>,
    /// The copy, read again after it was written.
    pub verified: VerifyReport,
}

impl fmt::Display for BackupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.verified)?;
        if let Some(before) = &self.before {
            writeln!(f, "what was there before lies in {}", before.display())?;
        }
        write!(f, "copied {} to {}, up to commit {}", self.from.display(), self.to.display(), self.commit)
    }
}

/// Backs up a journal that no process uses, into a directory that does not exist yet.
///
/// # Errors
/// [`Error::Locked`] while a process uses it (ask that process), and what opening it gives.
pub fn backup(path: &Path, to: &Path) -> Result<BackupReport, Error> {
    if !path.join("HEAD").exists() {
        return Err(Error::damaged(&path.join("HEAD"), "it is not there: this is no journal, or a damaged one"));
    }
    let (journal, _) = SledJournal::open(Options::keeping_all(path))?;
    journal.backup_in_use(to)
}

impl SledJournal {
    /// Backs up the journal while it is in use, as far as it is written now, into a directory that does
    /// not exist yet. Blocks; commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Refused`] when the directory is there, and [`Error::Io`].
    pub(super) fn backup_in_use(&self, to: &Path) -> Result<BackupReport, Error> {
        refuse_existing(to)?;
        // Nothing is sealed, merged or removed while its files are copied.
        let quiet = self.shared.quiet();
        let (head, view) = self.shared.snapshot();
        let unfinished = sibling(to, "unfinished");
        make_dir(&unfinished.join("generations"))?;
        for sealed in &view.sealed {
            copy_dir(sealed.dir(), &generation_dir(&unfinished, sealed.number))?;
        }
        // The log only grows, so every beginning of it is a whole journal.
        for previous in view.previous.iter() {
            copy_commits(&previous.store, &generation_dir(&unfinished, previous.number), u64::MAX)?;
        }
        copy_commits(&view.live, &generation_dir(&unfinished, view.live_number), head.commit)?;
        if keys_dir(&self.shared.path).exists() {
            copy_dir(&keys_dir(&self.shared.path), &keys_dir(&unfinished))?;
        }
        drop(quiet);
        drop(Head::create(&unfinished.join("HEAD"), &head)?);
        sync_tree(&unfinished)?;
        let verified = verify(&unfinished)?;
        fs::rename(&unfinished, to).map_err(|error| Error::io("rename", &unfinished, &error))?;
        parent(to).map_or(Ok(()), sync_path)?;
        let from = self.shared.path.clone();
        Ok(BackupReport { from, to: to.to_owned(), commit: head.commit, before: None, verified })
    }
}

/// Puts a backup in the place of a journal that no process uses. What was there is kept beside it. What
/// happened in the world since the backup is not undone by it: `docs/journal.md` says what to look at.
///
/// # Errors
/// [`Error::Refused`] when the backup is not whole, [`Error::Locked`] while a process uses either.
pub fn restore(from: &Path, to: &Path) -> Result<BackupReport, Error> {
    let checked = verify(from)?;
    if !checked.is_whole() {
        return Err(Error::Refused {
            path: from.to_owned(),
            reason: format!("this backup is damaged, take another: {}", checked.findings.join("; ")),
        });
    }
    let lock = if to.exists() { Some(DirectoryLock::take(to)?) } else { None };
    let new = sibling(to, "restoring");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(|error| Error::io("remove", &new, &error))?;
    }
    copy_dir(from, &new)?;
    sync_tree(&new)?;
    let (_, head, _) = Head::open(&new.join("HEAD"))?;
    let verified = verify(&new)?;
    let mut before = None;
    if to.exists() {
        let aside = (1..).map(|number| sibling(to, &format!("before-restore-{number}")));
        let aside = aside.into_iter().find(|aside| !aside.exists()).unwrap_or_else(|| sibling(to, "before-restore"));
        fs::rename(to, &aside).map_err(|error| Error::io("rename", to, &error))?;
        before = Some(aside);
    }
    fs::rename(&new, to).map_err(|error| Error::io("rename", &new, &error))?;
    parent(to).map_or(Ok(()), sync_path)?;
    drop(lock);
    Ok(BackupReport { from: from.to_owned(), to: to.to_owned(), commit: head.commit, before, verified })
}

/// Writes the commits of a store up to a number into a new store.
fn copy_commits(store: &Store, to: &Path, last: u64) -> Result<(), Error> {
    let copy = Store::create(to, Sync::Skipped)?; // synced as a whole at the end
    store.scan(|commit| match commit.header.commit {
        number if number <= last => copy.append(number, &commit.stream).map(|_| ()),
        _ => Ok(()),
    })
}

/// Copies a directory with all below it, but its lock.
pub fn copy_dir(from: &Path, to: &Path) -> Result<(), Error> {
    make_dir(to)?;
    let entries = fs::read_dir(from).map_err(|error| Error::io("read", from, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", from, &error))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_dir(&path, &to)?;
        } else if entry.file_name() != "lock" {
            fs::copy(&path, &to).map_err(|error| Error::io("copy", &path, &error))?;
        }
    }
    Ok(())
}

pub fn sync_tree(dir: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(|error| Error::io("read", dir, &error))? {
        let path = entry.map_err(|error| Error::io("read", dir, &error))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|error| Error::io("sync", &path, &error))?;
        }
    }
    sync_path(dir)
}

pub fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, &error))
}

fn refuse_existing(to: &Path) -> Result<(), Error> {
    if to.exists() {
        let reason = "it is there already; name a directory that does not exist".to_owned();
        return Err(Error::Refused { path: to.to_owned(), reason });
    }
    let unfinished = sibling(to, "unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| Error::io("remove", &unfinished, &error))?;
    }
    Ok(())
}

/// Returns `NAME.WORD` beside a path.
pub fn sibling(path: &Path, word: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{word}"));
    path.with_file_name(name)
}

/// Returns the directory that a path lies in.
pub fn parent(path: &Path) -> Option<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(Path::new(".")),
        parent => parent,
    }
}
