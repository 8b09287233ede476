//! The configuration: `backstitch.yaml` at the repository's root is the reference and the default, a
//! file of the same form lies over it. Mistakes are reported all at once, each with its place.

mod diagnostic;
mod outboxes;
mod outside;
mod reader;
mod services;
mod signing;
mod subscriptions;
#[cfg(test)]
mod tests;
mod webhooks;
mod yaml;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::diagnostic::Diagnostic;
use self::diagnostic::{SHAPE, TOKEN_NEEDED, UNREADABLE, VALUE};
pub use self::outboxes::Outbox;
use self::outside::{Nothing, Outside, System};
use self::reader::Reader;
pub use self::subscriptions::Subscription;
use self::yaml::{Node, Source};
use crate::id::ServiceName;
use crate::resilience::RatePolicy;
use crate::secret::Secret;
use crate::service::Service;
use crate::time::Span;
use crate::webhook::Webhook;

/// The reference, as it lies in the repository.
pub const REFERENCE: &str = include_str!("../../backstitch.yaml");
/// What diagnostics call it.
const REFERENCE_NAME: &str = "backstitch.yaml (built in)";

/// Everything that differs between environments. The keys' meaning is in the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub nats: Nats,
    pub journal: Journal,
    pub api: Api,
    pub telemetry: Telemetry,
    pub notify: Notify,
    pub runs: Runs,
    pub secrets: Secrets,
    pub services: BTreeMap<ServiceName, Service>,
    pub subscriptions: BTreeMap<ServiceName, Subscription>,
    pub outboxes: BTreeMap<ServiceName, Outbox>,
    pub webhooks: BTreeMap<ServiceName, Webhook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    pub url: String,
    pub credentials_file: Option<PathBuf>,
    pub user: Option<(String, Secret<String>)>,
    /// Certificates (PEM) trusted beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// None: the server's monitoring is not asked.
    pub monitor_url: Option<String>,
    pub durability: Durability,
    pub replicas: u8,
    pub event_bytes_max: usize,
    pub consumer: String,
    pub max_ack_pending: u32,
    /// None: for ever.
    pub events_age_max: Option<Span>,
    /// None: no limit.
    pub events_bytes_max: Option<u64>,
    pub dead_letters_age_max: Option<Span>,
    pub dead_letters_bytes_max: Option<u64>,
    pub later_events: LaterEvents,
}

/// What becomes of later events of a partition key of which one was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaterEvents {
    Pass,
    Wait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Refuse a server that may lose acknowledged events when the power fails.
    Strict,
    /// Take the server as it is, and warn.
    TrustServer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    pub path: PathBuf,
    pub retention: Span,
    /// None: no limit.
    pub retention_bytes: Option<u64>,
    pub generation_bytes: u64,
    pub free_bytes_min: u64,
    /// `keys.keep`
    pub keys_keep: Span,
    /// `keys.max`
    pub keys_max: u64,
    /// `inbox.window`
    pub inbox_window: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    pub listen: SocketAddr,
    pub token: Option<Secret<String>>,
    pub body_bytes_max: usize,
    pub connections_max: u32,
    pub rate: RatePolicy,
}

impl Api {
    /// True when others than this machine can reach it and nothing keeps them out.
    #[must_use]
    pub fn lacks_token(&self) -> bool {
        !self.listen.ip().is_loopback() && self.token.is_none()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// None: no spans are sent.
    pub otlp: Option<String>,
    pub protocol: OtlpProtocol,
    pub service: String,
    /// 0.0 to 1.0.
    pub sampling: f64,
    /// Export runs that end badly, sampled or not.
    pub failures: bool,
    /// None: never.
    pub link_after: Option<Span>,
    pub baggage: Vec<String>,
    /// None: metrics are not pushed.
    pub metrics_every: Option<Span>,
    pub log: String,
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    Grpc,
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    Text,
    Json,
}

/// Who is told of what needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    pub parked: bool,
    pub compensated: bool,
    pub dead_letters: bool,
    /// Events on the bus.
    pub events: bool,
    pub webhook: Option<Secret<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    pub open_max: usize,
    pub await_keep: Span,
    /// None: one per core.
    pub workers: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    pub directory: PathBuf,
}

