//! Makes the streams and the consumer what the options say: created where missing, changed where they
//! differ, refused by name where a server cannot change them. What an operator added is left alone.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{Context, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};

use super::options::{Limits, Options};
use super::wire;
use crate::id::EventType;

/// The stream that events lie in.
pub const EVENTS_STREAM: &str = "EVENTS";
/// The stream that dead letters lie in.
pub const DEAD_LETTERS_STREAM: &str = "DEAD_LETTERS";

/// The stream that says what operators did.
pub const AUDIT_STREAM: &str = "BACKSTITCH_AUDIT";
/// The stream of values that are kept: where subscriptions and replays are.
pub const STATE_STREAM: &str = "BACKSTITCH_STATE";

/// Which of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Events,
    DeadLetters,
    Audit,
    State,
}

impl Kind {
    /// Every stream of ours.
    pub const ALL: [Self; 4] = [Self::Events, Self::DeadLetters, Self::Audit, Self::State];

    pub(super) const fn of(stream: super::archive::Stream) -> Self {
        use super::archive::Stream;
        match stream {
            Stream::Events => Self::Events,
            Stream::DeadLetters => Self::DeadLetters,
            Stream::Audit => Self::Audit,
            Stream::State => Self::State,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Events => EVENTS_STREAM,
            Self::DeadLetters => DEAD_LETTERS_STREAM,
            Self::Audit => AUDIT_STREAM,
            Self::State => STATE_STREAM,
        }
    }
}

/// Creates or updates one stream and returns what the server says of it.
///
/// # Errors
/// One line: what cannot be reconciled and what to do.
pub async fn stream(context: &Context, options: &Options, kind: Kind) -> Result<Info, String> {
    let (name, max_payload) = (kind.name(), context.client().server_info().max_payload);
    match context.get_stream(name).await {
        Ok(stream) => {
            let found = stream.cached_info();
            check(&found.config)?;
            let wanted = wanted(found.config.clone(), options, kind, max_payload);
            if wanted == found.config {
                return Ok(found.clone());
            }
            tracing::info!(stream = name, "stream differs from the configuration, updating it");
            context.update_stream(&wanted).await.map_err(|error| {
                format!("stream {name} cannot be changed to what nats.* says: {error}; change the configuration, or the stream with the NATS tools")
            })
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(ref inner) if inner.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                tracing::info!(stream = name, "stream is missing, creating it");
                let config = wanted(Config { name: name.to_owned(), ..Config::default() }, options, kind, max_payload);
                let created = context.create_stream(config).await;
                created.map(|stream| stream.cached_info().clone()).map_err(|error| {
                    format!("stream {name} cannot be created: {error}; free its subjects or the server's storage")
                })
            }
            _ => Err(format!("stream {name} cannot be looked at: {error}")),
        },
    }
}

/// Refuses what no update can change.
fn check(found: &Config) -> Result<(), String> {
    let name = &found.name;
    let wrong = if found.storage != StorageType::File {
        "keeps its messages in memory, which a restart loses"
    } else if found.retention != RetentionPolicy::Limits {
        "forgets messages once they are acknowledged (its retention is not `limits`)"
    } else if found.no_ack {
        "acknowledges nothing (`no_ack`)"
    } else if found.mirror.is_some() {
        "mirrors another stream"
    } else if found.sealed {
        "is sealed"
    } else {
        return Ok(());
    };
    Err(format!("stream {name} {wrong}, and that cannot be changed; remove or rename it with the NATS tools"))
}

/// Puts what is ours into a configuration; the rest stays.
fn wanted(found: Config, options: &Options, kind: Kind, max_payload: usize) -> Config {
    let (subjects, limits, message_bytes_max): (_, &Limits, _) = match kind {
        // What others publish beyond our limit is taken and put aside, not refused unseen; a dead letter adds
        // headers to it.
        Kind::Events => (
            wire::EVENTS,
            &options.events,
            i32::try_from(max_payload.saturating_sub(wire::ADDED_BYTES_MAX)).unwrap_or(i32::MAX),
        ),
        // Original messages and our headers; the server's own `max_payload` bounds them.
        Kind::DeadLetters => (wire::DEAD_LETTERS, &options.dead_letters, -1),
        Kind::Audit => (wire::AUDIT, &options.dead_letters, -1),
        Kind::State => (wire::STATE, &Limits { bytes_max: None, age_max: None }, -1),
    };
    // Of what is kept, the newest value of each name counts; elsewhere a bound of an operator's stays.
    let per_subject_max = match kind {
        Kind::State => 1,
        Kind::Events | Kind::DeadLetters | Kind::Audit if found.max_messages_per_subject == 0 => -1,
        Kind::Events | Kind::DeadLetters | Kind::Audit => found.max_messages_per_subject,
    };
    Config {
        subjects: vec![format!("{subjects}.>")],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: options.replicas,
        max_bytes: limits.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        max_age: limits.age_max.unwrap_or_default(),
        max_messages: if found.max_messages == 0 { -1 } else { found.max_messages },
        max_messages_per_subject: per_subject_max,
        max_consumers: if found.max_consumers == 0 { -1 } else { found.max_consumers },
        max_message_size: message_bytes_max,
        // The server refuses a window longer than the age limit.
        duplicate_window: match limits.age_max {
            Some(age) => options.duplicate_window.min(age),
            None => options.duplicate_window,
        },
        allow_atomic_publish: true,
        ..found
    }
}

/// Creates or updates the durable consumer, filtered by the names of `types`, each in every version (all when
/// there are none): older and newer events are made what the consumer reads, or put aside with the reason.
///
/// # Errors
/// One line: what cannot be reconciled and what to do.
pub async fn consumer(context: &Context, options: &Options, types: &[EventType]) -> Result<PullConsumer, String> {
    let filter_subjects = if types.is_empty() {
        vec![format!("{}.>", wire::EVENTS)]
    } else {
        let mut subjects: Vec<String> =
            types.iter().map(|kind| format!("{}.{}.*", wire::EVENTS, kind.name())).collect();
        subjects.sort_unstable();
        subjects.dedup(); // the server refuses filters that overlap
        subjects
    };
    let config = pull::Config {
        durable_name: Some(options.consumer.clone()),
        description: Some("Deliveries to the saga orchestrator; acknowledged after its journal has them".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        // Any bound would drop a message silently; what is poison, we count and put aside ourselves.
        max_deliver: -1,
        max_ack_pending: i64::try_from(options.ack_pending_max).unwrap_or(i64::MAX),
        filter_subjects,
        ..pull::Config::default()
    };
    context.create_consumer_on_stream(config, EVENTS_STREAM).await.map_err(|error| {
        format!(
            "consumer {} of stream {EVENTS_STREAM} cannot be made what it must be: {error}; remove it with the NATS tools or set nats.consumer to another name",
            options.consumer
        )
    })
}

/// Returns a stream's creation time in nanoseconds since 1970.
#[must_use]
pub fn created_ns(info: &Info) -> u64 {
    u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or(0)
}
