//! The bus on NATS JetStream: starts whether NATS is there or not, and says in its status what it knows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::Context;
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::delivery::InHand;
use super::options::Options;
use super::publish::{self, BATCHES_MAX, JOBS_LEN, Job, WORKERS};
use super::send::{self, Outgoing};
use super::stored::JetStreamArchive;
use super::{Archive, Backlog, Bus, DeadLetter, Delivery, Error, Published, Status, dead_letter, supervisor, wire};
use crate::envelope::Event;
use crate::id::EventType;
use crate::time::Timestamp;

/// Chunks of deliveries waiting for `next`: one fetch. What waits here counts against `ack_pending_max`.
const QUEUE_LEN: usize = 4;
/// Answers still in the client's queue are sent before the end, unless NATS is away.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// What the tasks of one bus share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) status: watch::Sender<Status>,
    /// Set while streams are reconciled and events can be published.
    pub(super) session: watch::Sender<Option<Arc<Session>>>,
    /// None until `subscribe` is called.
    pub(super) subscribed: watch::Sender<Option<Vec<EventType>>>,
    pub(super) in_hand: Mutex<InHand>,
    /// As of the last look at the consumer.
    pub(super) backlog: Mutex<Backlog>,
    pub(super) batches: Semaphore,
    doubtful: Notify,
}

/// One connection on which everything is as it must be. Shared: a context is costly to clone, and each delivery
/// is answered through it.
pub(super) struct Session {
    /// From 1; no two sessions of one bus have the same.
    pub(super) number: u64,
    pub(super) context: Context,
    pub(super) client: Client,
    pub(super) events_created: u64,
}

impl Shared {
    /// Asks for a look at the streams: something did not answer as it should.
    pub(super) fn doubt(&self) {
        self.doubtful.notify_one();
    }

    /// Waits until somebody doubts.
    pub(super) async fn doubted(&self) {
        self.doubtful.notified().await;
    }

    /// Returns the session while the EVENTS stream is the one that was created then.
    pub(super) fn current(&self, events_created: u64) -> Option<Arc<Session>> {
        self.session.borrow().as_ref().filter(|session| session.events_created == events_created).cloned()
    }
}

/// Deliveries on their way to `next`.
struct Incoming {
    chunks: mpsc::Receiver<Vec<Delivery>>,
    /// Of a chunk that was longer than what was asked for.
    left: VecDeque<Delivery>,
}

/// Publishes to and consumes from one NATS server or cluster. Dropping it ends its tasks.
pub struct JetStreamBus {
    shared: Arc<Shared>,
    deliveries: tokio::sync::Mutex<Incoming>,
    jobs: mpsc::Sender<Job>,
    supervisor: JoinHandle<()>,
}

impl JetStreamBus {
    /// Starts the bus; never fails and does not wait. What is wrong stands in [`Bus::status`], and is tried
    /// again until it is right.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let message = format!("connecting to NATS at {}", options.shown_url());
        let shared = Arc::new(Shared {
            options,
            status: watch::Sender::new(Status { ready: false, message }),
            session: watch::Sender::new(None),
            subscribed: watch::Sender::new(None),
            in_hand: Mutex::default(),
            backlog: Mutex::default(),
            batches: Semaphore::new(BATCHES_MAX),
            doubtful: Notify::new(),
        });
        let (sender, receiver) = mpsc::channel(QUEUE_LEN);
        let supervisor = tokio::spawn(supervisor::run(shared.clone(), sender));
        let (jobs, waiting) = mpsc::channel(JOBS_LEN);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _ in 0..WORKERS {
            tokio::spawn(publish::work(shared.clone(), waiting.clone())); // ends when the bus is dropped
        }
        Self {
            shared,
            deliveries: tokio::sync::Mutex::new(Incoming { chunks: receiver, left: VecDeque::new() }),
            jobs,
            supervisor,
        }
    }

    /// Returns the streams to be read by place.
    #[must_use]
    pub fn archive(&self) -> Arc<dyn Archive> {
        Arc::new(JetStreamArchive(self.shared.clone()))
    }

    /// Sends what is still in the client's queue, at most two seconds long, and ends.
    pub async fn close(&self) {
        let session = self.shared.session.borrow().clone();
        if let Some(session) = session {
            let _ = tokio::time::timeout(CLOSE_WAIT, session.client.flush()).await;
        }
        self.supervisor.abort();
        let message = "the bus is closed".to_owned();
        self.shared.session.send_replace(None);
        self.shared.status.send_replace(Status { ready: false, message });
    }
}

impl Drop for JetStreamBus {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Bus for JetStreamBus {
    fn publish(&self, events: Vec<Event>) -> BoxFuture<'static, Vec<Result<Published, Error>>> {
        let (shared, jobs) = (self.shared.clone(), self.jobs.clone());
        Box::pin(async move {
            let prepare = |event: &Event| {
                wire::check(event).map_err(Error::Refused)?;
                let raw = wire::encode(event);
                let (bytes, most) = (wire::size(&raw), shared.options.event_bytes_max);
                if bytes > most {
                    return Err(Error::Refused(format!(
                        "it has {bytes} bytes with its headers; nats.event_bytes_max is {most}"
                    )));
                }
                Outgoing::new(raw)
            };
            let messages = events.iter().map(prepare).collect();
            publish::publish(&shared, &jobs, messages).await
        })
    }

    fn next(&self, max: usize) -> BoxFuture<'_, Vec<Delivery>> {
        Box::pin(async move {
            let mut incoming = self.deliveries.lock().await;
            loop {
                if incoming.left.is_empty() {
                    match incoming.chunks.recv().await {
                        Some(chunk) => incoming.left.extend(chunk),
                        None => return std::future::pending().await, // closed: nothing will ever come
                    }
                }
                while incoming.left.len() < max
                    && let Ok(chunk) = incoming.chunks.try_recv()
                {
                    incoming.left.extend(chunk);
                }
                let many = incoming.left.len().min(max.max(1));
                let mut taken: Vec<Delivery> = incoming.left.drain(..many).collect();
                // What was fetched from a stream that has gone since is not there any more.
                taken.retain(|delivery| {
                    self.shared.session.borrow().is_none() || self.shared.current(delivery.stream_created).is_some()
                });
                if !taken.is_empty() {
                    return taken;
                }
            }
        })
    }

    fn dead_letter(&self, letter: DeadLetter) -> BoxFuture<'static, Result<Published, Error>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let raw = dead_letter::encode(&letter, now());
            send::one(&shared, &Outgoing::new(raw)?).await
        })
    }

    fn backlog(&self) -> Backlog {
        *self.shared.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    fn subscribe(&self, types: Vec<EventType>) {
        // The consumer is made anew for other types only.
        self.shared.subscribed.send_if_modified(|subscribed| {
            let differs = subscribed.as_ref() != Some(&types);
            *subscribed = Some(types);
            differs
        });
    }
}

/// Tells the time, for the dead letters' header alone.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