impl Default for Config {
    /// The reference, with no environment.
    fn default() -> Self {
        read(None, &Nothing).expect("a test reads the reference")
    }
}

impl Config {
    /// Reads a file over the reference; none: the reference alone. The environment counts in both.
    ///
    /// # Errors
    /// Every finding, in the file's order.
    pub fn load(file: Option<&Path>) -> Result<Self, Vec<Diagnostic>> {
        let Some(path) = file else { return read(None, &System) };
        let name = path.display().to_string();
        match System.file(path) {
            Ok(text) => read(Some(Source { name, text }), &System),
            Err(error) => {
                let help = "name a readable file with --config, or leave it out for the defaults";
                Err(vec![Diagnostic::of_file(&name, UNREADABLE, format!("cannot read {name}: {error}"), help)])
            }
        }
    }
}

fn read(file: Option<Source>, outside: &dyn Outside) -> Result<Config, Vec<Diagnostic>> {
    let reference = Arc::new(Source { name: REFERENCE_NAME.to_owned(), text: REFERENCE.to_owned() });
    let mut reference = yaml::read(&reference)?.expect("the reference is not empty");
    reader::without_services(&mut reference);
    let file = match file {
        Some(source) => yaml::read(&Arc::new(source))?,
        None => None,
    };
    let mut reader = Reader::new(outside, reference, file);
    reader.secrets = PathBuf::from(reader.text("secrets.directory"));
    let config = sections(&mut reader, outside);
    match config {
        Some(config) if reader.findings.is_empty() => Ok(config),
        _ => {
            let mut findings = reader.findings;
            findings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            Err(findings)
        }
    }
}

fn sections(reader: &mut Reader<'_>, outside: &dyn Outside) -> Option<Config> {
    let nats = nats(reader, outside);
    let journal = journal(reader);
    let api = api(reader);
    let telemetry = telemetry(reader);
    let notify = notify(reader);
    let workers = reader.number("runs.workers", 0, 1_024) as usize;
    let runs = Runs {
        open_max: reader.number("runs.open_max", 1, 10_000_000) as usize,
        await_keep: reader.span("runs.await_keep"),
        workers: Some(workers).filter(|workers| *workers > 0),
    };
    let services = services::services(reader, outside);
    let subscriptions = subscriptions::subscriptions(reader, outside);
    let outboxes = outboxes::outboxes(reader, outside);
    let webhooks = webhooks::webhooks(reader);
    let secrets = Secrets { directory: reader.secrets.clone() };
    Some(Config {
        nats,
        journal,
        api: api?,
        telemetry: telemetry?,
        notify,
        runs,
        secrets,
        services,
        subscriptions,
        outboxes,
        webhooks,
    })
}

