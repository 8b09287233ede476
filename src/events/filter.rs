//! Which dead letters: the words of the API and the command line.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::bus::dead_letter::Letter;
use crate::bus::wire;
use crate::time::{Span, Timestamp};

/// Every part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The event type, as the subject says it.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Put aside at or after: RFC 3339, or a duration back from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Put aside before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A filter with its times read.
pub(super) struct Chosen {
    filter: LetterFilter,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl LetterFilter {
    /// Reads the times.
    ///
    /// # Errors
    /// [`Error::Bad`] for what is no time.
    pub(super) fn chosen(self, now: Timestamp) -> Result<Chosen, Error> {
        let since = self.since.as_deref().map(|text| moment("since", text, now)).transpose()?;
        let until = self.until.as_deref().map(|text| moment("until", text, now)).transpose()?;
        Ok(Chosen { filter: self, since, until })
    }

    /// True when nothing is asked for: every letter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Chosen {
    /// Returns the time from which letters can fit.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Returns the subjects under which letters can fit.
    pub(super) fn subjects(&self) -> Vec<String> {
        let consumer = self.filter.consumer.as_deref();
        let last = consumer.map_or_else(|| ">".to_owned(), crate::bus::dead_letter::token);
        vec![format!("{}.{last}", wire::DEAD_LETTERS)]
    }

    /// True for a letter that fits.
    pub(super) fn fits(&self, letter: &Letter) -> bool {
        let filter = &self.filter;
        let event_type = letter.raw.subject.strip_prefix("events.");
        filter.consumer.as_ref().is_none_or(|consumer| *consumer == letter.consumer)
            && filter.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && filter.event_type.as_deref().is_none_or(|wanted| Some(wanted) == event_type)
            && filter.key.as_ref().is_none_or(|key| Some(key) == letter.key.as_ref())
            && self.since.is_none_or(|since| letter.put_aside_at >= since)
            && self.until.is_none_or(|until| letter.put_aside_at < until)
    }
}

/// Reads a point in time: RFC 3339, or a duration back from now.
pub(super) fn moment(what: &str, text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    if let Ok(span) = Span::parse(text) {
        return Ok(Timestamp(now.0.saturating_sub(span.0)));
    }
    let at: Option<Timestamp> =
        text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()).map(Timestamp);
    at.ok_or_else(|| {
        Error::Bad(format!(
            "{what}: `{text}` is neither a duration back from now (1h) nor RFC 3339 (2026-01-31T12:00:00Z)"
        ))
    })
}
