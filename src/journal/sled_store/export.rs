//! The journal as JSON lines, one record each, oldest first: for other programs, for looking, and to be
//! imported again.

use std::io::Write;
use std::path::Path;

use super::fold::each_record;
use super::line::Line;
use super::store::Store;
use super::{Options, SledJournal};
use crate::journal::Error;

/// Exports a journal that no process uses; returns the number of records and keys.
///
/// # Errors
/// [`Error::Locked`] while a process uses it (ask that process), what opening it gives, and
/// [`Error::Io`] when the output cannot be written.
pub fn export(path: &Path, out: &mut dyn Write) -> Result<u64, Error> {
    if !path.join("HEAD").exists() {
        return Err(Error::damaged(&path.join("HEAD"), "it is not there: this is no journal, or a damaged one"));
    }
    let (journal, _) = SledJournal::open(Options::keeping_all(path))?;
    journal.export_in_use(out)
}

impl SledJournal {
    /// Exports the journal while it is in use, as far as it is written now; returns the number of records and
    /// keys. Blocks; commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a record cannot be read, [`Error::Io`] when the output cannot be written.
    pub(super) fn export_in_use(&self, out: &mut dyn Write) -> Result<u64, Error> {
        let quiet = self.shared.quiet();
        let (head, view) = self.shared.snapshot();
        let mut lines = Lines { out, count: 0, crc32: crc32fast::Hasher::new() };
        for tombstone in view.keys.all() {
            lines.write(&Line::of_key(tombstone?))?;
        }
        for sealed in &view.sealed {
            lines.store(&*self.shared.stores.get(sealed)?, head.commit)?;
        }
        for previous in view.previous.iter() {
            lines.store(&previous.store, head.commit)?;
        }
        lines.store(&view.live, head.commit)?;
        drop(quiet);
        let (count, crc32) = (lines.count, lines.crc32.clone().finalize());
        lines.write(&Line::end(count, crc32))?;
        Ok(count)
    }
}

/// The lines written so far.
struct Lines<'a> {
    out: &'a mut dyn Write,
    count: u64,
    crc32: crc32fast::Hasher,
}

impl Lines<'_> {
    fn write(&mut self, line: &Line) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).map_err(|error| io(&error.into()))?;
        text.push(b'\n');
        self.crc32.update(&text);
        self.count += 1;
        self.out.write_all(&text).map_err(|error| io(&error))
    }

    /// Writes the commits of a store up to a number.
    fn store(&mut self, store: &Store, last: u64) -> Result<(), Error> {
        store.scan(|commit| {
            let header = commit.header;
            if header.commit > last {
                return Ok(());
            }
            let mut written = Ok(());
            let read = each_record(&commit, |record, _| {
                if written.is_ok() {
                    let line = Line::of(&header, record).map_err(|error| io(&error.into()));
                    written = line.and_then(|line| self.write(&line));
                }
            });
            written?;
            let damaged = |error| Error::damaged(store.dir(), format!("commit {}: {error}", header.commit));
            read.map(|_| ()).map_err(damaged)
        })
    }
}

fn io(error: &std::io::Error) -> Error {
    Error::io("write", Path::new("the export"), error)
}
