//! `webhooks:`: who may start sagas over HTTP. The names are free.

use std::collections::BTreeMap;

use super::diagnostic::VALUE;
use super::reader::{Reader, joined};
use super::services::Fields;
use super::signing::secrets;
use super::yaml::Entry;
use crate::id::ServiceName;
use crate::webhook::{SCHEMES, Scheme, Verifier, Webhook};

pub(super) const KEYS: [&str; 4] = ["scheme", "secret", "secret_before", "headers"];
/// Each is stored with every run.
const HEADERS_MAX: usize = 16;

pub(super) fn webhooks(reader: &mut Reader<'_>) -> BTreeMap<ServiceName, Webhook> {
    let node = reader.node("webhooks");
    let mut all = BTreeMap::new();
    for entry in reader.map_of(&node, "webhooks") {
        match ServiceName::parse(&entry.key) {
            Ok(name) => {
                if let Some(webhook) = webhook(reader, &entry) {
                    all.insert(name, webhook);
                }
            }
            Err(error) => reader.note(&entry.place, VALUE, error.to_string(), "rename it"),
        }
    }
    all
}

fn webhook(reader: &mut Reader<'_>, entry: &Entry) -> Option<Webhook> {
    let path = joined("webhooks", &entry.key);
    let mut fields = Fields::of(reader, &entry.node, &path, &KEYS);
    let secret = fields.needed(reader, entry, "secret");
    let scheme = match fields.take("scheme") {
        Some((path, node)) => reader.word_of(&node, &path, &SCHEMES)?,
        None => Scheme::Standard,
    };
    let headers = match fields.take("headers") {
        Some((path, node)) => reader.parsed_of(&node, &path, headers)?,
        None if scheme == Scheme::Github => vec!["x-github-event".to_owned()],
        None => Vec::new(),
    };
    let verifiers = secrets(reader, secret, fields.take("secret_before"), |secret| Verifier::new(scheme, [secret]));
    // None: noted above.
    let verifier = verifiers.into_iter().reduce(Verifier::or)?;
    Some(Webhook { scheme, verifier, headers })
}

/// Names of headers, separated by commas.
fn headers(text: &str) -> Result<Vec<String>, String> {
    /// What says who somebody is does not go into the journal.
    const NEVER: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
    let one = |text: &str| {
        let name = text.trim().to_ascii_lowercase();
        match http::HeaderName::from_bytes(name.as_bytes()) {
            Err(_) => Err(format!("`{name}` is no name of a header")),
            Ok(_) if NEVER.contains(&name.as_str()) => Err(format!("`{name}` may hold a secret, and is not stored")),
            Ok(_) => Ok(name),
        }
    };
    let all: Vec<String> = text.split(',').filter(|text| !text.trim().is_empty()).map(one).collect::<Result<_, _>>()?;
    if all.len() > HEADERS_MAX { Err(format!("at most {HEADERS_MAX} headers")) } else { Ok(all) }
}
