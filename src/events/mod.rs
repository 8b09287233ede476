//! The event side of the shell: dead letters, replays, those who read along, and subscriptions. Here the
//! bus, schemas and outbound HTTP meet; runs are none of its business, and it reaches the sagas only as one
//! consumer among others.

pub mod audit;
pub mod filter;
pub mod letters;
pub mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bus::{self, Archive};
use crate::coordinator::{EventSchemas, HeldKeys};
use crate::time::Clock;

/// What the event side is made of.
pub struct Parts {
    pub archive: Arc<dyn Archive>,
    pub schemas: Arc<dyn EventSchemas>,
    pub clock: Arc<dyn Clock>,
    /// The sagas' consumer, its keys whose later events wait, and which of them are through.
    pub sagas: (String, Arc<HeldKeys>, mpsc::UnboundedReceiver<String>),
}

/// A cheap, shared reference to the event side.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    archive: Arc<dyn Archive>,
    schemas: Arc<dyn EventSchemas>,
    clock: Arc<dyn Clock>,
    /// By consumer.
    held: Mutex<BTreeMap<String, Arc<HeldKeys>>>,
    /// Keys that are through, by consumer; taken at the start.
    freed: Mutex<Vec<(String, mpsc::UnboundedReceiver<String>)>>,
    /// One operator's command on dead letters at a time: two must not give the same one again.
    operating: tokio::sync::Mutex<()>,
}

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    Bad(String),
    /// It makes sense, but not now.
    #[error("{0}")]
    Conflict(String),
    /// Each violation with a JSON pointer into the data.
    #[error("{title}")]
    Invalid { title: String, violations: Vec<(String, String)> },
    #[error("NATS is away: {0}")]
    Unavailable(String),
}

impl From<bus::Error> for Error {
    fn from(error: bus::Error) -> Self {
        match error {
            bus::Error::Unavailable(why) => Self::Unavailable(why),
            bus::Error::Refused(why) => Self::Bad(why),
        }
    }
}

impl Events {
    /// Puts the event side together; nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { archive, schemas, clock, sagas: (sagas, held, freed) } = parts;
        let held = Mutex::new(BTreeMap::from([(sagas.clone(), held)]));
        let freed = Mutex::new(vec![(sagas, freed)]);
        let operating = tokio::sync::Mutex::default();
        Self(Arc::new(Inner { archive, schemas, clock, held, freed, operating }))
    }

    /// Starts what goes on by itself, until `stop` is cancelled.
    pub fn start(&self, stop: &CancellationToken) {
        let freed = std::mem::take(&mut *self.0.freed.lock().unwrap_or_else(PoisonError::into_inner));
        for (consumer, freed) in freed {
            let this = self.clone();
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move { this.follow(&consumer, freed).await }));
        }
    }

    fn held(&self, consumer: &str) -> Option<Arc<HeldKeys>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).get(consumer).cloned()
    }
}
