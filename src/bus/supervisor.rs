//! Keeps the connection as it must be: connects, proves the server, reconciles the streams, runs the
//! consumer, looks again when something is odd, and begins anew when something is wrong.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event as ClientEvent};
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::delivery::{Names, delivery, keep_in_hand};
use super::jetstream::{Session, Shared};
use super::proof::{self, Sync};
use super::reconcile::{self, Kind};
use super::undelivered::{self, Readable};
use super::{Delivery, Status};
use crate::trust;

/// First pause after a failure; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A server that comes back is noticed within this.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// JetStream's API answers in milliseconds; a frozen server does not.
const API_WAIT: Duration = Duration::from_secs(5);
/// Streams are looked at this often even when nothing is odd.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Messages that nobody can read but that break nothing are looked for this often.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);
/// The streams are not looked at more often than this, however odd things are.
const DOUBT_PAUSE: Duration = Duration::from_millis(200);
/// A dead connection is found by two missing pongs.
const PING_PAUSE: Duration = Duration::from_secs(5);
/// Messages asked for at a time: fewer cost throughput, more wait in memory for nothing.
const FETCH_LEN: usize = 256;
/// Messages handed on at a time where so many are there: each hand-over may wake a thread.
const CHUNK_LEN: usize = 64;
/// A pull that is not answered says so after two of these.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long one pull waits at the server.
const FETCH_WAIT: Duration = Duration::from_secs(30);

/// The client's own view of its connection.
#[derive(Debug, Clone, Default)]
struct Link {
    connected: bool,
    /// Counts connections lost, so that a short break is not missed.
    breaks: u64,
}

struct Connection {
    client: Client,
    link: watch::Receiver<Link>,
}

