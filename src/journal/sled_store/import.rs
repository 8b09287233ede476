//! Makes a journal of an export: the same generations and commits, record for record, checked as every
//! opening checks them.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use uuid::Uuid;

use super::backup::{make_dir, parent, sibling, sync_tree};
use super::head::{Head, HeadState};
use super::janitor::keys_dir;
use super::keys::{Bounds, Keys};
use super::line::{Kind, Line};
use super::open::generation_dir;
use super::pack::{self, CommitHeader};
use super::store::{Store, Sync, sync_path};
use super::verify::{VerifyReport, verify};
use super::{Options, SledJournal};
use crate::id::RunId;
use crate::journal::record::{self, Record};
use crate::journal::{Change, Error, Tombstone};
use crate::time::Timestamp;

/// The longest line: a record of the largest commit in hexadecimal digits, and some room.
const LINE_BYTES_MAX: u64 = 4 * pack::COMMIT_BYTES_MAX as u64;
/// Far beyond what any journal reaches, and far below where counting on would overflow.
const NUMBER_MAX: u64 = 1 << 62;
/// The generation that imported files of keys are named after: there is none with that number.
const KEYS_GENERATION: u64 = 0;

/// What was imported.
#[derive(Debug, Serialize)]
pub struct ImportReport {
    pub to: PathBuf,
    /// Records of commits.
    pub records: u64,
    /// The last commit.
    pub commit: u64,
    /// The new journal, read again after it was written.
    pub verified: VerifyReport,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, records, commit, verified } = self;
        writeln!(f, "{verified}")?;
        write!(f, "imported {records} records into {}, up to commit {commit}", to.display())
    }
}

/// Makes a journal of an export, in a directory that does not exist yet or is empty. `name` is the export's,
/// for messages. Takes 40 bytes of memory for each key of a finished run.
///
/// # Errors
/// [`Error::Refused`] with the line that is wrong, or where the directory is in use; nothing is left then.
pub fn import(name: &Path, text: &mut dyn BufRead, to: &Path) -> Result<ImportReport, Error> {
    if fs::read_dir(to).map_or(to.exists(), |mut entries| entries.next().is_some()) {
        let reason = "something is there already; move it aside, or name a directory that does not exist".to_owned();
        return Err(Error::Refused { path: to.to_owned(), reason });
    }
    let new = sibling(to, "importing");
    if new.exists() {
        fs::remove_dir_all(&new).map_err(|error| Error::io("remove", &new, &error))?;
    }
    let made = make(name, text, &new).and_then(|import| Ok((import, verify(&new)?)));
    let (import, mut verified) = made.inspect_err(|_| {
        // Its own error would hide the one that matters.
        let _ = fs::remove_dir_all(&new);
    })?;
    verified.path = to.to_owned();
    fs::rename(&new, to).map_err(|error| Error::io("rename", &new, &error))?;
    parent(to).map_or(Ok(()), sync_path)?;
    let commit = import.last.map_or(0, |head| head.commit);
    Ok(ImportReport { to: to.to_owned(), records: import.records, commit, verified })
}

/// Writes everything below a directory of its own.
fn make(name: &Path, text: &mut dyn BufRead, new: &Path) -> Result<Import, Error> {
    let mut import = Import { dir: new.to_owned(), ..Import::default() };
    make_dir(&new.join("generations"))?;
    let mut lines = Lines { name, text, number: 0, last: Vec::new(), before: crc32fast::Hasher::new() };
    loop {
        let Some(line) = lines.next()? else {
            return Err(lines.refused("the export ends without its last line: it was cut off"));
        };
        if line.record == Kind::End {
            let before = lines.number - 1;
            if let Some(count) = line.lines.filter(|count| *count != before) {
                return Err(lines.refused(format!("{count} lines were exported before it")));
            }
            if line.crc32.is_some_and(|crc32| crc32 != lines.before.clone().finalize()) {
                let reason =
                    "the lines before it are not what was exported; take `crc32` out of it if you changed them";
                return Err(lines.refused(reason));
            }
            break;
        }
        import.take(line).map_err(|wrong| wrong.of(&lines))?;
    }
    if lines.next()?.is_some() {
        return Err(lines.refused("there is more behind the export's last line"));
    }
    import.end_commit().map_err(|wrong| wrong.of(&lines))?;
    let Some(head) = import.last else { return Err(lines.refused("the export holds no commit")) };
    import.store = None;
    // Those are added when the index of their generation is made.
    let Import { keys, told, .. } = &mut import;
    keys.retain(|key| !told.contains(&key.run));
    let bounds = Options::keeping_all(new);
    let bounds = Bounds { keep: bounds.keys_keep, max: bounds.keys_max };
    let keys = import.keys.iter().copied();
    Keys::default().with(&keys_dir(new), KEYS_GENERATION, keys, bounds, Timestamp(0))?;
    drop(Head::create(&new.join("HEAD"), &head)?);
    sync_tree(new)?;
    // The opening reads it all, and makes the indexes of the generations that are not written any more.
    let opened = SledJournal::open(Options::keeping_all(new));
    drop(opened.map_err(|error| lines.refused(format!("it is no whole journal: {error}")))?);
    Ok(import)
}