fn nats(reader: &mut Reader<'_>, outside: &dyn Outside) -> Nats {
    let (user, password) = (reader.text("nats.user"), reader.secret("nats.password"));
    if user.is_empty() != password.is_none() {
        let place = reader.node("nats.user").place;
        reader.note(&place, SHAPE, "`nats.user` and `nats.password` belong together", "give both, or none");
    }
    let ca = reader.node("nats.ca_file");
    let credentials_file =
        Some(reader.text("nats.credentials_file")).filter(|file| !file.is_empty()).map(PathBuf::from);
    if let Some(Err(error)) = credentials_file.as_deref().map(|file| outside.file(file)) {
        let place = reader.node("nats.credentials_file").place;
        reader.note(
            &place,
            VALUE,
            format!("`nats.credentials_file` cannot be read: {error}"),
            "name a readable .creds file",
        );
    }
    let durability = [("strict", Durability::Strict), ("trust_server", Durability::TrustServer)];
    Nats {
        url: reader.parsed("nats.url", urls).unwrap_or_default(),
        credentials_file,
        user: password.map(|password| (user, password)),
        ca: services::certificates(reader, outside, &ca, "nats.ca_file").flatten(),
        monitor_url: reader
            .parsed("nats.monitor_url", |text| if text.is_empty() { Ok(None) } else { http_url(text).map(Some) })
            .flatten(),
        durability: reader.word("nats.durability", &durability),
        replicas: reader.number("nats.replicas", 1, 5) as u8,
        // A NATS server takes at most 64 MiB; the least holds an event's attributes.
        event_bytes_max: reader.number("nats.event_bytes_max", 1_024, 63 * 1024 * 1024) as usize,
        consumer: reader.parsed("nats.consumer", consumer).unwrap_or_default(),
        max_ack_pending: reader.number("nats.max_ack_pending", 1, 1_000_000) as u32,
        events_age_max: limit(reader.span("nats.events_age_max")),
        events_bytes_max: Some(reader.number("nats.events_bytes_max", 0, i64::MAX as u64)).filter(|bytes| *bytes > 0),
        dead_letters_age_max: limit(reader.span("nats.dead_letters_age_max")),
        dead_letters_bytes_max: Some(reader.number("nats.dead_letters_bytes_max", 0, i64::MAX as u64))
            .filter(|bytes| *bytes > 0),
        later_events: reader.word("nats.later_events", &LATER_EVENTS),
    }
}

/// The words for [`LaterEvents`].
const LATER_EVENTS: [(&str, LaterEvents); 2] = [("pass", LaterEvents::Pass), ("wait", LaterEvents::Wait)];

fn journal(reader: &mut Reader<'_>) -> Journal {
    const MIB: u64 = 1024 * 1024;
    Journal {
        path: reader
            .parsed("journal.path", |text| {
                if text.is_empty() { Err("name a directory".to_owned()) } else { Ok(PathBuf::from(text)) }
            })
            .unwrap_or_default(),
        retention: reader.span("journal.retention"),
        retention_bytes: Some(reader.number("journal.retention_bytes", 0, u64::MAX)).filter(|bytes| *bytes > 0),
        // Less than 1 MiB would turn at every large payload; more than 1 TiB never.
        generation_bytes: reader.number("journal.generation_bytes", MIB, MIB * MIB),
        free_bytes_min: reader.number("journal.free_bytes_min", 0, MIB * MIB),
        keys_keep: reader.span("journal.keys.keep"),
        keys_max: reader.number("journal.keys.max", 0, 1_000_000_000),
        inbox_window: reader.span("journal.inbox.window"),
    }
}

fn api(reader: &mut Reader<'_>) -> Option<Api> {
    let listen = reader.parsed("api.listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| "write an address and a port: 127.0.0.1:7070 or [::1]:7070".to_owned())
    });
    let token = reader.secret("api.token");
    let rate = reader.node("api.rate");
    let rate = rate_of(reader, &rate, "api.rate");
    let api = Api {
        listen: listen?,
        token,
        body_bytes_max: reader.number("api.body_bytes_max", 1_024, 256 * 1024 * 1024) as usize,
        connections_max: reader.number("api.connections_max", 1, 1_000_000) as u32,
        rate: rate?,
    };
    if api.lacks_token() {
        let place = reader.node("api.listen").place;
        let message = format!("the API would listen on {} for everybody", api.listen);
        reader.note(&place, TOKEN_NEEDED, message, "set `api.token: ${secret:api/token}`, or listen on 127.0.0.1");
    }
    Some(api)
}

