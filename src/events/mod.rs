//! The event side of the shell: dead letters, replays, those who read along, and subscriptions. Here the
//! bus, schemas and outbound HTTP meet; runs are none of its business, and it reaches the sagas only as one
//! consumer among others.

pub mod audit;
pub mod choice;
pub mod filter;
pub mod letters;
mod offer;
pub mod outbox_reader;
pub mod replay;
pub mod subscription;
pub mod tail;
pub mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::outbox_reader::OutboxView;
use self::replay::Replays;
use self::subscription::Running;
use crate::bus::{self, Archive, Bus, Delivery};
use crate::coordinator::{EventSchemas, HeldKeys};
use crate::time::Clock;

/// What the event side is made of.
pub struct Parts {
    pub bus: Arc<dyn Bus>,
    pub archive: Arc<dyn Archive>,
    pub schemas: Arc<dyn EventSchemas>,
    pub clock: Arc<dyn Clock>,
    /// The sagas' consumer, its keys whose later events wait, and which of them are through.
    pub sagas: (String, Arc<HeldKeys>, mpsc::UnboundedReceiver<String>),
    /// Where replays to the sagas go.
    pub replayed: mpsc::Sender<Delivery>,
    /// Largest event, headers included.
    pub event_bytes_max: usize,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
}

/// A cheap, shared reference to the event side.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    bus: Arc<dyn Bus>,
    archive: Arc<dyn Archive>,
    schemas: Arc<dyn EventSchemas>,
    clock: Arc<dyn Clock>,
    sagas: String,
    replayed: mpsc::Sender<Delivery>,
    event_bytes_max: usize,
    stop: CancellationToken,
    /// By consumer.
    held: Mutex<BTreeMap<String, Arc<HeldKeys>>>,
    replays: Mutex<Replays>,
    subscriptions: Mutex<BTreeMap<String, Arc<Running>>>,
    outboxes: Mutex<BTreeMap<String, OutboxView>>,
    /// What begins with [`Events::start`].
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
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
        let Parts { bus, archive, schemas, clock, sagas: (sagas, held, freed), replayed, event_bytes_max, stop } =
            parts;
        let this = Self(Arc::new(Inner {
            bus,
            archive,
            schemas,
            clock,
            sagas: sagas.clone(),
            replayed,
            event_bytes_max,
            stop,
            held: Mutex::default(),
            replays: Mutex::default(),
            subscriptions: Mutex::default(),
            outboxes: Mutex::default(),
            tasks: Mutex::default(),
            operating: tokio::sync::Mutex::default(),
        }));
        this.add_consumer(sagas, held, freed);
        let replays = this.clone();
        this.later(Box::pin(async move { replays.resume_replays().await }));
        this
    }

    /// Starts what goes on by itself, until the process stops.
    pub fn start(&self) {
        for task in std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)) {
            tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(task));
        }
    }

    fn later(&self, task: BoxFuture<'static, ()>) {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Makes a consumer known whose later events may wait.
    fn add_consumer(&self, consumer: String, held: Arc<HeldKeys>, freed: mpsc::UnboundedReceiver<String>) {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).insert(consumer.clone(), held);
        let this = self.clone();
        self.later(Box::pin(async move { this.follow(&consumer, freed).await }));
    }

    fn held(&self, consumer: &str) -> Option<Arc<HeldKeys>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).get(consumer).cloned()
    }

    fn replays(&self) -> std::sync::MutexGuard<'_, Replays> {
        self.0.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
