//! The door to the runs for everything above: API, CLI, demo, benchmark.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::stream::BoxStream;
use tokio::sync::oneshot;

use super::catalogue::{Active, Catalogue, Entry, EventSchemas, Refusal};
use super::correlator::awaited;
use super::metrics::Queues;
use super::rollout::place_of;
use super::run::input_hash;
use super::shard::{Message, OpenFilter, OpenKey, Router, Shared, StartRun};
use super::start::{Options, Quarantine, begin_trace};
use super::view::{
    HistoryEntry, LockRun, LockView, PartReadiness, Readiness, RunFilter, RunNews, RunPage, RunSummary, RunView,
    SagaView, ScheduleView,
};
use super::{describe, render};
use crate::bus::{self, Bus, Published};
use crate::definition::{SagaDefinition, ServiceInfo};
use crate::envelope::Event;
use crate::failpoint;
use crate::id::{RunId, SagaName, ServiceName};
use crate::journal::{Change, FinishedFilter};
use crate::payload::Payload;
use crate::problem::Problem;
use crate::saga::{self, Input, Operation, RunState};
use crate::telemetry::SpanSink;
use crate::time::{Span, Timestamp};
use crate::trace_context::TraceContext;

/// A cheap, shared reference to a running coordinator.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) router: Router,
    bus: Arc<dyn Bus>,
    pub(super) catalogue: Arc<Active>,
    schemas: Arc<dyn EventSchemas>,
    options: Options,
    resumed: usize,
    quarantine: Quarantine,
}

/// How to start a run by hand.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub saga: SagaName,
    /// None: the newest loaded version, or what a rollout says.
    pub version: Option<u32>,
    pub input: Payload,
    pub key: Option<String>,
    /// None: the run's own id.
    pub correlation_id: Option<String>,
    /// The caller's trace; none starts a new one.
    pub trace: Option<TraceContext>,
}

/// A start that has its key from what triggers it.
pub(super) struct KeyedStart {
    /// Made from saga and key.
    pub run: RunId,
    pub key: String,
    pub input: Payload,
    /// `$event`
    pub event: Payload,
    pub causation_id: Option<String>,
}

/// What came of a start. Durable when returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    Created(RunId),
    /// A repeated key with the same input: the first run's id.
    Existing(RunId),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    #[error("no saga `{saga}`{hint}")]
    UnknownSaga { saga: String, hint: String },
    /// Each violation with a JSON pointer into the input.
    #[error("the input does not fit the schema of saga `{saga}`")]
    InvalidInput { saga: String, violations: Vec<(String, String)> },
    #[error("key `{key}` belongs to run {run}, which began with other input")]
    KeyConflict { key: String, run: RunId },
    /// The disk is nearly full, the process drains, or too many runs are open: try later.
    #[error("no new work is taken: {reason}")]
    Unavailable { reason: String },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum OperateError {
    #[error("no run {0}")]
    NoRun(RunId),
    /// 409 with the reason.
    #[error("{0}")]
    Conflict(String),
    /// Each violation of the form with a JSON pointer into the answer.
    #[error("the answer does not fit the step's form")]
    Invalid(Vec<(String, String)>),
    #[error("no command is taken: {reason}")]
    Unavailable { reason: String },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// Each violation with a JSON pointer into the data.
    #[error("the data does not fit {event_type}")]
    Invalid { event_type: String, violations: Vec<(String, String)> },
    #[error("no schema for event type `{event_type}`{hint}")]
    UnknownType { event_type: String, hint: String },
    #[error("NATS is away: {reason}")]
    Unavailable { reason: String },
    #[error("the bus refuses the event: {reason}")]
    Refused { reason: String },
}

/// Entries of a list when the caller does not say, and at most.
const LIST_DEFAULT: usize = 50;
const LIST_MAX: usize = 1_000;

impl Handle {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from the parts of a start")]
    pub(super) fn new(
        shared: Arc<Shared>,
        router: Router,
        bus: Arc<dyn Bus>,
        catalogue: Arc<Active>,
        schemas: Arc<dyn EventSchemas>,
        options: Options,
        resumed: usize,
        quarantine: Quarantine,
    ) -> Self {
        Self(Arc::new(Inner { shared, router, bus, catalogue, schemas, options, resumed, quarantine }))
    }

