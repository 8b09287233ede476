//! Reading along: events as they lie in the stream, from a place on, and as they come. A reader has no name
//! and leaves no trace; where it goes on is its own business, each event says its place.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::choice::Choice;
use super::{Error, Events, offer};
use crate::bus::archive::{Stored, Stream};
use crate::payload::Payload;

/// Events read at a time.
const PAGE_LEN: usize = 64;
/// Events made ready for a reader that is slower than the stream.
const AHEAD: usize = 64;
/// How soon a new event is seen. A look costs the server some 50 µs for each type.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Events on one page of a list when the caller does not say, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// The extension attribute that says an event's place.
const PLACE: &str = "streamsequence";

/// Events in order, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// CloudEvents; the extension `streamsequence` is the place in EVENTS.
    pub events: Vec<Payload>,
    /// What to give as `from` for the next page.
    pub next: u64,
}

impl Events {
    /// Returns events from a place on. What is no event, or does not fit its schema, is left out: it is a
    /// matter of dead letters.
    ///
    /// # Errors
    /// [`Error::Bad`] for a place or a limit that is none, [`Error::Unavailable`].
    pub async fn events(&self, choice: &Choice, from: &str, limit: Option<usize>) -> Result<EventPage, Error> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Error::Bad(format!("limit: {limit} is not between 1 and {LIMIT_MAX}")));
        }
        let mut page = EventPage { events: Vec::new(), next: self.place("from", from).await? };
        while page.events.len() < limit {
            let wanted = PAGE_LEN.min(limit - page.events.len());
            let read = self.0.archive.read(Stream::Events, page.next, choice.sources(), wanted).await?;
            page.next = read.next;
            if read.messages.is_empty() {
                break;
            }
            page.events.extend(read.messages.iter().filter_map(|stored| self.shown(choice, stored)));
        }
        Ok(page)
    }

    /// Follows events from a place on until the reader goes away.
    ///
    /// # Errors
    /// [`Error::Bad`] for a place that is none, [`Error::Unavailable`]. Later, while NATS is away, it waits.
    pub async fn tail(&self, choice: Choice, from: &str) -> Result<ReceiverStream<Payload>, Error> {
        let mut next = self.place("from", from).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                let read = this.0.archive.read(Stream::Events, next, choice.sources(), PAGE_LEN).await;
                let messages = match read {
                    Ok(read) => {
                        next = read.next;
                        read.messages
                    }
                    Err(_) => Vec::new(), // NATS is away, and says so elsewhere
                };
                for stored in &messages {
                    if let Some(event) = this.shown(&choice, stored)
                        && sender.send(event).await.is_err()
                    {
                        return;
                    }
                }
                if messages.is_empty() {
                    tokio::select! {
                        () = sender.closed() => return,
                        () = tokio::time::sleep(LOOK_PAUSE) => {}
                    }
                }
            }
        });
        Ok(ReceiverStream::new(receiver))
    }

    fn shown(&self, choice: &Choice, stored: &Stored) -> Option<Payload> {
        let event = offer::read(stored, self.0.event_bytes_max).ok().filter(|event| choice.fits(event))?;
        let mut event = offer::offer(self.0.schemas.as_ref(), event, &choice.types).ok()?;
        event.extensions.insert(PLACE.to_owned(), stored.sequence.to_string());
        Some(event.to_cloud_event())
    }
}
