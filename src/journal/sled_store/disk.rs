//! How much room the file system has. sled stops for good when a write meets a full disk, so intake
//! stops before, and a commit that might not fit waits.

use std::path::{Path, PathBuf};

/// Room for sled's own needs beside a batch: a few segments of 512 KiB.
const SEGMENTS_BYTES: u64 = 4 << 20;
/// sled writes a leaf again when enough values were added to it: measured, 1.6 to 2 times the size of what
/// was committed reached the disk. Twice that, because running out is final.
const BATCH_FACTOR: u64 = 4;

/// The limits of one file system.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Below it no new work is taken.
    accept_bytes: u64,
}

impl Disk {
    /// Watches the file system of `path`. The reserve is `free_bytes_min`, on a small file system at most
    /// a tenth of it.
    pub fn new(path: &Path, free_bytes_min: u64) -> Self {
        let total = rustix::fs::statvfs(path).map_or(u64::MAX, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        Self { path: path.to_owned(), accept_bytes: free_bytes_min.min(total / 10) }
    }

    /// Returns the bytes that may still be written; "unknown" counts as plenty, the write itself will tell.
    pub fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.path).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// True while new work may be taken.
    pub fn accepts(&self, free_bytes: u64) -> bool {
        free_bytes >= self.accept_bytes
    }

    /// True when a commit of that size fits, whatever sled makes of it.
    pub fn has_room(&self, free_bytes: u64, commit_bytes: u64) -> bool {
        let reserve = SEGMENTS_BYTES.min(self.accept_bytes / 2);
        free_bytes >= reserve.saturating_add(commit_bytes.saturating_mul(BATCH_FACTOR))
    }
}
