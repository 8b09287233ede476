//! Verify, back up and export the journal while the process works on it. The journal does the work, on a
//! thread of its own; commits go on meanwhile.

use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Handle;
use crate::journal::Error;
use crate::problem::Problem;

/// Pieces of an export on their way to a reader; one that is slow holds the export up, not the memory.
const PIECES: usize = 16;
/// Bytes in one piece.
const PIECE_BYTES: usize = 64 << 10;

/// Why a tool did not do its work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ToolError {
    /// The backup's name is taken, or this journal has none.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for ToolError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { .. } => Self::Refused(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Handle {
    /// Reads the whole journal and says what is wrong with it, as JSON.
    ///
    /// # Errors
    /// [`ToolError`] when it cannot be read at all.
    pub async fn verify_journal(&self) -> Result<serde_json::Value, ToolError> {
        let journal = self.journal();
        report(tokio::task::spawn_blocking(move || journal.verify()).await)
    }

    /// Writes a backup into a directory that does not exist yet; returns its report as JSON.
    ///
    /// # Errors
    /// [`ToolError`].
    pub async fn back_up_journal(&self, to: PathBuf) -> Result<serde_json::Value, ToolError> {
        let journal = self.journal();
        report(tokio::task::spawn_blocking(move || journal.backup(&to)).await)
    }

    /// Exports the journal as JSON lines, piece by piece. An export that breaks off ends with an error.
    pub fn export_journal(&self) -> mpsc::Receiver<Result<Bytes, Problem>> {
        let (send, pieces) = mpsc::channel(PIECES);
        let journal = self.journal();
        tokio::task::spawn_blocking(move || {
            let mut out = Pieces { send: send.clone(), bytes: Vec::with_capacity(PIECE_BYTES) };
            let exported = journal.export(&mut out).map_err(|error| error.to_string());
            let exported = exported.and_then(|_| out.flush().map_err(|error| error.to_string()));
            if let Err(why) = exported {
                // The reader may be what has gone.
                let _ = send.blocking_send(Err(Problem::new("journal", "the export broke off").detail(why)));
            }
        });
        pieces
    }

    /// Returns the directory in which a backup of that name lies.
    #[must_use]
    pub fn backup_path(&self, name: &str) -> Option<PathBuf> {
        self.journal().path().map(|path| path.join("backups").join(name))
    }
}

fn report<T: serde::Serialize>(
    done: Result<Result<T, Error>, tokio::task::JoinError>,
) -> Result<serde_json::Value, ToolError> {
    let report = done.map_err(|error| ToolError::Failed(error.to_string()))??;
    serde_json::to_value(&report).map_err(|error| ToolError::Failed(error.to_string()))
}

/// Collects what is written and sends it on.
struct Pieces {
    send: mpsc::Sender<Result<Bytes, Problem>>,
    bytes: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.bytes));
        let gone = |_| std::io::Error::new(std::io::ErrorKind::BrokenPipe, "the reader has gone");
        self.send.blocking_send(Ok(piece)).map_err(gone)
    }
}
