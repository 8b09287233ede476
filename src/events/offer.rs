//! What a consumer gets of a stored message: an event in the version that it asks for, or the reason why
//! it cannot have it.

use crate::bus::archive::Stored;
use crate::bus::{NoEvent, wire};
use crate::coordinator::{EventSchemas, Refusal};
use crate::envelope::Event;
use crate::id::EventType;

/// Why a consumer does not get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotOffered {
    pub reason: String,
    pub detail: String,
    pub pointers: Vec<String>,
}

/// Returns the types whose events can be offered as one of the wanted; all of them when none is wanted.
pub(super) fn subjects(wanted: &[EventType]) -> Vec<String> {
    if wanted.is_empty() {
        return vec![format!("{}.>", wire::EVENTS)];
    }
    let mut subjects: Vec<String> = wanted.iter().map(|kind| format!("{}.{kind}", wire::EVENTS)).collect();
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}

/// Reads a message as an event, whatever its data is.
pub(super) fn read(stored: &Stored, bytes_max: usize) -> Result<Event, NotOffered> {
    let event = match &stored.unreadable {
        Some(why) => Err(NoEvent { reason: "invalid_event", detail: why.clone() }),
        None => wire::read(&stored.raw, bytes_max),
    };
    event.map_err(|NoEvent { reason, detail }| NotOffered { reason: reason.to_owned(), detail, pointers: Vec::new() })
}

/// Gives an event as the consumer wants it: its data fits the schema.
pub(super) fn offer(schemas: &dyn EventSchemas, event: Event) -> Result<Event, NotOffered> {
    match schemas.check(&event.event_type, &event.data) {
        Ok(()) => Ok(event),
        Err(refusal) => {
            let detail = refusal.line(&event.event_type);
            let (reason, pointers) = match refusal {
                Refusal::UnknownType { .. } => ("unknown_type", Vec::new()),
                Refusal::Invalid(violations) => {
                    ("invalid_data", violations.into_iter().map(|(pointer, _)| pointer).collect())
                }
            };
            Err(NotOffered { reason: reason.to_owned(), detail, pointers })
        }
    }
}
