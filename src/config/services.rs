//! `services:`, a section whose names are free, and what such sections have in common.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::diagnostic::{SHAPE, VALUE};
use super::outside::Outside;
use super::reader::{Reader, joined};
use super::yaml::{Entry, Node};
use crate::id::ServiceName;
use crate::openapi::OpenApi;
use crate::protobuf::Descriptors;
use crate::resilience::{CircuitPolicy, RatePolicy};
use crate::service::{Auth, ClientCredentials, Network, Protocol, Service, ServiceUrl};
use crate::time::Span;

pub(super) const KEYS: [&str; 13] = [
    "url",
    "protocol",
    "timeout",
    "connect_timeout",
    "circuit",
    "rate_limit",
    "network",
    "auth",
    "sockets_max",
    "answer_bytes_max",
    "ca_file",
    "openapi",
    "descriptor",
];
/// Sockets a process may have, 1,024 by default on many systems, are shared by all services.
const SOCKETS_MAX_MAX: u64 = 10_000;
/// An answer is held in memory and in the journal.
const ANSWER_BYTES_MAX_MAX: u64 = 64 * 1024 * 1024;
/// A longer attempt would be waited for by a cancel.
const TIMEOUT_MAX: Span = Span::from_secs(24 * 3_600);

pub(super) fn services(reader: &mut Reader<'_>, outside: &dyn Outside) -> BTreeMap<ServiceName, Service> {
    let node = reader.node("services");
    let mut services = BTreeMap::new();
    for entry in reader.map_of(&node, "services") {
        match ServiceName::parse(&entry.key) {
            Ok(name) => {
                if let Some(service) = service(reader, outside, &entry) {
                    services.insert(name, service);
                }
            }
            Err(error) => reader.note(&entry.place, VALUE, error.to_string(), "rename it, here and in the sagas"),
        }
    }
    services
}

fn service(reader: &mut Reader<'_>, outside: &dyn Outside, entry: &Entry) -> Option<Service> {
    let path = joined("services", &entry.key);
    let mut fields = Fields::of(reader, &entry.node, &path, &KEYS);
    let url = fields.take("url");
    if url.is_none() {
        reader.note(&entry.place, SHAPE, format!("`{path}` has no `url`"), "add `url: http://…`");
    }
    let mut service = Service::at(url.and_then(|(path, node)| address(reader, &node, &path))?);
    if let Some((path, node)) = fields.take("protocol") {
        let words = [
            ("http", Protocol::Http),
            ("graphql", Protocol::Graphql),
            ("nats", Protocol::Nats),
            ("grpc", Protocol::Grpc),
            ("soap", Protocol::Soap),
        ];
        let protocol = reader.word_of(&node, &path, &words)?;
        if !protocol.fits(service.protocol) {
            let message = format!("`{path}` is {}, and the address is {}", protocol.as_str(), service.url);
            reader.note(&node.place, VALUE, message, "leave `protocol` out, or correct the address");
            return None;
        }
        service.protocol = protocol;
    }
    if let Some((path, node)) = fields.take("timeout") {
        service.timeout = duration(reader, &node, &path);
    }
    if let Some((path, node)) = fields.take("connect_timeout") {
        service.connect_timeout = duration(reader, &node, &path)?;
    }
    if let Some((path, node)) = fields.take("circuit") {
        service.circuit = Some(circuit(reader, &node, &path)?);
    }
    if let Some((path, node)) = fields.take("rate_limit") {
        (service.rate, service.concurrency) = rate_limit(reader, &node, &path)?;
    }
    if let Some((path, node)) = fields.take("network") {
        let words = [("public", Network::Public), ("private", Network::Private)];
        service.network = reader.word_of(&node, &path, &words)?;
    }
    if let Some((path, node)) = fields.take("sockets_max") {
        service.sockets_max = whole(reader.number_of(&node, &path, 1, SOCKETS_MAX_MAX)?);
    }
    if let Some((path, node)) = fields.take("answer_bytes_max") {
        service.answer_bytes_max = whole(reader.number_of(&node, &path, 1, ANSWER_BYTES_MAX_MAX)?) as usize;
    }
    if let Some((path, node)) = fields.take("ca_file") {
        service.ca = certificates(reader, outside, &node, &path)?;
    }
    if let Some((path, node)) = fields.take("openapi") {
        service.openapi = openapi(reader, outside, &node, &path)?;
    }
    if let Some((path, node)) = fields.take("descriptor") {
        service.descriptor = descriptor(reader, outside, &node, &path)?;
    }
    if service.protocol == Protocol::Grpc && service.descriptor.is_none() {
        let help = "add `descriptor: FILE`, as `protoc --include_imports --descriptor_set_out=FILE` writes it";
        reader.note(&entry.place, SHAPE, format!("`{path}` has no `descriptor`"), help);
        return None;
    }
    if let Some((path, node)) = fields.take("auth") {
        service.auth = auth(reader, &node, &path);
    }
    Some(service)
}

