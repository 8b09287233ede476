//! How a commit lies in a store: its records are one stream of bytes behind a header, cut into values of
//! at most [`PIECE_BYTES`], keyed by commit and piece. Packing small records and chunking large ones are
//! the same cut.

use uuid::Uuid;

use crate::journal::bytes::{Put, Take, Unreadable};
use crate::time::Timestamp;

/// The largest value. sled writes a log item above 128 KiB to a file of its own, without a sync; a leaf
/// of 16 entries and up to 10 waiting ones is one item, so 26 values of this size must stay below it.
pub const PIECE_BYTES: usize = 4_000;
/// Bytes in front of a commit's first record.
pub const HEADER_BYTES: usize = 48;
/// The largest commit that one call may ask for, so that nobody needs it in memory several times over
/// at an unreasonable size; facts hold payloads, which the API bounds far below.
pub const COMMIT_BYTES_MAX: usize = 64 << 20;

const MAGIC: u32 = u32::from_le_bytes(*b"BSC1");

/// What is in front of a commit's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitHeader {
    /// Last 8 bytes of the journal's id, the random ones: a store of another journal does not fit.
    pub journal: [u8; 8],
    pub generation: u64,
    pub commit: u64,
    /// When it was written, by the system's clock.
    pub at: Timestamp,
    pub records: u32,
}

/// Returns the mark that a journal's commits carry.
pub fn journal_mark(journal: Uuid) -> [u8; 8] {
    let mut mark = [0; 8];
    mark.copy_from_slice(&journal.as_bytes()[8..]);
    mark
}

/// Starts a commit's stream: room for its header.
pub fn begin(stream: &mut Vec<u8>) {
    stream.clear();
    stream.resize(HEADER_BYTES, 0);
}

/// Fills in the header of a stream whose records are all appended.
pub fn finish(stream: &mut [u8], header: &CommitHeader) {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.put_u32(MAGIC);
    bytes.put_raw(&header.journal);
    bytes.put_u64(header.generation);
    bytes.put_u64(header.commit);
    bytes.put_u64(header.at.0);
    bytes.put_u32(header.records);
    bytes.put_u32(u32::try_from(stream.len()).unwrap_or(u32::MAX));
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    stream[..HEADER_BYTES].copy_from_slice(&bytes);
}

/// Reads a commit's header; returns it with the length of the whole stream.
///
/// # Errors
/// [`Unreadable`] for a wrong checksum or another format.
pub fn read_header(stream: &[u8]) -> Result<(CommitHeader, usize), Unreadable> {
    let mut take = Take::new(stream, "a commit's header");
    let checked = take.raw(HEADER_BYTES - 4)?;
    if take.u32()? != crc32fast::hash(checked) {
        return Err(Unreadable("a commit's checksum"));
    }
    let mut take = Take::new(checked, "a commit's header");
    if take.u32()? != MAGIC {
        return Err(Unreadable("a commit of another format"));
    }
    let header = CommitHeader {
        journal: take.array()?,
        generation: take.u64()?,
        commit: take.u64()?,
        at: Timestamp(take.u64()?),
        records: take.u32()?,
    };
    let length = take.u32()? as usize;
    Ok((header, length))
}

/// Returns the key of one piece of a commit; keys sort in the order of the log.
pub fn key(commit: u64, piece: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&commit.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// Reads a key back.
pub fn read_key(key: &[u8]) -> Option<(u64, u32)> {
    let (commit, piece) = key.split_at_checked(8)?;
    Some((u64::from_be_bytes(commit.try_into().ok()?), u32::from_be_bytes(piece.try_into().ok()?)))
}

/// Returns the pieces of a stream in order.
pub fn pieces(stream: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (0..).zip(stream.chunks(PIECE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> CommitHeader {
        CommitHeader { journal: [9; 8], generation: 3, commit: 77, at: Timestamp(5), records: 2 }
    }

    #[test]
    fn commit_header_bytes_never_change() {
        let mut stream = Vec::new();
        begin(&mut stream);
        stream.extend_from_slice(b"records");
        finish(&mut stream, &header());
        let hex: String = stream[..HEADER_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "42534331090909090909090903000000000000004d00000000000000050000000000000002000000370000001f9da38d"
        );
        assert_eq!(read_header(&stream).unwrap(), (header(), 55));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut stream = Vec::new();
        begin(&mut stream);
        finish(&mut stream, &header());
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = stream.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_header(&damaged).is_err(), "bit {bit}");
        }
        assert!(read_header(&stream[..HEADER_BYTES - 1]).is_err(), "cut off");
    }

    proptest! {
        #[test]
        fn pieces_put_together_are_the_stream(stream in proptest::collection::vec(any::<u8>(), 1..20_000)) {
            let mut again = Vec::new();
            let mut last = None;
            for (number, piece) in pieces(&stream) {
                prop_assert!(piece.len() <= PIECE_BYTES);
                let key = key(7, number);
                prop_assert_eq!(read_key(&key), Some((7, number)));
                prop_assert!(last < Some(key));
                last = Some(key);
                again.extend_from_slice(piece);
            }
            prop_assert_eq!(again, stream);
        }
    }
}
