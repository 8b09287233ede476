//! What a server must be before it is trusted with an event: recent enough, large enough messages, and
//! syncing each write. The version and the sizes come with the connection; the syncing is read at the
//! monitoring endpoint, where nothing but the server itself can answer.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::options::{Durability, Options};
use super::wire::ADDED_BYTES_MAX;

/// The endpoint answers in milliseconds; it waits for locks of a busy server at most a second or two.
const MONITOR_WAIT: Duration = Duration::from_secs(5);
/// `/jsz?config=true` is under 1 KiB.
const MONITOR_BYTES_MAX: usize = 64 * 1_024;

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
    pub patch: u64,
    /// `2.14.0-RC.1` is older than `2.14.0`.
    pub released: bool,
}

impl Version {
    /// Parses `2.15.1`, with or without `v` in front and a suffix behind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbers, suffix) = text.split_once('-').map_or((text, None), |(numbers, suffix)| (numbers, Some(suffix)));
        let mut parts = numbers.split('.').map(|part| part.parse::<u64>().ok());
        let version =
            Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()??, released: suffix.is_none() };
        parts.next().is_none().then_some(version)
    }

    /// True from 2.12.7 in 2.12 and from 2.14.0: those before have known security holes.
    #[must_use]
    pub fn is_supported(self) -> bool {
        let least = |minor, patch| Self { major: 2, minor, patch, released: true };
        if self.major == 2 && self.minor == 12 { self >= least(12, 7) } else { self >= least(14, 0) }
    }
}

/// Checks what the server said when it greeted us.
///
/// # Errors
/// One line: what is wrong and what to do.
pub fn check_server(options: &Options, version: &str, jetstream: bool, max_payload: usize) -> Result<(), String> {
    if !Version::parse(version).is_some_and(Version::is_supported) {
        return Err(format!(
            "nats-server {version} is too old: 2.12.7 or 2.14.0 is the least (known security holes); upgrade the server"
        ));
    }
    if !jetstream {
        return Err("nats-server runs without JetStream; start it with a `jetstream` block or `--jetstream`".to_owned());
    }
    let least = options.event_bytes_max + ADDED_BYTES_MAX;
    if max_payload < least {
        return Err(format!(
            "nats-server takes messages of {max_payload} bytes, but nats.event_bytes_max {} needs {least}; raise `max_payload` there or lower the limit here",
            options.event_bytes_max
        ));
    }
    Ok(())
}

/// What is known about syncing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sync {
    /// Every server asked syncs each write, and the connected one is among them.
    Always,
    /// Why it is not proved.
    NotProved(String),
}

/// Asks the monitoring endpoints whether each write is synced, and judges by the wanted durability.
///
/// # Errors
/// One line, when `strict` is wanted and it is not proved.
pub async fn check_sync(options: &Options, server_id: &str) -> Result<Sync, String> {
    let sync = sync_of(options, server_id).await;
    match (&sync, options.durability) {
        (Sync::NotProved(why), Durability::Strict) => Err(format!(
            "nats.durability is strict, and it is not proved that acknowledged events survive a power cut: {why}; or set nats.durability: trust_server"
        )),
        _ => Ok(sync),
    }
}

async fn sync_of(options: &Options, server_id: &str) -> Sync {
    if options.monitor_urls.is_empty() {
        return Sync::NotProved("nats.monitor_url is not set; set it to the server's monitoring address".to_owned());
    }
    let mut connected = false;
    for url in &options.monitor_urls {
        match ask(url).await {
            Err(error) => return Sync::NotProved(format!("{url} cannot be asked: {error}")),
            Ok(found) if !found.sync_always => {
                return Sync::NotProved(format!(
                    "the server at {url} syncs later than it acknowledges; set `sync_interval: always` in its `jetstream` block"
                ));
            }
            Ok(found) => connected |= found.server_id == server_id,
        }
    }
    if connected {
        Sync::Always
    } else {
        Sync::NotProved(format!(
            "nats.monitor_url {} belongs to another server than the one connected to ({server_id}); list every server's",
            options.monitor_urls.join(",")
        ))
    }
}

