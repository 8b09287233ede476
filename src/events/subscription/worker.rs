//! The work of one subscription: reads ahead within a window, delivers each partition key's events one after
//! the other and the keys side by side, tries again on a schedule, puts aside what cannot be delivered.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::deliver::{Outcome, deliver};
use super::state::{Kept, Known, Tried};
use super::{Begins, Command, Incoming, Subscription, consumer};
use crate::bus::archive::{Stored, Stream};
use crate::bus::{DeadLetter, dead_letter};
use crate::connector::http::HttpConnector;
use crate::coordinator::{HeldKeys, WAITS};
use crate::envelope::Event;
use crate::events::offer::{self, NotOffered};
use crate::events::{Error, Events};
use crate::time::Timestamp;

/// Messages read and not yet through: what a crash delivers again at most, and what is kept in memory.
const WINDOW: usize = 256;
/// Messages read at a time.
const PAGE_LEN: usize = 128;
/// How soon a new event is seen, and how often the position is kept while something happens.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries while NATS is away.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);
/// `Retry-After` beyond this is not waited for.
const RETRY_AFTER_MAX_MS: u64 = 24 * 3_600 * 1_000;

/// One message until it is through.
struct Work {
    incoming: Incoming,
    /// The event as the subscriber wants it, or why it cannot have it.
    event: Result<Event, NotOffered>,
    /// What it keeps its order with: its partition key, else itself.
    queue: String,
    tried: Tried,
    /// Why the last attempt failed.
    why: String,
}

/// What became of a message that was at hand.
enum End {
    Delivered,
    PutAside,
    /// To be tried again.
    Later,
    Gone,
}

/// The work, owned by one task.
pub(super) struct Worker {
    events: Events,
    subscription: Arc<Subscription>,
    connector: Arc<HttpConnector>,
    held: Arc<HeldKeys>,
    known: Arc<Mutex<Known>>,
    replayed: mpsc::Receiver<Incoming>,
    commands: mpsc::Receiver<Command>,
    kept: Kept,
    /// The kept value differs from the one in the stream.
    changed: bool,
    queues: HashMap<String, VecDeque<Work>>,
    /// Queues of which nothing is at hand and nothing is waited for.
    ready: VecDeque<String>,
    /// Queues whose head waits, by time.
    later: BTreeSet<(Timestamp, String)>,
    at_hand: JoinSet<(Work, End)>,
    /// Queues whose head is at hand.
    busy: HashSet<String>,
    replays_in_window: usize,
}

impl Worker {
    pub(super) fn new(
        events: Events,
        subscription: Subscription,
        connector: Arc<HttpConnector>,
        held: Arc<HeldKeys>,
        known: Arc<Mutex<Known>>,
        (replayed, commands): (mpsc::Receiver<Incoming>, mpsc::Receiver<Command>),
    ) -> Self {
        Self {
            events,
            subscription: Arc::new(subscription),
            connector,
            held,
            known,
            replayed,
            commands,
            kept: Kept::default(),
            changed: false,
            queues: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeSet::new(),
            at_hand: JoinSet::new(),
            busy: HashSet::new(),
            replays_in_window: 0,
        }
    }

    /// Works until it is dropped.
    pub(super) async fn work(mut self) {
        while let Err(error) = self.load().await {
            tracing::debug!(%error, subscription = %self.subscription.name, "a subscription waits for NATS");
            tokio::time::sleep(AGAIN_PAUSE).await;
        }
        let mut look = tokio::time::interval(LOOK_PAUSE);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The last look found something: there may be more.
        let mut more = true;
        loop {
            self.start_deliveries();
            self.show();
            // Half a window at a time: each read has its price.
            let room = self.kept.waiting.len() <= WINDOW / 2 && self.kept.disabled.is_none();
            if more && room {
                more = self.read().await.unwrap_or(false);
                if self.at_hand.is_empty() {
                    continue;
                }
            }
            tokio::select! {
                Some(ended) = self.at_hand.join_next() => match ended {
                    Ok((work, end)) => self.ended(work, end),
                    Err(error) => tracing::error!(%error, "a delivery broke; its event comes again at the next start"),
                },
                Some(incoming) = self.replayed.recv(), if self.replays_in_window < WINDOW => self.take(incoming, Tried::default()),
                Some(command) = self.commands.recv() => self.command(command),
                _ = look.tick() => {
                    more = true;
                    self.keep().await;
                }
            }
        }
    }

