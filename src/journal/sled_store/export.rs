//! The journal as JSON lines, one record each, oldest first: for other programs, and for looking.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::fold::each_record;
use super::store::Store;
use super::{Options, SledJournal};
use crate::id::{Fingerprint, RunId};
use crate::journal::record::Record;
use crate::journal::{Change, Error, InboxMark, SummaryIndex, Tombstone};
use crate::time::Timestamp;

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    generation: u64,
    commit: u64,
    /// When the commit was written, in milliseconds since 1970.
    written_at: Timestamp,
    #[serde(flatten)]
    record: Exported<'a>,
}

/// A record as exported.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Exported<'a> {
    Transition {
        run: RunId,
        sequence: u64,
        epoch: u64,
        at: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        definition: Option<Fingerprint>,
        facts: Vec<Content>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        outbox: Vec<(u64, Content)>,
        #[serde(skip_serializing_if = "Option::is_none")]
        inbox: Option<&'a InboxMark>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ended: Option<&'a SummaryIndex>,
        #[serde(skip_serializing_if = "Option::is_none")]
        summary: Option<Content>,
        #[serde(skip_serializing_if = "Option::is_none")]
        tombstone: Option<&'a Tombstone>,
    },
    Inbox {
        mark: &'a InboxMark,
    },
    Published {
        run: RunId,
        number: u64,
    },
    Definition {
        fingerprint: Fingerprint,
        source: &'a str,
    },
    Setting {
        name: &'a str,
        value: Option<&'a str>,
    },
    Generation {
        number: u64,
        made_by: &'a str,
    },
    /// Facts of an open run, written again at a turn.
    Carried {
        run: RunId,
        sequence: u64,
        epoch: u64,
        facts: Vec<(Timestamp, Content)>,
    },
    /// An event not yet published, written again at a turn.
    CarriedOutbox {
        run: RunId,
        number: u64,
        event: Content,
    },
}

/// Bytes of others: JSON where they are, else `{"hex": "…"}`.
#[derive(Serialize)]
#[serde(untagged)]
enum Content {
    Json(Box<RawValue>),
    Hex { hex: String },
}

impl Content {
    fn of(bytes: &Bytes) -> Self {
        let json = std::str::from_utf8(bytes).ok().and_then(|text| serde_json::from_str(text).ok());
        match json {
            Some(json) => Self::Json(json),
            None => Self::Hex { hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect() },
        }
    }
}

/// Exports a journal that no process uses; returns the number of lines.
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
    /// Exports the journal while it is in use, as far as it is written now; returns the number of lines.
    /// Blocks; commits go on meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a record cannot be read, [`Error::Io`] when the output cannot be written.
    pub(super) fn export_in_use(&self, out: &mut dyn Write) -> Result<u64, Error> {
        let quiet = self.shared.quiet();
        let (head, view) = self.shared.snapshot();
        let mut lines = 0;
        for sealed in &view.sealed {
            lines += export_store(&*self.shared.stores.get(sealed)?, head.commit, out)?;
        }
        for previous in view.previous.iter() {
            lines += export_store(&previous.store, head.commit, out)?;
        }
        lines += export_store(&view.live, head.commit, out)?;
        drop(quiet);
        Ok(lines)
    }
}

fn export_store(store: &Store, last: u64, out: &mut dyn Write) -> Result<u64, Error> {
    let mut lines = 0;
    store.scan(|commit| {
        let header = commit.header;
        if header.commit > last {
            return Ok(());
        }
        let mut text = Vec::new();
        let mut failed = None;
        let count = each_record(&commit, |record, _| {
            let Some(record) = exported(record) else { return };
            let line = Line { generation: header.generation, commit: header.commit, written_at: header.at, record };
            match serde_json::to_writer(&mut text, &line) {
                Ok(()) => text.push(b'\n'),
                Err(error) => failed = Some(error.to_string()),
            }
            lines += 1;
        });
        let unreadable = count.err().map(|error| error.to_string()).or(failed);
        if let Some(reason) = unreadable {
            return Err(Error::damaged(store.dir(), format!("commit {}: {reason}", header.commit)));
        }
        out.write_all(&text).map_err(|error| Error::io("write", Path::new("the export"), &error))
    })?;
    Ok(lines)
}

/// Returns what a record says to the outside; bookkeeping of our own says nothing.
fn exported(record: &Record) -> Option<Exported<'_>> {
    Some(match record {
        Record::Change(Change::Run(transition)) => {
            let ended = transition.ended.as_ref();
            Exported::Transition {
                run: transition.run,
                sequence: transition.sequence,
                epoch: transition.epoch,
                at: transition.at,
                definition: transition.definition,
                facts: transition.facts.iter().map(Content::of).collect(),
                outbox: transition.outbox.iter().map(|entry| (entry.number, Content::of(&entry.event))).collect(),
                inbox: transition.inbox.as_ref(),
                ended: ended.map(|ended| &ended.index),
                summary: ended.map(|ended| Content::of(&ended.summary)),
                tombstone: ended.and_then(|ended| ended.tombstone.as_ref()),
            }
        }
        Record::Change(Change::Inbox(mark)) => Exported::Inbox { mark },
        Record::Change(Change::Published { run, number }) => Exported::Published { run: *run, number: *number },
        Record::Change(Change::Definition { fingerprint, source }) => {
            Exported::Definition { fingerprint: *fingerprint, source }
        }
        Record::Change(Change::Setting { name, value }) => Exported::Setting { name, value: value.as_deref() },
        Record::Generation(start) => Exported::Generation { number: start.generation, made_by: &start.made_by },
        Record::CarriedFacts(carried) => Exported::Carried {
            run: carried.run,
            sequence: carried.sequence,
            epoch: carried.epoch,
            facts: carried.facts.iter().map(|(at, fact)| (*at, Content::of(fact))).collect(),
        },
        Record::CarriedOutbox(entry) => {
            Exported::CarriedOutbox { run: entry.run, number: entry.number, event: Content::of(&entry.event) }
        }
        Record::CarriedPositions { .. } | Record::CarriedMark { .. } | Record::CarriedEvents(_) | Record::CarryDone => {
            return None;
        }
    })
}