struct Found {
    server_id: String,
    sync_always: bool,
}

async fn ask(url: &str) -> Result<Found, String> {
    let uri: http::Uri =
        format!("{}/jsz?config=true", url.trim_end_matches('/')).parse().map_err(|error| format!("no URL: {error}"))?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(MONITOR_WAIT));
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let answer = async {
        let response = client.get(uri).await.map_err(|error| chain(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(response.into_body(), MONITOR_BYTES_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    let body = tokio::time::timeout(MONITOR_WAIT, answer).await.map_err(|_| "no answer in 5 s".to_owned())??;
    read(&body)
}

/// Reads the answer to `/jsz?config=true`.
fn read(body: &[u8]) -> Result<Found, String> {
    #[derive(serde::Deserialize)]
    struct Jsz {
        server_id: String,
        config: Option<Config>,
    }
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        sync_always: bool,
    }
    let jsz: Jsz =
        serde_json::from_slice(body).map_err(|error| format!("it is no answer of a nats-server: {error}"))?;
    let config = jsz.config.ok_or("JetStream is off there")?;
    Ok(Found { server_id: jsz.server_id, sync_always: config.sync_always })
}

/// An error with its causes: hyper's own text names none.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let rows = [
            ("2.15.1", true),
            ("2.14.0", true),
            ("2.14.0-RC.1", false),
            ("2.14.1-beta", true),
            ("2.13.9", false),
            ("2.12.7", true),
            ("v2.12.12", true),
            ("2.12.7-preview.1", false),
            ("2.12.6", false),
            ("2.9.10", false),
            ("2.10.27", false),
            ("3.0.0", true),
            ("1.4.1", false),
            ("2.15", false),
            ("", false),
            ("2.15.1.2", false),
        ];
        for (text, supported) in rows {
            assert_eq!(Version::parse(text).is_some_and(Version::is_supported), supported, "{text}");
        }
    }

    #[test]
    fn greetings() {
        let options = Options::new("nats://localhost");
        let mib = 1_024 * 1_024;
        let rows: &[(&str, &str, bool, usize, Option<&str>)] = &[
            ("good", "2.15.1", true, mib, None),
            ("too old", "2.9.10", true, mib, Some("2.9.10 is too old")),
            ("no JetStream", "2.15.1", false, mib, Some("without JetStream")),
            ("small messages", "2.15.1", true, 512 * 1_024, Some("needs 589824")),
        ];
        for (why, version, jetstream, max_payload, expected) in rows {
            let got = check_server(&options, version, *jetstream, *max_payload).err().unwrap_or_default();
            assert!(got.contains(expected.unwrap_or_default()), "{why}: {got}");
            assert_eq!(got.is_empty(), expected.is_none(), "{why}: {got}");
        }
    }

    #[test]
    fn answers_of_the_monitor() {
        let rows: &[(&str, &str, Result<bool, &str>)] = &[
            ("synced", r#"{"server_id":"A","config":{"sync_interval":120000000000,"sync_always":true}}"#, Ok(true)),
            ("older field set", r#"{"server_id":"A","config":{"sync_interval":120000000000}}"#, Ok(false)),
            ("JetStream off", r#"{"server_id":"A","disabled":true}"#, Err("is off")),
            ("another program", "<html>", Err("no answer of a nats-server")),
        ];
        for (why, body, expected) in rows {
            match (read(body.as_bytes()), expected) {
                (Ok(found), Ok(sync_always)) => assert_eq!(found.sync_always, *sync_always, "{why}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{why}: {error}"),
                (got, _) => panic!("{why}: {:?}", got.map(|found| found.server_id)),
            }
        }
    }
}
