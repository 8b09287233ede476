//! Keys of finished runs (tombstones), so that a key starts one run however late it is repeated: sorted
//! files by month, their filters in memory, bounded by age and number. A manifest names the files, so
//! that a missing one is noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::pages::{About, Filter, Pages};
use super::store::sync_path;
use crate::id::RunId;
use crate::journal::bytes::{Put, Take};
use crate::journal::{Error, Tombstone};
use crate::time::{Span, Timestamp};

const ENTRY_BYTES: usize = 40;
/// Small files of one month before they are merged: a look-up asks the filter of each.
const SMALL_FILES_MAX: usize = 8;
/// A file with so many keys (20 MB) is not merged any more, so that a merge never takes much memory.
const FILE_KEYS: u64 = 500_000;
/// When there are too many keys, so many more are dropped at once, or each turn would rewrite a file.
const DROP_SHARE: u64 = 20;

/// All files, replaced as a whole so that readers never wait for a merge.
#[derive(Debug, Default, Clone)]
pub struct Keys {
    /// Oldest month first.
    files: Vec<Arc<KeyFile>>,
    /// Dropped so far because there were too many, since open.
    pub dropped: u64,
}

#[derive(Debug)]
struct KeyFile {
    /// `2026-11/00000012.keys`
    name: String,
    pages: Pages,
}

/// How many keys are kept, and how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub keep: Span,
    pub max: u64,
}

fn about(generation: u64) -> About {
    About { kind: *b"keys", entry_bytes: ENTRY_BYTES, generation, at: 0 }
}

impl Keys {
    /// Opens the files that the manifest names; `needed` when there must be one.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the file that is missing or wrong.
    pub fn open(dir: &Path, needed: bool) -> Result<Self, Error> {
        let manifest = dir.join("MANIFEST");
        if !manifest.exists() && !needed {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&manifest).map_err(|error| Error::damaged(&manifest, error.to_string()))?;
        let (lines, crc) = text.trim_end().rsplit_once('\n').map_or(("", text.trim_end()), |(lines, crc)| (lines, crc));
        if crc != format!("crc {:08x}", crc32fast::hash(lines.as_bytes())) {
            return Err(Error::damaged(&manifest, "it fails its checksum"));
        }
        let files = lines.lines().filter(|line| !line.is_empty()).map(|name| KeyFile::open(dir, name));
        Ok(Self { files: files.collect::<Result<_, _>>()?, dropped: 0 })
    }

    /// Finds a run's tombstone.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the file.
    pub fn find(&self, run: RunId) -> Result<Option<Tombstone>, Error> {
        for file in self.files.iter().rev().filter(|file| file.pages.may_hold(run.0.as_bytes())) {
            if let Some(entry) = file.pages.with_prefix(run.0.as_bytes())?.chunks_exact(ENTRY_BYTES).next_back() {
                return Ok(decode(entry));
            }
        }
        Ok(None)
    }

    /// Reads every page.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page that fails its checksum.
    pub fn check(&self) -> Result<(), Error> {
        self.files.iter().try_for_each(|file| file.pages.all().map(|_| ()))
    }

    /// Reads all keys, one file after the other.
    pub fn all(&self) -> impl Iterator<Item = Result<Tombstone, Error>> {
        self.files.iter().flat_map(|file| {
            let (entries, failed) = match file.entries() {
                Ok(entries) => (entries, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            entries.into_iter().filter_map(|entry| decode(&entry)).map(Ok).chain(failed)
        })
    }

    /// Returns how many keys are known.
    pub fn count(&self) -> u64 {
        self.files.iter().map(|file| file.pages.count).sum()
    }

    /// Returns the keys after a generation was sealed: its tombstones added, old ones dropped.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses; what is there stays as it is.
    pub fn with(
        &self,
        dir: &Path,
        generation: u64,
        tombstones: impl Iterator<Item = Tombstone>,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let mut after = self.clone();
        let mut by_month: std::collections::BTreeMap<String, Vec<[u8; ENTRY_BYTES]>> = Default::default();
        for tombstone in tombstones {
            by_month.entry(month(tombstone.ended_at)).or_default().push(encode(&tombstone));
        }
        for (month, entries) in by_month {
            let name = format!("{month}/{generation:08}.keys");
            after.files.retain(|file| file.name != name);
            after.files.push(KeyFile::write(dir, &name, generation, entries)?);
        }
        after.files.sort_by(|a, b| a.name.cmp(&b.name));
        after.merge(dir)?;
        after.drop_old(dir, bounds, now)?;
        after.write_manifest(dir)?;
        // Only now does nothing name them any more.
        for file in &self.files {
            if !after.files.iter().any(|kept| kept.name == file.name) {
                let path = dir.join(&file.name);
                fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))?;
            }
        }
        Ok(after)
    }

