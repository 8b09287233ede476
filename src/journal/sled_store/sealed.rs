//! A generation that is no longer written: its index as sorted pages, its store opened when a look-up
//! needs a record. Nothing of it is needed to open the journal.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::fold::each_record;
use super::index::{EndedPlace, FactsPlace, Index, Marks, Place, RunPlaces};
use super::pages::{About, Filter, Pages};
use super::store::{Store, Sync};
use crate::id::RunId;
use crate::journal::bytes::{Put, Take, Unreadable};
use crate::journal::{Error, FinishedFilter};
use crate::time::Timestamp;

const RUN_BYTES: usize = 36;
const ENDED_BYTES: usize = 68;
/// In place of a sequence: the entry is the record with the run's end.
const ENDED_ENTRY: u64 = u64::MAX;
/// Sealed stores kept open for the next look-up; each has a cache of its own.
const OPEN_MAX: usize = 8;

/// A finished run in the order of ends.
pub type EndKey = (Timestamp, RunId);

/// One sealed generation.
#[derive(Debug)]
pub struct Sealed {
    pub number: u64,
    dir: PathBuf,
    runs: Pages,
    ended: Pages,
    /// When its last commit was written.
    pub at: Timestamp,
    /// The newest end in it.
    pub last_end: Timestamp,
    pub disk_bytes: u64,
}

fn runs_about(generation: u64, at: Timestamp) -> About {
    About { kind: *b"runs", entry_bytes: RUN_BYTES, generation, at: at.0 }
}

fn ended_about(generation: u64, at: Timestamp) -> About {
    About { kind: *b"ends", entry_bytes: ENDED_BYTES, generation, at: at.0 }
}

impl Sealed {
    /// Writes the index of a generation beside its store. The ends are written last: a directory that has
    /// them is sealed.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn write(dir: &Path, number: u64, at: Timestamp, index: &Index) -> Result<Self, Error> {
        let mut runs: Vec<_> = index.runs.iter().collect();
        runs.sort_unstable_by_key(|(run, _)| **run);
        let mut entries = Vec::with_capacity(runs.len() * RUN_BYTES * 3);
        for (run, RunPlaces { facts, ended }) in runs {
            let mut facts = facts.to_vec();
            facts.sort_unstable();
            let end = ended.map(|place| FactsPlace { sequence: ENDED_ENTRY, place });
            for FactsPlace { sequence, place } in facts.into_iter().chain(end) {
                entries.put_raw(run.0.as_bytes());
                entries.put_raw(&sequence.to_be_bytes());
                put_place(&mut entries, place);
            }
        }
        Pages::write(&dir.join("runs.pages"), runs_about(number, at), Filter::No, &entries)?;

