//! A sorted file of fixed-size entries in checked pages, written once and read by binary search: the
//! indexes of a sealed generation and the keys of finished runs. Optionally with a Bloom filter, which
//! is held in memory so that a new run's id costs no read.
//!
//! ```text
//! page 0: header (64 bytes and its CRC)    pages 1…: entries, then at 4090 their number (u16) and at
//! 4092 a CRC-32    behind the last page: the filter's words
//! ```

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::journal::Error;
use crate::journal::bytes::{Put, Take, Unreadable};

use super::store::sync_path;

const PAGE_BYTES: usize = 4_096;
const MAGIC: &[u8; 8] = b"BSPAGES1";
const HEADER_BYTES: usize = 64;
/// Bits of the filter per entry and probes per look-up: 1 in 120 unknown keys costs a read.
const FILTER_BITS: u64 = 10;
const FILTER_PROBES: u64 = 7;

/// What a file is for and covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Four letters.
    pub kind: [u8; 4],
    pub entry_bytes: usize,
    pub generation: u64,
    /// When the newest of its data was committed.
    pub at: u64,
}

/// An open file.
#[derive(Debug)]
pub struct Pages {
    /// Held open for files with a filter, of which there are few and which may be replaced while somebody
    /// looks; the others are opened for each look.
    file: Option<File>,
    path: PathBuf,
    pub about: About,
    /// Entries in it.
    pub count: u64,
    filter: Vec<u64>,
}

/// Whether a file carries a filter on the first 16 bytes of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Yes,
    No,
}

impl Pages {
    /// Writes entries, which are sorted and of equal size, and makes them durable under the name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses; the name is then as it was before.
    pub fn write(path: &Path, about: About, filter: Filter, entries: &[u8]) -> Result<Self, Error> {
        let new = path.with_extension("new");
        write_file(&new, about, filter, entries).map_err(|error| Error::io("write", &new, &error))?;
        std::fs::rename(&new, path).map_err(|error| Error::io("rename", &new, &error))?;
        path.parent().map_or(Ok(()), sync_path)?;
        Self::open(path, about)
    }