    /// Merges the small files of a month that has too many of them, oldest first.
    fn merge(&mut self, dir: &Path) -> Result<(), Error> {
        let mut months: Vec<String> = self.files.iter().map(|file| file.month().to_owned()).collect();
        months.dedup();
        for month in months {
            let small = |file: &&Arc<KeyFile>| file.month() == month && file.pages.count < FILE_KEYS;
            let small: Vec<_> = self.files.iter().filter(small).cloned().collect();
            if small.len() <= SMALL_FILES_MAX {
                continue;
            }
            let mut entries = Vec::new();
            let mut merged = Vec::new();
            for file in small {
                if entries.len() as u64 >= FILE_KEYS {
                    break;
                }
                entries.extend(file.entries()?);
                merged.push(file);
            }
            if let Some(last) = merged.last() {
                let file = last.again(dir, entries)?;
                self.files.retain(|file| !merged.iter().any(|gone| gone.name == file.name));
                self.files.push(file);
                self.files.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        Ok(())
    }

    /// Drops months that are over, and the oldest keys where there are too many.
    fn drop_old(&mut self, dir: &Path, bounds: Bounds, now: Timestamp) -> Result<(), Error> {
        let oldest = month(Timestamp(now.0.saturating_sub(bounds.keep.0)));
        self.files.retain(|file| file.month() >= oldest.as_str());
        let count = self.count();
        if count <= bounds.max {
            return Ok(());
        }
        let mut excess = (count - bounds.max).saturating_add(bounds.max / DROP_SHARE);
        self.dropped += excess.min(count);
        while excess > 0
            && let Some(file) = self.files.first().cloned()
        {
            self.files.remove(0);
            if file.pages.count <= excess {
                excess -= file.pages.count;
                continue;
            }
            let mut entries = file.entries()?;
            entries.sort_by_key(|entry| decode(entry).map(|tombstone| tombstone.ended_at));
            let kept = entries.split_off(usize::try_from(excess).unwrap_or(usize::MAX));
            self.files.insert(0, file.again(dir, kept)?);
            excess = 0;
        }
        Ok(())
    }

    fn write_manifest(&self, dir: &Path) -> Result<(), Error> {
        let lines = self.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>().join("\n");
        let text = format!("{lines}\ncrc {:08x}\n", crc32fast::hash(lines.as_bytes()));
        let (new, path) = (dir.join("MANIFEST.new"), dir.join("MANIFEST"));
        let io = |action, error: &std::io::Error| Error::io(action, &new, error);
        fs::create_dir_all(dir).map_err(|error| io("create", &error))?;
        fs::write(&new, text).map_err(|error| io("write", &error))?;
        sync_path(&new)?;
        fs::rename(&new, &path).map_err(|error| io("rename", &error))?;
        sync_path(dir)?;
        dir.parent().map_or(Ok(()), sync_path)
    }
}

impl KeyFile {
    fn open(dir: &Path, name: &str) -> Result<Arc<Self>, Error> {
        let path = dir.join(name);
        let pages = Pages::open(&path, about(0)).map_err(|error| match error {
            Error::Io { reason, .. } => Error::damaged(&path, reason),
            other => other,
        })?;
        Ok(Arc::new(Self { name: name.to_owned(), pages }))
    }

    fn write(dir: &Path, name: &str, generation: u64, mut entries: Vec<[u8; ENTRY_BYTES]>) -> Result<Arc<Self>, Error> {
        entries.sort_unstable();
        entries.dedup();
        let path: PathBuf = dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, &error))?;
            sync_path(dir)?;
        }
        let pages = Pages::write(&path, about(generation), Filter::Yes, entries.as_flattened())?;
        Ok(Arc::new(Self { name: name.to_owned(), pages }))
    }

    /// Writes other entries for the same month and generation, under a name of their own: the old files
    /// stay until the manifest names the new one.
    fn again(&self, dir: &Path, entries: Vec<[u8; ENTRY_BYTES]>) -> Result<Arc<Self>, Error> {
        let (month, generation) = (self.month(), self.pages.about.generation);
        let names = (1..).map(|number| format!("{month}/{generation:08}-{number:03}.keys"));
        let free = names.into_iter().find(|name| !dir.join(name).exists());
        Self::write(dir, &free.unwrap_or_default(), generation, entries)
    }

    fn month(&self) -> &str {
        self.name.split_once('/').map_or("", |(month, _)| month)
    }

    fn entries(&self) -> Result<Vec<[u8; ENTRY_BYTES]>, Error> {
        let all = self.pages.all()?;
        Ok(all.as_chunks::<ENTRY_BYTES>().0.to_vec())
    }
}

