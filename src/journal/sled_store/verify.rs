//! Reads everything and says what is wrong: every commit, record, index page and key file against its
//! checksum, and the order of commits against HEAD. Changes nothing: a journal at rest is read from a
//! copy of one generation at a time, because sled writes when it opens a store.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SledJournal;
use super::fold::{CommitCheck, each_record};
use super::head::{Head, HeadState};
use super::janitor::keys_dir;
use super::keys::Keys;
use super::lock::DirectoryLock;
use super::open::generation_dir;
use super::pack;
use super::repair::with_repair;
use super::sealed::Sealed;
use super::store::{Store, Sync};
use crate::journal::Error;
use crate::journal::record::Record;

/// Runs named in one finding; the count says how many more there are.
const RUNS_NAMED: usize = 20;

/// What a journal holds, and what is wrong with it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct VerifyReport {
    pub path: PathBuf,
    pub generations: Vec<GenerationReport>,
    /// Keys of finished runs.
    pub keys: u64,
    /// What was put right in the copy that was read; the next start puts it right for good.
    pub notes: Vec<String>,
    /// One line each: the file, what is wrong, which runs it concerns. Empty: all is well.
    pub findings: Vec<String>,
}

/// One generation's content.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct GenerationReport {
    pub number: u64,
    pub first_commit: u64,
    pub last_commit: u64,
    pub records: u64,
    pub bytes: u64,
}

impl VerifyReport {
    /// True when nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for generation in &self.generations {
            let GenerationReport { number, first_commit, last_commit, records, bytes } = generation;
            writeln!(
                f,
                "generation {number}: commits {first_commit} to {last_commit}, {records} records, {bytes} bytes"
            )?;
        }
        writeln!(f, "keys of finished runs: {}", self.keys)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "damaged: {finding}"))?;
        match self.findings.len() {
            0 => write!(f, "{}: whole; every record passes its checksum", self.path.display()),
            count => write!(f, "{}: {count} finding(s); see above", self.path.display()),
        }
    }
}

/// Verifies a journal that no process uses.
///
/// # Errors
/// [`Error::Locked`] while a process uses it (ask that process), [`Error::Damaged`] when HEAD cannot be
/// read, and [`Error::Io`]; everything else is a finding in the report.
pub fn verify(path: &Path) -> Result<VerifyReport, Error> {
    if !path.join("HEAD").exists() {
        return Err(Error::damaged(&path.join("HEAD"), "it is not there: this is no journal, or a damaged one"));
    }
    let _lock = DirectoryLock::take(path)?;
    let (_, head, _) = Head::open(&path.join("HEAD"))?;
    let mut verifier = Verifier::new(path, head);
    let next = head.generation + u64::from(generation_dir(path, head.generation + 1).exists());
    for number in head.oldest..=next {
        let mut notes = Vec::new();
        verifier.generation(number, |check| {
            let copy = Copy::of(&generation_dir(path, number), path)?;
            let (store, ()) = with_repair(&copy.0, Sync::Disk, &mut notes, |store| check(store))?;
            drop(store);
            Ok(())
        });
        verifier.report.notes.append(&mut notes);
    }
    verifier.indexes(head.oldest..head.generation);
    match Keys::open(&keys_dir(path), keys_dir(path).exists()) {
        Ok(keys) => verifier.keys(&keys),
        Err(error) => verifier.report.findings.push(error.to_string()),
    }
    Ok(verifier.finish())
}

impl SledJournal {
    /// Verifies the journal while it is in use, as far as it is written now.
    ///
    /// # Errors
    /// [`Error::Io`]; everything else is a finding in the report.
    pub(super) fn verify_in_use(&self) -> Result<VerifyReport, Error> {
        let quiet = self.shared.quiet();
        let (head, view) = self.shared.snapshot();
        let mut verifier = Verifier::new(&self.shared.path, head);
        for sealed in &view.sealed {
            verifier.generation(sealed.number, |check| check(&*self.shared.stores.get(sealed)?));
        }
        for generation in view.previous.iter() {
            verifier.generation(generation.number, |check| check(&generation.store));
        }
        verifier.generation(view.live_number, |check| check(&view.live));
        verifier.indexes(head.oldest..head.oldest + view.sealed.len() as u64);
        verifier.keys(&view.keys);
        drop(quiet);
        Ok(verifier.finish())
    }
}