    /// Opens a file of that kind and entry size.
    ///
    /// # Errors
    /// [`Error::Damaged`] when header, length or filter is not right.
    pub fn open(path: &Path, expected: About) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::io("open", path, &error))?;
        let damaged = |reason: &str| Error::damaged(path, reason);
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).map_err(|_| damaged("the file is too short"))?;
        let (about, count, words, filter_crc) = read_header(&header).map_err(|error| damaged(&error.to_string()))?;
        if about.kind != expected.kind || about.entry_bytes != expected.entry_bytes {
            return Err(damaged("it is a file of another kind"));
        }
        let filter_at = (1 + count.div_ceil(per_page(about.entry_bytes) as u64)) * PAGE_BYTES as u64;
        if file.metadata().map_err(|error| Error::io("read", path, &error))?.len() != filter_at + words * 8 {
            return Err(damaged("the file has not its full length"));
        }
        let mut bytes = vec![0; usize::try_from(words * 8).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, filter_at).map_err(|error| Error::io("read", path, &error))?;
        if crc32fast::hash(&bytes) != filter_crc {
            return Err(damaged("its filter fails its checksum"));
        }
        let filter: Vec<u64> =
            bytes.chunks_exact(8).map(|word| Take::new(word, "a word").u64().unwrap_or_default()).collect();
        let file = if filter.is_empty() { None } else { Some(file) };
        Ok(Self { file, path: path.to_owned(), about, count, filter })
    }

    /// False when no entry begins with this id.
    pub fn may_hold(&self, id: &[u8; 16]) -> bool {
        let bits = self.filter.len() as u64 * 64;
        bits == 0 || probes(id, bits).all(|bit| self.filter[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
    }

    /// Returns the number of the first entry that is not below `key`.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the page that fails its checksum.
    pub fn lower_bound(&self, key: &[u8]) -> Result<u64, Error> {
        let per_page = per_page(self.about.entry_bytes) as u64;
        let (mut low, mut high) = (0, self.count.div_ceil(per_page));
        while low < high {
            let middle = low + (high - low) / 2;
            let page = self.page(middle)?;
            if page[..self.about.entry_bytes] < *key { low = middle + 1 } else { high = middle }
        }
        // The page before may still hold entries that are not below.
        let Some(page_number) = low.checked_sub(1) else { return Ok(0) };
        let page = self.page(page_number)?;
        let entries = page.chunks_exact(self.about.entry_bytes);
        Ok(page_number * per_page + entries.take_while(|entry| *entry < key).count() as u64)
    }

    /// Returns the entries of the page that holds entry `number`, and the number of its first.
    ///
    /// # Errors
    /// As [`Self::lower_bound`].
    pub fn around(&self, number: u64) -> Result<(u64, Vec<u8>), Error> {
        let per_page = per_page(self.about.entry_bytes) as u64;
        let page = number / per_page;
        Ok((page * per_page, self.page(page)?))
    }

    /// Returns all entries that begin with `prefix`.
    ///
    /// # Errors
    /// As [`Self::lower_bound`].
    pub fn with_prefix(&self, prefix: &[u8]) -> Result<Vec<u8>, Error> {
        let mut number = self.lower_bound(prefix)?;
        let mut found = Vec::new();
        while number < self.count {
            let (first, page) = self.around(number)?;
            let skip = usize::try_from(number - first).unwrap_or(usize::MAX);
            for entry in page.chunks_exact(self.about.entry_bytes).skip(skip) {
                if !entry.starts_with(prefix) {
                    return Ok(found);
                }
                found.extend_from_slice(entry);
                number += 1;
            }
        }
        Ok(found)
    }

    /// Returns all entries.
    ///
    /// # Errors
    /// As [`Self::lower_bound`].
    pub fn all(&self) -> Result<Vec<u8>, Error> {
        let pages = self.count.div_ceil(per_page(self.about.entry_bytes) as u64);
        let mut all = Vec::new();
        for number in 0..pages {
            all.extend_from_slice(&self.page(number)?);
        }
        Ok(all)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, Error> {
        let mut page = vec![0; PAGE_BYTES];
        let at = (number + 1) * PAGE_BYTES as u64;
        let read = match &self.file {
            Some(file) => file.read_exact_at(&mut page, at),
            None => File::open(&self.path).and_then(|file| file.read_exact_at(&mut page, at)),
        };
        read.map_err(|error| Error::io("read", &self.path, &error))?;
        let count = usize::from(u16::from_le_bytes([page[PAGE_BYTES - 6], page[PAGE_BYTES - 5]]));
        if crc32fast::hash(&page[..PAGE_BYTES - 4]).to_le_bytes() != page[PAGE_BYTES - 4..]
            || count > per_page(self.about.entry_bytes)
        {
            return Err(Error::damaged(&self.path, format!("page {number} fails its checksum")));
        }
        page.truncate(count * self.about.entry_bytes);
        Ok(page)
    }
}

fn per_page(entry_bytes: usize) -> usize {
    (PAGE_BYTES - 6) / entry_bytes
}

fn write_file(path: &Path, about: About, filter: Filter, entries: &[u8]) -> std::io::Result<()> {
    let count = (entries.len() / about.entry_bytes) as u64;
    let mut words = vec![0_u64; if filter == Filter::Yes { (count * FILTER_BITS).div_ceil(64) as usize } else { 0 }];
    let bits = words.len() as u64 * 64;
    if bits > 0 {
        for entry in entries.chunks_exact(about.entry_bytes) {
            let mut id = [0; 16];
            id.copy_from_slice(&entry[..16]);
            probes(&id, bits).for_each(|bit| words[(bit / 64) as usize] |= 1 << (bit % 64));
        }
    }
    let filter: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();

    let mut header = Vec::with_capacity(PAGE_BYTES);
    header.put_raw(MAGIC);
    header.put_raw(&about.kind);
    header.put_u32(u32::try_from(about.entry_bytes).unwrap_or(u32::MAX));
    header.put_u64(count);
    header.put_u64(about.generation);
    header.put_u64(about.at);
    header.put_u64(words.len() as u64);
    header.put_u32(crc32fast::hash(&filter));
    header.resize(HEADER_BYTES - 4, 0);
    let crc = crc32fast::hash(&header);
    header.put_u32(crc);
    header.resize(PAGE_BYTES, 0);

    let file = File::create(path)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
    out.write_all(&header)?;
    for chunk in entries.chunks(per_page(about.entry_bytes) * about.entry_bytes) {
        let mut page = chunk.to_vec();
        page.resize(PAGE_BYTES - 6, 0);
        page.put_u16(u16::try_from(chunk.len() / about.entry_bytes).unwrap_or(u16::MAX));
        let crc = crc32fast::hash(&page);
        page.put_u32(crc);
        out.write_all(&page)?;
    }
    out.write_all(&filter)?;
    out.into_inner()?.sync_all()
}

fn read_header(header: &[u8; HEADER_BYTES]) -> Result<(About, u64, u64, u32), Unreadable> {
    let (checked, crc) = header.split_at(HEADER_BYTES - 4);
    let mut take = Take::new(checked, "its header");
    if crc32fast::hash(checked).to_le_bytes() != crc || take.raw(8)? != MAGIC {
        return Err(Unreadable("its header"));
    }
    let kind = take.array()?;
    let entry_bytes = take.u32()? as usize;
    let count = take.u64()?;
    let about = About { kind, entry_bytes, generation: take.u64()?, at: take.u64()? };
    Ok((about, count, take.u64()?, take.u32()?))
}

/// Returns the bits of an id in a filter of `bits` bits (double hashing after Kirsch and Mitzenmacher).
fn probes(id: &[u8; 16], bits: u64) -> impl Iterator<Item = u64> {
    let (high, low) = id.split_at(8);
    let half = |bytes: &[u8]| Take::new(bytes, "half an id").u64().unwrap_or_default();
    let first = mixed(half(high) ^ mixed(half(low)));
    let second = mixed(first) | 1;
    (0..FILTER_PROBES).map(move |probe| (first.wrapping_add(probe.wrapping_mul(second)) >> 1) % bits)
}

/// Spreads every bit over all others (the finalizer of splitmix64): time-ordered ids differ little.
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About { kind: *b"test", entry_bytes: 24, generation: 3, at: 9 };

    fn entry(number: u64) -> Vec<u8> {
        let mut entry = (number * 3).to_be_bytes().to_vec();
        entry.extend_from_slice(&[7; 8]);
        entry.extend_from_slice(&number.to_be_bytes());
        entry
    }

    fn id(number: u64) -> [u8; 16] {
        entry(number)[..16].try_into().unwrap()
    }

    fn write(path: &Path, count: u64) -> Pages {
        let entries: Vec<u8> = (0..count).flat_map(entry).collect();
        Pages::write(path, ABOUT, Filter::Yes, &entries).unwrap()
    }

    #[test]
    fn entries_are_found() {
        let dir = tempfile::tempdir().unwrap();
        // None, one, a page less one, a whole page, a page and one, several pages.
        for count in [0, 1, 169, 170, 171, 1_000] {
            let pages = write(&dir.path().join("pages"), count);
            assert_eq!(pages.count, count);
            for number in 0..count {
                assert!(pages.may_hold(&id(number)));
                assert_eq!(pages.lower_bound(&entry(number)).unwrap(), number, "of {count}");
                assert_eq!(pages.with_prefix(&id(number)).unwrap(), entry(number), "of {count}");
            }
            assert_eq!(pages.lower_bound(&[255; 24]).unwrap(), count);
            assert_eq!(pages.with_prefix(&[255; 16]).unwrap(), Vec::<u8>::new());
            assert_eq!(pages.all().unwrap().len() as u64, count * 24);
        }
    }

    #[test]
    fn the_filter_spares_most_reads() {
        let dir = tempfile::tempdir().unwrap();
        let pages = write(&dir.path().join("pages"), 10_000);
        let wrong = (10_000..20_000).filter(|number| pages.may_hold(&id(*number))).count();
        assert!(wrong < 300, "{wrong} of 10000 unknown ids would be looked up");
    }

    #[test]
    fn damage_is_seen_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pages");
        drop(write(&path, 500));
        let whole = std::fs::read(&path).unwrap();
        let read = || Pages::open(&path, ABOUT).and_then(|pages| pages.all());
        assert!(read().is_ok());
        for at in [0, 9, 20, 63, 4_096, 5_000, 8_190, 8_191, 12_000, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            std::fs::write(&path, &damaged).unwrap();
            assert!(matches!(read(), Err(Error::Damaged { .. })), "byte {at}");
        }
        for length in [0, 63, 4_096, whole.len() - 1] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(read(), Err(Error::Damaged { .. })), "cut to {length}");
        }
    }
}