    /// Reads where it was; a new one begins where its configuration says.
    async fn load(&mut self) -> Result<(), Error> {
        let name = format!("subscription.{}", self.subscription.name);
        let archive = Arc::clone(&self.events.0.archive);
        let extent = archive.extent(Stream::Events).await?;
        let kept = archive.kept(name.clone()).await?.into_iter().find(|(found, _)| *found == name);
        let kept: Option<Kept> = kept.and_then(|(_, value)| serde_json::from_slice(&value).ok());
        self.kept = match kept {
            Some(kept) if kept.stream_created == extent.created => kept,
            Some(kept) => {
                tracing::warn!(subscription = %self.subscription.name, "EVENTS was made anew: begins at its first event");
                Kept { stream_created: extent.created, next: 1, disabled: kept.disabled, ..Kept::default() }
            }
            None => {
                let next = match self.subscription.begins {
                    Begins::Start => 1,
                    Begins::Now => extent.last + 1,
                };
                Kept { stream_created: extent.created, next, ..Kept::default() }
            }
        };
        self.changed = true;
        // What was not through comes first, in its order.
        let waiting = std::mem::take(&mut self.kept.waiting);
        for (sequence, tried) in waiting {
            let page = archive.read(Stream::Events, sequence, vec!["events.>".to_owned()], 1).await?;
            if let Some(stored) = page.messages.into_iter().next().filter(|stored| stored.sequence == sequence) {
                self.take(Incoming { stored, replay: None, done: None }, tried);
            }
        }
        while !self.held.is_loaded() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        self.lock().loaded = true;
        Ok(())
    }

    /// Reads the next messages; true when there were some.
    async fn read(&mut self) -> Result<bool, Error> {
        let room = WINDOW.saturating_sub(self.kept.waiting.len()).min(PAGE_LEN);
        let subjects = offer::subjects(&self.subscription.types);
        let page = self.events.0.archive.read(Stream::Events, self.kept.next, subjects, room).await?;
        self.changed |= self.kept.next != page.next;
        self.kept.next = page.next;
        let found = !page.messages.is_empty();
        for stored in page.messages {
            self.take(Incoming { stored, replay: None, done: None }, Tried::default());
        }
        Ok(found)
    }

    /// Puts a message into its queue.
    fn take(&mut self, incoming: Incoming, tried: Tried) {
        let past = dead_letter::redrive(&incoming.stored.raw);
        if past.is_some_and(|past| past.consumer != consumer(&self.subscription.name)) {
            return; // given once more to another consumer
        }
        let event = offer::read(&incoming.stored, self.events.0.event_bytes_max);
        let queue = match event.as_ref().ok().and_then(|event| event.partition_key.clone()) {
            Some(key) => format!("k{key}"),
            None => format!("s{}/{}", incoming.stored.sequence, incoming.replay.as_deref().unwrap_or_default()),
        };
        let event =
            event.and_then(|event| offer::offer(self.events.0.schemas.as_ref(), event, &self.subscription.types));
        match incoming.replay {
            None => {
                self.kept.waiting.insert(incoming.stored.sequence, tried);
                self.changed = true;
            }
            Some(_) => self.replays_in_window += 1,
        }
        let works = self.queues.entry(queue.clone()).or_default();
        works.push_back(Work { incoming, event, queue: queue.clone(), tried, why: String::new() });
        if works.len() == 1 && !self.busy.contains(&queue) {
            self.queue_again(queue, tried.due);
        }
    }

    fn queue_again(&mut self, queue: String, due: Timestamp) {
        if due > self.events.0.clock.now() {
            self.later.insert((due, queue));
        } else {
            self.ready.push_back(queue);
        }
    }

    fn start_deliveries(&mut self) {
        if self.kept.disabled.is_some() {
            return;
        }
        let now = self.events.0.clock.now();
        while let Some((due, _)) = self.later.first()
            && *due <= now
            && let Some((_, queue)) = self.later.pop_first()
        {
            self.ready.push_back(queue);
        }
        while self.at_hand.len() < self.subscription.concurrency
            && let Some(queue) = self.ready.pop_front()
        {
            let Some(mut work) = self.queues.get_mut(&queue).and_then(VecDeque::pop_front) else { continue };
            self.busy.insert(queue); // the next one of the queue waits behind it
            let one = One {
                events: self.events.clone(),
                subscription: Arc::clone(&self.subscription),
                connector: Arc::clone(&self.connector),
                held: Arc::clone(&self.held),
            };
            self.at_hand.spawn(async move {
                let end = one.treat(&mut work).await;
                (work, end)
            });
        }
    }

