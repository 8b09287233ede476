//! Subscriptions: events delivered to an HTTP endpoint, so that a service without a NATS client takes part.
//! Each has a name, a position of its own that outlives the process, and an order within each partition key.

mod deliver;
mod state;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Error, Events};
use crate::bus::archive::Stored;
use crate::connector::http::HttpConnector;
use crate::coordinator::{HeldKeys, LaterEvents};
use crate::id::{EventType, ServiceName};
use crate::signature::Key;
use crate::time::Span;

use self::state::Known;

/// Replayed events waiting for a subscription.
const REPLAYED_LEN: usize = 64;

/// What a subscription is, by its configuration.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub name: ServiceName,
    /// Shown; where deliveries go is the connector's business.
    pub url: String,
    /// None: every type.
    pub types: Vec<EventType>,
    /// The first signs; all of them may be used to check while a secret is exchanged.
    pub keys: Vec<Key>,
    /// One attempt.
    pub timeout: Span,
    /// Pauses between the attempts; behind the last one the event is put aside.
    pub schedule: Vec<Span>,
    /// Deliveries under way, each of another partition key.
    pub concurrency: usize,
    pub later: LaterEvents,
    /// Where a subscription begins that was never seen: at the first event, or at the next one.
    pub begins: Begins,
}

/// Where a new subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    Start,
    Now,
}

/// A message on its way into a subscription.
pub(super) struct Incoming {
    pub(super) stored: Stored,
    /// Set for one that is replayed.
    pub(super) replay: Option<Arc<str>>,
    /// Told when it is through: delivered or put aside.
    pub(super) done: Option<oneshot::Sender<bool>>,
}

/// What is shown of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionView {
    pub name: String,
    pub url: String,
    pub types: Vec<EventType>,
    /// `active`, `disabled`, or `starting` before NATS was there.
    pub state: String,
    /// Why it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything before this place in EVENTS was taken; `waiting` of it are not through yet.
    pub next: u64,
    pub waiting: usize,
    /// Since the process began.
    pub delivered: u64,
    pub failed_attempts: u64,
    pub put_aside: u64,
}

/// One subscription as the rest of the event side reaches it.
pub(super) struct Running {
    subscription: Subscription,
    known: Arc<Mutex<Known>>,
    replayed: mpsc::Sender<Incoming>,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Enable,
    Disable(String),
}

/// A consumer's name as dead letters carry it.
pub(super) fn consumer(name: &ServiceName) -> String {
    format!("subscription-{name}")
}

impl Events {
    /// Adds subscriptions; they begin when the event side is started.
    pub fn subscribe(&self, subscriptions: Vec<Subscription>, connector: HttpConnector) {
        let connector = Arc::new(connector);
        for subscription in subscriptions {
            let consumer = consumer(&subscription.name);
            let (held, freed) = HeldKeys::new(subscription.later);
            self.add_consumer(consumer, Arc::clone(&held), freed);
            let (replayed, from_replays) = mpsc::channel(REPLAYED_LEN);
            let (commands, given) = mpsc::channel(1);
            let known = Arc::default();
            let worker = worker::Worker::new(
                self.clone(),
                subscription.clone(),
                Arc::clone(&connector),
                held,
                Arc::clone(&known),
                (from_replays, given),
            );
            let name = subscription.name.to_string();
            let running = Running { subscription, known, replayed, commands };
            self.subscriptions().insert(name, Arc::new(running));
            self.later(Box::pin(worker.work()));
        }
    }

    fn subscriptions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Running>>> {
        self.0.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists subscriptions by name.
    #[must_use]
    pub fn list_subscriptions(&self) -> Vec<SubscriptionView> {
        self.subscriptions().values().map(|running| running.view()).collect()
    }

    fn running(&self, name: &str) -> Result<Arc<Running>, Error> {
        let subscriptions = self.subscriptions();
        subscriptions.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = subscriptions.keys().map(String::as_str).collect();
            Error::NotFound(format!("no subscription `{name}`; there are: {}", known.join(", ")))
        })
    }

    /// Returns a subscription.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn show_subscription(&self, name: &str) -> Result<SubscriptionView, Error> {
        self.running(name).map(|running| running.view())
    }

    /// Lets a subscription deliver, or not; it goes on where it was.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn switch_subscription(&self, name: &str, on: bool, by: Option<&str>) -> Result<(), Error> {
        let running = self.running(name)?;
        let action = if on { "enable_subscription" } else { "disable_subscription" };
        self.note(action, by, None, json!({ "subscription": name })).await?;
        let command = if on { Command::Enable } else { Command::Disable("an operator disabled it".to_owned()) };
        let stopped = |_| Error::Unavailable("the process is stopping".to_owned());
        running.commands.send(command).await.map_err(stopped)
    }

    /// Refuses a target of a replay that is none.
    pub(super) fn check_target(&self, target: &str) -> Result<(), Error> {
        if target == super::replay::SAGAS {
            return Ok(());
        }
        self.running(target).map(|_| ()).map_err(|_| {
            let known: Vec<String> = self.subscriptions().keys().cloned().collect();
            Error::Bad(format!("target: `{target}` is none; write `sagas`, or a subscription: {}", known.join(", ")))
        })
    }

    /// Hands a replayed message over; false when nobody takes it any more.
    pub(super) async fn give_subscription(&self, target: &str, incoming: Incoming) -> bool {
        let Ok(running) = self.running(target) else { return false };
        running.replayed.send(incoming).await.is_ok()
    }
}

impl Running {
    fn view(&self) -> SubscriptionView {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SubscriptionView {
            name: self.subscription.name.to_string(),
            url: self.subscription.url.clone(),
            types: self.subscription.types.clone(),
            state: match (known.loaded, &known.disabled) {
                (false, _) => "starting",
                (true, Some(_)) => "disabled",
                (true, None) => "active",
            }
            .to_owned(),
            reason: known.disabled,
            next: known.next,
            waiting: known.waiting,
            delivered: known.delivered,
            failed_attempts: known.failed_attempts,
            put_aside: known.put_aside,
        }
    }
}