struct Verifier {
    head: HeadState,
    last_commit: u64,
    report: VerifyReport,
}

impl Verifier {
    fn new(path: &Path, head: HeadState) -> Self {
        Self { head, last_commit: 0, report: VerifyReport { path: path.to_owned(), ..Default::default() } }
    }

    /// Reads one generation; `with` opens its store and calls the check.
    fn generation(
        &mut self,
        number: u64,
        with: impl FnOnce(&mut dyn FnMut(&Store) -> Result<(), Error>) -> Result<(), Error>,
    ) {
        let mut content = GenerationReport { number, ..Default::default() };
        let journal = pack::journal_mark(self.head.journal);
        let result = with(&mut |store| {
            content = GenerationReport { number, ..Default::default() };
            let mut order = CommitCheck::new(number, journal);
            store.scan(|commit| {
                let damaged =
                    |reason: String| Error::damaged(store.dir(), format!("commit {}: {reason}", commit.header.commit));
                order.check(&commit.header).map_err(damaged)?;
                let mut misplaced = false;
                let records = each_record(&commit, |record, _| {
                    misplaced |= matches!(record, Record::Generation(start) if start.generation != number);
                });
                content.records += records.map_err(|error| damaged(error.to_string()))?;
                if misplaced {
                    return Err(damaged("it begins another generation".to_owned()));
                }
                if content.first_commit == 0 {
                    content.first_commit = commit.header.commit;
                }
                content.last_commit = commit.header.commit;
                content.bytes += commit.stream.len() as u64;
                Ok(())
            })
        });
        if let Err(error) = result {
            self.report.findings.push(format!("{error}{}", self.concerned(number, content.last_commit)));
        } else if self.last_commit != 0 && content.first_commit != self.last_commit + 1 {
            self.report.findings.push(format!(
                "generation {number} begins with commit {} where {} is next",
                content.first_commit,
                self.last_commit + 1
            ));
        }
        self.last_commit = content.last_commit;
        self.report.generations.push(content);
    }

    /// Names the runs of a sealed generation that have records behind the last commit that could be read.
    fn concerned(&self, number: u64, readable: u64) -> String {
        let Ok(sealed) = Sealed::open(&generation_dir(&self.report.path, number), number) else {
            return String::new();
        };
        match sealed.runs_behind(readable) {
            Ok(runs) if !runs.is_empty() => {
                let named: Vec<_> = runs.iter().take(RUNS_NAMED).map(ToString::to_string).collect();
                format!(
                    "; it holds commits up to {readable} and {} run(s) have records behind it: {}",
                    runs.len(),
                    named.join(" ")
                )
            }
            _ => String::new(),
        }
    }

    fn indexes(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let dir = generation_dir(&self.report.path, number);
            if !dir.join("ends.pages").exists() {
                continue; // not sealed yet
            }
            if let Err(error) = Sealed::open(&dir, number).and_then(|sealed| sealed.check()) {
                self.report.findings.push(format!("{error} (an index: the next start makes it again)"));
            }
        }
    }

    fn keys(&mut self, keys: &Keys) {
        self.report.keys = keys.count();
        if let Err(error) = keys.check() {
            self.report.findings.push(error.to_string());
        }
    }

    fn finish(mut self) -> VerifyReport {
        if self.last_commit < self.head.commit {
            let path = generation_dir(&self.report.path, self.head.generation);
            let behind = Error::BehindHead { path, found: self.last_commit, head: self.head.commit };
            self.report.findings.push(behind.to_string());
        }
        self.report
    }
}

/// A copy of a directory that is removed when it is dropped.
struct Copy(PathBuf);

impl Copy {
    fn of(dir: &Path, beside: &Path) -> Result<Self, Error> {
        super::store::check_files(dir)?;
        let copy = Self(beside.join(format!("removed-verify-{}", std::process::id())));
        super::backup::copy_dir(dir, &copy.0)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // A name that the next start removes, should this fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}