fn encode(tombstone: &Tombstone) -> [u8; ENTRY_BYTES] {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES);
    bytes.put_raw(tombstone.run.0.as_bytes());
    bytes.put_raw(&tombstone.input_hash);
    bytes.put_u64(tombstone.ended_at.0);
    let mut entry = [0; ENTRY_BYTES];
    entry.copy_from_slice(&bytes);
    entry
}

fn decode(entry: &[u8]) -> Option<Tombstone> {
    let mut take = Take::new(entry, "a key");
    Some(Tombstone {
        run: RunId(Uuid::from_bytes(take.array().ok()?)),
        input_hash: take.array().ok()?,
        ended_at: Timestamp(take.u64().ok()?),
    })
}

/// Returns the month of a moment in UTC, `2026-11`.
fn month(at: Timestamp) -> String {
    at.to_string().get(..7).unwrap_or("9999-12").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const BOUNDS: Bounds = Bounds { keep: Span(400 * DAY), max: 1_000 };

    fn tombstone(number: u64, day: u64) -> Tombstone {
        let run = RunId(Uuid::from_u128(u128::from(number) * 0x1_0000_0001_0000_0001));
        Tombstone { run, input_hash: [number as u8; 16], ended_at: Timestamp(day * DAY) }
    }

    fn known(keys: &Keys, numbers: std::ops::Range<u64>) -> Vec<u64> {
        numbers.filter(|number| keys.find(tombstone(*number, 0).run).unwrap().is_some()).collect()
    }

    #[test]
    fn keys_are_found_after_merges_and_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = Keys::open(dir.path(), false).unwrap();
        for turn in 0..30 {
            let new = (turn * 10..turn * 10 + 10).map(|number| tombstone(number, 3 * turn));
            keys = keys.with(dir.path(), turn + 1, new, BOUNDS, Timestamp(100 * DAY)).unwrap();
        }
        let again = Keys::open(dir.path(), true).unwrap();
        for keys in [&keys, &again] {
            assert_eq!(keys.count(), 300);
            assert_eq!(known(keys, 0..400), (0..300).collect::<Vec<_>>());
            assert_eq!(keys.find(tombstone(77, 0).run).unwrap(), Some(tombstone(77, 21)));
        }
        let files: usize = fs::read_dir(dir.path())
            .unwrap()
            .filter_map(|entry| fs::read_dir(entry.unwrap().path()).ok())
            .map(|folder| folder.count())
            .sum();
        assert!(files <= 3 * SMALL_FILES_MAX, "{files} files: merged ones are removed");
    }

    #[test]
    fn the_oldest_go_by_age_and_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let add = |keys: &Keys, turn: u64, now: u64, bounds: Bounds| {
            let new = (turn * 100..turn * 100 + 100).map(|number| tombstone(number, 40 * turn));
            keys.with(dir.path(), turn + 1, new, bounds, Timestamp(now * DAY)).unwrap()
        };
        let mut keys = add(&Keys::default(), 0, 0, BOUNDS);
        keys = add(&keys, 1, 40, BOUNDS);
        let few = Bounds { max: 150, ..BOUNDS };
        keys = add(&keys, 2, 80, few);
        assert_eq!(keys.count(), 300 - 157, "150 and a twentieth less");
        assert_eq!(keys.dropped, 157);
        assert_eq!(known(&keys, 0..300).len(), 143);
        assert_eq!(known(&keys, 200..300).len(), 100, "the newest all stay");
        keys = add(&keys, 3, 480, BOUNDS);
        assert_eq!(known(&keys, 0..200), Vec::<u64>::new(), "older than 400 days");
        assert_eq!(known(&Keys::open(dir.path(), true).unwrap(), 200..400).len(), 200);
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let new = (0..10).map(|number| tombstone(number, 5));
        Keys::default().with(dir.path(), 1, new, BOUNDS, Timestamp(6 * DAY)).unwrap();
        let file = dir.path().join("1970-01/00000001.keys");
        let kept = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let message = Keys::open(dir.path(), true).unwrap_err().to_string();
        assert!(message.contains("1970-01/00000001.keys"), "{message}");
        fs::write(&file, kept).unwrap();
        assert_eq!(Keys::open(dir.path(), true).unwrap().count(), 10);
        fs::remove_file(dir.path().join("MANIFEST")).unwrap();
        assert!(matches!(Keys::open(dir.path(), true), Err(Error::Damaged { .. })));
    }
}
