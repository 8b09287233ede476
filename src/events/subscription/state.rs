//! Where a subscription is: what is kept over restarts, and what is shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Kept under `subscription.NAME`. One value: either all of it is newer, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The stream's creation: in a stream made anew the places are others.
    pub(super) stream_created: u64,
    /// The next message to be read.
    pub(super) next: u64,
    /// Messages before it that are not through, with what was tried. Bounded by the window.
    pub(super) waiting: BTreeMap<u64, Tried>,
    /// Why nothing is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) disabled: Option<String>,
}

/// What was tried of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tried {
    pub(super) attempts: u64,
    pub(super) first_at: Timestamp,
    /// Not before.
    pub(super) due: Timestamp,
}

/// What is shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) loaded: bool,
    pub(super) disabled: Option<String>,
    pub(super) next: u64,
    pub(super) waiting: usize,
    pub(super) delivered: u64,
    pub(super) failed_attempts: u64,
    pub(super) put_aside: u64,
}
