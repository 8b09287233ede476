//! Which events, and from where: the words of `events tail`, `events replay` and their routes.

use serde::{Deserialize, Serialize};

use super::filter::moment;
use super::{Error, Events, offer};
use crate::bus::archive::Stream;
use crate::bus::wire;
use crate::envelope::Event;
use crate::id::EventType;

/// Every part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// None: every type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<EventType>,
    /// The partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Choice {
    /// Reads types as they are written in a query: several with commas.
    ///
    /// # Errors
    /// [`Error::Bad`] for what is no type.
    pub fn types(text: &str) -> Result<Vec<EventType>, Error> {
        let one = |text: &str| EventType::parse(text.trim()).map_err(|error| Error::Bad(error.to_string()));
        text.split(',').filter(|text| !text.trim().is_empty()).map(one).collect()
    }

    /// Returns the subjects of exactly these types.
    pub(super) fn subjects(&self) -> Vec<String> {
        let subject = |kind: &EventType| format!("{}.{kind}", wire::EVENTS);
        if self.types.is_empty() { offer::subjects(&[]) } else { self.types.iter().map(subject).collect() }
    }

    /// Returns the subjects of events that can be seen as one of these types.
    pub(super) fn sources(&self) -> Vec<String> {
        offer::subjects(&self.types)
    }

    /// True for an event of such a key and correlation id; its type is chosen by its subject.
    pub(super) fn fits(&self, event: &Event) -> bool {
        self.key.as_ref().is_none_or(|key| Some(key) == event.partition_key.as_ref())
            && self.correlation_id.as_ref().is_none_or(|id| Some(id) == event.correlation_id.as_ref())
    }
}

impl Events {
    /// Returns the place that a text means: `start`, `now`, a sequence, RFC 3339, or a duration back from now.
    ///
    /// # Errors
    /// [`Error::Bad`] for anything else, [`Error::Unavailable`].
    pub(super) async fn place(&self, what: &str, text: &str) -> Result<u64, Error> {
        match text {
            "start" => Ok(1),
            "now" => Ok(self.0.archive.extent(Stream::Events).await?.last + 1),
            text => match text.parse::<u64>() {
                Ok(sequence) => Ok(sequence.max(1)),
                Err(_) => Ok(self.0.archive.at(Stream::Events, moment(what, text, self.0.clock.now())?).await?),
            },
        }
    }
}