    pub(super) fn journal(&self) -> Arc<dyn crate::journal::Journal> {
        Arc::clone(&self.0.shared.journal)
    }

    /// Returns where spans of requests go.
    #[must_use]
    pub fn span_sink(&self) -> SpanSink {
        self.0.shared.spans.sink()
    }

    /// Returns how many open runs were read back at start.
    #[must_use]
    pub fn resumed(&self) -> usize {
        self.0.resumed
    }

    /// Returns the runs that could not be read back, with the reason.
    #[must_use]
    pub fn quarantine(&self) -> &[(RunId, String)] {
        &self.0.quarantine
    }

    /// Waits until the process must end because the journal could not keep its promise; says why.
    pub async fn failed(&self) -> String {
        let mut fatal = self.0.shared.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the coordinator has ended".to_owned(),
        }
    }

    /// Starts a run by hand. Durable when it returns.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        let StartRequest { saga, version, input, key, correlation_id, trace } = request;
        let catalogue = self.0.catalogue.get();
        let run = match &key {
            Some(key) => RunId::keyed(&saga, key),
            None => RunId(uuid::Uuid::now_v7()),
        };
        let entry = match version {
            Some(version) => catalogue.find(&saga, Some(version)),
            None => catalogue.pick(&saga, place_of(run)),
        };
        let entry = entry.ok_or_else(|| StartError::UnknownSaga {
            saga: saga.to_string(),
            hint: match version {
                Some(version) => format!(" in version {version}"),
                None => catalogue.hint(saga.as_str()),
            },
        })?;
        let (trace, parent) = begin_trace(run, trace.as_ref(), &self.0.shared.spans);
        let start = saga::Start {
            run,
            key,
            correlation_id: correlation_id.unwrap_or_else(|| run.to_string()),
            causation_id: None,
            trace,
            parent,
            link_after: self.0.shared.spans.link_after(),
            input_hash: input_hash(&input),
            input,
            event: None,
            parent_run: None,
        };
        self.begin(entry, start).await
    }

    /// Starts the run of a moment of a schedule, or of a webhook's delivery. Durable when it returns.
    pub(super) async fn start_keyed(
        &self,
        entry: &Entry,
        start: KeyedStart,
        trace: Option<&TraceContext>,
    ) -> Result<Started, StartError> {
        let KeyedStart { run, key, input, event, causation_id } = start;
        let (trace, parent) = begin_trace(run, trace, &self.0.shared.spans);
        let start = saga::Start {
            run,
            key: Some(key),
            correlation_id: run.to_string(),
            causation_id,
            trace,
            parent,
            link_after: self.0.shared.spans.link_after(),
            input_hash: input_hash(&input),
            input,
            event: Some(event),
            parent_run: None,
        };
        self.begin(entry, start).await
    }

    async fn begin(&self, entry: &Entry, start: saga::Start) -> Result<Started, StartError> {
        if let Some(check) = &entry.input {
            let saga = entry.definition.name.to_string();
            check(&start.input).map_err(|violations| StartError::InvalidInput { saga, violations })?;
        }
        self.intake().map_err(|reason| StartError::Unavailable { reason })?;
        let run = start.run;
        let (reply, answer) = oneshot::channel();
        let start = StartRun { definition: Arc::clone(&entry.definition), start, inbox: None, reply };
        self.0.router.send(run, Message::Start(Box::new(start)));
        answer.await.unwrap_or_else(|_| Err(StartError::Unavailable { reason: STOPPED.to_owned() }))
    }

    /// Says why no new work is taken.
    fn intake(&self) -> Result<(), String> {
        let shared = &self.0.shared;
        if shared.draining.load(Ordering::Relaxed) {
            return Err("the process is stopping".to_owned());
        }
        if !shared.journal.accepts_work() {
            return Err("the journal's disk is nearly full; work resumes when there is space".to_owned());
        }
        if shared.open_runs.load(Ordering::Relaxed) >= self.0.options.open_runs_max {
            return Err(format!("{} runs are open, which is the limit", self.0.options.open_runs_max));
        }
        if shared.outbox_waiting() >= self.0.options.outbox_max {
            return Err(format!("{} events wait for NATS, which is the limit", self.0.options.outbox_max));
        }
        Ok(())
    }

    /// Waits until the run has ended or parked, at most `timeout`; returns it as it is then.
    pub async fn wait(&self, run: RunId, timeout: Duration) -> Option<RunView> {
        let (reply, answer) = oneshot::channel();
        self.0.router.send(run, Message::Wait { run, reply });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(view)) => Some(view),
            // Not open any more, or the time is over: as it is now.
            Ok(Err(_)) | Err(_) => self.show(run).await.ok().flatten(),
        }
    }

    /// Returns a run, open or finished.
    ///
    /// # Errors
    /// [`Problem`] when the journal cannot be read.
    pub async fn show(&self, run: RunId) -> Result<Option<RunView>, Problem> {
        let (reply, answer) = oneshot::channel();
        self.0.router.send(run, Message::Show { run, reply });
        if let Ok(view) = answer.await {
            return Ok(Some(view));
        }
        let journal = Arc::clone(&self.0.shared.journal);
        let summary = blocking(move || journal.summary(run)).await?;
        match summary {
            None => Ok(None),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Problem::new("journal", "a run's summary does not read").detail(error.to_string())),
        }
    }

    /// Lists the locks by name: at most so many, each with so many of those that wait.
    pub async fn locks(&self) -> Vec<LockView> {
        let mut locks = Vec::new();
        for (name, runs) in self.0.shared.locks.all().into_iter().take(LIST_MAX) {
            let mut told = Vec::new();
            for run in runs.into_iter().take(LIST_DEFAULT) {
                // A run that has ended since is no longer in the queue.
                let Ok(Some(view)) = self.show(run).await else { continue };
                told.push(LockRun {
                    run: view.id.to_string(),
                    saga: view.saga,
                    state: view.state,
                    started_at: view.started_at,
                });
            }
            if !told.is_empty() {
                let waiting = told.split_off(1);
                locks.extend(told.pop().map(|holder| LockView { name, holder, waiting }));
            }
        }
        locks
    }

    /// Takes a lock from the run that holds it, which must be parked or paused. Durable when it returns; returns
    /// the run after it.
    ///
    /// # Errors
    /// [`OperateError`]; a conflict when nobody holds the lock.
    pub async fn release_lock(&self, name: &str, by: Option<String>) -> Result<RunView, OperateError> {
        let Some(holder) = self.0.shared.locks.holder(name) else {
            return Err(OperateError::Conflict(format!("release_lock: nobody holds `{name}`")));
        };
        self.operate(holder, Operation::ReleaseLock { by }).await
    }

    /// Lists runs, newest first: the open ones by start, then the finished ones by end.
    ///
    /// # Errors
    /// [`Problem`] for a bad filter or cursor, or when the journal cannot be read.
    pub async fn list(&self, filter: RunFilter) -> Result<RunPage, Problem> {
        let limit = filter.limit.unwrap_or(LIST_DEFAULT);
        if limit == 0 || limit > LIST_MAX {
            return Err(Problem::new("bad_filter", format!("limit is {limit}; it goes from 1 to {LIST_MAX}")));
        }
        let state = filter.state.as_deref();
        if let Some(state) = state
            && !RunState::ALL.iter().any(|known| known.as_str() == state)
        {
            let known: Vec<&str> = RunState::ALL.iter().map(|state| state.as_str()).collect();
            let title = format!("no state `{state}`; the states are {}", known.join(" "));
            return Err(Problem::new("bad_filter", title));
        }
        let since = filter.since.as_deref().map(|since| self.since(since)).transpose()?;
        let cursor = filter.cursor.as_deref().map(Cursor::parse).transpose()?;
        let is_final = |state: &str| matches!(state, "completed" | "compensated");
        let mut runs = Vec::new();
        if !matches!(cursor, Some(Cursor::Finished(..))) && !state.is_some_and(is_final) {
            let before = match cursor {
                Some(Cursor::Open(at, run)) => Some((at, run)),
                Some(Cursor::Finished(..)) | None => None,
            };
            runs = self.open(OpenFilter { filter: filter.clone(), since, before, limit: limit + 1 }).await;
        }
        if runs.len() > limit {
            runs.truncate(limit);
            let cursor = runs.last().and_then(|last| Some(Cursor::Open(moment(&last.started_at)?, last.id)));
            return Ok(RunPage { runs, cursor: cursor.map(|cursor| cursor.to_string()) });
        }
        if state.is_some_and(|state| !is_final(state)) {
            return Ok(RunPage { runs, cursor: None });
        }
        let wanted = limit - runs.len();
        let finished = FinishedFilter {
            saga: filter.saga,
            state: filter.state,
            correlation_id: filter.correlation_id,
            key: filter.key,
            since,
            after: match cursor {
                Some(Cursor::Finished(at, run)) => Some((at, run)),
                Some(Cursor::Open(..)) | None => None,
            },
            limit: wanted + 1,
        };
        let journal = Arc::clone(&self.0.shared.journal);
        let mut found = blocking(move || journal.finished(&finished)).await?;
        let more = found.len() > wanted;
        found.truncate(wanted);
        let last = found.last().map(|(index, _)| Cursor::Finished(index.ended_at, index.run));
        let cursor = match (more, last) {
            (true, Some(last)) => Some(last),
            // The page is full of open runs and finished ones follow.
            (true, None) => Some(Cursor::Finished(Timestamp(u64::MAX), RunId(uuid::Uuid::max()))),
            (false, _) => None,
        };
        let views = found.iter().filter_map(|(_, bytes)| serde_json::from_slice::<RunView>(bytes).ok());
        let runs = render::each_once(runs, views.map(|view| render::summary(&view)).collect());
        Ok(RunPage { runs, cursor: cursor.map(|cursor| cursor.to_string()) })
    }

    pub(super) async fn open(&self, wanted: OpenFilter) -> Vec<RunSummary> {
        let limit = wanted.limit;
        let filter = Arc::new(wanted);
        let answers = self.0.router.all().map(|shard| {
            let (reply, answer) = oneshot::channel();
            let _ = shard.send(Message::List { filter: Arc::clone(&filter), reply });
            answer
        });
        let mut runs: Vec<RunSummary> =
            futures_util::future::join_all(answers).await.into_iter().flatten().flatten().collect();
        runs.sort_by(|a, b| (&b.started_at, b.id).cmp(&(&a.started_at, a.id)));
        runs.truncate(limit);
        runs
    }

    fn since(&self, text: &str) -> Result<Timestamp, Problem> {
        if let Ok(span) = Span::parse(text) {
            return Ok(Timestamp(self.0.shared.clock.now().0.saturating_sub(span.0)));
        }
        moment(text).ok_or_else(|| {
            let title = format!("since is `{text}`; write RFC 3339 (2030-01-31T12:00:00Z) or a duration back (1h)");
            Problem::new("bad_filter", title)
        })
    }

    /// Returns a run's facts in order.
    ///
    /// # Errors
    /// [`Problem`] when the journal cannot be read.
    pub async fn history(&self, run: RunId) -> Result<Option<Vec<HistoryEntry>>, Problem> {
        let this = Arc::clone(&self.0);
        let entries = tokio::task::spawn_blocking(move || {
            let unreadable =
                |what: &str| Problem::new("journal", "the run's history does not read").detail(what.to_owned());
            let facts = this.shared.journal.history(run).map_err(|error| unreadable(&error.to_string()))?;
            let facts: Vec<(Timestamp, saga::Fact)> = facts
                .into_iter()
                .map(|(at, bytes)| Ok((at, saga::decode(&bytes).map_err(|error| unreadable(&error.to_string()))?)))
                .collect::<Result<_, Problem>>()?;
            let Some((_, saga::Fact::RunStarted(begun))) = facts.first() else { return Ok(None) };
            let mut definition = this.shared.definition(begun.definition).map_err(|why| unreadable(&why))?;
            let mut entries = Vec::with_capacity(facts.len());
            for (number, (at, fact)) in (0..).zip(&facts) {
                if let saga::Fact::Migrated { definition: moved_to, .. } = fact {
                    definition = this.shared.definition(*moved_to).map_err(|why| unreadable(&why))?;
                }
                entries.push(describe::entry(&definition, number, *at, fact));
            }
            Ok(Some(entries))
        });
        entries.await.unwrap_or_else(|_| Err(Problem::new("journal", "the run's history could not be read")))
    }

    /// Follows one run or all of them from now on. Slow readers miss entries and are told so by a gap
    /// in `sequence`.
    #[must_use]
    pub fn watch(&self, run: Option<RunId>) -> BoxStream<'static, RunNews> {
        self.0.shared.news.watch(run)
    }

    /// Answers a step that asks a person. Durable when it returns; returns the run after it.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn answer(&self, run: RunId, step: String, by: String, answer: Payload) -> Result<RunView, OperateError> {
        let (reply, found) = oneshot::channel();
        self.0.router.send(run, Message::Asking { run, step: step.clone(), reply });
        match found.await {
            Ok(Some((at, ask))) => {
                if !ask.who.is_empty() && !ask.who.contains(&by) {
                    let why = format!("answer: `{step}` is for {}", ask.who.join(", "));
                    return Err(OperateError::Conflict(why));
                }
                if let Some(form) = &ask.form {
                    let violations = match crate::schema::Schema::compile(form) {
                        Ok(schema) => schema.validate(&answer).err().unwrap_or_default(),
                        Err(_) => Vec::new(), // checked when the file was loaded
                    };
                    if !violations.is_empty() {
                        let all = violations.into_iter().map(|one| (one.pointer, one.message));
                        return Err(OperateError::Invalid(all.collect()));
                    }
                }
                self.operate(run, Operation::Answer { step: at, by, answer }).await
            }
            Ok(None) => Err(OperateError::Conflict(format!("answer: nobody is asked at `{step}`, or it is answered"))),
            Err(_) => match self.show(run).await {
                Ok(Some(view)) => Err(OperateError::Conflict(format!("answer: the run is {}", view.state))),
                Ok(None) => Err(OperateError::NoRun(run)),
                Err(problem) => Err(OperateError::Unavailable { reason: problem.title }),
            },
        }
    }

    /// Gives an operator's command to a run. Durable when it returns; returns the run after it.
    ///
    /// # Errors
    /// [`OperateError`].
    pub async fn operate(&self, run: RunId, operation: Operation) -> Result<RunView, OperateError> {
        let (reply, answer) = oneshot::channel();
        let word = operation.as_str();
        let input = Input::Operator(operation);
        self.0.router.send(run, Message::Input { run, input, reply: Some(reply) });
        match answer.await {
            Ok(Ok(view)) => Ok(view),
            Ok(Err(rejected)) => Err(OperateError::Conflict(rejected.to_string())),
            Err(_) => match self.show(run).await {
                Ok(Some(view)) => {
                    Err(OperateError::Conflict(format!("{word}: the run is {}, and final is final", view.state)))
                }
                Ok(None) => Err(OperateError::NoRun(run)),
                Err(problem) => Err(OperateError::Unavailable { reason: problem.title }),
            },
        }
    }

    /// Validates and publishes events in order; stops at the first failure of the bus. Every event is
    /// validated before the first is published.
    ///
    /// # Errors
    /// Never empty: the indexes of the events and what is wrong with each; of the bus the first failure only.
    pub async fn publish(&self, mut events: Vec<Event>) -> Result<Vec<Published>, Vec<(usize, PublishError)>> {
        let now = self.0.shared.clock.now();
        events.iter_mut().for_each(|event| self.0.shared.spans.prepare(event, now));
        let invalid = events.iter().enumerate().filter_map(|(at, event)| {
            let event_type = event.event_type.to_string();
            let refusal = self.0.schemas.check(&event.event_type, &event.data).err()?;
            Some(match refusal {
                Refusal::UnknownType { hint } => (at, PublishError::UnknownType { event_type, hint }),
                Refusal::Invalid(violations) | Refusal::NoWay { violations, .. } => {
                    (at, PublishError::Invalid { event_type, violations })
                }
            })
        });
        let invalid: Vec<_> = invalid.collect();
        if !invalid.is_empty() {
            return Err(invalid);
        }
        let spans = &self.0.shared.spans;
        let told: Vec<Event> = if spans.is_on() { events.clone() } else { Vec::new() };
        let results = self.0.bus.publish(events).await;
        told.iter().zip(&results).filter(|(_, result)| result.is_ok()).for_each(|(event, _)| spans.published(event));
        let mut published = Vec::with_capacity(results.len());
        for (at, result) in results.into_iter().enumerate() {
            match result {
                Ok(one) => published.push(one),
                Err(bus::Error::Unavailable(reason)) => return Err(vec![(at, PublishError::Unavailable { reason })]),
                Err(bus::Error::Refused(reason)) => return Err(vec![(at, PublishError::Refused { reason })]),
            }
        }
        self.0.shared.metrics.events_published(published.len() as u64);
        Ok(published)
    }

    /// Lists the loaded sagas by name, newest version first, with their open runs by state.
    pub async fn sagas(&self) -> Vec<SagaView> {
        let (counts, _) = self.counts().await;
        let (catalogue, now) = (self.0.catalogue.get(), self.0.shared.clock.now());
        let view = |entry: &Entry| {
            let definition = &entry.definition;
            let open_runs = counts
                .iter()
                .filter(|((saga, version, _), _)| {
                    (saga.as_str(), *version) == (definition.name.as_str(), definition.version)
                })
                .map(|((_, _, state), count)| ((*state).to_owned(), *count))
                .collect();
            SagaView {
                name: definition.name.to_string(),
                version: definition.version,
                summary: definition.summary.clone(),
                file: definition.file.clone(),
                fingerprint: definition.fingerprint.to_string(),
                events: definition.triggers.iter().map(|trigger| trigger.event.to_string()).collect(),
                webhooks: definition.webhooks.iter().map(|trigger| trigger.webhook.to_string()).collect(),
                schedules: definition
                    .schedules
                    .iter()
                    .map(|schedule| ScheduleView {
                        rhythm: schedule.rhythm.to_string(),
                        next: schedule.rhythm.next_after(now).map(|next| next.to_string()),
                    })
                    .collect(),
                steps: definition.steps.iter().map(|step| step.path.to_string()).collect(),
                starts_percent: catalogue.share(&definition.name, definition.version),
                open_runs,
            }
        };
        catalogue.all().map(view).collect()
    }

    async fn counts(&self) -> (BTreeMap<OpenKey, u64>, Queues) {
        let answers = self.0.router.all().map(|shard| {
            let (reply, answer) = oneshot::channel();
            let _ = shard.send(Message::Counts { reply });
            answer
        });
        let mut sum = BTreeMap::new();
        let mut queues = Queues {
            outbox: self.0.shared.outbox_waiting() as u64,
            intake_open: self.intake().is_ok(),
            nats_ready: self.0.bus.status().borrow().ready,
            backlog: self.0.bus.backlog(),
            ..Queues::default()
        };
        for shard in futures_util::future::join_all(answers).await.into_iter().flatten() {
            queues.timers += shard.timers as u64;
            queues.timers_due += shard.timers_due as u64;
            for (key, count) in shard.runs {
                *sum.entry(key).or_default() += count;
            }
        }
        (sum, queues)
    }

    /// Puts other sagas in the place of the loaded ones; runs that have begun keep the definition that they
    /// began with. The new definitions are durable when it returns.
    ///
    /// # Errors
    /// When the journal does not take them; nothing has changed then.
    pub async fn replace(
        &self,
        catalogue: Catalogue,
        services: BTreeMap<ServiceName, ServiceInfo>,
    ) -> Result<(), Problem> {
        let new: Vec<Arc<SagaDefinition>> = {
            let definitions = self.0.shared.definitions.lock().unwrap_or_else(PoisonError::into_inner);
            let loaded = catalogue.all().map(|entry| Arc::clone(&entry.definition));
            loaded.filter(|definition| !definitions.knows(definition.fingerprint)).collect()
        };
        let changes: Vec<Change> = new
            .iter()
            .map(|definition| Change::Definition {
                fingerprint: definition.fingerprint,
                source: Arc::clone(&definition.source),
            })
            .collect();
        if !changes.is_empty() {
            let stored = self.0.shared.journal.commit(changes).await;
            stored.map_err(|error| {
                Problem::new("journal", "the new definitions cannot be stored").detail(error.to_string())
            })?;
        }
        self.0.shared.definitions.lock().unwrap_or_else(PoisonError::into_inner).add(new, services);
        let correlator = &self.0.shared.correlator;
        correlator.expect(catalogue.all().flat_map(|entry| awaited(&entry.definition)));
        self.0.catalogue.replace(catalogue);
        self.subscribe();
        Ok(())
    }

    /// Asks the bus for what the loaded sagas want by now.
    pub(super) fn subscribe(&self) {
        self.0.bus.subscribe(self.0.shared.event_types());
    }

    /// Says whether work is taken, part by part.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let nats = self.0.bus.status().borrow().clone();
        let intake = self.intake();
        let fatal = self.0.shared.fatal.borrow().clone();
        let broken: Vec<String> = self.0.quarantine.iter().map(|(run, _)| run.to_string()).collect();
        let journal = match (fatal, broken.is_empty()) {
            (Some(why), _) => PartReadiness { ready: false, message: why },
            (None, true) => PartReadiness { ready: true, message: "open".to_owned() },
            // The others go on; this is said loudly, but it does not take the service away.
            (None, false) => PartReadiness {
                ready: true,
                message: format!("open; {} runs cannot be read back: {}", broken.len(), broken.join(" ")),
            },
        };
        let parts = BTreeMap::from([
            ("nats".to_owned(), PartReadiness { ready: nats.ready, message: nats.message }),
            ("journal".to_owned(), journal),
            (
                "intake".to_owned(),
                match intake {
                    Ok(()) => PartReadiness { ready: true, message: "open".to_owned() },
                    Err(message) => PartReadiness { ready: false, message },
                },
            ),
        ]);
        Readiness { ready: parts.values().all(|part| part.ready), parts }
    }

    /// Takes the figures over that are counted elsewhere, as for the page.
    pub async fn refresh_metrics(&self) {
        let (counts, queues) = self.counts().await;
        let shared = &self.0.shared;
        // The versions of a saga are one series.
        let mut open: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
        for ((saga, _, state), count) in &counts {
            *open.entry((saga, state)).or_default() += count;
        }
        let open = open.into_iter().map(|((saga, state), count)| (saga, state, count));
        shared.metrics.refresh(open, &shared.journal.stats(), &queues, &shared.spans);
    }

    /// Returns the Prometheus page.
    pub async fn metrics(&self) -> String {
        self.refresh_metrics().await;
        self.0.shared.metrics.render()
    }

    /// Stops intake, lets attempts in flight end (at most `timeout`), closes the journal. What has not
    /// ended goes on at the next start. True when nothing was cut off.
    pub async fn drain(&self, timeout: Duration) -> bool {
        let shared = &self.0.shared;
        shared.draining.store(true, Ordering::Relaxed);
        failpoint::hit("drain.begun");
        let drained = self.0.router.all().map(|shard| {
            let (reply, answer) = oneshot::channel();
            let _ = shard.send(Message::Drain { reply });
            answer
        });
        let whole = tokio::time::timeout(timeout, futures_util::future::join_all(drained)).await.is_ok();
        if let Err(error) = shared.journal.close().await {
            tracing::error!(%error, "the journal did not close cleanly; nothing that was acknowledged is lost");
        }
        failpoint::hit("drain.closed");
        whole
    }
}

const STOPPED: &str = "the process is stopping";

/// Where a list goes on.
enum Cursor {
    Open(Timestamp, RunId),
    Finished(Timestamp, RunId),
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Problem> {
        let refused = || Problem::new("bad_cursor", "the cursor is not one of ours; start without one");
        let mut parts = text.splitn(3, '.');
        let (Some(kind), Some(at), Some(run)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refused());
        };
        let at = Timestamp(at.parse().map_err(|_| refused())?);
        let run = run.parse().map_err(|_| refused())?;
        match kind {
            "o" => Ok(Self::Open(at, run)),
            "f" => Ok(Self::Finished(at, run)),
            _ => Err(refused()),
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(at, run) => write!(f, "o.{}.{run}", at.0),
            Self::Finished(at, run) => write!(f, "f.{}.{run}", at.0),
        }
    }
}

fn moment(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, crate::journal::Error> + Send + 'static,
) -> Result<T, Problem> {
    let unreadable = |detail: String| Problem::new("journal", "the journal could not be read").detail(detail);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unreadable(error.to_string())),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
