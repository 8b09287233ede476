//! What the bus is told: where NATS is, how long things are kept, what must be proved.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// Streams and consumer are declared from this; the fields' defaults are [`Options::new`].
#[derive(Debug, Clone)]
pub struct Options {
    /// `nats://host:4222`, several with commas; user and password or a token may stand in it.
    pub url: String,
    /// A NATS credentials file (`.creds`).
    pub credentials_file: Option<PathBuf>,
    pub user: Option<(String, Secret<String>)>,
    /// Certificates (PEM) that a server's is checked with, beside the public ones.
    pub ca: Option<Vec<u8>>,
    /// Monitoring addresses, `http://host:8222`: one per server that the connection may go to.
    pub monitor_urls: Vec<String>,
    pub durability: Durability,
    /// The durable consumer's name; its position survives restarts of ours and of the server's.
    pub consumer: String,
    /// Copies of each stream: 1, 3 or 5.
    pub replicas: usize,
    pub events: Limits,
    pub dead_letters: Limits,
    /// How long the server remembers a `Nats-Msg-Id`.
    pub duplicate_window: Duration,
    /// Largest event, headers included; the server's `max_payload` must leave 64 KiB above it.
    pub event_bytes_max: usize,
    /// A delivery without an answer comes again after this. Those still being worked on are kept.
    pub ack_wait: Duration,
    /// Deliveries without an answer at a time.
    pub ack_pending_max: usize,
}

/// What must be known of the server before an event is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Refuses a server that was not proved to sync each write before it acknowledges.
    Strict,
    /// Goes on with a warning.
    TrustServer,
}

/// Bounds of one stream; a full stream refuses, it never drops what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// None: as large as the server's disk.
    pub bytes_max: Option<u64>,
    /// None: for ever.
    pub age_max: Option<Duration>,
}

impl Options {
    /// Returns the defaults for one server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3_600);
        Self {
            url: url.into(),
            credentials_file: None,
            user: None,
            ca: None,
            monitor_urls: Vec::new(),
            durability: Durability::Strict,
            consumer: "backstitch".to_owned(),
            replicas: 1,
            events: Limits { bytes_max: None, age_max: Some(7 * DAY) },
            dead_letters: Limits { bytes_max: None, age_max: Some(30 * DAY) },
            duplicate_window: Duration::from_secs(120), // the server's own default
            event_bytes_max: 512 * 1_024,               // half of the server's default `max_payload`
            ack_wait: Duration::from_secs(30),          // the server's own default
            ack_pending_max: 2_048,                     // 8,000 events a second at 250 ms each
        }
    }

    /// Returns the address for messages: without user, password and token.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let shown = |url: &str| match (url.find("//"), url.rfind('@')) {
            (Some(start), Some(at)) if start < at => format!("{}//{}", &url[..start], &url[at + 1..]),
            (None, Some(at)) => url[at + 1..].to_owned(),
            _ => url.to_owned(),
        };
        self.url.split(',').map(|url| shown(url.trim())).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let rows = [
            ("nats://localhost:4222", "nats://localhost:4222"),
            ("nats://user:pass@host:4222", "nats://host:4222"),
            ("tls://token@a:1, nats://u:p@w@b:2", "tls://a:1,nats://b:2"),
            ("u:p@host", "host"),
        ];
        for (url, expected) in rows {
            assert_eq!(Options::new(url).shown_url(), expected);
        }
    }
}
