//! Brings a coordinator up: definitions stored, open runs adopted, outbox and intake at work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use super::answers::Answers;
use super::catalogue::{Active, Catalogue, EventSchemas};
use super::correlator::{Correlator, awaited};
use super::handle::Handle;
use super::held_keys::{HeldKeys, LaterEvents};
use super::inbox::Intake;
use super::late_spans::{self, Late};
use super::locks::Locks;
use super::metrics::Metrics;
use super::news::News;
use super::notices::{NoticePolicy, Notices};
use super::outbox;
use super::recovery::{self, Definitions};
use super::rollout;
use super::run::{EventCheck, Run};
use super::shard::{Message, Router, Shard, Shared};
use super::spans::{Spans, TracePolicy, anchor_span};
use crate::bus::{Bus, Delivery};
use crate::connector::Connector;
use crate::definition::ServiceInfo;
use crate::failpoint;
use crate::id::{RunId, ServiceName};
use crate::journal::{Change, FinishedFilter, Journal, Recovered};
use crate::planted;
use crate::saga::LockState;
use crate::telemetry::{self, SpanSink};
use crate::time::{Clock, Span, Timestamp};
use crate::trace_context::{SpanId, TraceContext};

/// How far back spans are exported again after a restart: several times the exporter's own delay.
const SPANS_AGAIN: Span = Span::from_secs(30);
/// The same for runs that have ended, of which there may be thousands: ten times the exporter's own delay.
const ENDED_AGAIN: Span = Span::from_secs(2);
/// At 50 microseconds each a tenth of a second.
const ENDED_AGAIN_MAX: usize = 2_000;

/// Limits and choices of a coordinator.
#[derive(Debug, Clone)]
pub struct Options {
    pub notices: NoticePolicy,
    pub traces: TracePolicy,
    /// Tasks that own runs; one for each worker thread.
    pub shards: usize,
    /// Open runs above which nothing new is taken. A waiting run costs about 3 KiB and what its payloads take.
    pub open_runs_max: u64,
    /// Unpublished events above which nothing new is taken.
    pub outbox_max: usize,
    /// How long events are kept for steps that will await them.
    pub await_keep: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            notices: NoticePolicy::default(),
            traces: TracePolicy::default(),
            shards: 2,
            open_runs_max: 1_000_000,
            outbox_max: 100_000,
            await_keep: Span::from_secs(7 * 86_400),
        }
    }
}

/// Everything that a coordinator drives.
pub struct Parts {
    pub catalogue: Catalogue,
    pub schemas: Arc<dyn EventSchemas>,
    pub journal: Arc<dyn Journal>,
    pub recovered: Recovered,
    /// The configuration's services, for definitions that only the journal has.
    pub services: BTreeMap<ServiceName, ServiceInfo>,
    pub bus: Arc<dyn Bus>,
    pub connector: Arc<dyn Connector>,
    pub clock: Arc<dyn Clock>,
    pub spans: SpanSink,
    pub metrics: Arc<telemetry::metrics::Metrics>,
    pub options: Options,
    pub links: Links,
}

/// How the rest of the event side reaches the intake of the sagas.
pub struct Links {
    /// Partition keys whose later events wait.
    pub held: Arc<HeldKeys>,
    /// Deliveries of replays that are meant for the sagas.
    pub replayed: mpsc::Receiver<Delivery>,
    /// Where events lie that came before this process did.
    pub archive: Option<Arc<dyn crate::bus::archive::Archive>>,
}