/// Reads an address of something that is spoken to over http alone.
pub(super) fn http_address(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<ServiceUrl> {
    let url = address(reader, node, path)?;
    if url.protocol() != Protocol::Http {
        let message = format!("`{path}`: {url} is no http address");
        reader.note(&node.place, VALUE, message, "write for example https://billing.example.com/hooks");
        return None;
    }
    Some(url)
}

fn address(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<ServiceUrl> {
    let text = reader.text_of(node, path)?;
    match ServiceUrl::parse(&text) {
        Ok(url) => Some(url),
        Err(error) => {
            reader.note(
                &node.place,
                VALUE,
                format!("`{path}`: {}", error.reason),
                "write for example https://pay.example.com or http://127.0.0.1:9101/api",
            );
            None
        }
    }
}

pub(super) fn duration(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Span> {
    let span = reader.span_of(node, path)?;
    if span.0 == 0 || span > TIMEOUT_MAX {
        reader.note(&node.place, VALUE, format!("`{path}` cannot be {span}"), format!("write 1ms to {TIMEOUT_MAX}"));
        return None;
    }
    Some(span)
}

fn circuit(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<CircuitPolicy> {
    // What LANGUAGE and the reference show; a circuit is asked for by writing `circuit: {}`.
    let mut policy = CircuitPolicy { failures: 10, window: Span::from_secs(30), open: Span::from_secs(20) };
    let mut fields = Fields::of(reader, node, path, &["failures", "window", "open"]);
    if let Some((path, node)) = fields.take("failures") {
        policy.failures = whole(reader.number_of(&node, &path, 1, 1_000_000)?);
    }
    if let Some((path, node)) = fields.take("window") {
        policy.window = duration(reader, &node, &path)?;
    }
    if let Some((path, node)) = fields.take("open") {
        policy.open = duration(reader, &node, &path)?;
    }
    Some(policy)
}

fn rate_limit(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<(Option<RatePolicy>, Option<u32>)> {
    let mut fields = Fields::of(reader, node, path, &["rate", "burst", "concurrency"]);
    let (mut rate, mut concurrency) = (None, None);
    if let Some((path, node)) = fields.take("rate") {
        rate = Some(super::rate_of(reader, &node, &path)?);
    }
    if let Some((path, node)) = fields.take("burst") {
        let burst = whole(reader.number_of(&node, &path, 1, 1_000_000)?);
        match &mut rate {
            Some(rate) => rate.burst = burst,
            None => {
                reader.note(&node.place, SHAPE, format!("`{path}` needs a `rate`"), "add `rate: 20/s`, or remove it")
            }
        }
    }
    if let Some((path, node)) = fields.take("concurrency") {
        concurrency = Some(whole(reader.number_of(&node, &path, 1, SOCKETS_MAX_MAX)?));
    }
    Some((rate, concurrency))
}

pub(super) fn certificates(
    reader: &mut Reader<'_>,
    outside: &dyn Outside,
    node: &Node,
    path: &str,
) -> Option<Option<Vec<u8>>> {
    let file = reader.text_of(node, path)?;
    if file.is_empty() {
        return Some(None);
    }
    match outside.file(Path::new(&file)) {
        Ok(pem) => Some(Some(pem.into_bytes())),
        Err(error) => {
            let message = format!("`{path}`: {file} cannot be read: {error}");
            reader.note(&node.place, VALUE, message, "name a readable file with PEM certificates");
            None
        }
    }
}

fn openapi(reader: &mut Reader<'_>, outside: &dyn Outside, node: &Node, path: &str) -> Option<Option<Arc<OpenApi>>> {
    let file = reader.text_of(node, path)?;
    if file.is_empty() {
        return Some(None);
    }
    let read = outside.file(Path::new(&file)).map_err(|error| format!("cannot be read: {error}"));
    match read.and_then(|text| OpenApi::parse(&text).map_err(|error| format!("is no OpenAPI document: {error}"))) {
        Ok(document) => Some(Some(Arc::new(document))),
        Err(why) => {
            let help = "name a readable file with an OpenAPI document, 3.0 or 3.1, of at most 1 MiB";
            reader.note(&node.place, VALUE, format!("`{path}`: {file} {why}"), help);
            None
        }
    }
}

fn descriptor(
    reader: &mut Reader<'_>,
    outside: &dyn Outside,
    node: &Node,
    path: &str,
) -> Option<Option<Arc<Descriptors>>> {
    let file = reader.text_of(node, path)?;
    if file.is_empty() {
        return Some(None);
    }
    let read = outside.bytes(Path::new(&file)).map_err(|error| format!("cannot be read: {error}"));
    match read.and_then(|bytes| Descriptors::parse(bytes).map_err(|error| format!("is no descriptor set: {error}"))) {
        Ok(descriptors) => Some(Some(Arc::new(descriptors))),
        Err(why) => {
            let help =
                "name a file as `protoc --include_imports --descriptor_set_out=FILE` writes it, of at most 1 MiB";
            reader.note(&node.place, VALUE, format!("`{path}`: {file} {why}"), help);
            None
        }
    }
}

fn auth(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Auth> {
    let entries = reader.map_of(node, path);
    let [entry] = entries.as_slice() else {
        let help = "write one of `bearer: …`, `basic: {username, password}`, `api_key: {header, value}`";
        reader.note(&node.place, SHAPE, format!("`{path}` must name one way to sign in"), help);
        return None;
    };
    let path = joined(path, &entry.key);
    match entry.key.as_str() {
        "bearer" => reader.secret_of(&entry.node, &path).map(Auth::Bearer),
        "basic" => {
            let mut fields = Fields::of(reader, &entry.node, &path, &["username", "password"]);
            let username = fields.needed(reader, entry, "username")?;
            let password = fields.needed(reader, entry, "password")?;
            let username = reader.text_of(&username.1, &username.0)?;
            Some(Auth::Basic { username, password: reader.secret_of(&password.1, &password.0)? })
        }
        "api_key" => {
            let mut fields = Fields::of(reader, &entry.node, &path, &["header", "value"]);
            let header = fields.needed(reader, entry, "header")?;
            let value = fields.needed(reader, entry, "value")?;
            let header = reader.parsed_of(&header.1, &header.0, |text| {
                let name = http::HeaderName::from_bytes(text.as_bytes());
                name.map(|name| name.as_str().to_owned()).map_err(|_| "write a header's name, such as X-Api-Key".into())
            })?;
            Some(Auth::ApiKey { header, value: reader.secret_of(&value.1, &value.0)? })
        }
        "oauth2" => {
            let mut fields =
                Fields::of(reader, &entry.node, &path, &["token_url", "client_id", "client_secret", "scopes"]);
            let token_url = fields.needed(reader, entry, "token_url");
            let client_id = fields.needed(reader, entry, "client_id");
            let client_secret = fields.needed(reader, entry, "client_secret");
            let scopes = match fields.take("scopes") {
                Some((path, node)) => {
                    reader.words_of(&node, &path, is_scope, "write names without quotes and spaces")?
                }
                None => Vec::new(),
            };
            let (token_url, client_id, client_secret) = (token_url?, client_id?, client_secret?);
            Some(Auth::OAuth2(ClientCredentials {
                token_url: http_address(reader, &token_url.1, &token_url.0)?,
                client_id: reader.text_of(&client_id.1, &client_id.0)?,
                client_secret: reader.secret_of(&client_secret.1, &client_secret.0)?,
                scopes,
            }))
        }
        _ => {
            reader.unknown(entry, &path, &["bearer", "basic", "api_key", "oauth2"], &[]);
            None
        }
    }
}

/// RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

/// The keys of one mapping; those that nobody may ask for are noted at once.
pub(super) struct Fields {
    path: String,
    entries: Vec<Entry>,
}

impl Fields {
    pub(super) fn of(reader: &mut Reader<'_>, node: &Node, path: &str, known: &[&str]) -> Self {
        let entries = reader.map_of(node, path);
        for entry in &entries {
            let path = joined(path, &entry.key);
            if !known.contains(&entry.key.as_str()) {
                reader.unknown(entry, &path, known, &[]);
            }
        }
        Self { path: path.to_owned(), entries }
    }

    pub(super) fn take(&mut self, key: &str) -> Option<(String, Node)> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some((joined(&self.path, key), self.entries.swap_remove(at).node))
    }

    pub(super) fn needed(&mut self, reader: &mut Reader<'_>, parent: &Entry, key: &str) -> Option<(String, Node)> {
        let found = self.take(key);
        if found.is_none() {
            reader.note(&parent.place, SHAPE, format!("`{}` has no `{key}`", self.path), format!("add `{key}: …`"));
        }
        found
    }
}

/// Numbers were checked against limits far below.
pub(super) fn whole(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