/// Runs until it is aborted.
pub(super) async fn run(shared: Arc<Shared>, deliveries: mpsc::Sender<Vec<Delivery>>) {
    let mut connection: Option<Connection> = None;
    let mut pause = PAUSE_MIN;
    for number in 1.. {
        let began = Instant::now();
        let reason = match connect(&shared, &mut connection).await {
            Ok(connection) => hold(&shared, connection, number, &deliveries).await,
            Err(reason) => reason,
        };
        let was_ready = shared.session.send_replace(None).is_some();
        let changed = shared.status.borrow().message != reason;
        if changed {
            tracing::warn!(error = reason, "the bus is not ready, trying again");
        }
        shared.status.send_replace(Status { ready: false, message: reason });
        // What was well for a while may be well again at once; what fails at once is left alone longer.
        if was_ready && began.elapsed() > PAUSE_MAX {
            pause = PAUSE_MIN;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Returns the connection, made where there is none, once it stands.
async fn connect<'a>(shared: &Shared, connection: &'a mut Option<Connection>) -> Result<&'a mut Connection, String> {
    let url = shared.options.shown_url();
    // The client's task has ended, whatever the reason: it will not connect again by itself.
    if connection.as_ref().is_some_and(|connection| connection.link.has_changed().is_err()) {
        *connection = None;
    }
    if connection.is_none() {
        *connection = Some(
            connect_first(shared)
                .await
                .map_err(|error| format!("NATS at {url} cannot be reached: {error}; start it or set nats.url"))?,
        );
    }
    let connection = connection.as_mut().expect("made above");
    if !connection.link.borrow_and_update().connected {
        let message = format!("NATS at {url} is away, connecting again");
        tracing::warn!(url, "NATS is away, connecting again");
        shared.status.send_replace(Status { ready: false, message });
        let closed = connection.link.wait_for(|link| link.connected).await.is_err();
        if closed {
            return Err(format!("the connection to NATS at {url} is closed"));
        }
    }
    Ok(connection)
}

async fn connect_first(shared: &Shared) -> Result<Connection, String> {
    let (link_sender, link) = watch::channel(Link { connected: true, breaks: 0 });
    let mut options = ConnectOptions::new()
        .name("backstitch")
        .ping_interval(PING_PAUSE)
        .connection_timeout(API_WAIT)
        .request_timeout(Some(API_WAIT))
        .reconnect_delay_callback(|attempts| {
            let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
            if attempts <= 1 { Duration::ZERO } else { (PAUSE_MIN * 2_u32.pow(doublings) / 2).min(PAUSE_MAX) }
        })
        .event_callback(move |event| {
            match event {
                ClientEvent::Connected => link_sender.send_modify(|link| link.connected = true),
                ClientEvent::Disconnected | ClientEvent::Closed => {
                    link_sender.send_modify(|link| *link = Link { connected: false, breaks: link.breaks + 1 });
                }
                ClientEvent::SlowConsumer(_) => tracing::warn!("the client dropped messages, they will come again"),
                ClientEvent::LameDuckMode
                | ClientEvent::Draining
                | ClientEvent::ServerError(_)
                | ClientEvent::ClientError(_) => tracing::debug!(%event, "client event"),
            }
            std::future::ready(())
        });
    if let Some(path) = &shared.options.credentials_file {
        options = options.credentials_file(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if let Some((user, password)) = &shared.options.user {
        options = options.user_and_password(user.clone(), password.expose().clone());
    }
    options = options.tls_client_config(trust::client(shared.options.ca.as_deref(), &[])?);
    let urls: Vec<&str> = shared.options.url.split(',').map(str::trim).collect();
    let client = options.connect(urls).await.map_err(|error| error.to_string())?;
    Ok(Connection { client, link })
}

/// Makes everything ready on a standing connection and keeps it so; returns why it is not any more.
async fn hold(
    shared: &Arc<Shared>,
    connection: &mut Connection,
    number: u64,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) -> String {
    let breaks = connection.link.borrow_and_update().breaks;
    let (mut link, client) = (connection.link.clone(), connection.client.clone());
    let broken = async {
        let _ = link.wait_for(|link| link.breaks != breaks).await;
        format!("the connection to NATS at {} broke", shared.options.shown_url())
    };
    let held = async {
        let (session, proved) = match establish(shared, &client, number).await {
            Ok(established) => established,
            Err(reason) => return reason,
        };
        if let Sync::NotProved(why) = &proved {
            tracing::warn!(reason = why, "acknowledged events may be lost at a power cut of the NATS server");
        }
        shared.session.send_replace(Some(Arc::clone(&session)));
        tokio::select! {
            reason = consume(shared, &session, &proved, deliveries) => reason,
            reason = look(shared, &session) => reason,
            () = keep_in_hand(shared, &client) => "the client is closed".to_owned(),
        }
    };
    tokio::select! {
        biased;
        reason = broken => reason,
        reason = held => reason,
    }
}

/// Proves the server and reconciles the streams.
async fn establish(shared: &Shared, client: &Client, number: u64) -> Result<(Arc<Session>, Sync), String> {
    let info = client.server_info();
    proof::check_server(&shared.options, &info.version, info.jetstream, info.max_payload)?;
    let proved = proof::check_sync(&shared.options, &info.server_id).await?;
    let context = ContextBuilder::new().timeout(API_WAIT).build(client.clone());
    let events = reconcile::stream(&context, &shared.options, Kind::Events).await?;
    for kind in [Kind::DeadLetters, Kind::Audit, Kind::State] {
        reconcile::stream(&context, &shared.options, kind).await?;
    }
    let events_created = reconcile::created_ns(&events);
    Ok((Arc::new(Session { number, context, client: client.clone(), events_created }), proved))
}

/// Runs the consumer for what is subscribed to; returns why it ended.
async fn consume(
    shared: &Arc<Shared>,
    session: &Session,
    proved: &Sync,
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) -> String {
    let mut subscribed = shared.subscribed.subscribe();
    loop {
        let types = subscribed.borrow_and_update().clone();
        let pull = async {
            match &types {
                Some(types) => pull(shared, session, proved, types, deliveries).await,
                None => {
                    set_ready(shared, session, proved);
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            reason = pull => return reason,
            changed = subscribed.changed() => if changed.is_err() {
                return "the bus is closed".to_owned();
            },
        }
    }
}

async fn pull(
    shared: &Arc<Shared>,
    session: &Session,
    proved: &Sync,
    types: &[crate::id::EventType],
    deliveries: &mpsc::Sender<Vec<Delivery>>,
) -> String {
    let name = &shared.options.consumer;
    let consumer = match reconcile::consumer(&session.context, &shared.options, types).await {
        Ok(consumer) => consumer,
        Err(reason) => return reason,
    };
    // First what was on its way before: it would wait, and what broke the connection would break it again.
    if let Err(reason) = undelivered::recover(shared, session, Readable::Again).await {
        return reason;
    }
    set_ready(shared, session, proved);
    let fetch = consumer.stream().max_messages_per_batch(FETCH_LEN).heartbeat(HEARTBEAT).expires(FETCH_WAIT);
    let mut messages = match fetch.messages().await {
        Ok(messages) => messages.ready_chunks(CHUNK_LEN),
        Err(error) => return format!("consumer {name} cannot be read: {error}"),
    };
    let names = Names { stream: reconcile::EVENTS_STREAM.into(), consumer: name.as_str().into() };
    while let Some(chunk) = messages.next().await {
        let (mut read, mut stopped) = (Vec::with_capacity(chunk.len()), None);
        for message in chunk {
            match message {
                Ok(message) => read.extend(delivery(shared, (session.events_created, &names), message)),
                Err(error) => stopped = Some(format!("consumer {name} stopped: {error}")),
            }
        }
        if !read.is_empty() && deliveries.send(read).await.is_err() {
            return "the bus is closed".to_owned();
        }
        if let Some(stopped) = stopped {
            return stopped;
        }
    }
    format!("consumer {name} ended")
}

/// Looks at the streams now and then, and at once when somebody doubts; returns what is wrong.
async fn look(shared: &Shared, session: &Session) -> String {
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_PAUSE) => {}
            () = shared.doubted() => tokio::time::sleep(DOUBT_PAUSE).await,
        }
        for name in Kind::ALL.map(Kind::name) {
            match session.context.get_stream(name).await {
                Ok(stream) if name == reconcile::EVENTS_STREAM => {
                    if reconcile::created_ns(stream.cached_info()) != session.events_created {
                        return format!("stream {name} was made anew by somebody else: what it held is lost");
                    }
                }
                Ok(_) => {}
                Err(error) => return format!("stream {name} does not answer: {error}"),
            }
        }
        if shared.subscribed.borrow().is_none() {
            continue;
        }
        match undelivered::backlog(shared, session).await {
            Ok(backlog) => *shared.backlog.lock().unwrap_or_else(PoisonError::into_inner) = backlog,
            Err(reason) => return reason,
        }
        if swept.elapsed() > SWEEP_PAUSE {
            if let Err(reason) = undelivered::recover(shared, session, Readable::Leave).await {
                return reason;
            }
            swept = Instant::now();
        }
    }
}

fn set_ready(shared: &Shared, session: &Session, proved: &Sync) {
    let info = session.context.client().server_info();
    let proof = match proved {
        Sync::Always => "each write is synced before it is acknowledged".to_owned(),
        Sync::NotProved(why) => {
            format!("acknowledged events may be lost at a power cut (nats.durability: trust_server): {why}")
        }
    };
    let message = format!("nats-server {} at {}; {proof}", info.version, shared.options.shown_url());
    tracing::info!(server = message, "the bus is ready");
    shared.status.send_replace(Status { ready: true, message });
}