        let mut entries = Vec::with_capacity(index.ended.len() * ENDED_BYTES);
        for ((ended_at, run), EndedPlace { place, marks }) in &index.ended {
            entries.put_raw(&ended_at.0.to_be_bytes());
            entries.put_raw(run.0.as_bytes());
            put_place(&mut entries, *place);
            for mark in [marks.saga, marks.state, marks.correlation_id, marks.key] {
                entries.put_u64(mark);
            }
        }
        Pages::write(&dir.join("ends.pages"), ended_about(number, at), Filter::No, &entries)?;
        Self::open(dir, number)
    }

    /// Opens the index of a sealed generation.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Damaged`]; the index can be made again from the store.
    pub fn open(dir: &Path, number: u64) -> Result<Self, Error> {
        let runs = Pages::open(&dir.join("runs.pages"), runs_about(number, Timestamp(0)))?;
        let ended = Pages::open(&dir.join("ends.pages"), ended_about(number, Timestamp(0)))?;
        for pages in [&runs, &ended] {
            if pages.about.generation != number {
                return Err(Error::damaged(pages.path(), "it belongs to another generation"));
            }
        }
        let at = Timestamp(ended.about.at);
        let mut sealed = Self {
            number,
            dir: dir.to_owned(),
            runs,
            at,
            last_end: Timestamp::default(),
            disk_bytes: directory_bytes(dir),
            ended,
        };
        sealed.last_end = sealed.ends_before(u64::MAX, 1)?.first().map(|(key, _)| key.0).unwrap_or_default();
        Ok(sealed)
    }

    /// Returns where a run's records are; none where it has none here.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page.
    pub fn run(&self, run: RunId) -> Result<Option<RunPlaces>, Error> {
        let found = self.runs.with_prefix(run.0.as_bytes())?;
        let mut places = RunPlaces::default();
        for entry in found.chunks_exact(RUN_BYTES) {
            let (sequence, place) = run_entry(entry).map_err(|error| Error::damaged(&self.dir, error.to_string()))?;
            if sequence == ENDED_ENTRY {
                places.ended = Some(place);
            } else {
                places.facts.push(FactsPlace { sequence, place });
            }
        }
        Ok((!found.is_empty()).then_some(places))
    }

    /// Returns at most `limit` runs that ended here and may match, newest first.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page.
    pub fn finished(&self, filter: &FinishedFilter, limit: usize) -> Result<Vec<(EndKey, Place)>, Error> {
        let mut before = match filter.after {
            Some((at, run)) => self.ended.lower_bound(&end_key(at, run))?,
            None => self.ended.count,
        };
        let mut found = Vec::new();
        while before > 0 && found.len() < limit {
            for (key, ended) in self.ends_before(before, usize::MAX)? {
                if filter.since.is_some_and(|since| key.0 < since) {
                    return Ok(found);
                }
                before -= 1;
                if ended.marks.may_match(filter) && found.len() < limit {
                    found.push((key, ended.place));
                }
            }
        }
        Ok(found)
    }

    /// Returns the ends in front of number `before` that share its page, newest first.
    fn ends_before(&self, before: u64, limit: usize) -> Result<Vec<(EndKey, EndedPlace)>, Error> {
        let Some(last) = before.min(self.ended.count).checked_sub(1) else { return Ok(Vec::new()) };
        let (first, page) = self.ended.around(last)?;
        let wanted = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        let entries = page.chunks_exact(ENDED_BYTES).take(wanted).rev().take(limit);
        let decoded: Result<Vec<_>, Unreadable> = entries.map(ended_entry).collect();
        decoded.map_err(|error| Error::damaged(self.ended.path(), error.to_string()))
    }

    /// Returns the runs that have records behind a commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page.
    pub fn runs_behind(&self, commit: u64) -> Result<BTreeSet<RunId>, Error> {
        let mut runs = BTreeSet::new();
        for entry in self.runs.all()?.chunks_exact(RUN_BYTES) {
            let (_, place) = run_entry(entry).map_err(|error| Error::damaged(&self.dir, error.to_string()))?;
            if place.commit > commit {
                let run =
                    Take::new(entry, "a run").array().map_err(|error| Error::damaged(&self.dir, error.to_string()))?;
                runs.insert(RunId(Uuid::from_bytes(run)));
            }
        }
        Ok(runs)
    }

    /// Reads every page.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page that fails its checksum.
    pub fn check(&self) -> Result<(), Error> {
        self.runs.all()?;
        self.ended.all().map(|_| ())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Reads a whole store to make its index again; returns it with the time of the last commit.
///
/// # Errors
/// [`Error::Damaged`] names the commit that cannot be read.
pub fn index_of(store: &Store) -> Result<(Index, Timestamp), Error> {
    let mut index = Index::default();
    let mut at = Timestamp::default();
    store.scan(|commit| {
        at = at.max(commit.header.at);
        let damaged =
            |error: Unreadable| Error::damaged(store.dir(), format!("commit {}: {error}", commit.header.commit));
        each_record(&commit, |record, place| index.apply(record, place)).map(|_| ()).map_err(damaged)
    })?;
    Ok((index, at))
}

/// Stores of sealed generations that were looked at last, the newest look-up at the end.
#[derive(Default)]
pub struct OpenStores(Mutex<Vec<(u64, Arc<Store>)>>);

impl OpenStores {
    /// Opens a sealed store, or returns it where it is open.
    ///
    /// # Errors
    /// [`Error::Damaged`] when sled cannot read it.
    pub fn get(&self, sealed: &Sealed) -> Result<Arc<Store>, Error> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(number, _)| *number == sealed.number) {
            let found = open.remove(at);
            open.push(found.clone());
            return Ok(found.1);
        }
        super::store::check_files(sealed.dir())?;
        let store = Arc::new(Store::open(sealed.dir(), Sync::Disk)?);
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((sealed.number, store.clone()));
        Ok(store)
    }

    /// Forgets a store that is about to be removed.
    pub fn forget(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(open, _)| *open != number);
    }
}

/// Returns the bytes that a directory's files take on disk.
pub fn directory_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    out.put_u64(place.commit);
    out.put_u32(place.offset);
}

fn end_key(at: Timestamp, run: RunId) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&at.0.to_be_bytes());
    key[8..].copy_from_slice(run.0.as_bytes());
    key
}

fn run_entry(entry: &[u8]) -> Result<(u64, Place), Unreadable> {
    let mut take = Take::new(&entry[16..], "an entry of runs.pages");
    let sequence = u64::from_be_bytes(take.array()?);
    Ok((sequence, Place { commit: take.u64()?, offset: take.u32()? }))
}

fn ended_entry(entry: &[u8]) -> Result<(EndKey, EndedPlace), Unreadable> {
    let mut take = Take::new(entry, "an entry of ends.pages");
    let at = Timestamp(u64::from_be_bytes(take.array()?));
    let run = RunId(Uuid::from_bytes(take.array()?));
    let place = Place { commit: take.u64()?, offset: take.u32()? };
    let marks = Marks { saga: take.u64()?, state: take.u64()?, correlation_id: take.u64()?, key: take.u64()? };
    Ok(((at, run), EndedPlace { place, marks }))
}
