//! Puts a process together: configuration → telemetry → files → journal → bus → connector → coordinator →
//! API, and takes it apart again when it is told to stop.

mod children;
mod figures;
pub mod files;
pub mod finding;
pub mod load;
mod options;
mod reload;
mod signals;
mod startup;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use self::finding::Finding;
pub use self::load::Sources;
pub use self::reload::ReadConfig;
pub use self::startup::Announcement;

use self::load::{Loaded, Schemas};
use self::reload::{Current, Reload};
use self::signals::Signals;
use crate::api::{Loading, Webhooks};
use crate::bus::{self, Bus, JetStreamBus};
use crate::config::Config;
use crate::connector::Services;
use crate::connector::http::HttpConnector;
use crate::coordinator::{EventSchemas, Handle, HeldKeys, Links, Parts, SystemClock};
use crate::events::{self, Events};
use crate::journal::{self, Recovered, SledJournal};
use crate::telemetry::{self, Telemetry};

/// How long the announcement waits for NATS; what is not known by then is said as it is.
const NATS_WAIT: Duration = Duration::from_secs(5);
/// Spans that are queued at the end are sent within this, or not at all.
const TELEMETRY_WAIT: Duration = Duration::from_secs(3);

/// What to run.
pub struct Plan {
    pub config: Config,
    pub sources: Sources,
    /// Reads the configuration once more, for a reload.
    pub read_config: ReadConfig,
    /// Attempts in flight may take this long when the process is told to stop.
    pub drain: Duration,
    /// What to say of a nats-server that belongs to this process.
    pub own_nats: Option<String>,
    /// Told once, when it takes requests.
    pub announce: Box<dyn FnOnce(&Announcement) + Send>,
}

/// Why a process does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Mistakes in saga or schema files.
    #[error("{} mistake(s) in the files", .0.iter().filter(|finding| finding.is_error()).count())]
    Files(Vec<Finding>),
    #[error("the API would listen on {0} for everybody")]
    NoToken(SocketAddr),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Telemetry(#[from] telemetry::Error),
    #[error("cannot open the journal: {0}")]
    Journal(#[from] journal::Error),
    #[error("cannot set up the calls to services: {0}")]
    Connector(#[from] crate::connector::Error),
    #[error(transparent)]
    Startup(#[from] crate::coordinator::StartupError),
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    /// The journal could not keep its promise: nothing more may be acknowledged.
    #[error("stopping: {0}")]
    Failed(String),
    /// A second signal cut the drain short.
    #[error("stopped at once by a second signal; what was in flight goes on at the next start")]
    Interrupted,
}

/// What kind of failure it is, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Input,
    /// Another process holds what is needed.
    InUse,
    Damaged,
    Failed,
    Interrupted,
}

impl Error {
    /// Returns the kind of failure.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Files(_) | Self::NoToken(_) | Self::Telemetry(_) | Self::Connector(_) => Cause::Input,
            Self::Journal(journal::Error::Locked { .. }) => Cause::InUse,
            Self::Journal(journal::Error::Damaged { .. } | journal::Error::BehindHead { .. }) => Cause::Damaged,
            Self::Listen { .. } | Self::Journal(_) | Self::Startup(_) | Self::Signals(_) | Self::Failed(_) => {
                Cause::Failed
            }
            Self::Interrupted => Cause::Interrupted,
        }
    }

    /// Returns what to do next, where the message does not say it.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoToken(_) => Some("set `api.token` (BACKSTITCH_TOKEN), or listen on 127.0.0.1"),
            Self::Listen { .. } => Some("choose another address with --listen; port 0 takes a free one"),
            Self::Failed(_) => Some("what was acknowledged is stored; repair the cause and start again"),
            _ => None,
        }
    }
}