fn telemetry(reader: &mut Reader<'_>) -> Option<Telemetry> {
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let protocols = [("grpc", OtlpProtocol::Grpc), ("http/protobuf", OtlpProtocol::Http)];
    let otlp = reader.parsed("telemetry.otlp", |text| match text {
        "off" | "" => Ok(None),
        text => http_url(text).map(Some),
    });
    let sampling = reader.parsed("telemetry.sampling", |text| {
        let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| "write a number from 0.0 to 1.0".to_owned())
    });
    let log = reader.parsed("telemetry.log", |text| {
        let help = "write error, warn, info, debug, trace, off, or directives such as info,backstitch::bus=debug";
        // A lone word that is no level would be taken for a module, and nothing would be logged.
        let plain = !text.contains(['=', ',', ':']);
        let known = matches!(text, "error" | "warn" | "info" | "debug" | "trace" | "off");
        let parsed = text.parse::<tracing_subscriber::filter::Targets>();
        if parsed.is_ok() && (known || !plain) { Ok(text.to_owned()) } else { Err(help.to_owned()) }
    });
    Some(Telemetry {
        service: reader.text("telemetry.service"),
        protocol: reader.word("telemetry.protocol", &protocols),
        failures: reader.word("telemetry.failures", &[("export", true), ("drop", false)]),
        link_after: limit(reader.span("telemetry.link_after")),
        metrics_every: limit(reader.span("telemetry.metrics_every")),
        baggage: reader.text("telemetry.baggage").split_whitespace().map(str::to_owned).collect(),
        log_format: reader.word("telemetry.log_format", &formats),
        otlp: otlp?,
        sampling: sampling?,
        log: log?,
    })
}

fn notify(reader: &mut Reader<'_>) -> Notify {
    let kinds = ["parked", "compensated", "dead_letter"];
    let known = |word: &str| if kinds.contains(&word) { Ok(word.to_owned()) } else { Err(()) };
    let on = reader.parsed("notify.on", |text| {
        let words: Result<Vec<String>, ()> = text.split_whitespace().map(known).collect();
        words.map_err(|()| format!("write any of {}, separated by spaces", kinds.join(" ")))
    });
    let on = on.unwrap_or_default();
    let wants = |kind: &str| on.iter().any(|word| word == kind);
    let webhook = reader.secret("notify.webhook");
    if let Some(url) = &webhook
        && !["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme))
    {
        let place = reader.node("notify.webhook").place;
        // The address is a secret: what is said of it does not repeat it.
        let message = "`notify.webhook` is no http or https address";
        reader.note(&place, VALUE, message, "write https://HOST/PATH");
    }
    Notify {
        parked: wants("parked"),
        compensated: wants("compensated"),
        dead_letters: wants("dead_letter"),
        events: reader.word("notify.events", &[("publish", true), ("off", false)]),
        webhook,
    }
}

/// A rate such as `20/s`.
fn rate_of(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<RatePolicy> {
    reader.parsed_of(node, path, |text| {
        RatePolicy::parse(text).ok_or_else(|| "write a count and its time: 20/s, 100/m or 5000/h".to_owned())
    })
}

fn limit(span: Span) -> Option<Span> {
    Some(span).filter(|span| span.0 > 0)
}

fn http_url(text: &str) -> Result<String, String> {
    crate::service::ServiceUrl::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn urls(text: &str) -> Result<String, String> {
    let help = "write nats://HOST:PORT or tls://HOST:PORT, several separated by commas";
    let is_url = |url: &str| {
        let host = ["nats://", "tls://"].iter().find_map(|scheme| url.trim().strip_prefix(scheme));
        host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace))
    };
    if text.split(',').all(is_url) { Ok(text.to_owned()) } else { Err(help.to_owned()) }
}

/// A consumer's name is a token of subjects.
fn consumer(text: &str) -> Result<String, String> {
    ServiceName::parse(text)
        .map(|_| text.to_owned())
        .map_err(|_| "write 1 to 63 of a-z, 0-9, `_` and `-`, starting with a letter".to_owned())
}