impl Default for Links {
    /// Nothing waits, nothing is replayed.
    fn default() -> Self {
        Self { held: HeldKeys::new(LaterEvents::Pass).0, replayed: mpsc::channel(1).1, archive: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    #[error("cannot store the saga definitions: {0}")]
    Journal(#[from] crate::journal::Error),
}

/// Runs that could not be read back, each with its reason: shown, never lost, continued by a version
/// that can read them.
pub type Quarantine = Vec<(RunId, String)>;

impl Parts {
    /// Starts the coordinator. Open runs go on at once.
    ///
    /// # Errors
    /// [`StartupError`] when the definitions cannot be stored.
    pub async fn start(self) -> Result<Handle, StartupError> {
        let Self {
            catalogue,
            schemas,
            journal,
            recovered,
            services,
            bus,
            connector,
            clock,
            spans,
            metrics,
            options,
            links,
        } = self;
        store_definitions(&catalogue, &recovered, journal.as_ref()).await?;
        let catalogue = catalogue.with_rollouts(rollout::recovered(&recovered.settings));
        let (active, now) = (Arc::new(Active::new(catalogue)), clock.now());
        let catalogue = active.get();
        failpoint::hit("definitions.stored");
        let (outbox, entries) = mpsc::unbounded_channel();
        let outbox_waiting = Arc::new(AtomicUsize::new(recovered.outbox.len()));
        let checked = Arc::clone(&schemas);
        let check: EventCheck =
            Arc::new(move |event, data| checked.check(event, data).map_err(|refusal| refusal.line(event)));
        let (late, late_runs) = Late::new();
        let metrics = Arc::new(Metrics::new(metrics));
        let notices = Notices::start(options.notices.clone(), Arc::clone(&bus), Arc::clone(&metrics));
        let definitions = Definitions::new(
            catalogue.all().map(|entry| Arc::clone(&entry.definition)),
            recovered.definitions,
            services,
        );
        let shared = Arc::new(Shared {
            definitions: Mutex::new(definitions),
            journal: Arc::clone(&journal),
            connector,
            clock,
            check,
            locks: Locks::default(),
            outbox: outbox.clone(),
            outbox_waiting: Arc::clone(&outbox_waiting),
            news: News::new(),
            spans: Spans::new(spans, options.traces.clone(), late),
            metrics,
            notices,
            open_runs: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            fatal: watch::Sender::new(None),
            catalogue: Arc::clone(&active),
            correlator: Arc::new(Correlator::new(links.archive, Arc::clone(&schemas), options.await_keep, now)),
            answers: Answers::default(),
        });
        shared.correlator.expect(catalogue.all().flat_map(|entry| awaited(&entry.definition)));
        tokio::spawn(late_spans::work(late_runs, Arc::downgrade(&shared)));
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..options.shards.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let router = Router::new(senders);
        for receiver in receivers {
            tokio::spawn(Shard::new(Arc::clone(&shared), router.clone(), receiver).work());
        }
        for entry in recovered.outbox.into_iter().filter(|_| !planted::is("restart_forgets_the_outbox")) {
            let _ = outbox.send(entry);
        }
        if shared.spans.is_on() {
            tell_ended(&shared);
        }
        let (resumed, quarantine, waiting_since) = adopt(recovered.runs.into(), &shared, &router);
        tokio::spawn(outbox::work(entries, Arc::clone(&bus), Arc::clone(&shared), outbox_waiting));
        bus.subscribe(shared.event_types());
        if let Some(since) = waiting_since {
            tokio::spawn(Arc::clone(&shared.correlator).catch_up(since, router.clone()));
        }
        let intake = Intake {
            shared: Arc::clone(&shared),
            router: router.clone(),
            bus: Arc::clone(&bus),
            catalogue: Arc::clone(&active),
            schemas: Arc::clone(&schemas),
            options: options.clone(),
            held: links.held,
        };
        tokio::spawn(intake.work(links.replayed));
        let handle = Handle::new(shared, router, bus, active, schemas, options, resumed, quarantine);
        tokio::spawn(super::scheduler::work(handle.downgrade()));
        Ok(handle)
    }
}

async fn store_definitions(
    catalogue: &Catalogue,
    recovered: &Recovered,
    journal: &dyn Journal,
) -> Result<(), crate::journal::Error> {
    let new: Vec<Change> = catalogue
        .all()
        .map(|entry| &entry.definition)
        .filter(|definition| !recovered.definitions.contains_key(&definition.fingerprint))
        .map(|definition| Change::Definition {
            fingerprint: definition.fingerprint,
            source: Arc::clone(&definition.source),
        })
        .collect();
    if new.is_empty() { Ok(()) } else { journal.commit(new).await.map(|_| ()) }
}

/// Exports the last spans of runs that ended just before the process did once more. What cannot be read
/// is left: it has ended, and only its picture is at stake.
fn tell_ended(shared: &Shared) {
    let filter = FinishedFilter { limit: ENDED_AGAIN_MAX, ..FinishedFilter::default() };
    let ended = shared.journal.finished(&filter).unwrap_or_default();
    let newest = ended.first().map_or(Timestamp(0), |(index, _)| index.ended_at);
    for (index, _) in ended.iter().take_while(|(index, _)| newest.since(index.ended_at) <= ENDED_AGAIN) {
        let Ok(facts) = shared.journal.history(index.run) else { continue };
        let base = |child| late_spans::base(shared, child);
        let find = |fingerprint| shared.definition(fingerprint);
        let _ = recovery::replay(find, facts, 0, base, |run, fact, launched_at, at| {
            if newest.since(at) <= ENDED_AGAIN {
                shared.spans.record_again(run, fact, launched_at, at);
            }
        });
    }
}

fn adopt(
    open: VecDeque<crate::journal::OpenRun>,
    shared: &Shared,
    router: &Router,
) -> (usize, Quarantine, Option<Timestamp>) {
    let mut quarantine = Quarantine::new();
    let mut runs = Vec::with_capacity(open.len());
    // Spans wait in memory for a moment before they are exported; those of that moment are sent once more.
    let newest = open.iter().filter_map(|run| run.facts.last()).map(|(at, _)| at.0).max().unwrap_or_default();
    let spans_since = Timestamp(newest.saturating_sub(SPANS_AGAIN.0));
    // The undo of a child begins where the child ended.
    let (open, undos): (Vec<_>, Vec<_>) = open.into_iter().partition(|open| !recovery::undoes_a_child(open));
    let mut children = HashMap::new();
    for open in open.into_iter().chain(undos) {
        let id = open.run;
        let mut definitions = shared.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        match recovery::rebuild(&mut definitions, open, &shared.spans, spans_since, |child| children.get(&child)) {
            Ok(run) => {
                if run.state.begun.parent_run.is_some() && run.state.end.is_some() {
                    children.insert(run.id(), run.state.clone());
                }
                runs.push(Box::new(run));
            }
            Err(why) => {
                tracing::error!(run = %id, error = why, "a run cannot be read back; it is left as it is");
                quarantine.push((id, why));
            }
        }
    }
    runs.sort_by_key(|run| recovery::lock_order(run));
    // All of them queue before the first one moves, so that nobody overtakes a holder.
    for run in &runs {
        match &run.state.lock {
            LockState::Wanted { name } | LockState::Held { name } => {
                shared.locks.acquire(name, run.id());
            }
            LockState::None => {}
        }
    }
    runs.iter().for_each(|run| shared.notices.still_parked(run));
    let resumed = runs.len();
    // Events since the oldest run began that may wait for one count for it.
    let waits = |run: &&Run| run.state.end.is_none() && !awaited(&run.definition).is_empty();
    let waiting_since = runs.iter().map(Box::as_ref).filter(waits).map(|run| run.state.started_at).min();
    shared.correlator.expect(runs.iter().flat_map(|run| awaited(&run.definition)));
    // A child whose root has gone is held no longer.
    let open: HashSet<RunId> = runs.iter().map(|run| run.id()).collect();
    for run in &mut runs {
        run.release_wanted = run.state.begun.parent_run.as_ref().is_some_and(|parent| !open.contains(&parent.root));
    }
    // Children before those that started them: a child must be there when its parent asks for it.
    runs.sort_by_key(|run| Reverse(run.state.begun.parent_run.as_ref().map_or(0, |parent| parent.depth)));
    for run in runs {
        failpoint::hit("recovery.adopting");
        router.send(run.id(), Message::Adopt(run));
    }
    failpoint::hit("recovery.adopted");
    (resumed, quarantine, waiting_since)
}

/// Returns a run's anchor in its trace and the span that caused it: the caller's trace goes on, else one
/// begins here.
pub fn begin_trace(run: RunId, cause: Option<&TraceContext>, spans: &Spans) -> (TraceContext, Option<SpanId>) {
    let anchor = anchor_span(run);
    match cause {
        Some(cause) => (spans.let_through(cause).with_span(anchor), Some(cause.span_id).filter(|_| cause.has_span())),
        None => (spans.new_trace().with_span(anchor), None),
    }
}
