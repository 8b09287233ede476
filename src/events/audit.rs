//! What operators did to dead letters, replays and rollouts: written before it is done, so that nothing is done of
//! which nobody knows. A stream of its own keeps it as long as the dead letters.

use serde::{Deserialize, Serialize};

use super::{Error, Events};
use crate::bus::archive::Stream;
use crate::bus::{RawMessage, wire};

/// Entries on one page.
const PAGE_LEN: usize = 1_000;

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339.
    pub at: String,
    /// `redrive`, `drop`, `replay`, …
    pub action: String,
    /// Who says that they did it; nobody checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The dead letter, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<u64>,
    /// What it was about: consumer, subject, reason, or a replay's choice.
    pub about: serde_json::Value,
}

impl Events {
    /// Writes an entry; what it tells of may be done when this has returned.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: then it must not be done.
    pub async fn note(
        &self,
        action: &str,
        by: Option<&str>,
        letter: Option<u64>,
        about: serde_json::Value,
    ) -> Result<(), Error> {
        let (at, by) = (self.0.clock.now().to_string(), by.map(str::to_owned));
        let entry = Entry { at, action: action.to_owned(), by, letter, about };
        tracing::info!(action, letter, by = entry.by, about = %entry.about, "an operator's command");
        let payload = serde_json::to_vec(&entry).map_err(|error| Error::Bad(error.to_string()))?.into();
        let subject = format!("{}.{action}", wire::AUDIT);
        self.0.archive.put(RawMessage { subject, headers: Vec::new(), payload }).await?;
        Ok(())
    }

    /// Returns what was done, oldest first, from a place on, and where to go on.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn audit(&self, from: u64) -> Result<(Vec<Entry>, u64), Error> {
        let page = self.0.archive.read(Stream::Audit, from, vec![format!("{}.>", wire::AUDIT)], PAGE_LEN).await?;
        let entries = page.messages.iter().filter_map(|stored| serde_json::from_slice(&stored.raw.payload).ok());
        Ok((entries.collect(), page.next))
    }
}