/// The export's lines.
struct Lines<'a> {
    name: &'a Path,
    text: &'a mut dyn BufRead,
    /// Of the line that was read last.
    number: u64,
    last: Vec<u8>,
    /// Of all lines before it.
    before: crc32fast::Hasher,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Line>, Error> {
        self.before.update(&self.last);
        self.last.clear();
        let read = (&mut *self.text).take(LINE_BYTES_MAX).read_until(b'\n', &mut self.last);
        let length = read.map_err(|error| Error::io("read", self.name, &error))?;
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        if length as u64 == LINE_BYTES_MAX {
            return Err(self.refused(format!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(&self.last).map(Some).map_err(|error| {
            let (text, number, column) = (error.to_string(), self.number, error.column());
            let text = text.split(" at line 1 ").next().unwrap_or_default();
            Error::Refused { path: self.name.to_owned(), reason: format!("line {number}, column {column}: {text}") }
        })
    }

    fn refused(&self, reason: impl fmt::Display) -> Error {
        Error::Refused { path: self.name.to_owned(), reason: format!("line {}: {reason}", self.number) }
    }
}

/// Why a line cannot be taken.
enum Wrong {
    Line(String),
    Journal(Error),
}

impl Wrong {
    fn of(self, lines: &Lines<'_>) -> Error {
        match self {
            Self::Line(reason) => lines.refused(reason),
            Self::Journal(error) => error,
        }
    }
}

impl From<String> for Wrong {
    fn from(reason: String) -> Self {
        Self::Line(reason)
    }
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self::Journal(error)
    }
}

/// A journal being written.
#[derive(Default)]
struct Import {
    dir: PathBuf,
    keys: Vec<Tombstone>,
    /// Runs whose keys the records tell.
    told: HashSet<RunId>,
    records: u64,
    /// What HEAD will say, after the first commit.
    last: Option<HeadState>,
    /// The generation being written.
    store: Option<Store>,
    /// The commit being collected: its stream, when it was written and its number of records.
    commit: Option<(Vec<u8>, Timestamp, u32)>,
}

impl Import {
    fn take(&mut self, line: Line) -> Result<(), Wrong> {
        if line.record == Kind::Key {
            self.keys.push(line.key()?);
            return Ok(());
        }
        let (generation, commit, at) = (line.generation, line.commit, line.written_at);
        let record = line.record()?;
        if self.last.is_none_or(|last| last.commit != commit) {
            self.begin_commit(generation, commit, at, &record)?;
        } else if self.last.is_some_and(|last| last.generation != generation) {
            return Err(format!("commit {commit} lies in two generations").into());
        }
        if let Some((stream, _, records)) = &mut self.commit {
            record::put_record(stream, &record);
            *records += 1;
        }
        if let Record::Change(Change::Run(transition)) = &record
            && transition.ended.as_ref().is_some_and(|ended| ended.tombstone.is_some())
        {
            self.told.insert(transition.run);
        }
        self.records += 1;
        Ok(())
    }

    fn begin_commit(&mut self, generation: u64, commit: u64, at: Timestamp, first: &Record) -> Result<(), Wrong> {
        // A commit 0 says at the next start that nothing was ever acknowledged.
        for (what, number) in [("generation", generation), ("commit", commit)] {
            if !(1..=NUMBER_MAX).contains(&number) {
                return Err(format!("{what} is {number}; it goes from 1 to {NUMBER_MAX}").into());
            }
        }
        self.end_commit()?;
        let is_new = match self.last {
            Some(last) if commit != last.commit + 1 => {
                return Err(format!("commit {commit} follows commit {}", last.commit).into());
            }
            Some(last) if generation != last.generation && generation != last.generation + 1 => {
                return Err(format!("generation {generation} follows generation {}", last.generation).into());
            }
            Some(last) => generation != last.generation,
            None => true,
        };
        let journal = match first {
            Record::Generation(start) if is_new => {
                if start.generation != generation {
                    return Err(format!("it begins generation {}, not {generation}", start.generation).into());
                }
                start.journal
            }
            _ if is_new => return Err(format!("generation {generation} does not begin with its first record").into()),
            _ => self.last.map_or(Uuid::nil(), |last| last.journal),
        };
        if is_new {
            self.store = Some(Store::create(&generation_dir(&self.dir, generation), Sync::Skipped)?);
        }
        let oldest = self.last.map_or(generation, |last| last.oldest);
        self.last = Some(HeadState { journal, oldest, generation, commit });
        let mut stream = Vec::new();
        pack::begin(&mut stream);
        self.commit = Some((stream, at, 0));
        Ok(())
    }

    fn end_commit(&mut self) -> Result<(), Wrong> {
        let (Some((mut stream, at, records)), Some(last), Some(store)) = (self.commit.take(), self.last, &self.store)
        else {
            return Ok(());
        };
        let HeadState { journal, generation, commit, .. } = last;
        pack::finish(
            &mut stream,
            &CommitHeader { journal: pack::journal_mark(journal), generation, commit, at, records },
        );
        store.append(commit, &stream)?;
        Ok(())
    }
}
