//! HEAD: a small file outside sled that says how far the journal had come. A checksum cannot see that
//! the end of a log is gone; this can. Two slots are written in turn, so one is always whole.
//!
//! ```text
//! slot at 0 and at 4096:  0 "BSHEAD01"   24 oldest generation kept   40 last commit    56 u32 CRC-32
//!                         8 journal id   32 present generation       48 slot writes
//! ```

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::store::sync_path;
use crate::failpoint;
use crate::journal::Error;
use crate::journal::bytes::{Put, Take, Unreadable};

const MAGIC: &[u8; 8] = b"BSHEAD01";
const SLOT_BYTES: usize = 60;
/// A slot each in its own block, so that no write touches both.
const SLOT_STRIDE: u64 = 4_096;

/// What HEAD says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadState {
    pub journal: Uuid,
    /// Generations before it were removed on purpose; one missing from here on is a loss.
    pub oldest: u64,
    pub generation: u64,
    /// The last commit that is on stable storage; 0 while the first generation is being made.
    pub commit: u64,
}

/// The open file.
pub struct Head {
    file: File,
    path: PathBuf,
    writes: u64,
    /// Written since the last sync.
    dirty: bool,
}

impl Head {
    /// Makes the file of a new journal, durable with its name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn create(path: &Path, state: &HeadState) -> Result<Self, Error> {
        let new = path.with_extension("new");
        let io = |action, error: &std::io::Error| Error::io(action, &new, error);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&new);
        let file = file.map_err(|error| io("create", &error))?;
        file.set_len(2 * SLOT_STRIDE).map_err(|error| io("write", &error))?;
        let mut head = Self { file, path: path.to_owned(), writes: 0, dirty: false };
        head.write_both(state)?;
        fs::rename(&new, path).map_err(|error| Error::io("create", path, &error))?;
        path.parent().map_or(Ok(()), sync_path)?;
        Ok(head)
    }

    /// Opens the file; returns it with what it says, and whether one slot was unreadable.
    ///
    /// # Errors
    /// [`Error::Damaged`] when no slot can be read.
    pub fn open(path: &Path) -> Result<(Self, HeadState, bool), Error> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.map_err(|error| Error::io("open", path, &error))?;
        let slots = [0, 1].map(|slot| read_slot(&file, slot));
        let torn = slots.iter().any(Result::is_err);
        let newest = slots.into_iter().filter_map(Result::ok).max_by_key(|(_, writes)| *writes);
        let (state, writes) = newest.ok_or_else(|| Error::damaged(path, "neither of its two slots can be read"))?;
        Ok((Self { file, path: path.to_owned(), writes, dirty: false }, state, torn))
    }

    /// Writes the next slot, without a sync.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn write(&mut self, state: &HeadState) -> Result<(), Error> {
        self.writes += 1;
        let slot = encode(state, self.writes);
        let at = (self.writes % 2) * SLOT_STRIDE;
        self.file.write_all_at(&slot, at).map_err(|error| Error::io("write", &self.path, &error))?;
        self.dirty = true;
        Ok(())
    }

    /// Writes both slots and syncs: where falling back to the slot before would be wrong.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn write_both(&mut self, state: &HeadState) -> Result<(), Error> {
        self.write(state)?;
        failpoint::hit("head.one_slot");
        self.write(state)?;
        self.sync()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.dirty {
            self.file.sync_data().map_err(|error| Error::io("sync", &self.path, &error))?;
        }
        self.dirty = false;
        Ok(())
    }

    /// True when something written is not yet synced.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }
}

fn encode(state: &HeadState, writes: u64) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.put_raw(MAGIC);
    slot.put_raw(state.journal.as_bytes());
    slot.put_u64(state.oldest);
    slot.put_u64(state.generation);
    slot.put_u64(state.commit);
    slot.put_u64(writes);
    let crc = crc32fast::hash(&slot);
    slot.put_u32(crc);
    slot
}

fn read_slot(file: &File, slot: u64) -> Result<(HeadState, u64), Unreadable> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_STRIDE).map_err(|_| Unreadable("a slot"))?;
    let (checked, crc) = bytes.split_at(SLOT_BYTES - 4);
    let mut take = Take::new(checked, "a slot");
    if crc32fast::hash(checked).to_le_bytes() != crc || take.raw(8)? != MAGIC {
        return Err(Unreadable("a slot"));
    }
    let journal = Uuid::from_bytes(take.array()?);
    let state = HeadState { journal, oldest: take.u64()?, generation: take.u64()?, commit: take.u64()? };
    Ok((state, take.u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(commit: u64) -> HeadState {
        HeadState { journal: Uuid::from_u128(0x1234), oldest: 1, generation: 2, commit }
    }

    #[test]
    fn slot_bytes_never_change() {
        let hex: String = encode(&state(5), 9).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "42534845414430310000000000000000000000000000123401000000000000000200000000000000050000000000000009000000000000007f69edbd"
        );
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("HEAD");
        let mut head = Head::create(&path, &state(0)).unwrap();
        for commit in 1..=5 {
            head.write(&state(commit)).unwrap();
        }
        assert!(head.is_dirty());
        head.sync().unwrap();
        let newest = head.writes % 2;
        assert_eq!(Head::open(&path).map(|(_, state, torn)| (state, torn)).unwrap(), (state(5), false));

        let mut bytes = fs::read(&path).unwrap();
        bytes[(newest * SLOT_STRIDE) as usize + 40] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (_, found, torn) = Head::open(&path).unwrap();
        assert_eq!((found, torn), (state(4), true), "the newest slot is damaged");

        bytes[((1 - newest) * SLOT_STRIDE) as usize] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(Head::open(&path), Err(Error::Damaged { .. })));
    }
}
