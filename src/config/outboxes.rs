//! `outboxes:`: tables that services write events into. The names are free.

use std::collections::BTreeMap;

use super::diagnostic::VALUE;
use super::outside::Outside;
use super::reader::{Reader, joined};
use super::services::{Fields, certificates, duration};
use super::yaml::Entry;
use crate::id::ServiceName;
use crate::secret::Secret;
use crate::time::Span;

pub(super) const KEYS: [&str; 6] = ["url", "ca_file", "table", "order", "source", "poll"];

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    pub url: Secret<String>,
    /// Certificates (PEM) trusted beside the public ones.
    pub ca: Option<Vec<u8>>,
    pub table: String,
    pub order: String,
    pub source: String,
    pub poll: Span,
}

pub(super) fn outboxes(reader: &mut Reader<'_>, outside: &dyn Outside) -> BTreeMap<ServiceName, Outbox> {
    let node = reader.node("outboxes");
    let mut all = BTreeMap::new();
    for entry in reader.map_of(&node, "outboxes") {
        match ServiceName::parse(&entry.key) {
            Ok(name) => {
                if let Some(outbox) = outbox(reader, outside, &entry) {
                    all.insert(name, outbox);
                }
            }
            Err(error) => reader.note(&entry.place, VALUE, error.to_string(), "rename it"),
        }
    }
    all
}

fn outbox(reader: &mut Reader<'_>, outside: &dyn Outside, entry: &Entry) -> Option<Outbox> {
    let path = joined("outboxes", &entry.key);
    let mut fields = Fields::of(reader, &entry.node, &path, &KEYS);
    let (url_path, url) = fields.needed(reader, entry, "url")?;
    let mut name = |reader: &mut Reader<'_>, key: &str, default: &str| -> Option<String> {
        let Some((path, node)) = fields.take(key) else { return Some(default.to_owned()) };
        reader.parsed_of(&node, &path, |text| {
            if is_name(text) {
                Ok(text.to_owned())
            } else {
                Err("write letters, digits and `_`, a schema in front with a dot".into())
            }
        })
    };
    let table = name(reader, "table", "outbox");
    let order = name(reader, "order", "position");
    let source = match fields.take("source") {
        Some((path, node)) => reader.parsed_of(&node, &path, |text| {
            let good = !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c.is_control());
            if good { Ok(text.to_owned()) } else { Err("write a URI reference, such as /shop".into()) }
        })?,
        None => format!("/outbox/{}", entry.key),
    };
    let poll = match fields.take("poll") {
        Some((path, node)) => duration(reader, &node, &path)?,
        None => Span::from_millis(200),
    };
    let ca = match fields.take("ca_file") {
        Some((path, node)) => certificates(reader, outside, &node, &path)?,
        None => None,
    };
    let url = reader.secret_of(&url, &url_path)?;
    Some(Outbox { url, ca, table: table?, order: order?, source, poll })
}

/// A name that need not be quoted, one schema in front of it at most.
fn is_name(text: &str) -> bool {
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split('.').count() <= 2 && text.split('.').all(good)
}
