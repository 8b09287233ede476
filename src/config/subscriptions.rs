//! `subscriptions:`: who gets events over HTTP. The names are free.

use std::collections::BTreeMap;

use super::LATER_EVENTS;
use super::diagnostic::VALUE;
use super::outside::Outside;
use super::reader::{Reader, joined};
use super::services::{Fields, certificates, duration, http_address, whole};
use super::signing::secrets;
use super::yaml::Entry;
use crate::config::LaterEvents;
use crate::id::{EventType, ServiceName};
use crate::service::{Network, Service};
use crate::signature::Key;
use crate::time::Span;

pub(super) const KEYS: [&str; 11] = [
    "url",
    "types",
    "secret",
    "secret_before",
    "timeout",
    "retry",
    "concurrency",
    "later_events",
    "begins",
    "network",
    "ca_file",
];
/// The times that the Standard Webhooks specification suggests: three days in all.
const RETRY: &str = "5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h";
/// As it suggests too: 15 to 30 seconds.
const TIMEOUT: Span = Span::from_secs(15);
/// Attempts behind the first; more is no schedule.
const RETRIES_MAX: usize = 100;
const CONCURRENCY: u32 = 16;
/// Each is a socket and an event in memory.
const CONCURRENCY_MAX: u64 = 256;

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Where it delivers, with the limits of a service.
    pub service: Service,
    pub url: String,
    /// None: every type.
    pub types: Vec<EventType>,
    /// The first one is the present one.
    pub keys: Vec<Key>,
    pub timeout: Span,
    pub retry: Vec<Span>,
    pub concurrency: u32,
    pub later_events: LaterEvents,
    /// A new one begins at the first event there is, not at the next.
    pub from_start: bool,
}

pub(super) fn subscriptions(reader: &mut Reader<'_>, outside: &dyn Outside) -> BTreeMap<ServiceName, Subscription> {
    let node = reader.node("subscriptions");
    let mut all = BTreeMap::new();
    for entry in reader.map_of(&node, "subscriptions") {
        match ServiceName::parse(&entry.key) {
            Ok(name) => {
                if let Some(subscription) = subscription(reader, outside, &entry) {
                    all.insert(name, subscription);
                }
            }
            Err(error) => reader.note(&entry.place, VALUE, error.to_string(), "rename it"),
        }
    }
    all
}

fn subscription(reader: &mut Reader<'_>, outside: &dyn Outside, entry: &Entry) -> Option<Subscription> {
    let path = joined("subscriptions", &entry.key);
    let mut fields = Fields::of(reader, &entry.node, &path, &KEYS);
    let url = fields.needed(reader, entry, "url");
    let secret = fields.needed(reader, entry, "secret");
    let url =
        url.and_then(|(path, node)| http_address(reader, &node, &path).map(|url| (url, reader.text_of(&node, &path))));
    let keys = secrets(reader, secret, fields.take("secret_before"), Key::parse);
    let types = match fields.take("types") {
        Some((path, node)) => reader.parsed_of(&node, &path, |text| {
            let one = |text: &str| EventType::parse(text.trim()).map_err(|error| error.to_string());
            text.split(',').map(one).collect::<Result<Vec<_>, _>>()
        })?,
        None => Vec::new(),
    };
    let retry = match fields.take("retry") {
        Some((path, node)) => reader.parsed_of(&node, &path, schedule)?,
        None => schedule(RETRY).unwrap_or_default(),
    };
    let timeout = match fields.take("timeout") {
        Some((path, node)) => duration(reader, &node, &path)?,
        None => TIMEOUT,
    };
    let concurrency = match fields.take("concurrency") {
        Some((path, node)) => whole(reader.number_of(&node, &path, 1, CONCURRENCY_MAX)?),
        None => CONCURRENCY,
    };
    let later_events = match fields.take("later_events") {
        Some((path, node)) => reader.word_of(&node, &path, &LATER_EVENTS)?,
        None => LaterEvents::Pass,
    };
    let from_start = match fields.take("begins") {
        Some((path, node)) => reader.word_of(&node, &path, &[("now", false), ("start", true)])?,
        None => false,
    };
    let network = match fields.take("network") {
        Some((path, node)) => {
            reader.word_of(&node, &path, &[("public", Network::Public), ("private", Network::Private)])?
        }
        None => Network::Public,
    };
    let ca = match fields.take("ca_file") {
        Some((path, node)) => certificates(reader, outside, &node, &path)?,
        None => None,
    };
    let (url, shown) = url?;
    if keys.is_empty() {
        return None; // noted above
    }
    let service = Service { network, ca, sockets_max: concurrency, ..Service::at(url) };
    let url = shown.unwrap_or_default();
    Some(Subscription { service, url, types, keys, timeout, retry, concurrency, later_events, from_start })
}

/// Pauses between attempts, separated by commas; empty: one attempt only.
fn schedule(text: &str) -> Result<Vec<Span>, String> {
    let help = || format!("write up to {RETRIES_MAX} durations separated by commas: {RETRY}");
    let one = |text: &str| Span::parse(text.trim()).map_err(|_| help());
    let all: Vec<Span> = text.split(',').filter(|text| !text.trim().is_empty()).map(one).collect::<Result<_, _>>()?;
    if all.len() > RETRIES_MAX { Err(help()) } else { Ok(all) }
}
