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

/// Returns the subjects of events that can be offered as one of the wanted: every version of each type; all
/// events when none is wanted.
pub(super) fn subjects(wanted: &[EventType]) -> Vec<String> {
    if wanted.is_empty() {
        return vec![format!("{}.>", wire::EVENTS)];
    }
    let mut subjects: Vec<String> = wanted.iter().map(|kind| format!("{}.{}.*", wire::EVENTS, kind.name())).collect();
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

/// Gives an event as the consumer wants it: in the version that is wanted of its type (of several the nearest,
/// its own, else a newer one, else an older), its data fitting the schema.
pub(super) fn offer(schemas: &dyn EventSchemas, event: Event, wanted: &[EventType]) -> Result<Event, NotOffered> {
    let own = event.event_type.version();
    let distance = |kind: &&EventType| (kind.version() < own, kind.version().abs_diff(own));
    let nearest = wanted.iter().filter(|kind| kind.name() == event.event_type.name()).min_by_key(distance);
    let own_type = event.event_type.clone();
    if let Some(wanted) = nearest.filter(|wanted| **wanted != own_type) {
        // Data that fits the wanted version as it is needs no step in between.
        return match schemas.check(wanted, &event.data) {
            Ok(()) => Ok(Event { event_type: wanted.clone(), ..event }),
            Err(refusal) => Err(NotOffered {
                reason: format!("no_path_v{own}_to_v{}", wanted.version()),
                detail: format!("{own_type} cannot be read as {wanted}: {}", refusal.line(wanted)),
                pointers: Vec::new(),
            }),
        };
    }
    match schemas.check(&own_type, &event.data) {
        Ok(()) => Ok(event),
        Err(refusal) => {
            let detail = refusal.line(&own_type);
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