    fn ended(&mut self, mut work: Work, end: End) {
        let queue = work.queue.clone();
        self.busy.remove(&queue);
        match end {
            End::Later | End::Gone => {
                if matches!(end, End::Gone) {
                    self.disable("the endpoint answered 410: it wants no more events".to_owned());
                }
                self.lock().failed_attempts += 1;
                if work.incoming.replay.is_none() {
                    self.kept.waiting.insert(work.incoming.stored.sequence, work.tried);
                    self.changed = true;
                }
                let due = work.tried.due;
                self.queues.entry(queue.clone()).or_default().push_front(work);
                self.queue_again(queue, due);
                return;
            }
            End::Delivered => self.lock().delivered += 1,
            End::PutAside => self.lock().put_aside += 1,
        }
        match work.incoming.replay {
            None => {
                self.kept.waiting.remove(&work.incoming.stored.sequence);
                self.changed = true;
            }
            Some(_) => self.replays_in_window -= 1,
        }
        if let Some(done) = work.incoming.done.take() {
            let _ = done.send(true); // a replay that was cancelled does not wait
        }
        let next = self.queues.get(&queue).and_then(VecDeque::front).map(|next| next.tried.due);
        match next {
            Some(due) => self.queue_again(queue, due),
            None => {
                self.queues.remove(&queue);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Enable => self.kept.disabled = None,
            Command::Disable(why) => self.disable(why),
        }
        self.changed = true;
    }

    fn disable(&mut self, why: String) {
        tracing::warn!(subscription = %self.subscription.name, reason = why, "a subscription is disabled; events wait");
        self.kept.disabled = Some(why);
        self.changed = true;
    }

    /// Keeps the position. Behind what is through it costs a repetition after a crash, never an event.
    async fn keep(&mut self) {
        if !self.changed {
            return;
        }
        let name = format!("subscription.{}", self.subscription.name);
        let Ok(value) = serde_json::to_vec(&self.kept) else { return };
        if self.events.0.archive.keep(name, value.into()).await.is_ok() {
            self.changed = false;
        }
    }

    fn show(&self) {
        let mut known = self.lock();
        known.next = self.kept.next;
        known.waiting = self.kept.waiting.len();
        known.disabled.clone_from(&self.kept.disabled);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one message's treatment needs.
struct One {
    events: Events,
    subscription: Arc<Subscription>,
    connector: Arc<HttpConnector>,
    held: Arc<HeldKeys>,
}

impl One {
    async fn treat(&self, work: &mut Work) -> End {
        let now = self.events.0.clock.now();
        if work.tried.attempts == 0 {
            work.tried.first_at = now;
        }
        let redriven = dead_letter::redrive(&work.incoming.stored.raw).is_some();
        let event = match &work.event {
            Ok(event) => event,
            Err(why) => {
                work.tried.attempts += 1;
                let why = why.clone();
                return self.put_aside(work, why).await;
            }
        };
        let key = event.partition_key.as_deref();
        if !redriven && work.incoming.replay.is_none() && self.held.holds(key) {
            let detail =
                "an earlier event with the same partition key lies in DEAD_LETTERS; it comes when that is through";
            let why = NotOffered { reason: WAITS.to_owned(), detail: detail.to_owned(), pointers: Vec::new() };
            return self.put_aside(work, why).await;
        }
        work.tried.attempts += 1;
        let (attempt, replay) = (work.tried.attempts, work.incoming.replay.as_deref());
        let outcome = deliver(&self.connector, &self.subscription, event, replay, attempt, now).await;
        match outcome {
            Outcome::Delivered => {
                if redriven {
                    self.held.through(key);
                }
                End::Delivered
            }
            Outcome::Gone => {
                work.tried.attempts -= 1; // it is delivered when the subscription is enabled again
                End::Gone
            }
            Outcome::Failed { why, retry_after } => {
                work.why = why;
                let index = usize::try_from(attempt - 1).unwrap_or(usize::MAX);
                let Some(pause) = self.subscription.schedule.get(index) else {
                    let detail = format!("after {attempt} attempts: {}", work.why);
                    let why = NotOffered { reason: "delivery_failed".to_owned(), detail, pointers: Vec::new() };
                    return self.put_aside(work, why).await;
                };
                let asked = retry_after.map_or(0, |span| span.0.min(RETRY_AFTER_MAX_MS));
                work.tried.due = Timestamp(self.events.0.clock.now().0 + pause.0.max(asked));
                tracing::debug!(attempt, why = work.why, due = %work.tried.due, "a delivery failed, it is tried again");
                End::Later
            }
        }
    }

    async fn put_aside(&self, work: &mut Work, why: NotOffered) -> End {
        let Stored { sequence, raw, .. } = &work.incoming.stored;
        let read = offer::read(&work.incoming.stored, self.events.0.event_bytes_max);
        let key = read.ok().and_then(|event| event.partition_key);
        let _holding = self.held.hold(key.as_deref());
        tracing::warn!(
            subscription = %self.subscription.name, sequence, reason = why.reason, detail = why.detail,
            "an event for a subscription is put aside in DEAD_LETTERS"
        );
        let letter = DeadLetter {
            raw: raw.clone(),
            reason: why.reason,
            detail: why.detail,
            pointers: why.pointers,
            consumer: consumer(&self.subscription.name),
            stream: "EVENTS".to_owned(),
            sequence: *sequence,
            attempts: work.tried.attempts,
            first_at: work.tried.first_at,
            last_at: self.events.0.clock.now(),
        };
        match self.events.0.bus.dead_letter(letter).await {
            Ok(_) => End::PutAside,
            Err(error) => {
                // NATS is away or DEAD_LETTERS is full: the event keeps its place, and so do those behind it.
                tracing::debug!(%error, "a message cannot be put aside yet");
                work.tried.attempts = work.tried.attempts.saturating_sub(1);
                work.tried.due = Timestamp(self.events.0.clock.now().0 + 500);
                End::Later
            }
        }
    }
}
