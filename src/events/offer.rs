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

/// Gives an event as the consumer wants it: in the nearest version that it asks for, its data fitting the schema.
pub(super) fn offer(schemas: &dyn EventSchemas, event: Event, wanted: &[EventType]) -> Result<Event, NotOffered> {
    let (own, own_type) = (event.event_type.version(), event.event_type.clone());
    let versions = wanted.iter().filter(|kind| kind.name() == event.event_type.name());
    // Its own version, else a newer one, else an older one.
    let nearest = versions.min_by_key(|kind| (kind.version() < own, kind.version().abs_diff(own)));
    let seen = match nearest {
        Some(kind) if *kind != event.event_type => schemas
            .convert(&event.event_type, &event.data, kind)
            .map(|data| Event { data, event_type: kind.clone(), ..event.clone() }),
        _ => schemas.check(&event.event_type, &event.data).map(|()| event.clone()),
    };
    match seen {
        Ok(event) => Ok(event),
        Err(refusal) => {
            let detail = refusal.line(&own_type);
            let (reason, pointers) = match refusal {
                Refusal::UnknownType { .. } => ("unknown_type".to_owned(), Vec::new()),
                Refusal::Invalid(violations) => ("invalid_data".to_owned(), violations),
                Refusal::NoWay { reason, violations, .. } => (reason, violations),
            };
            let pointers = pointers.into_iter().map(|(pointer, _)| pointer).collect();
            Err(NotOffered { reason, detail, pointers })
        }
    }
}
