//! Why the journal refuses or stops: one line each, with what to do.

use std::path::{Path, PathBuf};

use crate::id::RunId;

/// Why the journal refuses or stops. After any error of a commit nothing more is committed: the owner
/// ends the process and starts it again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the journal is closed")]
    Closed,
    #[error(
        "cannot open the journal at {path}: process {holder} holds it; stop that process, or choose another directory with `--data` or `journal.path`"
    )]
    Locked { path: PathBuf, holder: String },
    #[error("cannot {action} {path}: {reason}; nothing was acknowledged that is not stored")]
    Io { action: &'static str, path: PathBuf, reason: String },
    #[error("the journal at {path} stopped: {reason}; end the process and start it again")]
    Stopped { path: PathBuf, reason: String },
    #[error("{path} is damaged: {reason}; {remedy}")]
    Damaged { path: PathBuf, reason: String, remedy: String },
    #[error(
        "{path} ends at commit {found}, but HEAD says commit {head} was acknowledged: newer data is lost, or an older copy lies there; put the right copy back, or replace the whole journal with `backstitch journal restore`"
    )]
    BehindHead { path: PathBuf, found: u64, head: u64 },
    #[error("run {run}: fact {got} was given where {expected} is next")]
    Sequence { run: RunId, expected: u64, got: u64 },
    #[error("run {run}: epoch {got} is older than {known}; another owner has the run")]
    Epoch { run: RunId, known: u64, got: u64 },
    #[error("run {run} has ended; nothing can be added to it")]
    Ended { run: RunId },
    #[error("a commit of {bytes} bytes is above the limit of {max}; make the run's payloads smaller")]
    TooLarge { bytes: usize, max: usize },
    #[error("{path}: {reason}")]
    Refused { path: PathBuf, reason: String },
}

/// What helps where data of the journal is damaged and nothing can be put right from what is there.
pub(crate) const RESTORE: &str =
    "see `backstitch journal verify`, then put a backup in its place with `backstitch journal restore`";

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), reason: error.to_string() }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into(), remedy: RESTORE.to_owned() }
    }
}