/// Runs until a signal or a failure ends it. What has not ended goes on at the next start.
///
/// # Errors
/// [`Error`]: nothing is started when files or options are wrong.
pub async fn run(plan: Plan) -> Result<(), Error> {
    let Plan { config, sources, read_config, drain, own_nats, announce } = plan;
    let mut signals = Signals::listen().map_err(Error::Signals)?;
    let mut hangups = signals::hangups().map_err(Error::Signals)?;
    if config.api.lacks_token() {
        return Err(Error::NoToken(config.api.listen));
    }
    let loaded = load::load(Some(&config), &sources).map_err(Error::Files)?;
    let address = config.api.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    let address = listener.local_addr().map_err(|source| Error::Listen { address, source })?;

    let telemetry = telemetry::init(&options::telemetry(&config))?;
    for warning in &loaded.warnings {
        tracing::warn!(code = warning.code, file = warning.file, line = warning.line, "{}", warning.message);
    }
    let starting = tracing::info_span!("start", otel.name = "backstitch start");
    raise_file_limit();
    let journal_options = options::journal(&config);
    let (journal, mut recovered) = blocking(move || SledJournal::open(journal_options))
        .instrument(tracing::info_span!(parent: &starting, "journal", otel.name = "journal open"))
        .await?;
    let notes = std::mem::take(&mut recovered.notes);
    let bus = Arc::new(JetStreamBus::start(options::bus(&config)));
    let status = bus.status();
    let mut announcement = Announcement::new(&config, address, &loaded, notes);
    let schemas = Arc::new(Schemas::new(loaded.registry.clone()));
    let stop = CancellationToken::new();
    let (events, links) = event_side(&config, &bus, Arc::clone(&schemas) as Arc<dyn EventSchemas>, &stop)?;
    let services = loaded.services.clone();
    let connector = Services::new(services.clone())?;
    let runs_on = RunsOn { schemas: Arc::clone(&schemas), connector: connector.clone(), bus: bus.clone() };
    let metrics: Arc<telemetry::metrics::Metrics> = Arc::default();
    let handle = coordinate(&config, loaded, (journal, recovered), runs_on, (&telemetry, &metrics), links)
        .instrument(tracing::info_span!(parent: &starting, "sagas", otel.name = "runs resume"))
        .await?;
    let carried = figures::Sources {
        connector: connector.clone(),
        events: events.clone(),
        journal: config.journal.path.clone(),
        free_bytes_min: config.journal.free_bytes_min,
    };
    tokio::spawn(figures::carry(carried, Arc::clone(&metrics)));
    if let (Some(every), Some(pusher)) = (config.telemetry.metrics_every, telemetry.pusher()) {
        tokio::spawn(figures::push(handle.clone(), metrics, pusher, every.to_std()));
    }

    events.start();
    let webhooks = Arc::new(Webhooks::new(config.webhooks.clone()));
    let reload = Arc::new(Reload {
        sources,
        read_config,
        current: Mutex::new(Current { config: config.clone(), services }),
        schemas,
        connector,
        webhooks: Arc::clone(&webhooks),
        handle: handle.clone(),
    });
    let loading = loading(&reload);
    let api = options::api(&config);
    let api = tokio::spawn(crate::api::serve(listener, handle.clone(), events, loading, webhooks, api, stop.clone()));
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            // What is wrong has been logged.
            let _ = reload.run().await;
        }
    });
    announcement.own_nats = own_nats;
    announcement.runs(handle.resumed(), handle.quarantine());
    drop(starting);
    let ended = async {
        tokio::select! {
            () = signals.next() => Ok(()),
            why = handle.failed() => Err(Error::Failed(why)),
        }
    };
    let announced = async {
        announcement.nats = first_word(status, NATS_WAIT).await;
        announce(&announcement);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = ended => outcome?,
        () = announced => {}
    }

    tracing::info!(seconds = drain.as_secs(), "stopping: attempts in flight may end; a second signal stops at once");
    stop.cancel();
    let drained = async {
        let (whole, _) = tokio::join!(handle.drain(drain), tokio::time::timeout(drain, api));
        bus.close().await;
        telemetry.shutdown(TELEMETRY_WAIT).await;
        whole
    };
    tokio::select! {
        whole = drained => {
            if !whole {
                tracing::warn!("some attempts had not ended; they count as cut off and go on at the next start");
            }
            Ok(())
        }
        () = signals.next() => Err(Error::Interrupted),
    }
}

/// Puts the event side together, and what joins it to the sagas.
fn event_side(
    config: &Config,
    bus: &Arc<JetStreamBus>,
    schemas: Arc<dyn EventSchemas>,
    stop: &CancellationToken,
) -> Result<(Events, Links), Error> {
    /// Replays wait for the sagas, not in memory.
    const REPLAYED_LEN: usize = 64;
    let (held, freed) = HeldKeys::new(options::later_events(config.nats.later_events));
    let (sender, replayed) = mpsc::channel(REPLAYED_LEN);
    let events = Events::new(events::Parts {
        bus: bus.clone(),
        archive: bus.archive(),
        schemas,
        clock: Arc::new(SystemClock),
        sagas: (config.nats.consumer.clone(), Arc::clone(&held), freed),
        replayed: sender,
        event_bytes_max: config.nats.event_bytes_max,
        stop: stop.clone(),
    });
    let endpoints = config.subscriptions.iter().map(|(name, one)| (name.clone(), one.service.clone()));
    events.subscribe(options::subscriptions(config), HttpConnector::new(endpoints)?);
    events.read_outboxes(options::outboxes(config));
    Ok((events, Links { held, replayed, archive: Some(bus.archive()) }))
}

/// Returns what the API needs for schemas and reloads.
fn loading(reload: &Arc<Reload>) -> Loading {
    let schemas = Arc::clone(&reload.schemas);
    let reload = Arc::clone(reload);
    Loading {
        registry: Box::new(move || schemas.get()),
        reload: Box::new(move || {
            let reload = Arc::clone(&reload);
            Box::pin(async move { reload.run().await })
        }),
    }
}

/// What a coordinator works with, and what a reload changes.
struct RunsOn {
    schemas: Arc<Schemas>,
    connector: Services,
    bus: Arc<dyn Bus>,
}

/// Gives the coordinator its parts.
async fn coordinate(
    config: &Config,
    loaded: Loaded,
    (journal, recovered): (SledJournal, Recovered),
    runs_on: RunsOn,
    (telemetry, metrics): (&Telemetry, &Arc<telemetry::metrics::Metrics>),
    links: Links,
) -> Result<Handle, Error> {
    let RunsOn { schemas, connector, bus } = runs_on;
    for (name, service) in load::stored_services(recovered.definitions.values(), &loaded.services) {
        connector.add(name, service)?;
    }
    let parts = Parts {
        catalogue: loaded.catalogue,
        schemas,
        journal: Arc::new(journal),
        recovered,
        services: load::timeouts(&loaded.services),
        bus,
        connector: Arc::new(connector),
        clock: Arc::new(SystemClock),
        spans: telemetry.spans(),
        metrics: Arc::clone(metrics),
        options: options::coordinator(config),
        links,
    };
    Ok(parts.start().await?)
}

/// Waits until NATS is ready or says what is wrong, at most so long.
async fn first_word(mut status: watch::Receiver<bus::Status>, wait: Duration) -> bus::Status {
    let _ = tokio::time::timeout(wait, status.wait_for(|status| status.ready)).await;
    status.borrow().clone()
}

/// Every connection and every sled store holds files; the usual soft limit of 1,024 is for programs that
/// use `select`.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current < maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, journal::Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Error::Failed(format!("the journal could not be opened: {error}"))),
    }
}
